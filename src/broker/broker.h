/* The MQTT side of one node.  SPDX-License-Identifier: Apache-2.0
 *
 * Assembled in this order: the loops (not yet running), broker_new, stores_new with
 * broker_stores_host, broker_start with the stores, broker_listen for every listener, then the
 * loops run.  Taken down: broker_drain on a running loop 0, the loops stop, broker_free (frees the
 * listeners), stores_free.
 *
 * Thread: before the loops run, the thread that builds; afterwards loop 0 where nothing else is
 * said. */
#pragma once

#include "base/budget.h"
#include "base/log.h"
#include "base/uuid.h"
#include "broker/auth.h"
#include "broker/event.h"
#include "broker/metric.h"
#include "broker/tenant.h"
#include "net/listener.h"
#include "net/worker.h"

struct broker;
struct cluster_seat;
struct stores;
struct stores_host;

/* What an acknowledgement of a message for persistent sessions waits for, strongest first. */
enum broker_durability {
    BROKER_DURABILITY_QUORUM_FSYNC, /* a quorum has it on its disks */
    BROKER_DURABILITY_QUORUM,       /* a quorum has it in memory or page cache */
    BROKER_DURABILITY_MEMORY,       /* the node that took it has it in memory */
};

struct broker_conf {
    struct uuid node;
    uint64_t epoch;                   /* of this process */
    struct net_loop *const *loop;     /* copied */
    unsigned loop_count;              /* 1..64 */
    struct net_worker *worker;        /* for password hashing */
    struct cluster_seat *const *seat; /* [loop_count], outlives the broker; NULL: alone */
    uint64_t seed;                    /* from a random source */
    const struct log *log;
    struct broker_plugins *plugins; /* told of events; outlive the broker; NULL: none */
    const char
        *reference_host;     /* where clients of other nodes are sent to us; outlives the broker */
    uint64_t memory_max;     /* bytes of queued messages and buffers in all; 0: no limit */
    uint64_t connection_max; /* of the process; 0: no limit */
    struct broker_auth_files *auth_files; /* a reference is taken */
    const char *sys_interval_tenant;      /* tenant that sees $SYS topics; NULL: "default" */
    usec_t sys_interval_usec;             /* 0: no $SYS topics */
    enum broker_durability durability;    /* what the stores wait for */
};

/* Yours: broker_free. */
struct broker *broker_new(const struct broker_conf *conf) must_use;

/* The loops have stopped.  NULL is fine; returns NULL. */
struct broker *broker_free(struct broker *b);

/* What stores_new wants to call back; lives as long as b. */
const struct stores_host *broker_stores_host(struct broker *b);

/* The stores are there; before the first listener. */
void broker_start(struct broker *b, struct stores *s);

/* A tenant and its settings; the same name again replaces the settings for connections that come
 * later (all loops hear
 * of it).  The first call before broker_start makes "default" what it shall be.  Settings: a
 * reference is taken. */
void broker_tenant_set(struct broker *b, struct str name, struct broker_settings *settings,
                       const struct broker_tenant_limits *limits);

/* NULL when there is none of this name.  Any loop. */
struct broker_tenant *broker_tenant_find(struct broker *b, struct str name);
/* Walks them: i from 0; NULL at the end.  Any loop. */
struct broker_tenant *broker_tenant_at(struct broker *b, size_t i);

/* The files were read again; all loops hear of it. */
void broker_auth_set(struct broker *b, struct broker_auth_files *files);

struct broker_listen_conf {
    const char *name;             /* for people: "tcp" */
    struct net_listener_conf net; /* accepted, arg, loop and loop_count are filled by the broker */
    const char *tenant;           /* NULL: "default" */
    struct broker_auth_chain auth;
    usec_t connect_usec_max; /* for CONNECT to arrive; 0: 20 s */
    size_t out_bytes_max;    /* waiting for one client before it counts as stalled; 0: 1 MiB */
};

/* 0, or -errno with one plain sentence in out_error. */
must_use int broker_listen(struct broker *b, const struct broker_listen_conf *conf,
                           char out_error[NET_LISTENER_ERROR_MAX]);

/* How many there ever were: the next one gets this number. */
size_t broker_listen_count(const struct broker *b);

/* The listeners whose net.is_waiting is set accept from now on.  Loop 0. */
void broker_listen_begin(struct broker *b);

/* The i-th listener takes nobody any more; its clients stay. */
void broker_listen_stop(struct broker *b, size_t i);

/* Where the i-th listener listens, or NULL past the end. */
const struct net_address *broker_listen_address(const struct broker *b, size_t i);

/* The way down: no new connections, clients are sent elsewhere (5.0: 0x9C with a server reference,
 * or 0x8B when there is nowhere) at disconnect_per_sec_max (0: at once), wills as
 * NoLWTWhenServerShuttingDown says; done on loop 0 when the last one is gone or at deadline. */
void broker_drain(struct broker *b, unsigned disconnect_per_sec_max, usec_t deadline,
                  void (*done)(void *arg), void *arg);

/* The same for as long as an operator wants it: listeners stay, who comes is sent elsewhere; and
 * back. */
void broker_drain_set(struct broker *b, bool is_on, unsigned disconnect_per_sec_max);

/* A node of the cluster died: its transient routes no longer count, sessions it held are taken care
 * of by the stores. */
void broker_node_dead(struct broker *b, const struct uuid *node, uint64_t epoch);

/* Closes a client wherever on this node it is (an operator, the session dict).  Any loop;
 * asynchronous. */
void broker_kill(struct broker *b, struct str tenant, struct str client_id);

/* A publish that no client made (the API, $SYS): routed as any other.  On loop `here`; msg is
 * borrowed. */
struct codec_msg;
void broker_publish_inject(struct broker *b, unsigned here, struct str tenant,
                           const struct codec_msg *msg);

/* The same, and done is called once, now or later on that loop, with what its publisher would be
 * told: a reason code of PUBACK, 0x10 when nobody wants it.  false: there is no such tenant, and
 * done is not called. */
bool broker_publish_ask(struct broker *b, unsigned here, struct str tenant,
                        const struct codec_msg *msg, void (*done)(void *arg, uint8_t reason),
                        void *arg) must_use;

/* All events, for the API. */
const struct broker_events *broker_events(const struct broker *b);

/* Appends all metrics in Prometheus text.  Any thread. */
void broker_metrics_format(struct broker *b, struct buf *out);

/* Clients connected now.  Any thread. */
uint64_t broker_connection_count(const struct broker *b);

/* Bytes of queued messages and buffers now, of memory_max.  Any thread. */
uint64_t broker_memory_used(const struct broker *b);
