/* Who is connected to this node, and orders to them: for people and tools.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Thread: loop 0; so are the callbacks, never before the asking function has returned.  A walk
 * visits each loop in turns of some hundred connections, so it delays nobody; a client that stays
 * connected throughout is seen exactly once, one that comes or goes meanwhile perhaps. */
#pragma once

#include "base/usec.h"
#include "broker/broker.h"

/* Whom we mean; views, copied before the call returns. */
struct broker_roster_query {
    struct str tenant;
    struct str user;    /* p NULL: anybody */
    struct str client;  /* p NULL: all */
    struct str prefix;  /* of the client identifier; empty: any */
    struct str after;   /* only client identifiers behind this one in bytewise order; empty: all */
    uint32_t count_max; /* at least 1 */
    bool wants_subs;    /* sub and sub_count of each entry */
};

struct broker_roster_filter {
    struct str filter; /* as the client wrote it */
    uint8_t qos;
    bool is_no_local, is_as_published;
    uint32_t sub_id;
};

struct broker_roster_entry {
    struct str client, user, listener; /* user may be empty */
    const char *address;               /* "host:port", or "" */
    unsigned version;                  /* enum codec_mqtt_version: 3, 4, 5 */
    unsigned loop;
    uint64_t cookie;
    uint64_t since_ms; /* since 1970, when it was let in */
    uint32_t expiry_sec, sub_count;
    uint16_t keep_alive_sec;
    bool is_persistent, is_stalled;
    size_t queue_count, inflight_count, memory;
    const struct broker_roster_filter *sub; /* of a clean session: the stores know the others' */
};

/* In order of client identifiers, at most count_max; is_more: there are others behind the last one.
 * Views are good during the call. */
typedef void broker_roster_cb(void *arg, const struct broker_roster_entry *e, size_t count,
                              bool is_more);
void broker_roster_list(struct broker *b, const struct broker_roster_query *q, broker_roster_cb *cb,
                        void *arg);

/* Ends connections.  reason: a reason code of DISCONNECT (0x98 an operator's order; 0x9C, 0x9D with
 * a server reference, which 3.x clients do not get). */
struct broker_roster_kill {
    struct broker_roster_query query; /* of it tenant, user and client */
    uint8_t reason;
    struct str reference;
};
typedef void broker_roster_killed(void *arg, uint64_t count);
void broker_roster_kill(struct broker *b, const struct broker_roster_kill *k,
                        broker_roster_killed *cb, void *arg);

/* Subscribes (or not any more) in the name of a connected client, as if it had asked itself, access
 * rules included.  code: 0..2 the QoS granted, 0x11 it was not there, or a reason code from 0x80
 * on; is_new: it was not there before. */
struct broker_roster_sub {
    unsigned loop;
    uint64_t cookie; /* as the session dict or broker_roster_list say */
    struct str user; /* p NULL: whoever it is; else GONE for another user's client */
    struct str filter;
    uint8_t qos;
    bool is_unsubscribe;
};
#define BROKER_ROSTER_GONE 0xFF /* code: this client is not here any more */
typedef void broker_roster_subbed(void *arg, uint8_t code, bool is_new);
void broker_roster_sub(struct broker *b, const struct broker_roster_sub *s,
                       broker_roster_subbed *cb, void *arg);
