/* The cluster as one node knows it: members and the table of small facts.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * `struct cluster` is one per node and lives on its first loop.  Every loop takes a *seat*: an
 * immutable view of the members and rows, replaced at once between two turns of that loop, the
 * watchers of that loop, and its link.  So reads cost no lock and never change inside a turn. */
#pragma once

#include "base/log.h"
#include "base/usec.h"
#include "base/uuid.h"
#include "cluster/link.h"

struct net_loop;
struct cluster;
struct cluster_seat;

enum cluster_state { /* the numbers of gossip */
                     CLUSTER_ST_ALIVE,
                     CLUSTER_ST_SUSPECT,
                     CLUSTER_ST_DEAD,
                     CLUSTER_ST_LEFT,
};

enum cluster_flag {
    CLUSTER_FLAG_READY = 1,
    CLUSTER_FLAG_DRAINING = 2,
    CLUSTER_FLAG_DEGRADED = 4,
    CLUSTER_FLAG_STORAGE_FAILED = 8,
};

#define CLUSTER_ACCUSERS_MAX 4

struct cluster_member {
    struct uuid uuid;
    uint64_t epoch; /* grows with every start of that node */
    uint32_t inc;
    enum cluster_state state;
    uint32_t flags; /* cluster_flag */
    uint16_t version_min, version_max;
    uint32_t loops; /* its worker loops: link shards */
    usec_t since, rtt;
    uint32_t flaps; /* times it came back from SUSPECT or DEAD in this epoch */
    uint32_t accusers;
    struct uuid accuser[CLUSTER_ACCUSERS_MAX]; /* SUSPECT: the first of them; maybe ourselves */
    usec_t suspect_until; /* SUSPECT: when this node calls it dead, unless it answers; else 0 */
    const char *host;     /* gossip address, text */
    uint16_t port;
    const char *rpc_host; /* link address, text */
    uint16_t rpc_port;
    const char *api;     /* "host:port" of its admin API, or "" */
    const char *release; /* its program version */
    uint64_t pid;
};

/* Rows of the table.  Below 128: written by a node about itself, visible while it lives.  From 128:
 * any node, the last writer wins, kept on disk. */
enum cluster_space {
    CLUSTER_SPACE_SERVICE = 1,   /* key: service name; value: cluster_service record */
    CLUSTER_SPACE_STORE = 2,     /* key: store name; value: store descriptor of kv */
    CLUSTER_SPACE_LANDSCAPE = 3, /* key: store name / range id; value: range descriptor of kv */
    CLUSTER_SPACE_BALANCER_STATE = 4, /* key: store name / balancer */
    CLUSTER_SPACE_NODE = 5,           /* other facts of a node; key: dotted name */
    CLUSTER_SPACE_TRAFFIC =
        128,                   /* key: service / prefix of tenant ids; value: groups and weights */
    CLUSTER_SPACE_GROUP = 129, /* key: service / server id; value: its groups */
    CLUSTER_SPACE_BALANCER_RULE = 130, /* key: store name / balancer; value: {disable, loadRules} */
    CLUSTER_SPACE_SETTING =
        131, /* cluster-wide settings: tenant settings, feature gates, drain marks */
};

struct cluster_row {
    struct uuid owner; /* who wrote it */
    uint64_t epoch;    /* of the owner; 0 for shared rows */
    uint8_t space;
    uint64_t version; /* hybrid logical clock */
    struct str key;
    struct str value;
};

/* Reading: views are valid until the loop turn ends. */
const struct uuid *cluster_self(const struct cluster_seat *s);
uint64_t cluster_epoch(const struct cluster_seat *s);
const struct cluster_member *cluster_member_find(const struct cluster_seat *s,
                                                 const struct uuid *uuid);

/* ALIVE or SUSPECT, and (when epoch is not 0) in this very epoch. */
bool cluster_is_live(const struct cluster_seat *s, const struct uuid *uuid, uint64_t epoch);

/* The i-th member by uuid, the dead that are remembered too; NULL behind the last.  Ourselves
 * included. */
const struct cluster_member *cluster_member_at(const struct cluster_seat *s, size_t i);
size_t cluster_live_count(const struct cluster_seat *s);

