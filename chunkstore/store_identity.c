/* store_identity: the file IDENTITY says whose data a directory holds; others' are refused. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunkstore/store_internal.h"

#include <errno.h>

#define IDENTITY_MAGIC   UINT64_C(0x3144494b4545454b)
#define IDENTITY_VERSION 1
#define IDENTITY_BYTES   64

static int write_identity(struct chunk_store *store, const char *path)
{
    uint8_t bytes[IDENTITY_BYTES] = {0};

    bytes_put_le64(bytes, IDENTITY_MAGIC);
    bytes_put_le32(bytes + 8, IDENTITY_VERSION);
    bytes_put_le32(bytes + 12, store->config.server_id);
    memcpy(bytes + 16, store->config.cluster_uuid, 16);
    bytes_put_le32(bytes + 60, crc32c(0, slice_make(bytes, 60)));
    return env_replace_file(store->env, store->dir, path, slice_make(bytes, sizeof(bytes)));
}

static int judge_identity(struct chunk_store *store, const char *path, struct slice bytes)
{
    if (bytes.size != IDENTITY_BYTES || bytes_get_le64(bytes.data) != IDENTITY_MAGIC ||
        bytes_get_le32(bytes.data + 60) != crc32c(0, slice_make(bytes.data, 60)) ||
        bytes_get_le32(bytes.data + 8) != IDENTITY_VERSION) {
        LOG_ERROR(store->env, "chunk",
                  "no chunk data of this version; start the version that made it, or use an empty "
                  "directory path=%s",
                  path);
        return -ERR_BAD_FORMAT;
    }
    if (memcmp(bytes.data + 16, store->config.cluster_uuid, 16) != 0) {
        LOG_ERROR(
            store->env, "chunk",
            "data of another cluster; set the right data directory, or empty this one path=%s",
            path);
        return -ERR_WRONG_CLUSTER;
    }
    if (bytes_get_le32(bytes.data + 12) != store->config.server_id) {
        LOG_ERROR(store->env, "chunk",
                  "data of server %u, this is server %u; set the right data directory or server id "
                  "path=%s",
                  bytes_get_le32(bytes.data + 12), store->config.server_id, path);
        return -ERR_WRONG_NODE;
    }
    return 0;
}

/* Only what a start that was cut short may have left. */
static bool is_fresh(struct slice names)
{
    for (size_t at = 0; at < names.size;) {
        const char *name = (const char *)names.data + at;

        if (strcmp(name, "LOCK") != 0 && strcmp(name, "IDENTITY.new") != 0 &&
            strcmp(name, "lost+found") != 0) {
            return false;
        }
        at += strlen(name) + 1;
    }
    return true;
}

int store_check_identity(struct chunk_store *store)
{
    cleanup(buf_deinit) struct buf bytes = {0};
    cleanup(buf_deinit) struct buf names = {0};
    char *path = mem_printf("%s/IDENTITY", store->dir);
    int r = env_read_file(store->env, path, KiB(64), &bytes);

    if (r == -ENOENT) {
        r = env_list(store->env, store->dir, &names);
        if (r == 0 && !is_fresh(buf_slice(&names))) {
            r = judge_identity(store, path, (struct slice){0}); /* files of somebody else */
        } else if (r == 0) {
            r = write_identity(store, path);
        }
    } else if (r == 0) {
        r = judge_identity(store, path, buf_slice(&bytes));
    }
    mem_free(path);
    return r;
}
