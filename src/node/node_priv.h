/* The inside of a node, for this room.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/broker.h"
#include "kv/kv.h"
#include "net/loop.h"
#include "net/tls.h"
#include "node/node.h"

/* A sign of life from a loop. */
struct node_beat {
    struct net_mail mail;
    _Atomic usec_t at; /* the turn in which the loop answered last */
    _Atomic bool is_out;
};

struct node {
    struct node_conf *conf;
    const struct log *log;
    struct node_events events;
    const char *version;
    struct net_grace *grace;
    struct net_loop **loop;
    unsigned loop_count, running_count;
    struct net_worker *worker;
    struct broker_plugins *plugins;
    struct broker_auth_files *auth;
    uint64_t auth_secret[4];
    struct broker *broker;
    struct api *api; /* NULL: none */
    struct net_tls *api_tls;
    struct stores *stores;
    struct engine_dir *dir; /* NULL: nothing is kept */
    char *log_path, *state_path;
    struct kv *kv;              /* NULL: the tables are in this process */
    struct cluster *cluster;    /* NULL: alone */
    struct cluster_seat **seat; /* by loop; NULL: alone */
    struct net_tls *rpc_tls[2]; /* of links: server, client; NULL: plain */
    bool has_keys;              /* gossip is sealed */
    usec_t drain_until;
    struct node_listening {
        char *text, *origin; /* its keys and values, and where they stand */
        char *address;
        struct net_tls *tls; /* NULL: none */
        size_t at;           /* the broker's number */
        bool is_wanted;      /* by the configuration that is being read again */
    } * listening;
    size_t listening_count, listening_cap;
    struct net_timer look; /* health.c */
    usec_t disk_good_at;   /* when the disk last took what it was given */
    usec_t slow_at;        /* when a loop last stalled, or gossip found us slow; 0: never */
    bool is_disk_bad, is_slow;
    struct node_beat *beat; /* by loop */
    usec_t ready_by, told_at;
    uint64_t memory_limit; /* what the system lets this service have; 0: it says nothing */
    uint64_t memory_max;   /* the budget of queues and buffers; 0: no limit */
    struct uuid uuid;
    uint64_t epoch;
    usec_t began;
    struct net_timer mark_look; /* drain.c */
    char drain_told[128];
    bool is_draining, is_ready, is_over;
    bool is_marked; /* an operator took it out of service */
};

/* health.c: readiness, signs of life, the status line. */
void node_health_init(struct node *n);
void node_health_start(struct node *n);
void node_health_look(struct node *n); /* something changed: tell it in this turn */
/* What keeps the node from serving, a line each; empty: nothing. */
void node_health_reasons(const struct node *n, struct buf *why);

/* drain.c: stopping, and the marks of operators. */
void node_drain_init(struct node *n);
void node_drain_start(struct node *n);
void node_drain_stop(struct node *n);

/* listen.c: the TLS contexts and listeners of the configuration. */
must_use int node_tls_open(struct node *n, char error[NODE_ERROR_MAX]);
void node_tls_close(struct node *n);
must_use int node_tls_reload(struct node *n, struct buf *say);
/* What a configuration read again adds is opened, what it no longer has is closed, the rest and all
 * clients stay.  When something cannot be opened nothing has changed. */
must_use int node_listen_again(struct node *n, struct node_conf *c, struct buf *say);
must_use int node_listen(struct node *n, const struct node_conf_run *run,
                         char error[NODE_ERROR_MAX]);

/* auth.c: what the configuration says about users. */
/* is_trial: looks whether they would load. */
must_use int node_plugins_open(const struct node_conf *c, struct broker_plugins *plugins,
                               bool is_trial, char error[NODE_ERROR_MAX]);
must_use int node_auth_open(const struct node *n, const struct node_conf *c,
                            char error[NODE_ERROR_MAX], struct broker_auth_files **out_files);
void node_tenants_put(struct node *n, const struct node_conf *c);
/* Only those that are new. */
void node_tenants_add(struct node *n, const struct node_conf *c);

/* data.c: the data directory, the tables, the stores (which start the broker). */
must_use int node_data_open(struct node *n, char error[NODE_ERROR_MAX]);
must_use int node_stores_open(struct node *n, char error[NODE_ERROR_MAX]);
void node_data_close(struct node *n);

/* cluster.c: membership, table and links; before the stores. */
must_use int node_cluster_open(struct node *n, char error[NODE_ERROR_MAX]);
must_use int node_cluster_try(const struct node_conf *c, char error[NODE_ERROR_MAX]);
/* Keys and certificates are read again. */
must_use int node_cluster_reload(struct node *n, const struct node_conf *c, struct buf *say);
void node_cluster_ready(struct node *n);             /* we serve */
void node_cluster_drain(struct node *n, bool is_on); /* no new work, please */
/* What we say of our own health (cluster_flag STORAGE_FAILED, DEGRADED). */
void node_cluster_health(struct node *n, bool is_disk_bad, bool is_slow);
void node_cluster_leave(struct node *n, void (*done)(void *arg), void *arg);
/* The loops have stopped: nothing comes from other nodes any more. */
void node_cluster_stop(struct node *n);
void node_cluster_free(struct node *n);

/* admin.c: the admin API; after the listeners. */
must_use int node_admin_open(struct node *n, char error[NODE_ERROR_MAX]);
must_use int node_admin_try(const struct node_conf *c, char error[NODE_ERROR_MAX]);
void node_admin_close(struct node *n);
must_use int node_admin_reload(struct node *n, struct buf *say);

/* -errno to an outcome. */
int node_outcome_of(int r);
