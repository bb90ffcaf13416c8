/* One node: everything that makes a bilrostd, assembled from a configuration.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Order of a life: node_new, node_run (which returns when node_stop was called and all is said),
 * node_free. Thread: one; it becomes loop 0 within node_run.  No globals: a process may hold
 * several nodes. */
#pragma once

#include "base/log.h"
#include "base/uuid.h"
#include "node/conf.h"

struct node;
struct net_loop;

/* Why a node does not come up; each has its exit code in main. */
enum node_outcome {
    NODE_E_CONFIG = 1, /* what the configuration asks for cannot be */
    NODE_E_ADDRESS,    /* an address is taken or not ours */
    NODE_E_PERMISSION, /* a file or port is not for this user */
    NODE_E_DATA,       /* the data directory: damaged, foreign, newer, in use */
    NODE_E_SYSTEM,     /* the system refuses: descriptors, threads, memory */
    NODE_E_DAMAGED,    /* node_verify found damage */
};

#define NODE_ERROR_MAX 640

/* A listening socket that was handed over. */
struct node_handed {
    const char *name;
    int fd;
};

/* What a node tells the one who runs it; each called on loop 0.  All may be NULL. */
struct node_events {
    /* Listens, is of the cluster, and its ranges have leaders; or status says what is missing still
     * after half a minute. */
    void (*ready)(void *arg, const char *status);
    void (*status)(void *arg, const char *status); /* one line, some times a minute */
    void (*failed)(void *arg, const char *why);    /* cannot go on: the process must end */
    void *arg;
};

struct node_conf_run {
    struct node_conf *conf; /* taken; freed with the node */
    const struct log *log;  /* outlives the node */
    const struct node_handed *handed;
    size_t handed_count;
    struct node_events events;
    const char *version;
    uint64_t memory_limit; /* of this process, by the system; 0: none known */
};

/* Would node_new, on a machine without a node, get past everything it reads?  Files, certificates
 * and the format of the data are looked at; nothing is written, locked or opened to the network, so
 * a node may run on them meanwhile.  conf is borrowed and was found good by node_conf_check.  0, or an
 * outcome with one plain sentence in out_error. */
must_use int node_try(struct node_conf *conf, char out_error[NODE_ERROR_MAX]);

/* Opens and listens, but serves nobody yet.  0, or an outcome with one plain sentence in out_error.
 */
must_use int node_new(const struct node_conf_run *run, char out_error[NODE_ERROR_MAX],
                      struct node **out_node);
struct node *node_free(struct node *n);

/* The name of the node whose data directory this is, also while a node runs on it; a directory that
 * is not there yet is made. 0, or an outcome with one plain sentence in out_error. */
must_use int node_uuid_find(const struct node_conf *c, char out[UUID_TEXT],
                            char out_error[NODE_ERROR_MAX]);

/* Reads all of a data directory that no node runs on: identity, log, stores.  say gets one sentence
 * for each thing found, with the file and what to do.  0: all is well; NODE_E_DAMAGED: something
 * was said; NODE_E_DATA: no directory of ours, newer, or in use; another outcome with one plain
 * sentence in out_error.  Blocks until all was read. */
must_use int node_verify(const char *data_dir, void (*say)(void *arg, struct str sentence),
                         void *arg, char out_error[NODE_ERROR_MAX]);

/* Serves until the end of the drain that node_stop began. */
void node_run(struct node *n);

/* The first call drains: no new clients, those there are told to go, within conf.drain_seconds. The
 * second ends at once.  On loop 0. */
void node_stop(struct node *n);

/* Takes on what may change while running: certificates, password and ACL files, tenants, limits. On
 * loop 0.  0: done, and `say` has what needs a restart, if anything; NODE_E_CONFIG: nothing was
 * changed, and `say` tells why.  conf is taken in both cases. */
must_use int node_reload(struct node *n, struct node_conf *conf, struct buf *say);

/* The loop that runs in node_run: for signals. */
struct net_loop *node_loop(struct node *n);

/* Every loop has answered within the last span; asks them all again.  On loop 0, more often than
 * once a span. */
bool node_is_alive(struct node *n, uint64_t span_usec);
