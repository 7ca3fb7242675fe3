#include "cli/config.h"

#include "base/assert.h"
#include "base/mem.h"
#include "cli/cli.h"

#include <errno.h>
#include <ini.h>

CONFIG_IMPLEMENT(cluster_settings, "cluster", CLUSTER_SETTINGS)

static int refuse(struct cluster_config *config, const char *format, const char *what)
{
    if (config->error[0] == '\0') {
        snprintf(config->error, sizeof(config->error), format, what);
    }
    return 0;
}

static bool parse_uuid(uint8_t uuid[16], const char *text)
{
    unsigned digits = 0;

    for (; *text != '\0'; text++) {
        char digit[2] = {*text, '\0'};
        char *end;
        unsigned long value;

        if (*text == '-') {
            continue;
        }
        value = strtoul(digit, &end, 16);
        if (*end != '\0' || digits == 32) {
            return false;
        }
        uuid[digits / 2] = (uint8_t)(digits % 2 ? uuid[digits / 2] | value : value << 4);
        digits++;
    }
    return digits == 32;
}

static bool parse_u32(uint32_t *out, const char *text, uint32_t min, uint32_t max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (end == text || *end != '\0' || value < min || value > max) {
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

static int set_value(struct cluster_config *config, const struct config_table *table, void *values,
                     const char *name, const char *value)
{
    cleanup(buf_deinit) struct buf why = {0};

    if (config_set(table, values, name, value, &why) < 0) {
        buf_append(&why, "", 1);
        return refuse(config, "%s", (const char *)why.data);
    }
    return 1;
}

static int set_cluster(struct cluster_config *config, const char *name, const char *value)
{
    if (strcmp(name, "uuid") == 0) {
        config->has_uuid = parse_uuid(config->uuid, value);
        return config->has_uuid ? 1 : refuse(config, "uuid '%s' is not 32 hex digits", value);
    }
    if (strcmp(name, "gc_grace_ms") == 0) { /* here it stood before there was [meta] */
        return set_value(config, meta_settings_table(), &config->meta_settings, name, value);
    }
    return set_value(config, cluster_settings_table(), &config->settings, name, value);
}

/* [meta], [chunk], [mount]: 1 or 0 as refuse(); -1: another section. */
static int set_kind(struct cluster_config *config, const char *section, const char *name,
                    const char *value)
{
    struct {
        const struct config_table *table;
        void *values;
    } kinds[] = {
        {meta_settings_table(), &config->meta_settings},
        {chunk_settings_table(), &config->chunk_settings},
        {mount_settings_table(), &config->mount_settings},
    };

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (strcmp(section, kinds[i].table->section) == 0) {
            return set_value(config, kinds[i].table, kinds[i].values, name, value);
        }
    }
    return -1;
}

static struct node_config *find(struct node_config *nodes, unsigned count, uint32_t id)
{
    for (unsigned i = 0; i < count; i++) {
        if (nodes[i].id == id) {
            return &nodes[i];
        }
    }
    return NULL;
}

static int set_node(struct cluster_config *config, struct node_config *node, const char *name,
                    const char *value)
{
    char **field = NULL;

    if (strcmp(name, "address") == 0) {
        field = &node->address;
    } else if (strcmp(name, "dir") == 0) {
        field = &node->dir;
    } else if (strcmp(name, "zone") == 0) {
        field = &node->zone;
    } else {
        return refuse(config, "unknown key '%s' of a server; known: address, dir, zone", name);
    }
    mem_free(*field);
    *field = mem_strdup(value);
    return 1;
}

static struct node_config *node_of(struct cluster_config *config, const char *section)
{
    bool meta = strncmp(section, "meta.", 5) == 0;
    struct node_config *nodes = meta ? config->meta : config->chunk;
    unsigned *count = meta ? &config->meta_count : &config->chunk_count;
    unsigned max = meta ? CONFIG_META_MAX : CONFIG_CHUNK_MAX;
    struct node_config *node;
    uint32_t id;

    if (!parse_u32(&id, section + (meta ? 5 : 6), 1, meta ? CONFIG_META_MAX : 1000000)) {
        return NULL;
    }
    node = find(nodes, *count, id);
    if (node == NULL && *count < max) {
        node = &nodes[(*count)++];
        node->id = id;
    }
    return node;
}

static int on_value(void *data, const char *section, const char *name, const char *value)
{
    struct cluster_config *config = data;
    struct node_config *node;
    int r;

    if (strcmp(section, "cluster") == 0) {
        return set_cluster(config, name, value);
    }
    r = set_kind(config, section, name, value);
    if (r >= 0) {
        return r;
    }
    if (strncmp(section, "meta.", 5) != 0 && strncmp(section, "chunk.", 6) != 0) {
        return refuse(config,
                      "unknown section [%s]; known: cluster, meta, chunk, mount, meta.ID, chunk.ID",
                      section);
    }
    node = node_of(config, section);
    return node != NULL ? set_node(config, node, name, value)
                        : refuse(config, "[%s]: not an id, or too many servers", section);
}

static int check(const struct cluster_config *config)
{
    const char *problem = NULL;

    if (!config->has_uuid) {
        problem = "[cluster] has no uuid";
    } else if (config->meta_count == 0) {
        problem = "no metadata server: add a section [meta.1] with an address";
    }
    for (unsigned i = 0; i < config->meta_count && problem == NULL; i++) {
        problem = config->meta[i].address == NULL ? "a [meta.ID] has no address" : NULL;
    }
    for (unsigned i = 0; i < config->chunk_count && problem == NULL; i++) {
        problem = config->chunk[i].address == NULL ? "a [chunk.ID] has no address" : NULL;
    }
    if (problem != NULL) {
        cli_error("%s: %s", config->path, problem);
        return -EINVAL;
    }
    return 0;
}

int cluster_config_read(struct cluster_config *out_config, const char *path)
{
    int r;

    *out_config = (struct cluster_config){.settings = cluster_settings_defaults(),
                                          .meta_settings = meta_settings_defaults(),
                                          .chunk_settings = chunk_settings_defaults(),
                                          .mount_settings = mount_settings_defaults()};
    out_config->path = mem_strdup(path);
    errno = 0;
    r = ini_parse(path, on_value, out_config);
    if (r < 0) {
        r = errno ? -errno : -EIO;
        cli_error("cannot read %s: %s; name the cluster's configuration with --config", path,
                  strerrordesc_np(-r));
        return r;
    }
    if (r > 0) {
        cli_error("%s:%d: %s", path, r,
                  out_config->error[0] ? out_config->error : "not of the form 'key = value'");
        return -EINVAL;
    }
    return check(out_config);
}

static void nodes_deinit(struct node_config *nodes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        mem_free(nodes[i].address);
        mem_free(nodes[i].dir);
        mem_free(nodes[i].zone);
    }
}