/* Why a member is in the state it is in, one sentence for a person, without a full stop. */
void cluster_member_why(const struct cluster_seat *s, const struct cluster_member *m,
                        struct buf *out);

/* An operator says that this dead node never comes back: all nodes treat it as one that left, and
 * nobody knocks at its door any more.  false: not a dead member. */
bool cluster_member_forget(struct cluster_seat *s, const struct uuid *uuid) must_use;

/* Another member has been seen since the start, or none was configured and the grace has passed. */
bool cluster_is_joined(const struct cluster_seat *s);
bool cluster_is_isolated(const struct cluster_seat *s);

/* Of the addresses that the configured domain name has now, ours is the least, and more than half of them, counting
 * ours, belong to live members.  Never true of two nodes that see the same answer; false without a domain name. */
bool cluster_is_named_first(const struct cluster_seat *s);

/* Visible rows of a space with a key prefix, by key then owner: *at = 0 to start; NULL at the end.
 */
const struct cluster_row *cluster_row_next(const struct cluster_seat *s, uint8_t space,
                                           struct str prefix, size_t *at);

/* owner NULL: the shared row, or the first owner's. */
const struct cluster_row *cluster_row_find(const struct cluster_seat *s, uint8_t space,
                                           struct str key, const struct uuid *owner);

/* Writing, from any loop; seen here and elsewhere some turns later.  false: key or value too long.
 */
bool cluster_row_put(struct cluster_seat *s, uint8_t space, struct str key,
                     struct str value) must_use;
void cluster_row_del(struct cluster_seat *s, uint8_t space, struct str key);

/* Sets and clears flags of this node (cluster_flag). */
void cluster_flags_set(struct cluster_seat *s, uint32_t set, uint32_t clear);

enum cluster_event_kind {
    CLUSTER_EV_UP,      /* member: alive, new or back or in a new epoch */
    CLUSTER_EV_SUSPECT, /* member: may be dead */
    CLUSTER_EV_DOWN, /* member: dead or left (state says); its epoch never comes back as it was */
    CLUSTER_EV_CHANGED,  /* member: flags, address or facts changed */
    CLUSTER_EV_ROW,      /* row: new or changed */
    CLUSTER_EV_ROW_GONE, /* row: deleted, or its owner is dead; value is the last one */
    CLUSTER_EV_JOINED,   /* cluster_is_joined became true */
    CLUSTER_EV_ISOLATED, /* cluster_is_isolated changed */
};

struct cluster_event {
    enum cluster_event_kind kind;
    const struct cluster_member *member;
    const struct cluster_row *row;
};

/* Called on the seat's loop after the view has changed, in order; views valid during the call.
 * An old epoch goes DOWN before a new one comes UP. */
typedef void cluster_watch_cb(void *arg, struct cluster_seat *s, const struct cluster_event *ev);

/* The watcher first hears UP for every live member and ROW for every visible row, on the next turn.
 * space_mask: bit (space & 63) for each space of interest, 0 for members only. */
struct cluster_watch *cluster_watch_new(struct cluster_seat *s, uint64_t space_mask,
                                        cluster_watch_cb *cb, void *arg) must_use;
struct cluster_watch *cluster_watch_free(struct cluster_watch *w);

static inline uint64_t cluster_space_bit(uint8_t space)
{
    return (uint64_t)1 << (space & 63);
}

/* What went over the sockets of gossip, and how it fares. */
struct cluster_stats {
    uint64_t packets_in, packets_out, bytes_in, bytes_out;
    uint64_t junk, foreign, unkeyed, forged, replayed, flooded,
        malformed; /* packets that were dropped, by why */
    uint64_t probes, probes_failed, suspicions, refutes, false_deaths, syncs;
    unsigned score;   /* Lifeguard's local health, 0 healthy .. 7 */
    size_t queue_len; /* rumours waiting */
    size_t rows;      /* of the table */
};

/* On the seat of loop 0 only. */
void cluster_stats_get(const struct cluster_seat *s, struct cluster_stats *out);

struct cluster_link *cluster_seat_link(struct cluster_seat *s);
struct net_loop *cluster_seat_loop(struct cluster_seat *s);
