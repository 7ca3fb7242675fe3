#pragma once
/*
 * test_network: may a server of a test listen on an address that is not local, without TLS? Only
 * where nothing from outside can come from: docs/adr/0018-test-networks.md.
 */
#include <stdbool.h>

/* This process is in a network namespace without a way out: it has no default route, and each
 * interface is the loopback or one end of a veth pair. Otherwise *out_why says what is in the way.
 * Reads /proc and asks the kernel: at start only. */
bool test_network_is_closed(const char **out_why);
