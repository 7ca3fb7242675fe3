#include "net/test_network.h"

#include "base/compiler.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Destination and mask of a default route are zeros; so are those of the kernel's entry that
 * refuses, which is bound to lo. */
static bool has_default_route(const char *path, bool v6)
{
    FILE *routes = fopen(path, "re");
    char line[512], name[64], destination[64], mask[64];
    bool found = routes == NULL && errno != ENOENT; /* unknown is not closed */

    while (routes != NULL && fgets(line, sizeof(line), routes) != NULL) {
        int fields =
            v6 ? sscanf(line, "%63s %63s %*s %*s %*s %*s %*s %*s %*s %63s", destination, mask, name)
               : sscanf(line, "%63s %63s %*s %*s %*s %*s %*s %63s", name, destination, mask);

        if (fields == 3 && strspn(destination, "0") == strlen(destination) &&
            strspn(mask, "0") == strlen(mask) && strcmp(name, "lo") != 0) {
            found = true;
        }
    }
    if (routes != NULL) {
        fclose(routes);
    }
    return found;
}

static bool is_closed_interface(int fd, const char *name)
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    struct ifreq request = {.ifr_data = (char *)&info};

    if (strcmp(name, "lo") == 0) {
        return true;
    }
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    return ioctl(fd, SIOCETHTOOL, &request) == 0 && strcmp(info.driver, "veth") == 0;
}

bool test_network_is_closed(const char **out_why)
{
    struct if_nameindex *all = if_nameindex();
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool closed = all != NULL && fd >= 0;

    *out_why = "an interface is neither the loopback nor one end of a veth pair";
    for (struct if_nameindex *at = all; closed && at->if_index != 0; at++) {
        closed = is_closed_interface(fd, at->if_name);
    }
    if (all != NULL) {
        if_freenameindex(all);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (closed && (has_default_route("/proc/self/net/route", /* v6= */ false) ||
                   has_default_route("/proc/self/net/ipv6_route", /* v6= */ true))) {
        *out_why = "there is a default route";
        closed = false;
    }
    return closed;
}