void cluster_config_deinit(struct cluster_config *config)
{
    nodes_deinit(config->meta, config->meta_count);
    nodes_deinit(config->chunk, config->chunk_count);
    mem_free(config->path);
    *config = (struct cluster_config){0};
}

const struct node_config *cluster_config_meta(const struct cluster_config *config, uint32_t id)
{
    return find((struct node_config *)(uintptr_t)config->meta, config->meta_count, id);
}

const struct node_config *cluster_config_chunk(const struct cluster_config *config, uint32_t id)
{
    return find((struct node_config *)(uintptr_t)config->chunk, config->chunk_count, id);
}

/* ---- overrides ---- */

static int set_pair(const struct config_table *table, void *values, const char *pair,
                    struct buf *why)
{
    const char *equals = strchr(pair, '=');
    char *name = mem_strdup(pair);
    int r;

    if (equals != NULL) {
        name[equals - pair] = '\0';
    }
    r = config_set(table, values, name, equals != NULL ? equals + 1 : "", why);
    mem_free(name);
    return r;
}

int config_override(struct config_overrides *overrides, const struct config_table *table,
                    const char *pair)
{
    union {
        struct meta_settings meta;
        struct chunk_settings chunk;
        struct mount_settings mount;
    } scratch;
    cleanup(buf_deinit) struct buf why = {0};

    if (overrides->count == CONFIG_SET_MAX) {
        cli_error("more than %d values are set on the command line", CONFIG_SET_MAX);
        return -EINVAL;
    }
    if (set_pair(table, &scratch, pair, &why) < 0) {
        cli_error("%.*s", (int)why.size, (const char *)why.data);
        return -EINVAL;
    }
    overrides->pairs[overrides->count++] = pair;
    return 0;
}

void config_overrides_apply(const struct config_overrides *overrides,
                            const struct config_table *table, void *values)
{
    for (unsigned i = 0; i < overrides->count; i++) {
        int r = set_pair(table, values, overrides->pairs[i], NULL);

        ASSERT(r == 0); /* config_override has checked it */
    }
}

void config_print_help(const struct config_table *table, const char *title)
{
    cleanup(buf_deinit) struct buf text = {0};

    config_help(table, &text);
    printf("\n%s\n\n  %-24s %8s  %-14s\n%.*s", title, "name", "default", "range", (int)text.size,
           (const char *)text.data);
}
