#pragma once
/*
 * admin: a server's or mount's own socket for whoever wants to know how it is: one line in, a text
 * out, end. Unix socket of mode 0600, and only root or our own user is answered. It lives on the
 * loop like everything else, so it answers whatever the rest waits for.
 *
 *     admin.answer = f;                     f(&admin, "status", &out) appends the answer
 *     admin_start(&admin, env, "unix:/var/lib/keelfs/meta1/admin.sock");
 *     text = admin_ask(path, "status", timeout_ms, &out)        the other side; blocking, for tools
 */
#include "base/env.h"

#define ADMIN_CONNS_MAX   4              /* more are closed at once */
#define ADMIN_LINE_MAX    128            /* a question, its newline included */
#define ADMIN_DEADLINE_NS (5 * NS_PER_S) /* to ask, and again to take the answer */
#define ADMIN_ANSWER_MAX  MiB(4)         /* a tool reads no more */

struct admin;

struct admin_conn {
    struct env_conn conn;
    struct admin *admin;
    struct env_timer deadline;
    char line[ADMIN_LINE_MAX];
    size_t size;
    struct buf answer;
    struct env_send send;
    bool in_use;
};

struct admin {
    struct env *env;
    /* Appends the answer to a question (a C string without its newline); nothing: the question is
     * not known, which the asker is told. */
    void (*answer)(struct admin *admin, const char *question, struct buf *out);
    void *data;
    /* private */
    struct env_listener listener;
    struct admin_conn conns[ADMIN_CONNS_MAX];
};

/* 0, or why it cannot listen. The memory must live as long as env runs. */
int must_check admin_start(struct admin *admin, struct env *env, const char *address);
/* No more questions; connections end from the loop. Harmless when it was not started. */
void admin_stop(struct admin *admin);
/* Blocks until the whole answer is there, at most so long. -ETIMEDOUT, or why there is none. */
int must_check admin_ask(const char *path, const char *question, unsigned timeout_ms,
                         struct buf *out_answer);
