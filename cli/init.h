#pragma once
/* init: writes a cluster.conf with a fresh uuid; shared by `keelfs init` and `keelfs demo`. */

struct init_options {
    unsigned meta_count;
    unsigned chunk_count;
};

/* -EEXIST when the file is there. */
int init_write_config(const char *path, const char *dir, const struct init_options *options);
