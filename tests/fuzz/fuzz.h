#pragma once
/*
 * fuzz: what the targets share. A target is one file fuzz_NAME.c with
 *
 *     LLVMFuzzerTestOneInput(data, size)      does with hostile bytes what a server would
 *     fuzz_seeds()                            gives valid encodings to fuzz_seed
 *
 * Built by clang with libFuzzer (preset fuzz) it searches; built by any compiler it has a main of
 * its own (fuzz.c), which runs the files named on the command line: so the corpora are tests.
 *
 * In a target every checksum is fuzz_crc: whoever can write to a disk or a socket can make
 * checksums right, a fuzzer cannot. The bytes under a checksum are touched as crc32c would.
 */
#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void fuzz_seeds(void);
/* One input of the corpus. */
void fuzz_seed(const char *name, struct slice bytes);

/* What crc32c returns; 0 unless the target sets it. */
extern uint32_t fuzz_crc;

/* ---- the input as a source of decisions; zero when it is used up ---- */

struct fuzz_input {
    const uint8_t *at;
    size_t left;
};

static inline struct fuzz_input fuzz_input_make(const uint8_t *data, size_t size)
{
    return (struct fuzz_input){data, size};
}

/* `size` bytes (at most 8) as a little endian number. */
uint64_t fuzz_number(struct fuzz_input *input, unsigned size);
/* Up to `max` bytes, borrowed. */
struct slice fuzz_bytes(struct fuzz_input *input, size_t max);
static inline uint64_t fuzz_below(struct fuzz_input *input, uint64_t limit)
{
    return fuzz_number(input, limit > 256 ? 8 : 1) % limit;
}
