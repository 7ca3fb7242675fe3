#pragma once
/* address: "unix:PATH" or "HOST:PORT" with a numeric host, [v6] in brackets, or localhost. */
#include <stdbool.h>
#include <sys/socket.h>

struct address {
    struct sockaddr_storage storage;
    socklen_t size;
    int dir_fd; /* a Unix path too long for the kernel goes through /proc/self/fd; -1 otherwise */
};

/* 0, or -EINVAL (form), -ENAMETOOLONG, or why the directory cannot be opened. */
int address_parse(struct address *out_address, const char *text);
void address_deinit(struct address *address);
/* Unix socket, 127.0.0.0/8 or ::1: what may be listened on without TLS. */
bool address_is_local(const struct address *address);
