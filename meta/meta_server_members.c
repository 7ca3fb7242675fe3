/*
 * meta_server_members: who belongs to the metadata group. The set is an entry of the log
 * (raft/raft_members.h) and, once applied, the pair 'M' of the state. The first leader records what
 * the servers were configured with; from then on the configuration only gives addresses.
 *
 * A server that joins has a file `joining` in its directory, so that it never takes the
 * configuration for its group, and gets a file `member` when its log or a snapshot has named it:
 * from then on its data holds what it promised. The file is there before a tree that may count its
 * vote already.
 */
#include "base/log.h"
#include "base/mem.h"
#include "meta/meta_server_internal.h"
#include "meta/meta_server_proto.h"

#include <errno.h>

SCHEMA_IMPLEMENT(meta_member_request, META_MEMBER_REQUEST)

static struct meta_server *server_of(struct raft_machine *machine)
{
    return container_of(machine, struct meta_server, machine);
}

/* ---- the directory ---- */

char *server_path(const struct meta_server *server, const char *name)
{
    return mem_printf("%s/%s", server->config.dir, name);
}

bool server_has_file(const struct meta_server *server, const char *name)
{
    cleanup(buf_deinit) struct buf names = {0};

    if (env_list(server->env, server->config.dir, &names) < 0) {
        return false;
    }
    for (size_t at = 0; at < names.size; at += strlen((const char *)names.data + at) + 1) {
        if (strcmp((const char *)names.data + at, name) == 0) {
            return true;
        }
    }
    return false;
}

int server_make_file(struct meta_server *server, const char *name)
{
    char *path = server_path(server, name);
    struct env_file *file;
    int r = env_open_now(server->env, path, ENV_OPEN_CREATE, &file);

    if (r == 0) {
        env_close_now(server->env, file);
        r = env_path_now(server->env, ENV_IO_SYNC_DIR, server->config.dir, NULL);
    }
    if (r < 0) {
        LOG_ERROR(server->env, "meta", "cannot make path=%s error=%s", path, err_text(r));
    }
    mem_free(path);
    return r;
}

int server_members_start(struct meta_server *server)
{
    bool blank = !server_has_file(server, "tree") && !server_has_file(server, SERVER_REBUILD);

    server->joining = server_has_file(server, "joining");
    switch (server->config.start) {
    case META_START_CREATE:
        return 0;
    case META_START_EXISTING:
        if (blank && !server->joining) {
            LOG_ERROR(server->env, "meta",
                      "there is no data of a metadata server here path=%s; a new cluster is begun "
                      "with --bootstrap, a server joins a running one with --join under a number "
                      "that was never used",
                      server->config.dir);
            return -ENOENT;
        }
        return 0;
    case META_START_JOIN:
        if (!blank && !server->joining) {
            LOG_ERROR(server->env, "meta",
                      "the directory holds a member's data, --join is for an empty one path=%s",
                      server->config.dir);
            return -EEXIST;
        }
        server->joining = true;
        return server_make_file(server, "joining");
    }
    return -EINVAL;
}

void server_members_config(struct meta_server *server, struct raft_node_config *config)
{
    server_machine_members(&server->machine, &server->members);
    server->noted = server_has_file(server, "member");
    if (server->joining || server->members.count > 0) {
        config->members = &server->members;
    }
    config->joining = server->joining && !server->noted;
}

void server_members_note(struct meta_server *server)
{
    int r;

    if (!server->joining || server->noted || server->raft.raft.joining) {
        return;
    }
    r = server_make_file(server, "member");
    if (r < 0) {
        env_disk_failed(server->env, r, "meta", "cannot record that this server is a member dir=%s",
                        server->config.dir);
    }
    server->noted = true;
}

/* ---- the machine's part ---- */

