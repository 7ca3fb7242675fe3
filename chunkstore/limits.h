#pragma once
/*
 * limits: every bound of the chunk store, with the arithmetic behind it; those that can be set are
 * in chunk_settings.h. A chunk server has to stay under 64 MiB of memory with 10 GiB of chunks: 2
 * memtables of 4 MiB, 4 MiB of index blocks, one table of 4 MiB being built, 24 MiB of puts, bloom
 * filters of 1.25 bytes a chunk.
 */
#include "base/compiler.h"

#define STORE_SMALL_MAX         KiB(64)  /* stored bytes below this: class S */
#define STORE_GROUP_BYTES       MiB(8)   /* written with one fdatasync: 2 chunks, about 10 ms */
#define STORE_GROUP_ITEMS       4096     /* one whole CHUNK_DELETE */
#define STORE_GROUP_LARGE_MAX   300      /* 3 iovecs each, below IOV_MAX = 1024 */
#define STORE_STAT_NS           NS_PER_S /* how old a look at the free space may be */
#define STORE_CLEAN_BATCH       64       /* records moved at a time */
#define STORE_CLEAN_BATCH_BYTES MiB(2)
#define STORE_CLEAN_WINDOW      KiB(256) /* read at a time while cleaning and recovering */
#define STORE_PUNCH_BATCH       4096

#define MEMTABLE_HEIGHT_MAX     12
#define SSTABLE_BLOCK_BYTES     KiB(16)
#define SSTABLE_BYTES           MiB(4)
#define SSTABLE_FILE_MAX        MiB(64) /* sanity bound when one is opened */
#define BLOOM_BITS_PER_KEY      10
#define BLOOM_PROBES            7
#define LSM_LEVELS              7
#define LSM_L0_TRIGGER          4
#define LSM_L0_STALL            12 /* writes wait for the compaction */
#define LSM_L1_BYTES            MiB(40)
#define LSM_FANOUT              10
#define LSM_TABLES_MAX          16384
#define MANIFEST_BYTES_MAX      MiB(16)

#define SERVER_REQUESTS_MAX     1024 /* being worked on; above: -ERR_BUSY */
#define SERVER_DELETES_MAX      4
#define SERVER_VERIFIES_MAX     2      /* each reads one chunk at a time: 8 MiB of memory */
#define SERVER_VERIFY_BYTES     MiB(8) /* read for one request: 0.1 s of a slow disk */
#define SERVER_METADATA_MAX     16
#define SERVER_META_TIMEOUT_NS  (2 * NS_PER_S)

#define HEAL_QUEUE_MAX          65536
#define HEAL_HINTS_MAX          65536
#define HEAL_TIMEOUT_NS         (10 * NS_PER_S)
/* A server whose place is taken is not waited for when it has not been reached for so long. Far
 * above a session's lease: no client puts by a map as old any more. */
#define HEAL_GIVE_UP_NS       (600 * NS_PER_S)

#define CLIENT_ATTEMPT_NS     (10 * NS_PER_S) /* one call to one server */
#define CLIENT_BACKOFF_MIN_NS (10 * NS_PER_MS)
#define CLIENT_BACKOFF_MAX_NS (500 * NS_PER_MS)
#define CLIENT_HEDGE_MIN_NS   (10 * NS_PER_MS)
