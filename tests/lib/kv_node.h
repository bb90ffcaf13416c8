/* One node of a test cluster over loopback: loops, cluster and kv with the test machine, in this
 * process. SPDX-License-Identifier: Apache-2.0
 *
 * Node i of `count` listens on 127.0.0.1, port + 10 * i (gossip) and one above (link); its seeds
 * are all the others.  The first one founds. */
#pragma once

#include <stdio.h>

#include "cluster/host.h"
#include "kv/kv.h"
#include "lib/kv_machine.h"
#include "net/loop.h"
#include "net/random.h"
#include "net/worker.h"

#define KV_NODE_LOOPS 2
#define KV_NODES 8

struct kv_node_conf {
    const char *dir; /* of all nodes */
    unsigned index, count, loop_count;
    uint16_t port;
    struct kv_limits limits;
    unsigned voter_count;
    int learner_count;
    bool is_fresh_kept, is_one_loop;
    const struct log *log;
};

struct kv_node {
    struct net_loop *loop[KV_NODE_LOOPS];
    struct net_worker *worker;
    struct cluster *cluster;
    struct cluster_seat *seat[KV_NODE_LOOPS];
    struct kv *kv;
    struct kv_store *store;
    char path[3][512];
};

static inline void kv_node_join(struct kv_node *n, const struct kv_node_conf *c)
{
    char seed[KV_NODES][32], error[CLUSTER_HOST_ERROR_MAX];
    const char *seeds[KV_NODES];
    unsigned seed_count = 0;
    for (unsigned i = 0; i < c->count; i++)
        if (i != c->index) {
            snprintf(seed[i], sizeof seed[i], "127.0.0.1:%u", c->port + 10 * i);
            seeds[seed_count++] = seed[i];
        }
    struct cluster_host_conf cluster = {
        .loop = n->loop,
        .loop_count = c->loop_count,
        .worker = n->worker,
        .data_path = n->path[0],
        .env = "test",
        .host = "127.0.0.1",
        .port = (uint16_t)(c->port + 10 * c->index),
        .rpc_port = (uint16_t)(c->port + 10 * c->index + 1),
        .seed = seeds,
        .seed_count = seed_count,
        .release = "test",
        .log = c->log,
    };
    int e = cluster_new(&cluster, error, &n->cluster);
    if (e)
        fprintf(stderr, "node %u: %s\n", c->index, error);
    must(e == 0);
    for (unsigned i = 0; i < c->loop_count; i++)
        n->seat[i] = cluster_seat(n->cluster, i);
}

/* Opens what the disk has; the loops do not run yet. */
static inline void kv_node_open(struct kv_node *n, const struct kv_node_conf *c)
{
    snprintf(n->path[0], sizeof n->path[0], "%s/%u", c->dir, c->index);
    snprintf(n->path[1], sizeof n->path[1], "%s/%u/log", c->dir, c->index);
    snprintf(n->path[2], sizeof n->path[2], "%s/%u/state", c->dir, c->index);
    engine_fs_posix().ops->mkdir(NULL, n->path[0]);
    for (unsigned i = 0; i < c->loop_count; i++)
        must(net_loop_new(&(struct net_loop_conf){.index = i, .seed = c->index + 1}, &n->loop[i]) ==
             0);
    must(net_worker_new(2, 10000, "kv", &n->worker) == 0);
    kv_node_join(n, c);
    struct kv_conf conf = {
        .node = *cluster_uuid(n->cluster),
        .loop = n->loop,
        .loop_count = c->loop_count,
        .seat = n->seat,
        .worker = n->worker,
        .log_path = n->path[1],
        .state_path = n->path[2],
        .is_founder = c->index == 0,
        .limits = c->limits,
        .seed = net_random_u64(),
        .log = c->log,
    };
    struct kv_store_conf store = {.name = "test.store",
                                  .ops = test_machine_ops(),
                                  .voter_count = c->voter_count,
                                  .learner_count = c->learner_count,
                                  .is_fresh_kept = c->is_fresh_kept,
                                  .is_one_loop = c->is_one_loop};
    must(kv_new(&conf, &n->kv) == 0);
    must(kv_store_add(n->kv, &store, &n->store) == 0);
    must(kv_start(n->kv) == 0);
}
