/* Who lives: SWIM with Lifeguard, and the overlay table that rides on it.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Das, Gupta, Motivala, "SWIM" (2002); Dadgar, Phillips, Currey, "Lifeguard" (2018).
 * A mind: events in, effects out; the host (cluster) owns sockets, keys, names and the clock.
 * Packets come and go in the clear: the host has authenticated them as from a holder of the
 * cluster's key.  One thread. */
#pragma once

#include "base/buf.h"
#include "base/usec.h"
#include "base/uuid.h"
#include "gossip/table.h"

#define GOSSIP_MEMBER_MAX 4096 /* members and remembered dead */
#define GOSSIP_META_MAX 512    /* bytes a member says about itself in every announcement */
#define GOSSIP_FRAME_MAX ((size_t)1 << 20) /* bytes of one stream frame */

/* IPv6, or IPv4 mapped into it (::ffff:a.b.c.d).  Port 0: no address. */
struct gossip_addr {
    uint8_t ip[16];
    uint16_t port;
};

static inline bool gossip_addr_eq(const struct gossip_addr *a, const struct gossip_addr *b)
{
    return a->port == b->port && memcmp(a->ip, b->ip, 16) == 0;
}

/* At equal (epoch, incarnation) the later one in this list wins. */
enum gossip_state {
    GOSSIP_ST_ALIVE,
    GOSSIP_ST_SUSPECT, /* somebody's probe failed; may still refute */
    GOSSIP_ST_DEAD,
    GOSSIP_ST_LEFT, /* said good-bye */
};

/* What a member says of its own health, carried by announcements and acks. */
enum gossip_flag {
    GOSSIP_FLAG_READY = 1,          /* serves */
    GOSSIP_FLAG_DRAINING = 2,       /* about to leave: give it nothing new */
    GOSSIP_FLAG_DEGRADED = 4,       /* a loop stalls, or only some can reach it */
    GOSSIP_FLAG_STORAGE_FAILED = 8, /* its disk cannot be trusted */
};

struct gossip_member {
    struct uuid uuid;
    uint64_t epoch; /* grows with every start of that node */
    uint32_t inc;   /* SWIM incarnation inside the epoch; only the owner raises it */
    enum gossip_state state;
    uint32_t flags; /* gossip_flag, as announced; DEGRADED also by our own judgement */
    struct gossip_addr addr;
    uint16_t version_min, version_max; /* protocol versions it speaks */
    struct str meta;                   /* opaque to the mind; valid until the next step */
    usec_t since;                      /* when it took this state, our clock */
    usec_t rtt;                        /* smoothed probe round trip, 0 unknown */
    usec_t suspect_until;              /* SUSPECT: when we shall call it dead */
    unsigned accusers;                 /* SUSPECT: how many independent ones we heard */
    uint32_t flaps;                    /* times it left SUSPECT or DEAD for ALIVE in this epoch */
};

struct gossip_conf {
    struct uuid uuid; /* persistent */
    uint64_t
        epoch; /* higher than in any earlier life: the host persists it before the first packet */
    struct gossip_addr addr; /* where others reach us */
    struct str meta;         /* copied */
    uint16_t version_min, version_max;
    uint32_t flags;
    size_t packet_max;       /* bytes of one packet before the host's overhead; 0: 1360 */
    usec_t probe_interval;   /* 0: 1 s */
    usec_t probe_timeout;    /* 0: 500 ms, the upper bound of the adaptive one */
    unsigned suspicion_mult; /* 0: 4 */
    unsigned fanout;         /* 0: 4 */
    usec_t gossip_interval;  /* 0: 200 ms */
    usec_t sync_interval;    /* 0: 10 s, stretched above 32 members */
    usec_t dead_keep;        /* 0: 24 h */
};

enum gossip_event_kind {
    GOSSIP_EV_TICK,        /* gossip_deadline has passed; harmless when early */
    GOSSIP_EV_PACKET,      /* addr, bytes */
    GOSSIP_EV_SEND_FAILED, /* addr: the kernel refused a packet to it */
    GOSSIP_EV_STREAM, /* stream, addr, bytes: one frame.  Theirs: GOSSIP_STREAM_THEIRS is set */
    GOSSIP_EV_STREAM_FAILED, /* stream: it did not open, broke, or was closed by the other side */
    GOSSIP_EV_SEEDS, /* seeds, seed_count: all addresses known by configuration, names and the peer
                        cache */
    GOSSIP_EV_FLAGS, /* flags: what we are from now on */
    GOSSIP_EV_META,  /* bytes: new meta of ours; addr: our address, port 0 keeps it */
    GOSSIP_EV_ROW_PUT,     /* space, key, bytes */
    GOSSIP_EV_ROW_DEL,     /* space, key */
    GOSSIP_EV_ROW_LOAD,    /* a shared row from disk: space, key, bytes, uuid (writer), version,
                              flags 1: a tombstone */
    GOSSIP_EV_UNREACHABLE, /* uuid: the node-to-node link lost it; probe it next */
    GOSSIP_EV_FORGET,      /* uuid: an operator says it never comes back */
    GOSSIP_EV_LEAVE,       /* say good-bye; GOSSIP_OUT_GONE follows */
};

#define GOSSIP_STREAM_THEIRS ((uint64_t)1 << 63) /* set by the host in ids of accepted streams */

struct gossip_event {
    enum gossip_event_kind kind;
    usec_t now;  /* monotonic */
    usec_t wall; /* since 1970 */
    struct gossip_addr addr;
    uint64_t stream;
    struct uuid uuid;
    uint64_t version;
    uint32_t flags;
    uint8_t space;
    struct str key;
    struct str bytes; /* view: gone when the step returns */
    const struct gossip_addr *seed;
    size_t seed_count;
};

