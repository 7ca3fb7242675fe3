/*
 * raft_node_link: one connection to each other member, made and closed as the group changes; and
 * for a while to candidates that are no members for us, so that they hear our vote.
 */
#include "raft/raft_node_internal.h"

#include <errno.h>

static void on_changed(struct rpc_peer *peer, int status)
{
    struct raft_link *link = peer->data;
    struct raft_node *node = link->node;

    if (status == 0) {
        link->was_up = true;
        return;
    }
    if (link->was_up) {
        link->was_up = false;
        (void)!raft_node_step(
            node, (struct raft_input){.type = RAFT_INPUT_UNREACHABLE, .peer = link->id});
        rpc_peer_poke(peer); /* is it gone, or only the connection? */
    } else if (status == -ECONNREFUSED || status == -ENOENT || status == -ERR_WRONG_NODE) {
        /* Nobody is there, or somebody else who says why (cli/standin.h). */
        (void)!raft_node_step(node,
                              (struct raft_input){.type = RAFT_INPUT_SUSPECT, .peer = link->id});
    }
}

static void on_peer_closed(struct rpc_peer *peer)
{
    struct raft_link *link = peer->data;

    list_remove(&link->list_node);
    mem_free(link);
}

void raft_node_copy_peers(struct raft_node *node, const struct raft_node_config *config)
{
    node->peer_count = config->peer_count;
    node->peers = mem_zalloc((config->peer_count + 1) * sizeof(*node->peers));
    for (unsigned i = 0; i < config->peer_count; i++) {
        node->peers[i] =
            (struct raft_peer_config){config->peers[i].id, mem_strdup(config->peers[i].address)};
    }
}

void raft_node_free_peers(struct raft_node *node)
{
    for (unsigned i = 0; i < node->peer_count; i++) {
        mem_free((void *)(uintptr_t)node->peers[i].address);
    }
    mem_free(node->peers);
    node->peers = NULL;
    node->peer_count = 0;
}

const char *raft_node_address(const struct raft_node *node, const struct raft_member *member)
{
    for (unsigned i = 0; i < node->peer_count; i++) {
        if (node->peers[i].id == member->id) {
            return node->peers[i].address; /* the configuration is newer */
        }
    }
    return member->address;
}

struct raft_link *raft_node_link(const struct raft_node *node, uint32_t id)
{
    list_for_each (at, &node->links) {
        struct raft_link *link = list_entry(at, struct raft_link, list_node);

        if (link->id == id && !link->closing) {
            return link;
        }
    }
    return NULL;
}

static struct raft_link *open_link(struct raft_node *node, uint32_t id, const char *address)
{
    struct raft_link *link = mem_zalloc(sizeof(*link));

    link->node = node;
    link->id = id;
    list_push_back(&node->links, &link->list_node);
    rpc_peer_init(&link->peer, node->env, node->identity, address);
    link->peer.data = link;
    link->peer.changed = on_changed;
    link->peer.closed = on_peer_closed;
    link->peer.expect_role = RPC_ROLE_META;
    link->peer.expect_node = id;
    rpc_peer_poke(&link->peer);
    return link;
}

static void close_link(struct raft_link *link)
{
    if (!link->closing) {
        link->closing = true;
        rpc_peer_close(&link->peer); /* freed when it is closed */
    }
}

void raft_node_update_links(struct raft_node *node)
{
    const struct raft_members *members = &node->raft.members;
    uint64_t now = env_now(node->env);

    node->links_version = node->raft.members_version;
    for (unsigned i = 0; i < members->count; i++) {
        const struct raft_member *member = &members->list[i];
        struct raft_link *link = raft_node_link(node, member->id);

        if (link != NULL) {
            link->guest_until_ns = 0;
        } else if (i != node->raft.self) {
            open_link(node, member->id, raft_node_address(node, member));
        }
    }
    list_for_each (at, &node->links) {
        struct raft_link *link = list_entry(at, struct raft_link, list_node);

        if (raft_members_find(members, link->id) < 0 && now >= link->guest_until_ns) {
            close_link(link);
        }
    }
}

static unsigned count_guests(const struct raft_node *node)
{
    unsigned guests = 0;

    list_for_each (at, &node->links) {
        guests += list_entry(at, struct raft_link, list_node)->guest_until_ns != 0;
    }
    return guests;
}

void raft_node_meet(struct raft_node *node, uint32_t id, struct slice address)
{
    struct raft_link *link = raft_node_link(node, id);
    char text[RAFT_ADDRESS_MAX + 1] = {0};

    if (address.size == 0 || raft_members_find(&node->raft.members, id) >= 0 ||
        (link == NULL && count_guests(node) >= RAFT_GUESTS_MAX)) {
        return;
    }
    if (link == NULL) {
        memcpy(text, address.data, address.size);
        link = open_link(node, id, text);
    }
    link->guest_until_ns = env_now(node->env) + RAFT_GUEST_NS;
}

void raft_node_close_links(struct raft_node *node)
{
    list_for_each (at, &node->links) {
        close_link(list_entry(at, struct raft_link, list_node));
    }
}