void server_machine_members(struct raft_machine *machine, struct raft_members *out_members)
{
    struct meta_server *server = server_of(machine);
    struct record_key key = record_key_members();
    struct slice value;

    *out_members = (struct raft_members){0};
    if (kv_get(&server->view.kv, record_slice(&key), &value) &&
        raft_members_decode(out_members, value) < 0) {
        env_fatal(server->env, "meta", "the record of the group's members cannot be decoded");
    }
}

static void answer(struct meta_server *server, uint64_t index)
{
    struct list_node *first = list_first(&server->proposals);
    struct meta_proposal *proposal =
        first != NULL ? list_entry(first, struct meta_proposal, node) : NULL;

    if (proposal == NULL || proposal->index != index) {
        return;
    }
    list_remove(&proposal->node);
    server->proposal_count--;
    if (proposal->request != NULL) {
        rpc_request_reply(proposal->request, 0, (struct slice){0}, NULL);
    }
    mem_free(proposal);
}

void server_machine_members_changed(struct raft_machine *machine, uint64_t index, uint64_t term,
                                    const struct raft_members *members, struct slice command)
{
    struct meta_server *server = server_of(machine);
    struct record_key key = record_key_members();

    btree_set_applied(server->tree, index, term);
    server->log_bytes += command.size + 64;
    kv_put(&server->view.kv, record_slice(&key), command);
    server->members = *members;
    LOG_INFO(server->env, "meta", "the group has changed index=%" PRIu64 " members=%u voters=%u",
             index, members->count, raft_members_voters(members));
    answer(server, index);
    btree_trim(server->tree);
    server_checkpoint_if_due(server);
}

void server_member_addresses(const struct meta_server *server, struct buf *out)
{
    const struct raft_members *members = &server->raft.raft.members;

    for (unsigned i = 0; i < members->count; i++) {
        schema_write_bytes(out, slice_text(raft_node_address(&server->raft, &members->list[i])));
    }
}

/* ---- changes ---- */

static int change(struct meta_server *server, const struct raft_change *change,
                  struct rpc_request *request)
{
    struct meta_proposal *proposal;
    uint64_t index;
    int r = raft_node_change(&server->raft, change, &index);

    if (r < 0) {
        return r;
    }
    proposal = mem_zalloc(sizeof(*proposal));
    proposal->index = index;
    proposal->request = request;
    list_push_back(&server->proposals, &proposal->node);
    server->proposal_count++;
    return 0;
}

void server_members_record(struct meta_server *server)
{
    if (server->members.count == 0 && server->leader && !server->stopping &&
        change(server, &(struct raft_change){.type = RAFT_CHANGE_RECORD}, NULL) == 0) {
        LOG_DEBUG(server->env, "meta", "records the members of the group");
    }
}

static int serve_change(struct meta_server *server, struct rpc_request *request,
                        const struct meta_member_request *message)
{
    char address[RAFT_ADDRESS_MAX + 1] = {0};
    struct raft_change what = {.id = message->id, .address = address};

    slice_copy(address, message->address);
    switch (message->op) {
    case META_MEMBER_ADD:
        what.type = RAFT_CHANGE_ADD;
        break;
    case META_MEMBER_PROMOTE:
        what.type = RAFT_CHANGE_PROMOTE;
        break;
    case META_MEMBER_REMOVE:
        what.type = RAFT_CHANGE_REMOVE;
        break;
    default:
        return -EINVAL;
    }
    return change(server, &what, request);
}

void server_member_request(struct meta_server *server, struct rpc_request *request)
{
    struct meta_member_request message;
    uint32_t uid = request->conn->peer_uid;
    int r = meta_member_request_decode(&message, request->body);

    if (r == 0 && uid != 0 && uid != server->config.owner_uid) {
        r = -EPERM;
    }
    if (r == 0 && !server->leader) {
        r = -ERR_NOT_LEADER;
    }
    if (r == 0) {
        r = serve_change(server, request, &message);
    }
    if (r < 0) {
        server_refuse(server, request, r);
    }
}
