/* What one loop owns of the broker, and what all loops share.  SPDX-License-Identifier: Apache-2.0
 *
 * struct broker_loop belongs to its loop's thread, whole.  struct broker is written before the
 * loops run; what changes later is atomic or belongs to loop 0. */
#pragma once

#include <stdatomic.h>

#include "base/hlc.h"
#include "base/list.h"
#include "base/map.h"
#include "broker/broker.h"
#include "broker/cross_priv.h"
#include "broker/target_priv.h"
#include "codec/mqtt.h"
#include "net/loop.h"
#include "session/session.h"
#include "stores/stores.h"

#define BROKER_STEP_DEPTH                                                                          \
    8 /* matters: completions that come at once nest; more would be a loop of ours */
#define BROKER_SEEN_MAX 8192 /* matters little: a repeat is told if fewer came between */
#define BROKER_LOOP_MAX 64   /* matters: masks of loops are 64 bits */

/* How short memory is, and what is done about it; each does what those before it do as well. */
enum broker_pressure {
    BROKER_PRESSURE_NONE,
    BROKER_PRESSURE_SLOWED, /* from 12/16 of the budget: publishers are slowed */
    BROKER_PRESSURE_SHED,   /* from 13/16: the largest queues lose their QoS 0 */
    BROKER_PRESSURE_FULL,   /* from 14/16: newcomers are refused */
};

struct broker_conn;
struct dist_index;

#define BROKER_AWAY_SLOTS 256 /* does not matter much: what is forgotten is asked for again */

/* A member of a shared subscription that is connected nowhere, as its inbox said. */
struct broker_away {
    uint64_t member;
    usec_t until;
};

struct broker_loop {
    struct broker *broker;
    struct net_loop *net;
    unsigned index;
    struct stores_client *stores;
    struct dist_index *routes; /* read in place */
    struct broker_auth_files *auth_files;
    uint32_t share_turn;
    struct broker_away away[BROKER_AWAY_SLOTS];
    struct hlc hlc;
    struct map transit;      /* hub: filters homed here whose node route comes or goes */
    uint64_t member_version; /* hub: counts changes of this loop's members */
    struct broker_target_cache targets;
    struct broker_cross cross;
    struct broker_peer *peer;                  /* batches for other nodes, of this turn */
    struct codec_mqtt_images images;           /* of the message being delivered */
    struct session_out out[BROKER_STEP_DEPTH]; /* of steps within steps */
    unsigned depth;
    struct session_out deliver_out; /* of deliveries */
    struct buf scratch;             /* of one call; never held across another call of this room */
    struct list conns;              /* all connections of this loop */
    uint64_t conn_count;
    struct map by_cookie; /* connections with a session */
    uint64_t cookie_last;
    struct list slow;  /* connections whose reading waits (slow.c) */
    struct list dirty; /* connections with something to do at the end of the turn */
    struct net_defer turn_end;
    struct net_timer slow_timer;
    uint64_t *seen;     /* [BROKER_SEEN_MAX]: QoS 2 exchanges delivered to live sessions here */
    uint64_t slow_from; /* the last publisher of another loop told to wait, and when */
    usec_t slow_at;
    uint64_t early_bytes; /* acknowledged before they were stored (BROKER_DURABILITY_MEMORY) */
    struct broker_held {  /* publishes that wait for the index (hold.c) */
        struct list waiting;
        uint64_t qos0_bytes;
        usec_t told_until; /* the journal knows of it */
        struct net_timer timer;
    } held;
    struct broker_lookups {  /* topics that other nodes match (lookup.c) */
        struct map by_topic; /* the open ones */
        struct list open, asked;
        unsigned asked_count;
        bool is_vain; /* the last answer was none */
    } lookups;
    struct list restore;           /* routes of live sessions that are put again (restore.c) */
    enum broker_pressure pressure; /* of the process's memory, as this turn saw it */
    size_t qos0_bytes_max; /* QoS 0 is queued for a client while less than this waits for it; 0: no
                              limit */
    struct net_timer shed_timer; /* while pressure is SHED or FULL */
    struct broker_renew {        /* renew.c */
        struct net_timer timer;
        struct broker_conn *at; /* the next one; NULL: from the front */
    } renew;
    bool is_draining;
    size_t refer_turn;
    struct broker_drain { /* drain.c; while is_draining */
        struct net_timer timer;
        struct drain_order *order; /* who waits for the end; NULL: nobody */
        unsigned per_sec;          /* 0: all at once */
        usec_t deadline, began;
    } drain;
};

struct broker_listener {
    struct broker *broker;
    struct net_listener *net;
    struct broker_tenant *tenant;
    struct broker_auth_chain auth;
    struct broker_settings *settings; /* until a client is authenticated */
    struct session_conf session_conf;
    size_t out_bytes_max; /* waiting for one client before deliveries to it stop */
    char *name;
    bool is_stopped;
};

#define BROKER_STALLED_SLOTS                                                                       \
    4096 /* does not matter much: cookies share a slot; a false stall skips a member */

#define BROKER_HELD_SLOTS                                                                          \
    ((size_t)1                                                                                     \
     << 18) /* does not matter much: sessions share a slot; a false one keeps for a      \
                         member that is away */

struct broker {
    struct broker_conf conf;
    struct stores *stores;
    struct stores_host *host;
    struct broker_loop *loop; /* [loop_count] */
    unsigned loop_count;
    uint64_t seed;
    struct broker_events events;
    struct budget memory;
    bool is_over; /* broker_free: the stores take nothing any more */
    _Atomic uint64_t connection_count;
    _Atomic uint64_t hub_version; /* counts changes of which loops want a filter */
    _Atomic uint16_t held_sessions[BROKER_HELD_SLOTS]; /* persistent ones that are connected here */
    _Atomic uint8_t stalled[BROKER_STALLED_SLOTS];     /* by cookie: how many of them do not read */
    struct broker_tenant *_Atomic tenant[256];
    _Atomic size_t tenant_count;
    struct broker_listener **listener;
    size_t listener_count, listener_cap;
    struct broker_sys *sys;
    struct list drains;        /* of drain.c: under way; loop 0 */
    struct list roster, asked; /* of roster.c: what is under way; loop 0 */
};

/* drain.c: forgets a drain that may not be over; none of its mails is under way. */
void broker_drain_free(struct broker *b);

static inline usec_t broker_loop_now(const struct broker_loop *l)
{
    return net_loop_now(l->net);
}

static inline uint64_t broker_loop_wall_ms(const struct broker_loop *l)
{
    return net_loop_wall(l->net) / USEC_MSEC;
}

static inline struct broker_metrics *broker_loop_metrics(const struct broker_loop *l,
                                                         struct broker_tenant *t)
{
    return &t->loop[l->index].metrics;
}

/* A name for a session on this node: its loop in the top byte, never 0. */
static inline unsigned broker_cookie_loop(uint64_t cookie)
{
    return (unsigned)(cookie >> 56);
}
