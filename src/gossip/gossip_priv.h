/* The back room of gossip.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/hlc.h"
#include "base/map.h"
#include "base/rng.h"
#include "gossip/awareness.h"
#include "gossip/gossip.h"
#include "gossip/packet.h"
#include "gossip/spread.h"
#include "gossip/suspicion.h"
#include "gossip/table_priv.h"

#define GOSSIP_SYNCS_MAX 4   /* exchanges of ours at a time */
#define GOSSIP_RELAYS_MAX 64 /* indirect probes for others at a time */
#define GOSSIP_SEEDS_MAX 256

struct gossip_peer {          /* a member, with what only we know of it */
    struct gossip_member pub; /* first */
    struct buf meta;
    struct gossip_suspicion suspicion; /* while SUSPECT */
    size_t ring_at;                    /* place in the ring; live members but ourselves */
    usec_t rtt_var;
    usec_t heal_at;            /* DEAD: when to knock again */
    unsigned by_stream;        /* answers in a row that came over streams only */
    usec_t told_at;            /* when we last told it that we think it silent */
    usec_t sync_wait, sync_at; /* backs off while exchanges bring nothing */
};

struct gossip_probe {
    bool is_active;
    struct uuid target;
    uint64_t epoch;
    uint64_t seq;
    uint64_t stream;  /* the fallback, 0 none */
    bool is_indirect; /* the second stage has begun */
    usec_t sent_at, indirect_at, deadline;
    unsigned nacks_expected, nacks;
};

struct gossip_relay { /* an indirect probe we make for another */
    uint64_t seq;     /* ours */
    uint64_t theirs;
    struct uuid asker, target;
    usec_t nack_at; /* 0: free */
};

struct gossip_sync {  /* an exchange we opened */
    uint64_t stream;  /* 0: free */
    struct uuid peer; /* zero: a seed */
    struct gossip_addr addr;
    usec_t deadline;
    uint64_t rows_in; /* when it began */
};

struct gossip {
    struct gossip_conf conf;
    struct gossip_peer *self;
    struct map peers; /* all, ourselves too */
    struct gossip_peer **ring;
    size_t ring_count, ring_cap, ring_at;
    size_t suspect_count;
    struct gossip_table table;
    struct gossip_spread spread;
    struct gossip_awareness awareness;
    struct gossip_probe probe;
    struct gossip_relay relay[GOSSIP_RELAYS_MAX];
    struct gossip_sync sync[GOSSIP_SYNCS_MAX];
    struct gossip_addr seed[GOSSIP_SEEDS_MAX];
    size_t seed_count;
    struct rng rng;
    struct hlc hlc;
    uint64_t seq, stream;
    usec_t now, wall;
    usec_t probe_at, gossip_at, sync_at, seed_at, heal_at, expire_at;
    usec_t stranger_at;      /* not before: greeting a stranger */
    usec_t no_death_until;   /* after a stall of ours */
    struct uuid urgent;      /* probe this one next; zero none */
    struct uuid hinted;      /* fetch from this one; zero none */
    bool hinted_members;     /* the members too */
    bool hears_doubted;      /* whose packet is being read was not ALIVE when it came */
    uint64_t member_hash;    /* sum over ourselves and the ring */
    unsigned strangers;      /* answers in a row with another member hash */
    unsigned mismatches;     /* probe rounds in a row whose answer had another table hash */
    usec_t suspicious_since; /* first of the recent suspicions, for the isolation guard */
    unsigned failed_in_row;  /* probes of ours without an answer since the last one with */
    bool is_isolated, is_joined, is_leaving, is_gone, is_busy;
    usec_t leave_until;
    usec_t skew_at; /* not before: telling of another skewed clock */
    usec_t only_at; /* not before: telling of another that hears no packets */
    struct gossip_stats stats;
    struct buf pkt, msg; /* scratch */
};

struct gossip_effect *gossip_out_add(struct gossip_out *out, enum gossip_effect_kind kind);

