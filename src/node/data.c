/* What a node keeps: its data directory, the replicated tables, the stores.
 * SPDX-License-Identifier: Apache-2.0
 *
 * 1. The directory is locked before anything in it is touched and until nothing of it is used any
 * more.
 * 2. The node's uuid is the directory's; without a directory it is a new one at each start.
 *
 * Never: makes up for damage; a directory that is not understood is refused as it is. */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "engine/dir.h"
#include "engine/verify.h"
#include "net/address.h"
#include "net/clock.h"
#include "net/random.h"
#include "node/node_priv.h"
#include "stores/stores.h"

static int say(char error[NODE_ERROR_MAX], int r, const char *what)
{
    bool is_damaged = r == -EBADMSG, is_strange = r == -EPROTO; /* kv_start */
    snprintf(error, NODE_ERROR_MAX, "%s: %s", what,
             is_damaged   ? "the data are damaged, the log names where; --verify-data lists it all"
             : is_strange ? "the data are not for this node or this version, the log says which"
             : r < 0      ? strerrordesc_np(-r)
                          : "refused");
    return r < 0 && !is_damaged && !is_strange ? node_outcome_of(r) : NODE_E_DATA;
}

int node_uuid_find(const struct node_conf *c, char out[UUID_TEXT], char error[NODE_ERROR_MAX])
{
    struct engine_dir_conf conf = {.path = c->data_dir, .fs = engine_fs_posix()};
    struct engine_dir *dir = NULL;
    struct uuid uuid;
    struct buf why = {0};
    int r = engine_dir_whose(conf.fs, conf.path, &uuid, &why);
    if (r == -ENOENT) {
        net_random_bytes(conf.random, sizeof conf.random);
        r = engine_dir_open(&conf, &dir, &why);
        if (r == 0)
            uuid = engine_dir_node(dir);
        engine_dir_close(dir);
    }
    if (r == 0)
        uuid_format(&uuid, out);
    else
        snprintf(error, NODE_ERROR_MAX, "data_dir \"%s\": %.*s", c->data_dir,
                 why.n ? (int)why.n : 32, why.n ? (const char *)why.p : strerrordesc_np(-r));
    buf_deinit(&why);
    return r > 0 ? NODE_E_DATA : r < 0 ? node_outcome_of(r) : 0;
}

int node_verify(const char *data_dir, void (*say_found)(void *arg, struct str sentence), void *arg,
                char error[NODE_ERROR_MAX])
{
    struct engine_verify_conf c = {data_dir, engine_fs_posix(), say_found, arg};
    int r = engine_verify(&c);
    if (r == ENGINE_VERIFY_E_DAMAGED)
        return NODE_E_DAMAGED;
    if (r != 0)
        snprintf(error, NODE_ERROR_MAX, "data_dir \"%s\": %s", data_dir,
                 r == -ENOENT ? "there is no data directory here"
                 : r < 0      ? strerrordesc_np(-r)
                              : "not looked over");
    return r > 0 || r == -ENOENT ? NODE_E_DATA : r < 0 ? node_outcome_of(r) : 0;
}

int node_data_open(struct node *n, char error[NODE_ERROR_MAX])
{
    n->uuid = net_random_uuid();
    n->epoch = 1;
    if (!n->conf->data_dir[0])
        return 0;
    struct engine_dir_conf conf = {
        .path = n->conf->data_dir,
        .fs = engine_fs_posix(),
        .cluster = str_of(n->conf->cluster_enable ? n->conf->cluster_env : ""),
        .epoch_min = net_clock_wall() / USEC_MSEC,
        .log = n->log,
    };
    net_random_bytes(conf.random, sizeof conf.random);
    struct buf why = {0};
    int r = engine_dir_open(&conf, &n->dir, &why);
    if (r) {
        snprintf(error, NODE_ERROR_MAX, "data_dir \"%s\": %.*s", n->conf->data_dir,
                 (int)(why.n ? why.n : 0), why.n ? (const char *)why.p : "");
        if (!why.n)
            snprintf(error, NODE_ERROR_MAX, "data_dir \"%s\": %s", n->conf->data_dir,
                     r < 0 ? strerrordesc_np(-r) : "not a data directory");
        buf_deinit(&why);
        return r > 0 ? NODE_E_DATA : node_outcome_of(r);
    }
    n->uuid = engine_dir_node(n->dir);
    n->epoch = engine_dir_epoch(n->dir);
    r = engine_dir_sub(n->dir, "log", &n->log_path);
    if (r == 0)
        r = engine_dir_sub(n->dir, "state", &n->state_path);
    return r ? say(error, r, n->conf->data_dir) : 0;
}

/* Does a cluster of these seeds begin here?  The same list stands on every node, so one node alone
 * answers yes; it still waits until it has met another, and founds only what nobody has. */
static bool is_founder(const struct node_conf *c)
{
    struct str all = str_of(c->cluster_seeds), first, host;
    uint16_t port = 0;
    if (!c->cluster_enable)
        return true;
    if (!all.n)
        return !c->cluster_domain[0];
    (void)str_next(&all, ',', &first);
    return net_address_split(first, &host, &port) == 0 && str_eq(host, str_of(c->cluster_host)) &&
           port == c->cluster_port;
}

static int tables_open(struct node *n, char error[NODE_ERROR_MAX])
{
    const struct node_conf *c = n->conf;
    bool is_memory = strcmp(c->durability, "memory") == 0;
    struct kv_conf conf = {
        .node = n->uuid,
        .loop = n->loop,
        .loop_count = n->loop_count,
        .seat = n->seat,
        .worker = n->worker,
        .log_path = is_memory ? NULL : n->log_path,
        .state_path = is_memory ? NULL : n->state_path,
        .is_founder = is_founder(c),
        .is_founder_named = c->cluster_enable && !c->cluster_seeds[0] && c->cluster_domain[0],
        .seed = net_random_u64(),
        .log = n->log,
    };
    int r = kv_new(&conf, &n->kv);
    return r ? say(error, r, "cannot open the replicated tables") : 0;
}

int node_stores_open(struct node *n, char error[NODE_ERROR_MAX])
{
    const struct node_conf *c = n->conf;
    int r = n->dir || n->seat ? tables_open(n, error) : 0;
    if (r)
        return r;
    struct stores_conf conf = {
        .node = n->uuid,
        .epoch = n->epoch,
        .loop = n->loop,
        .loop_count = n->loop_count,
        .kv = n->kv,
        .seat = n->seat,
        .host = *broker_stores_host(n->broker),
        .seed = net_random_u64(),
        .log = n->log,
        .dist_voter_count = (unsigned)c->dist_voters,
        .inbox_voter_count = (unsigned)c->inbox_voters,
        .retain_voter_count = (unsigned)c->retain_voters,
        .timeout_usec = (usec_t)c->data_plane_latency_ms * USEC_MSEC,
        .durability = strcmp(c->durability, "memory") == 0   ? KV_DURABILITY_MEMORY
                      : strcmp(c->durability, "quorum") == 0 ? KV_DURABILITY_QUORUM
                                                             : KV_DURABILITY_QUORUM_FSYNC,
    };
    r = stores_new(&conf, &n->stores);
    if (r)
        return say(error, r, "cannot open the stores");
    node_tenants_put(n, c);
    broker_start(n->broker, n->stores);
    r = n->kv ? kv_start(n->kv) : 0;
    return r ? say(error, r, "cannot start the replicated tables") : 0;
}

void node_data_close(struct node *n)
{
    n->log_path = mem_free(n->log_path);
    n->state_path = mem_free(n->state_path);
    n->dir = engine_dir_close(n->dir);
}
