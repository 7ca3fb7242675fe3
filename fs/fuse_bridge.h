#pragma once
/*
 * fuse_bridge: the kernel's side of a mount: FUSE requests become fs_calls on the loop, and replies
 * go back when calls finish. The only file that knows libfuse.
 */
#include "fs/mount.h"
#include "net/env_uv.h"

struct fuse_bridge;

struct fuse_bridge_config {
    const char *mountpoint;
    const char
        *options; /* for the kernel, comma-separated: allow_other,default_permissions,ro,... */
    bool idmap;   /* the mount may be idmapped: the kernel alone decides who may what */
    /* The kernel has let go of the mount (unmounted); from the loop. */
    void (*ended)(void *data);
    void *data;
};

/* Mounts and begins to serve. -errno with a clear line on stderr. */
int must_check fuse_bridge_start(struct fuse_bridge **out_bridge, struct env_uv *uv,
                                 struct mount *mount, const struct fuse_bridge_config *config);
/* Asks the kernel to detach the mount, from outside (umount); ended() follows. */
void fuse_bridge_unmount(struct fuse_bridge *bridge);
/* After ended(), or to give up the device: open files get ENOTCONN. */
void fuse_bridge_stop(struct fuse_bridge *bridge);
