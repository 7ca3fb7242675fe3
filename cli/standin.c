#include "cli/standin.h"

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/chunk_proto.h"
#include "meta/meta_proto.h"

#include <errno.h>

static bool is_full(const struct standin *standin)
{
    return standin->error == -ENOSPC || standin->error == -EDQUOT;
}

static void answer_meta(const struct standin *standin, struct buf *out)
{
    const char *code = is_full(standin) ? "META_DISK_FULL" : "META_DISK_FAILED";
    struct meta_status status = {
        .id = standin->identity.node_id,
        .role = slice_text("stopped"),
        .health = slice_make(code, strlen(code) + 1),
        .cluster_uuid = slice_make(standin->identity.cluster_uuid, 16),
    };

    meta_status_encode(&status, out);
}

static void answer_chunk(const struct standin *standin, struct buf *out)
{
    struct chunk_status status = {
        .server_id = standin->identity.node_id,
        .health = is_full(standin) ? CHUNK_HEALTH_FULL : CHUNK_HEALTH_FAILED,
    };

    chunk_status_encode(&status, out);
}

static void handle(struct rpc_server *rpc, struct rpc_request *request)
{
    const struct standin *standin = rpc->data;
    cleanup(buf_deinit) struct buf body = {0};
    int r = 0;

    if (request->oneway) {
        return; /* the server frees it */
    }
    if (request->opcode == META_RPC_STATUS && standin->kind->has_group) {
        answer_meta(standin, &body);
    } else if (request->opcode == CHUNK_STATUS && !standin->kind->has_group) {
        answer_chunk(standin, &body);
    } else {
        r = -EOPNOTSUPP;
    }
    rpc_request_reply(request, r, buf_slice(&body), NULL);
}

static void answer_admin(struct admin *admin, const char *question, struct buf *out)
{
    const struct standin *standin = admin->data;

    if (strcmp(question, "status") == 0) {
        buf_printf(out, "%s %u stopped disk=%s\n", standin->kind->name, standin->identity.node_id,
                   err_text(standin->error));
    }
}

static void serve_admin(struct standin *standin, const struct node_config *node)
{
    char *path = stats_server_path(node->dir);
    char *address = mem_printf("unix:%s", path);
    int r;

    standin->admin.answer = answer_admin;
    standin->admin.data = standin;
    r = admin_start(&standin->admin, standin->env, address);
    if (r < 0) { /* it is on the disk that failed */
        LOG_WARN(standin->env, "stats", "no admin socket path=%s error=%s", path, err_text(r));
    }
    mem_free(address);
    mem_free(path);
}

int standin_start(struct standin *standin, struct env *env, const struct daemon_kind *kind,
                  const struct cluster_config *cluster, const struct node_config *node, int error)
{
    *standin = (struct standin){.env = env, .kind = kind, .error = error};
    standin->identity = (struct rpc_identity){.role = RPC_ROLE_ADMIN, .node_id = node->id};
    memcpy(standin->identity.cluster_uuid, cluster->uuid, 16);
    standin->rpc =
        (struct rpc_server){.handle = handle,
                            .data = standin,
                            .insecure_test_network = cluster->settings.insecure_test_network != 0};
    LOG_ERROR(env, kind->name,
              "serves nothing any more and only answers `keelfs status`: disk of %s: %s; %s, then "
              "restart it",
              node->dir, err_text(error), is_full(standin) ? "free space" : "mend or replace it");
    serve_admin(standin, node);
    return rpc_server_start(&standin->rpc, env, &standin->identity, node->address);
}
