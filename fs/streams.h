#pragma once
/*
 * streams: which files will be opened next? Pure.
 *
 * Files that were made one after the other have inode numbers one after the other, and are mostly
 * read so too. A stream is a range of numbers around opens that came near each other; it is fetched
 * ahead in a window that doubles while what was fetched is opened, and is not fetched any more when
 * not.
 *
 *     if (streams_note(&streams, ino, was_fetched, &range)) { fetch range, then streams_done }
 */
#include "fs/limits.h"

struct stream {
    uint64_t from, to; /* was fetched, or is being fetched; to = 0: unused */
    uint64_t used;     /* streams.clock at the last open */
    unsigned window;   /* numbers in the last range; 0 = seen once, nothing fetched */
    bool busy;         /* a range is on its way */
};

struct streams {
    struct stream all[FS_AHEAD_STREAMS];
    uint64_t clock;
};

struct stream_range {
    unsigned stream;
    uint64_t from, to;
};

/* A file was opened whose contents were not known, or (hit) had been fetched ahead. True: fetch
 * *out_range now. */
bool streams_note(struct streams *streams, uint64_t ino, bool hit, struct stream_range *out_range);
/* The range has come, or will not. */
void streams_done(struct streams *streams, unsigned stream);