/* member.c: the list and what may change it */
struct gossip_peer *gossip_peer_find(const struct gossip *g, const struct uuid *uuid);
struct gossip_peer *gossip_peer_new(struct gossip *g, const struct gossip_msg *m);
void gossip_peer_free(struct gossip *g, struct gossip_peer *p);
static inline bool gossip_is_live(const struct gossip_peer *p)
{
    return p->pub.state <= GOSSIP_ST_SUSPECT;
}
/* A fact that somebody told.  is_sync: by an exchange, so that a death is only doubted. */
void gossip_fact(struct gossip *g, const struct gossip_msg *m, bool is_sync,
                 struct gossip_out *out);
/* Our own probe failed, or a timer of ours ran out. */
void gossip_accuse(struct gossip *g, struct gossip_peer *p, struct gossip_out *out);
void gossip_declare_dead(struct gossip *g, struct gossip_peer *p, struct gossip_out *out);
/* A probe of ours has ended: are we the isolated one? */
void gossip_isolation_watch(struct gossip *g, bool answered, struct gossip_out *out);
void gossip_suspicions_tick(struct gossip *g, struct gossip_out *out);
usec_t gossip_suspicions_deadline(const struct gossip *g);
/* Says what we are, with a higher incarnation when bump. */
void gossip_announce(struct gossip *g, bool bump, enum gossip_rank rank, struct gossip_out *out);
void gossip_msg_of_peer(const struct gossip_peer *p, uint8_t kind, struct gossip_msg *out);
void gossip_fact_queue(struct gossip *g, const struct gossip_msg *m);
void gossip_members_expire(struct gossip *g, struct gossip_out *out);
unsigned gossip_transmit_limit(const struct gossip *g);
uint64_t gossip_member_mix(const struct gossip_member *m); /* its part of the member hash */
uint64_t gossip_member_subject(const struct uuid *u);

/* send.c: packets and frames */
void gossip_packet_begin(struct gossip *g);
void gossip_packet_add(struct gossip *g, const struct gossip_msg *m);
/* Fills it with rumours and sends it. */
void gossip_packet_send(struct gossip *g, const struct gossip_addr *to, const struct uuid *uuid,
                        struct gossip_out *out);
void gossip_frame_send(struct gossip *g, enum gossip_effect_kind how, uint64_t stream,
                       const struct gossip_addr *to, struct gossip_out *out);
void gossip_stream_close(uint64_t stream, struct gossip_out *out);
/* Rumours to some members; the tick of 200 ms. */
void gossip_spread_tick(struct gossip *g, struct gossip_out *out);

/* probe.c */
void gossip_probe_tick(struct gossip *g, struct gossip_out *out);
usec_t gossip_probe_deadline(const struct gossip *g);
void gossip_probe_ping(struct gossip *g, const struct gossip_head *h, const struct gossip_msg *m,
                       const struct gossip_addr *from, uint64_t stream, struct gossip_out *out);
void gossip_probe_ask(struct gossip *g, const struct gossip_head *h, const struct gossip_msg *m,
                      struct gossip_out *out);
void gossip_probe_ack(struct gossip *g, const struct gossip_head *h, const struct gossip_msg *m,
                      const struct gossip_event *ev, struct gossip_out *out);
void gossip_probe_nack(struct gossip *g, const struct gossip_msg *m);
void gossip_probe_send_failed(struct gossip *g, const struct gossip_addr *addr);
void gossip_probe_forget(struct gossip *g, const struct gossip_peer *p);

/* sync.c: exchanges */
void gossip_sync_open(struct gossip *g, const struct gossip_addr *addr, const struct uuid *peer,
                      uint32_t flags, struct gossip_out *out);
void gossip_sync_tick(struct gossip *g, struct gossip_out *out);
usec_t gossip_sync_deadline(const struct gossip *g);
void gossip_sync_frame(struct gossip *g, const struct gossip_head *h, struct codec_cursor *c,
                       uint64_t stream, const struct gossip_msg *first, struct gossip_out *out);
void gossip_sync_failed(struct gossip *g, uint64_t stream);
void gossip_row_heard(struct gossip *g, const struct gossip_head *h, const struct gossip_msg *m,
                      struct gossip_out *out);
void gossip_row_queue(struct gossip *g, const struct gossip_row *r);
void gossip_sync_hash(struct gossip *g, const struct gossip_head *h);
void gossip_row_of_msg(const struct gossip_msg *m, struct gossip_row *out);
