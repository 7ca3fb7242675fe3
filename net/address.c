#include "net/address.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/un.h>

static int parse_long_unix(struct address *address, struct sockaddr_un *un, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir;
    int size;

    if (slash == NULL) {
        return -ENAMETOOLONG;
    }
    dir = mem_strdup(path);
    dir[slash - path] = '\0';
    address->dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    mem_free(dir);
    if (address->dir_fd < 0) {
        return -errno;
    }
    size = snprintf(un->sun_path, sizeof(un->sun_path), "/proc/self/fd/%d/%s", address->dir_fd,
                    slash + 1);
    if (size >= (int)sizeof(un->sun_path)) {
        close(address->dir_fd);
        address->dir_fd = -1;
        return -ENAMETOOLONG;
    }
    return 0;
}

static int parse_unix(struct address *address, const char *path)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&address->storage;

    un->sun_family = AF_UNIX;
    address->size = sizeof(*un);
    if (path[0] == '\0') {
        return -EINVAL;
    }
    if (strlen(path) >= sizeof(un->sun_path)) {
        return parse_long_unix(address, un, path);
    }
    memcpy(un->sun_path, path, strlen(path) + 1);
    return 0;
}

static int parse_inet(struct address *address, const char *host, uint16_t port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address->storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address->storage;

    if (strcmp(host, "localhost") == 0) {
        host = "127.0.0.1";
    }
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        address->size = sizeof(*v4);
        return 0;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        address->size = sizeof(*v6);
        return 0;
    }
    return -EINVAL;
}

int address_parse(struct address *out_address, const char *text)
{
    struct address address = {.dir_fd = -1};
    const char *colon = strrchr(text, ':');
    char host[64], *end = NULL;
    unsigned long port;
    size_t size;
    int r;

    if (strncmp(text, "unix:", 5) == 0) {
        r = parse_unix(&address, text + 5);
    } else {
        if (colon == NULL || colon == text) {
            return -EINVAL;
        }
        port = strtoul(colon + 1, &end, 10);
        if (end == colon + 1 || *end != '\0' || port == 0 || port > 65535) {
            return -EINVAL;
        }
        size = (size_t)(colon - text);
        if (text[0] == '[' && colon[-1] == ']') {
            text++;
            size -= 2;
        }
        if (size >= sizeof(host)) {
            return -EINVAL;
        }
        memcpy(host, text, size);
        host[size] = '\0';
        r = parse_inet(&address, host, (uint16_t)port);
    }
    if (r == 0) {
        *out_address = address;
    }
    return r;
}

void address_deinit(struct address *address)
{
    if (address->dir_fd >= 0) {
        close(address->dir_fd);
    }
    address->dir_fd = -1;
}

bool address_is_local(const struct address *address)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->storage;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->storage;

    switch (address->storage.ss_family) {
    case AF_UNIX:
        return true;
    case AF_INET:
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    case AF_INET6:
        return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    default:
        return false;
    }
}
