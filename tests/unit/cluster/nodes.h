/* Real nodes on loopback, in one thread, turned by hand.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "unit/unit.h"

#include "base/mem.h"
#include "cluster/host.h"
#include "net/clock.h"
#include "net/loop.h"

#define NODES 3
#define LOOPS 2

struct unit_node {
    struct net_loop *loop[LOOPS];
    struct cluster *c;
    char seed_text[32];
    const char *seed;
    uint16_t port; /* of gossip; 0: any */
    char dir[64];
    const struct cluster_identity *identity; /* NULL: a fresh one */
    struct net_tls *tls_server, *tls_client; /* of the link */
    struct log log;
    char lines[16384]; /* what it logged, "event text\\n" */
    unsigned ups, downs, rows, gones, fatal, left;
    struct uuid last_down;
    struct cluster_watch *watch;
};

extern struct unit_node node[NODES];
extern const struct cluster_host_key nodes_key_a, nodes_key_b;

bool nodes_logged(const struct unit_node *n, const char *what);

/* With these keys, NULL none; the outcome of cluster_new. */
int nodes_try(struct unit_node *n, const char *env, const struct cluster_host_key *key,
              char *error);
void nodes_start(struct unit_node *n, const char *env, const struct cluster_host_key *key);
void nodes_start_three(const struct cluster_host_key *key);
void nodes_seed(struct unit_node *n, const struct unit_node *to);
void nodes_stop(struct unit_node *n);
void nodes_setup(void);
void nodes_teardown(void);

void nodes_turn(void);
void nodes_run(double seconds);
bool nodes_until(bool (*done)(void), double seconds);
bool nodes_agree(void); /* all that run see each other and nobody else */

struct answer {
    unsigned count;
    int outcome;
};

extern struct answer nodes_answer;
void nodes_on_reply(void *arg, int outcome, struct str reply);
bool nodes_answered(void);

/* Calls echo of another node, from loop 0 to its loop 1, and waits: the outcome. */
int nodes_call(struct unit_node *from, const struct uuid *to);
void nodes_on_left(void *arg);