enum gossip_effect_kind {
    GOSSIP_OUT_PACKET,       /* addr, uuid (zero: a stranger), bytes */
    GOSSIP_OUT_STREAM_OPEN,  /* stream (new), addr, bytes: connect and send this frame */
    GOSSIP_OUT_STREAM_SEND,  /* stream, bytes: one more frame */
    GOSSIP_OUT_STREAM_CLOSE, /* stream: after what was sent has gone out; no STREAM_FAILED follows
                              */
    GOSSIP_OUT_ALIVE,        /* uuid, epoch: new, or back, or a new epoch */
    GOSSIP_OUT_SUSPECT,      /* uuid, epoch */
    GOSSIP_OUT_DEAD,         /* uuid, epoch */
    GOSSIP_OUT_LEFT,         /* uuid, epoch */
    GOSSIP_OUT_UPDATED,      /* uuid, epoch: address, flags, meta or accusers changed */
    GOSSIP_OUT_FORGOTTEN,    /* uuid: no longer remembered */
    GOSSIP_OUT_ROW,    /* row: became visible or changed; is_tombstone: is no longer visible.  Copy
                        * what you keep
                        */
    GOSSIP_OUT_SHARED, /* row: a shared row changed and must reach the disk (comes beside
                          GOSSIP_OUT_ROW) */
    GOSSIP_OUT_JOINED, /* the first other member is known */
    GOSSIP_OUT_ALONE,  /* no other member is left */
    GOSSIP_OUT_ISOLATED,  /* most others fell silent at once: we are probably the one cut off */
    GOSSIP_OUT_RECOVERED, /* the isolation is over */
    GOSSIP_OUT_REFUTED,   /* somebody suspected us (uuid, zero unknown) and we said no */
    GOSSIP_OUT_STALLED,   /* our own timer was late: epoch = microseconds */
    GOSSIP_OUT_SKEW, /* uuid, addr: its clock is too far ahead of ours, or its versions do not fit
                      * (epoch: min << 16 | max): see flags
                      */
    GOSSIP_OUT_STREAM_ONLY, /* uuid, addr: answers over streams and never to packets: told once a
                             * minute */
    GOSSIP_OUT_DUPLICATE,   /* addr: our uuid runs there with a higher epoch: stop now */
    GOSSIP_OUT_GONE,        /* our good-bye is out: the host may stop */
};

#define GOSSIP_SKEW_CLOCK 1 /* flags of GOSSIP_OUT_SKEW */
#define GOSSIP_SKEW_VERSION 2

struct gossip_effect {
    enum gossip_effect_kind kind;
    struct gossip_addr addr;
    uint64_t stream;
    struct uuid uuid;
    uint64_t epoch;
    uint32_t flags;
    size_t at, n;          /* the bytes: gossip_effect_bytes */
    struct gossip_row row; /* key and value: views, valid until the next step or gossip_out_reset */
};

/* Effects in order.  The caller keeps one and resets it between steps. */
struct gossip_out {
    struct buf bytes;
    struct gossip_effect *effect;
    size_t count, cap;
};

struct str gossip_effect_bytes(const struct gossip_out *out, const struct gossip_effect *e);
void gossip_out_reset(struct gossip_out *out);
void gossip_out_deinit(struct gossip_out *out);

struct gossip_stats {
    uint64_t packets_in, packets_out, bytes_in, bytes_out, malformed;
    uint64_t probes, probes_failed, probes_indirect;
    uint64_t probes_stream; /* answered over a stream, when packets and helpers were not */
    uint64_t suspicions, refutes, false_deaths; /* false: it came back in the same epoch */
    uint64_t syncs, rows_in, rows_sent;
    unsigned score;   /* Lifeguard's local health, 0 healthy .. 7 */
    size_t queue_len; /* rumours waiting */
    bool is_isolated;
};

struct gossip;

/* A member of its own, alone.  seed: chance; equal seeds and equal events give equal effects. */
struct gossip *gossip_new(const struct gossip_conf *c, usec_t now, usec_t wall,
                          uint64_t seed) must_use;
struct gossip *gossip_free(struct gossip *g);

void gossip_step(struct gossip *g, const struct gossip_event *ev, struct gossip_out *out);

/* When it next wants GOSSIP_EV_TICK. */
usec_t gossip_deadline(const struct gossip *g);

/* Asserts every numbered invariant of README.md. */
void gossip_check(const struct gossip *g);

/* Ourselves. */
const struct gossip_member *gossip_self(const struct gossip *g);

/* The member, in whatever state, or NULL. */
const struct gossip_member *gossip_member_find(const struct gossip *g, const struct uuid *uuid);

struct gossip_suspicion;

/* What is held against a member (suspicion.h): NULL when it is not SUSPECT.  Valid until the next
 * step. */
const struct gossip_suspicion *gossip_member_suspicion(const struct gossip *g,
                                                       const struct uuid *uuid);

/* Walks all members, ourselves and the remembered dead too, in no order.  Start with *at = 0; NULL
 * at the end. */
const struct gossip_member *gossip_member_next(const struct gossip *g, size_t *at);

/* Members alive or suspect, ourselves too. */
size_t gossip_live_count(const struct gossip *g);

const struct gossip_table *gossip_table_of(const struct gossip *g);
void gossip_stats_get(const struct gossip *g, struct gossip_stats *out);
