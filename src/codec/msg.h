/* An application message on its way.  SPDX-License-Identifier: Apache-2.0
 *
 * Immutable after birth.  It comes in two kinds, told apart by refs:
 *   borrowed (refs 0): made of views on the stack of the publish road; good until the event-loop turn ends.
 *   kept (refs > 0): one heap block with everything inside, shared by threads, counted atomically.
 * codec_msg_keep turns either into a reference of your own. */
#pragma once

#include <stdatomic.h>

#include "base/buf.h"
#include "base/hlc.h"

#define CODEC_MSG_RECORD_KIND 0x4D /* 'M'; version 1 */

struct codec_msg {
    struct str topic;         /* the full Topic Name, aliases resolved */
    struct str payload;
    /* The PUBLISH properties that travel with the message (Payload Format Indicator, Response Topic, Correlation Data,
     * Content Type, User Properties in their order), encoded as in MQTT 5.0, so that they can be appended as they are.
     * Not in it: Topic Alias, Subscription Identifier, Message Expiry Interval.  Empty from v3 publishers. */
    struct str props;
    struct str publisher;     /* client identifier of the publisher within its tenant; empty: not a client */
    uint64_t hlc;             /* when the server took it (base/hlc.h); expiry counts from here */
    uint64_t incarnation;     /* of the publisher's persistent session; with exchange the key against duplicates */
    uint64_t exchange;        /* number of the publisher's QoS 2 exchange; 0: none */
    uint32_t expiry_sec;      /* Message Expiry Interval when has_expiry */
    bool has_expiry;
    uint8_t qos;              /* as published */
    bool is_retain;           /* RETAIN as published */
    bool is_utf8;             /* Payload Format Indicator is 1 */
    _Atomic uint32_t refs;    /* 0: borrowed */
};

/* A kept message with the same content (refs 1). */
struct codec_msg *codec_msg_dup(const struct codec_msg *m) must_use;

/* A reference of your own: counts a kept one, copies a borrowed one.  Give back with codec_msg_unref. */
struct codec_msg *codec_msg_keep(const struct codec_msg *m) must_use;

static inline struct codec_msg *codec_msg_ref(struct codec_msg *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

/* Gives a reference back and returns NULL; the last one frees.  NULL is fine. */
struct codec_msg *codec_msg_unref(struct codec_msg *m);

/* What a kept copy costs in memory, bytes: charge this before keeping. */
size_t codec_msg_cost(const struct codec_msg *m);

/* Seconds left at wall_ms (milliseconds since 1970); 0 when it has expired, UINT32_MAX when it never does. */
uint32_t codec_msg_left_sec(const struct codec_msg *m, uint64_t wall_ms);

static inline bool codec_msg_is_expired(const struct codec_msg *m, uint64_t wall_ms)
{
    return m->has_expiry && codec_msg_left_sec(m, wall_ms) == 0;
}

/* As a record (codec/record.h) for disk and wire. */
void codec_msg_encode(struct buf *b, const struct codec_msg *m);

enum codec_msg_outcome {
    CODEC_MSG_E_MALFORMED = 1, /* not a record of a message, or of a version we do not know */
};

/* The other way: a borrowed message with views into `record`.  The properties are checked, so that they may be sent
 * on as they are. */
must_use int codec_msg_decode(struct str record, struct codec_msg *out);
