/* Reads that must not be stale: lease, rounds, and asking the leader.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Raft thesis 6.4.  A read may be served at the commit index of its arrival once the leader
 * knows that it was still the leader after that: because a quorum has answered a round of
 * heartbeats broadcast later, or because a quorum promised, at a time we know by our own clock,
 * to elect nobody for a while.
 *
 * Lease: a voter that answered the heartbeat we stamped s gives no vote for election_usec of
 * its own clock after it came, which is at least election_usec / (1 + drift) of real time after
 * s; we count election_usec * (1 - drift) / (1 + drift) of our own clock, at most the same real
 * time, less a margin.
 *
 * 1  A read is confirmed by a round that left after the read came; rounds are numbered per
 * leader and term. 2  One round for reads is under way at a time; those that come meanwhile
 * share the next one. 3  Nothing is answered before the first entry of the term is committed. 4
 * While leadership is being handed over there is no lease, and none after until a new round was
 * answered. */
#include "raft/raft_priv.h"

#define MILLION 1000000u

bool raft_has_lease(const struct raft *r, usec_t now)
{
    const struct raft_conf *c = r->conf;
    if (r->role != RAFT_LEADER || !c->has_lease || r->transfer != 0 ||
        r->log.commit < r->term_start)
        return false;
    if (raft_canary(RAFT_CANARY_ENDLESS_LEASE))
        return true;
    usec_t lease = c->election_usec * (MILLION - c->drift_ppm) / (MILLION + c->drift_ppm);
    usec_t stamp = raft_quorum_of(r, RAFT_VALUE_STAMP, now);
    return stamp != 0 && lease > c->lease_margin_usec && now < stamp + lease - c->lease_margin_usec;
}

static bool push(struct raft *r, struct raft_waiting_read w)
{
    if (r->read_count >= r->conf->read_max)
        return false;
    r->read = mem_grow(r->read, &r->read_cap, r->read_count + 1, sizeof *r->read);
    r->read[r->read_count++] = w;
    return true;
}

static bool is_round_out(const struct raft *r)
{
    for (size_t i = 0; i < r->read_count; i++)
        if (r->read[i].round != 0)
            return true; /* the oldest are in front */
        else
            return false;
    return false;
}

static usec_t next_beat(const struct raft *r)
{
    return (r->now / r->conf->heartbeat_usec + 1) * r->conf->heartbeat_usec;
}

/* Not the leader: one question to it covers all that wait. */
static void ask_leader(struct raft *r, struct raft_out *out)
{
    r->beat_at = next_beat(r);
    if (r->leader == 0 || r->leader == r->id)
        return;
    r->read_round++;
    for (size_t i = 0; i < r->read_count; i++)
        r->read[i].round = r->read_round;
    struct raft_message m = {.to = r->leader, .type = RAFT_MSG_READ, .round = r->read_round};
    raft_send(r, out, m, RAFT_NEEDS_HARD);
}

static uint64_t read_index(const struct raft *r)
{
    return r->log.commit > r->term_start ? r->log.commit : r->term_start;
}

void raft_read_ask(struct raft *r, struct raft_out *out, const struct raft_read *read)
{
    raft_wake(r, out);
    if (!read->is_strict && raft_has_lease(r, r->now)) {
        raft_out_read(out, read->ctx, r->log.commit, RAFT_OK);
        return;
    }
    bool is_leader = r->role == RAFT_LEADER;
    bool was_out = is_round_out(r);
    struct raft_waiting_read w = {
        .ctx = read->ctx, .index = is_leader ? read_index(r) : 0, .since = r->now};
    if (!push(r, w)) {
        out->outcome = RAFT_E_FULL;
        return;
    }
    if (was_out)
        return;
    if (is_leader)
        raft_beat_round(r, out, false);
    else
        ask_leader(r, out);
}

void raft_recv_read(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    struct raft_message reply = {.to = m->from, .type = RAFT_MSG_READ_REPLY, .round = m->round};
    if (r->role != RAFT_LEADER)
        return;
    if (raft_has_lease(r, r->now)) {
        reply.index = r->log.commit;
        raft_send(r, out, reply, RAFT_NEEDS_NOTHING);
        return;
    }
    bool was_out = is_round_out(r);
    struct raft_waiting_read w = {
        .ctx = m->round, .from = m->from, .index = read_index(r), .since = r->now};
    if (!push(r, w)) {
        reply.is_refused = true;
        raft_send(r, out, reply, RAFT_NEEDS_NOTHING);
    } else if (!was_out) {
        raft_beat_round(r, out, false);
    }
}

/* Takes out those that `keep` is false for; they were answered. */
static void sweep(struct raft *r, uint64_t round_max)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->read_count; i++)
        if (r->read[i].round == 0 || r->read[i].round > round_max)
            r->read[kept++] = r->read[i];
    r->read_count = kept;
}

void raft_recv_read_reply(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    if (r->role == RAFT_LEADER || m->is_refused || m->from != r->leader || m->round > r->read_round)
        return;
    for (size_t i = 0; i < r->read_count; i++)
        if (r->read[i].round != 0 && r->read[i].round <= m->round)
            raft_out_read(out, r->read[i].ctx, m->index, RAFT_OK);
    sweep(r, m->round);
    if (r->read_count > 0 && !is_round_out(r))
        ask_leader(r, out);
}

void raft_read_round(struct raft *r)
{
    for (size_t i = 0; i < r->read_count; i++)
        if (r->read[i].round == 0)
            r->read[i].round = r->round;
}

void raft_read_advance(struct raft *r, struct raft_out *out)
{
    if (r->role != RAFT_LEADER || r->read_count == 0 || r->log.commit < r->term_start)
        return;
    uint64_t round = raft_quorum_of(r, RAFT_VALUE_ROUND, r->round);
    bool any = false;
    for (size_t i = 0; i < r->read_count; i++) {
        const struct raft_waiting_read *w = &r->read[i];
        if (w->round == 0 || w->round > round)
            continue;
        any = true;
        if (w->from == 0) {
            raft_out_read(out, w->ctx, w->index, RAFT_OK);
            continue;
        }
        struct raft_message reply = {
            .to = w->from, .type = RAFT_MSG_READ_REPLY, .round = w->ctx, .index = w->index};
        raft_send(r, out, reply, RAFT_NEEDS_NOTHING);
    }
    if (!any)
        return;
    sweep(r, round);
    if (r->read_count > 0 && !is_round_out(r))
        raft_beat_round(r, out, false);
}

void raft_read_adopt(struct raft *r)
{
    for (size_t i = 0; i < r->read_count; i++) {
        r->read[i].round = 0;
        r->read[i].index = r->term_start;
    }
}

void raft_read_fail(struct raft *r, struct raft_out *out, int outcome)
{
    for (size_t i = 0; i < r->read_count; i++)
        if (r->read[i].from == 0)
            raft_out_read(out, r->read[i].ctx, 0, outcome);
    r->read_count = 0;
}

void raft_read_tick(struct raft *r, struct raft_out *out)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->read_count; i++) {
        struct raft_waiting_read *w = &r->read[i];
        if (r->now < w->since + r->conf->read_timeout_usec)
            r->read[kept++] = *w;
        else if (w->from == 0)
            raft_out_read(out, w->ctx, 0, RAFT_E_TIMEOUT);
    }
    r->read_count = kept;
    if (r->role != RAFT_LEADER && kept > 0)
        ask_leader(r, out);
}
