#include "fs/names.h"

#include "base/hash.h"
#include "base/mem.h"

static struct map_key key_of(struct slice name)
{
    return map_u64(hash_bytes((struct hash_key){0x6e616d65, 0x73}, name));
}

static bool is(const struct name_entry *entry, struct slice name)
{
    return entry->size == name.size && memcmp(entry->text, name.data, name.size) == 0;
}

void names_clear(struct names *names)
{
    struct map_slot *slot;
    size_t at = 0;

    while ((slot = map_next(&names->entries, &at)) != NULL) {
        struct name_entry *entry = slot->value;

        while (entry != NULL) {
            struct name_entry *next = entry->next;

            mem_free(entry);
            entry = next;
        }
    }
    map_deinit(&names->entries);
    names->count = 0;
    names->complete = false;
    names->version++;
}

static struct name_entry *find(const struct names *names, struct slice name)
{
    struct name_entry *entry = map_get(&names->entries, key_of(name));

    while (entry != NULL && !is(entry, name)) {
        entry = entry->next;
    }
    return entry;
}

uint64_t names_find(const struct names *names, struct slice name)
{
    const struct name_entry *entry = find(names, name);

    return entry != NULL ? entry->ino : 0;
}

void names_put(struct names *names, struct slice name, uint64_t ino)
{
    struct name_entry *entry = find(names, name);

    names->version++;
    if (entry != NULL) {
        entry->ino = ino;
        return;
    }
    entry = mem_alloc(sizeof(*entry) + name.size);
    *entry = (struct name_entry){.ino = ino, .size = (uint32_t)name.size};
    slice_copy(entry->text, name);
    entry->next = map_get(&names->entries, key_of(name));
    map_put(&names->entries, key_of(name), entry);
    names->count++;
}

void names_remove(struct names *names, struct slice name)
{
    struct name_entry *head = map_get(&names->entries, key_of(name)), *entry = head;
    struct name_entry *before = NULL;

    names->version++;
    while (entry != NULL && !is(entry, name)) {
        before = entry;
        entry = entry->next;
    }
    if (entry == NULL) {
        return;
    }
    if (before != NULL) {
        before->next = entry->next;
    } else if (entry->next != NULL) {
        map_put(&names->entries, key_of(name), entry->next);
    } else {
        map_remove(&names->entries, key_of(name));
    }
    mem_free(entry);
    names->count--;
}
