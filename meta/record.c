#include "meta/record.h"

#include "base/assert.h"
#include "base/bytes.h"

SCHEMA_IMPLEMENT(record_volume, RECORD_VOLUME)
SCHEMA_IMPLEMENT(record_inode, RECORD_INODE)
SCHEMA_IMPLEMENT(record_dentry, RECORD_DENTRY)
SCHEMA_IMPLEMENT(record_extent, RECORD_EXTENT)
SCHEMA_IMPLEMENT(record_reservation, RECORD_RESERVATION)
SCHEMA_IMPLEMENT(record_journal, RECORD_JOURNAL)
SCHEMA_IMPLEMENT(record_xattr, RECORD_XATTR)
SCHEMA_IMPLEMENT(record_session, RECORD_SESSION)
SCHEMA_IMPLEMENT(record_chunk, RECORD_CHUNK)
SCHEMA_IMPLEMENT(record_orphan, RECORD_ORPHAN)

static struct record_key make(char letter, unsigned count, const uint64_t *numbers)
{
    struct record_key key = {.size = (uint8_t)(1 + 8 * count)};

    key.bytes[0] = (uint8_t)letter;
    for (unsigned i = 0; i < count; i++) {
        bytes_put_be64(key.bytes + 1 + 8 * i, numbers[i]);
    }
    return key;
}

static struct record_key with_byte(struct record_key key, uint8_t n)
{
    key.bytes[key.size++] = n;
    return key;
}

struct record_key record_key_map(void)
{
    return make('C', 0, NULL);
}

struct record_key record_key_dentry(uint64_t dir, uint64_t hash, uint8_t n)
{
    return with_byte(make('D', 2, (uint64_t[]){dir, hash}), n);
}

struct record_key record_key_extent(uint64_t data, uint64_t offset)
{
    return make('E', 2, (uint64_t[]){data, offset});
}

struct record_key record_key_reservation(uint64_t ino, uint64_t offset)
{
    return make('F', 2, (uint64_t[]){ino, offset});
}

struct record_key record_key_gone(uint64_t time, uint64_t session, uint64_t seq)
{
    return make('G', 3, (uint64_t[]){time, session, seq});
}

struct record_key record_key_inode(uint64_t ino)
{
    return make('I', 1, &ino);
}

struct record_key record_key_journal(uint64_t data, uint64_t offset)
{
    return make('J', 2, (uint64_t[]){data, offset});
}

struct record_key record_key_locks(uint64_t ino)
{
    return make('L', 1, &ino);
}

struct record_key record_key_locked(uint64_t session, uint64_t ino)
{
    return make('K', 2, (uint64_t[]){session, ino});
}

struct record_key record_key_lock_wait(uint64_t session, uint64_t owner, uint64_t ticket)
{
    return make('W', 3, (uint64_t[]){session, owner, ticket});
}

struct record_key record_key_members(void)
{
    return make('M', 0, NULL);
}

struct record_key record_key_orphan(uint64_t ino)
{
    return make('O', 1, &ino);
}

struct record_key record_key_reply(uint64_t session, uint64_t seq)
{
    return make('R', 2, (uint64_t[]){session, seq});
}

struct record_key record_key_session(uint64_t session)
{
    return make('S', 1, &session);
}

struct record_key record_key_chunk(uint64_t session, uint64_t seq)
{
    return make('U', 2, (uint64_t[]){session, seq});
}

struct record_key record_key_volume(void)
{
    return make('V', 0, NULL);
}

struct record_key record_key_xattr(uint64_t ino, uint64_t hash, uint8_t n)
{
    return with_byte(make('X', 2, (uint64_t[]){ino, hash}), n);
}

uint64_t record_key_number(struct slice key, unsigned i)
{
    return key.size >= 1 + 8 * (size_t)(i + 1) ? bytes_get_be64(key.data + 1 + 8 * i) : 0;
}

/* Bytes of a key; 0 = there is no such letter. */
static size_t key_size(char letter)
{
    switch (letter) {
    case 'C':
    case 'M':
    case 'V':
        return 1;
    case 'I':
    case 'L':
    case 'O':
    case 'S':
        return 9;
    case 'E':
    case 'F':
    case 'J':
    case 'K':
    case 'R':
    case 'U':
        return 17;
    case 'D':
    case 'X':
        return 18;
    case 'G':
    case 'W':
        return 25;
    default:
        return 0;
    }
}

bool record_key_is(struct slice key, char letter)
{
    return key.size > 0 && key.data[0] == (uint8_t)letter && key.size == key_size(letter);
}

struct slice record_slice(const struct record_key *key)
{
    struct slice slice = slice_make(key->bytes, key->size);

    ASSERT(record_key_is(slice, (char)key->bytes[0])); /* a new letter is in key_size */
    return slice;
}

bool record_key_same_group(struct slice key, char letter, uint64_t first)
{
    return key.size >= 9 && record_key_is(key, letter) && record_key_number(key, 0) == first;
}

uint64_t record_name_hash(struct hash_key salt, struct slice name)
{
    uint64_t hash = hash_bytes(salt, name) >> 1;

    return hash < 3 ? hash + 3 : hash;
}
