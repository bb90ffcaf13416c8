/* What the leader knows of one follower, and how much it may send it.  SPDX-License-Identifier:
 * Apache-2.0
 *
 *   PROBE      one append, then silence until an answer      raft_peer_probe: start, refusal,
 *   loss, unreachable
 *   REPLICATE  appends up to the windows                     raft_peer_replicate: the first success
 *   SNAPSHOT   nothing until the stream has ended            raft_peer_snapshot: what it needs
 *   is compacted
 *
 * 1  match < next.
 * 2  flight_bytes is the sum of the ring; the ring is empty unless REPLICATE.
 * It sends nothing. */
#include "raft/raft_priv.h"

struct raft_peer *raft_peer_find(const struct raft *r, uint64_t id)
{
    for (size_t i = 0; i < r->peer_count; i++)
        if (r->peer[i].id == id)
            return &r->peer[i];
    return NULL;
}

static void flight_clear(struct raft_peer *p)
{
    p->flight_count = 0;
    p->flight_bytes = 0;
}

void raft_peer_probe(struct raft_peer *p, uint64_t next)
{
    must(next > p->match);
    p->state = RAFT_PEER_PROBE;
    p->next = next;
    p->is_paused = false;
    p->snapshot = 0;
    flight_clear(p);
}

void raft_peer_replicate(struct raft_peer *p)
{
    p->state = RAFT_PEER_REPLICATE;
    p->next = p->match + 1;
    p->is_paused = false;
    p->snapshot = 0;
    flight_clear(p);
}

void raft_peer_snapshot(struct raft_peer *p)
{
    p->state = RAFT_PEER_SNAPSHOT;
    p->snapshot = 0;
    p->is_paused = false;
    flight_clear(p);
}

void raft_peer_flight_push(struct raft_peer *p, uint64_t last, uint32_t bytes)
{
    if (p->flight_count == p->flight_cap) {
        uint32_t cap = p->flight_cap > 0 ? p->flight_cap * 2 : 4;
        struct raft_flight *ring = mem_alloc(cap * sizeof *ring);
        for (uint32_t i = 0; i < p->flight_count; i++)
            ring[i] = p->flight[(p->flight_at + i) & (p->flight_cap - 1)];
        mem_free(p->flight);
        p->flight = ring;
        p->flight_cap = cap;
        p->flight_at = 0;
    }
    p->flight[(p->flight_at + p->flight_count++) & (p->flight_cap - 1)] =
        (struct raft_flight){last, bytes};
    p->flight_bytes += bytes;
}

void raft_peer_flight_pop(struct raft_peer *p, uint64_t acked)
{
    while (p->flight_count > 0 && p->flight[p->flight_at].last <= acked) {
        p->flight_bytes -= p->flight[p->flight_at].bytes;
        p->flight_at = (p->flight_at + 1) & (p->flight_cap - 1);
        p->flight_count--;
    }
}

void raft_peer_flight_free(struct raft_peer *p)
{
    must(p->flight_count == 0);
    p->flight = mem_free(p->flight);
    p->flight_cap = p->flight_at = 0;
}

void raft_peers_rebuild(struct raft *r)
{
    const struct raft_config *c = raft_config_get(r);
    struct raft_peer *peer = mem_new((c->count + 1u) * sizeof *peer);
    size_t n = 0;
    for (size_t i = 0; i < c->count; i++) {
        uint64_t id = c->member[i].id;
        if (id == r->id)
            continue;
        struct raft_peer *old = raft_peer_find(r, id);
        if (old != NULL) {
            peer[n++] = *old;
            old->flight = NULL;
        } else {
            peer[n++] = (struct raft_peer){.id = id, .next = r->log.last + 1, .contact = r->now};
        }
    }
    for (size_t i = 0; i < r->peer_count; i++)
        mem_free(r->peer[i].flight);
    mem_free(r->peer);
    r->peer = peer;
    r->peer_count = n;
}

uint64_t raft_quorum_of(const struct raft *r, enum raft_value what, uint64_t self)
{
    const struct raft_config *c = raft_config_get(r);
    uint64_t value[RAFT_MEMBER_MAX];
    for (size_t i = 0, at = 0; i < c->count; i++) {
        if (c->member[i].id == r->id) {
            value[i] = self;
            continue;
        }
        const struct raft_peer *p = &r->peer[at++]; /* the same order */
        value[i] = what == RAFT_VALUE_MATCH     ? p->match
                   : what == RAFT_VALUE_CONTACT ? p->contact
                   : what == RAFT_VALUE_STAMP   ? p->stamp_acked
                                                : p->round_acked;
    }
    return raft_quorum_value(c, value);
}

enum raft_tally raft_votes(const struct raft *r)
{
    const struct raft_config *c = raft_config_get(r);
    int8_t vote[RAFT_MEMBER_MAX];
    for (size_t i = 0, at = 0; i < c->count; i++)
        vote[i] = c->member[i].id == r->id ? r->own_vote : r->peer[at++].vote;
    return raft_quorum_tally(c, vote);
}
