#include "fs/streams.h"

#include "base/assert.h"

static uint64_t less(uint64_t number, uint64_t by)
{
    return number > by ? number - by : 1;
}

/* The stream with `ino` in it, or at most `near` numbers away; NULL when there is none. */
static struct stream *find(struct streams *streams, uint64_t ino, uint64_t near)
{
    for (unsigned i = 0; i < FS_AHEAD_STREAMS; i++) {
        struct stream *stream = &streams->all[i];

        if (stream->to != 0 && ino >= less(stream->from, near) && ino < stream->to + near) {
            return stream;
        }
    }
    return NULL;
}

/* In place of the one used longest ago; one that is on its way stays. */
static void begin(struct streams *streams, uint64_t ino)
{
    struct stream *oldest = NULL;

    for (unsigned i = 0; i < FS_AHEAD_STREAMS; i++) {
        struct stream *stream = &streams->all[i];

        if (!stream->busy && (oldest == NULL || stream->used < oldest->used)) {
            oldest = stream;
        }
    }
    if (oldest != NULL) {
        *oldest = (struct stream){.from = ino, .to = ino + 1, .used = streams->clock};
    }
}

static void after(struct stream *stream, uint64_t from, struct stream_range *out_range)
{
    out_range->from = from;
    out_range->to = stream->to = from + stream->window;
}

static void before(struct stream *stream, uint64_t to, struct stream_range *out_range)
{
    out_range->from = stream->from = less(to, stream->window);
    out_range->to = to;
}

/* Half of what was fetched last is used up: go on, twice as far. */
static bool hit_in(struct stream *stream, uint64_t ino, struct stream_range *out_range)
{
    if (ino < stream->from || ino >= stream->to || ino + stream->window / 2 < stream->to) {
        return false;
    }
    stream->window = (unsigned)min_u64(stream->window * 2UL, FS_AHEAD_WINDOW_MAX);
    after(stream, stream->to, out_range);
    return true;
}

static bool miss_at(struct stream *stream, uint64_t ino, struct stream_range *out_range)
{
    if (ino >= stream->from && ino < stream->to) {
        /* It was fetched and had to go, or was replaced: as if seen for the first time. */
        stream->from = ino;
        stream->to = ino + 1;
        stream->window = 0;
        return false;
    }
    stream->window = stream->window != 0 ? stream->window : FS_AHEAD_WINDOW_MIN;
    if (ino < stream->from) {
        before(stream, ino, out_range);
    } else {
        after(stream, ino + 1, out_range);
    }
    return true;
}

bool streams_note(struct streams *streams, uint64_t ino, bool hit, struct stream_range *out_range)
{
    struct stream *stream = find(streams, ino, hit ? 0 : FS_AHEAD_NEAR);

    streams->clock++;
    if (stream == NULL) {
        if (!hit) {
            begin(streams, ino);
        }
        return false;
    }
    stream->used = streams->clock;
    if (stream->busy || !(hit ? hit_in(stream, ino, out_range) : miss_at(stream, ino, out_range))) {
        return false;
    }
    ASSERT(out_range->from < out_range->to);
    out_range->stream = (unsigned)(stream - streams->all);
    stream->busy = true;
    return true;
}

void streams_done(struct streams *streams, unsigned stream)
{
    ASSERT(stream < FS_AHEAD_STREAMS);
    streams->all[stream].busy = false;
}
