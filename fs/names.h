#pragma once
/*
 * names: the names of one directory as this mount knows them. Complete: what is not here does not
 * exist. Pure. Kept only while the mount is alone on the volume (fs/local.h).
 */
#include "base/map.h"
#include "base/slice.h"

struct name_entry {
    struct name_entry *next; /* another name with the same hash */
    uint64_t ino;
    uint32_t size;
    char text[];
};

struct names {
    struct map entries; /* hash -> first name_entry */
    size_t count;
    bool complete;
    uint64_t version; /* rises with each change, also of an incomplete one */
};

/* All names go; not complete any more. */
void names_clear(struct names *names);
/* Inode number, or 0. */
uint64_t names_find(const struct names *names, struct slice name);
/* Adds, or points elsewhere. */
void names_put(struct names *names, struct slice name, uint64_t ino);
void names_remove(struct names *names, struct slice name);
