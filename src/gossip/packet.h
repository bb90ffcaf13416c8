/* What members say to each other: packets and stream frames are one encoding.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A packet is a record: who sends it, then messages, each a record of its own.  Tags and kinds are
 * for ever; unknown tags are skipped, messages of unknown kinds too. */
#pragma once

#include "base/buf.h"
#include "codec/record.h"
#include "gossip/gossip.h"

#define GOSSIP_PACKET_KIND 0x47
#define GOSSIP_PACKET_VERSION 1

enum gossip_msg_kind {
    GOSSIP_MSG_PING = 1,     /* uuid, epoch: whom we mean; seq */
    GOSSIP_MSG_PING_REQ = 2, /* uuid, epoch, addr: whom to ask; seq */
    GOSSIP_MSG_ACK = 3,      /* uuid, epoch, inc, flags: who lives; seq */
    GOSSIP_MSG_NACK = 4,     /* seq: asked, and no answer yet */
    GOSSIP_MSG_ALIVE = 5,    /* uuid, epoch, inc, addr, flags, versions, meta */
    GOSSIP_MSG_SUSPECT = 6,  /* uuid, epoch, inc, from */
    GOSSIP_MSG_DEAD = 7,     /* uuid, epoch, inc, from */
    GOSSIP_MSG_LEFT = 8,     /* uuid, epoch, inc */
    GOSSIP_MSG_ROW =
        9, /* uuid, epoch, space, key, bytes, version, seq, replaces, state: 1 tombstone */
    GOSSIP_MSG_HINT =
        10, /* uuid, epoch, seq, or space, key, version: there is a large row to fetch */
    /* on streams */
    GOSSIP_MSG_SYNC = 16,   /* state: gossip_sync_phase; flags: GOSSIP_SYNC_* */
    GOSSIP_MSG_MEMBER = 17, /* as ALIVE, with state and from */
    GOSSIP_MSG_DIGEST = 18, /* uuid, epoch, seq: we have all rows of it up to here */
    GOSSIP_MSG_SHARED =
        19, /* bytes: (hash of space and key u64, version u64) of all our shared rows */
    GOSSIP_MSG_DELTA = 20, /* uuid, epoch, replaces (after), seq (up to), version (floor), flags:
                              GOSSIP_DELTA_*; ROWs follow */
};

enum gossip_sync_phase {
    GOSSIP_SYNC_ASK = 1, /* members and digests of the one who opened */
    GOSSIP_SYNC_REPLY,   /* the same of the other, and the rows the opener lacks */
    GOSSIP_SYNC_FINISH,  /* the rows the other lacks */
};

#define GOSSIP_SYNC_MORE 1       /* rows were left out: ask again */
#define GOSSIP_SYNC_NO_MEMBERS 2 /* only the table */
#define GOSSIP_DELTA_RESET 1     /* rows of the span that are not here are gone */

/* One message, all fields it may have; which are meant is said beside the kinds. */
struct gossip_msg {
    uint8_t kind;
    uint8_t space;
    enum gossip_state state;
    struct uuid uuid, from;
    uint64_t epoch, seq, replaces, version;
    uint32_t inc, flags;
    uint16_t version_min, version_max;
    struct gossip_addr addr;
    struct str key, bytes; /* views; bytes is also the meta */
};

struct gossip_head {
    struct uuid uuid;
    uint64_t epoch;
    uint32_t inc;
    uint64_t hlc;
    uint64_t table_hash;
    uint64_t member_hash; /* over (uuid, epoch) of all live members; 0: not said */
};

void gossip_head_encode(struct buf *b, const struct gossip_head *h);
void gossip_msg_encode(struct buf *b,
                       const struct gossip_msg *m);     /* with its field key, into a packet */
void gossip_msg_put(struct buf *b, struct str encoded); /* one that gossip_msg_bare made */
void gossip_msg_bare(struct buf *b, const struct gossip_msg *m); /* alone, for the queue */

/* Reads the head and leaves the cursor for gossip_msg_next.  false: not a packet of ours. */
bool gossip_head_decode(struct codec_cursor *c, struct gossip_head *out) must_use;

/* The next message; false at the end or when c->bad.  Values out of their range make it bad. */
bool gossip_msg_next(struct codec_cursor *c, struct gossip_msg *out) must_use;
