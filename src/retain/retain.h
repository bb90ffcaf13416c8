/* The last retained message of every topic, as a machine.  SPDX-License-Identifier: Apache-2.0
 *
 * Rows: tenant 00 topic -> the message (struct retain_message in the record encoding).  Topics,
 * expiry times and small messages (up to RETAIN_INLINE_MAX bytes of row) are in memory too, ordered
 * by key, so that exact and wildcard matching read no disk; a large message is named by a match and
 * read with retain_query_get.
 *
 * A message expires by the leader's clock in the command that set it; expired ones are never
 * returned and are collected by a command that tick() asks for. */
#pragma once

#include "range/machine.h"

#define RETAIN_INLINE_MAX 512 /* bytes; larger ones stay on disk only */
#define RETAIN_LEVEL_MAX 256
#define RETAIN_PAGE_STEPS 1024 /* topics and branches that one page may look at: below 1 ms */

enum retain_outcome {
    RETAIN_E_FULL = 1, /* the tenant has topic_max topics, or byte_max bytes */
    RETAIN_E_INVALID,
    RETAIN_E_OLD,         /* what is there is newer: two publishers raced, the later one stays */
    RETAIN_E_MOVED = 255, /* outside the bounds of this range */
};

struct retain_conf {
    uint64_t seed; /* unused bits of state may differ by it; never what is stored or answered */
};

const struct range_machine_ops *retain_machine(void);

/* The key of a topic: what a proposal is routed by; of a whole tenant: [from, to). */
void retain_key(struct buf *out, struct str tenant, struct str topic);
void retain_key_tenant(struct buf *from, struct buf *to, struct str tenant);

/* A retained message; views. */
struct retain_message {
    struct str topic;
    struct str payload; /* empty: in a command it clears the topic [MQTT-3.3.1-10] */
    struct str props; /* MQTT 5 properties to hand on, as the codec encoded them, without expiry and
                         alias */
    struct str publisher; /* who, for No Local and logs */
    uint64_t hlc;         /* when it was published; 0 in a command: the leader's clock */
    uint32_t expiry_sec;  /* from hlc; UINT32_MAX never */
    uint8_t qos;
    bool is_large; /* in a match: payload and props are on disk, ask with retain_query_get */
};

/* --- commands: several sets in one
 * ---------------------------------------------------------------------------------- */
void retain_command_begin(struct buf *out);
/* Limits are the tenant's at this moment; 0 no limit. */
void retain_command_set(struct buf *out, struct str tenant, const struct retain_message *m,
                        uint64_t topic_max, uint64_t byte_max);
/* All messages of a tenant set more than age_sec ago; at most max; 0 replies when none is left. */
void retain_command_expire(struct buf *out, struct str tenant, uint32_t age_sec, uint32_t max);

/* Reply of sets: one byte each, in order: 0 retained or cleared, or enum retain_outcome.  Of
 * expire: varint removed.  An undecodable command: empty. */

/* The reply of an expire; false: it is none. */
must_use bool retain_reply_expired(struct str reply, uint64_t *out_removed);

/* --- queries
 * ----------------------------------------------------------------------------------------------------------
 */

/* Matching by pages: after = empty, then *out_after of the last reply until it is empty.  A page
 * ends after message_max messages, byte_max bytes, or RETAIN_PAGE_STEPS; it may hold no message and
 * yet not be the last. */
void retain_query_match(struct buf *out, struct str tenant, struct str filter, struct str after,
                        uint32_t message_max, uint32_t byte_max);
struct retain_reply {
    struct str after; /* topic to go on behind; empty: this was the last page */
    struct str rest;
    bool is_bad;
};
must_use bool retain_reply_begin(struct str reply, struct retain_reply *out);
must_use bool retain_reply_next(struct retain_reply *r, struct retain_message *out);

/* One topic whole.  Answered from memory, or as a scan of one row: both end up as a reply for
 * retain_reply_get. */
void retain_query_get(struct buf *out, struct str tenant, struct str topic);
enum retain_get { RETAIN_GET_FOUND, RETAIN_GET_NONE, RETAIN_GET_BAD };
must_use enum retain_get retain_reply_get(struct str reply, uint64_t hlc,
                                          struct retain_message *out);

/* Topics and bytes of one tenant (of all: empty) in this range. */
struct retain_stat {
    uint64_t topics, bytes;
};
void retain_query_stat(struct buf *out, struct str tenant);
must_use bool retain_reply_stat(struct str reply, struct retain_stat *out);
