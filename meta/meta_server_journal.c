/*
 * meta_server_journal: a writer settles its journalled data itself. What a writer that has gone
 * left behind, any mount is asked to settle, in a KEEPALIVE reply: several may, it does no harm.
 */
#include "base/bytes.h"
#include "meta/meta_server_internal.h"

void server_settle_ask(struct meta_server *server, struct buf *out_inos)
{
    uint64_t data = server->settle_cursor, now = env_wall(server->env);
    struct record_journal journal;

    for (unsigned i = 0; i < META_SETTLE_ASK && server->ns.volume.journal_bytes != 0; i++) {
        if (!ns_next_journal(&server->ns, data, &data, &journal)) {
            data = 0;
            break;
        }
        if (journal.since + META_SETTLE_AGE_NS < now) {
            bytes_put_le64(buf_reserve(out_inos, 8), journal.ino);
            out_inos->size += 8;
        }
    }
    server->settle_cursor = data;
}
