/* The step: one event in, its effects out.  SPDX-License-Identifier: Apache-2.0
 *
 * The invariants are those of README.md; raft_check asserts what one replica can see of them.
 * It never calls out, never reads a clock, never blocks. */
#include "raft/raft_priv.h"

void raft_conf_default(struct raft_conf *c)
{
    *c = (struct raft_conf){
        .election_usec = 1000 * USEC_MSEC,
        .heartbeat_usec = 100 * USEC_MSEC,
        .lease_margin_usec = 10 * USEC_MSEC,
        .drift_ppm = 10000,
        .has_lease = true,
        .hibernate_usec = 5 * USEC_SEC,
        .read_timeout_usec = 3 * USEC_SEC,
        .append_bytes_max = 1 << 20,
        .append_entry_max = 1024,
        .inflight_max = 256,
        .inflight_bytes_max = 16 << 20,
        .uncommitted_bytes_max = 64 << 20,
        .entry_bytes_max = 64 << 20,
        .tail_bytes_max = 1 << 20,
        .apply_bytes_max = 4 << 20,
        .read_max = 65536,
    };
}

void raft_init(struct raft *r, const struct raft_conf *conf, const struct raft_boot *b)
{
    must(b->id != 0);
    must(conf->append_entry_max > 0 && conf->append_entry_max <= RAFT_MESSAGE_ENTRY_MAX);
    must(conf->heartbeat_usec > 0 && conf->election_usec > conf->heartbeat_usec);
    *r = (struct raft){.conf = conf, .id = b->id, .now = b->now, .role = RAFT_FOLLOWER};
    rng_init(&r->rng, b->seed);
    r->read_round = rng_u64(&r->rng) >> 16; /* not one that a former self has used */
    r->hard = b->hard;
    r->contact = r->born = b->is_new ? 0 : b->now;
    raft_log_init(&r->log, b);
    must(raft_log_term(&r->log, r->log.last) <= r->hard.term);
    struct raft_config *c =
        b->config != NULL ? raft_config_dup(b->config) : raft_config_new(NULL, 0, 0);
    raft_config_push(r, NULL, b->applied, c);
    for (size_t i = 0; i < b->later_count; i++) {
        c = raft_config_decode(b->later[i].payload);
        must(c != NULL);
        if (b->later[i].index <= r->log.commit)
            raft_config_rollback_all(r); /* the ones before are of no use any more */
        raft_config_push(r, NULL, b->later[i].index, c);
    }
    raft_election_arm(r);
    if (b->is_new && raft_config_get(r)->count == 1)
        r->election_at = r->now; /* nobody to wait for */
}

void raft_deinit(struct raft *r)
{
    raft_config_rollback_all(r);
    mem_free(r->config);
    for (size_t i = 0; i < r->peer_count; i++)
        mem_free(r->peer[i].flight);
    mem_free(r->peer);
    mem_free(r->write);
    mem_free(r->held);
    mem_free(r->read);
    raft_log_deinit(&r->log);
    *r = (struct raft){0};
}

/* ---- messages ---- */

static bool is_from_leader(const struct raft_message *m)
{
    return m->type == RAFT_MSG_APPEND || m->type == RAFT_MSG_HEARTBEAT ||
           m->type == RAFT_MSG_COMMIT || m->type == RAFT_MSG_SNAPSHOT;
}

/* A sender whose term is over learns of ours, so that it steps down or stops asking. */
static void answer_old_term(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    struct raft_message reply = {.to = m->from, .is_refused = true};
    if (is_from_leader(m))
        reply.type = RAFT_MSG_APPEND_REPLY;
    else if (m->type == RAFT_MSG_VOTE)
        reply.type = RAFT_MSG_VOTE_REPLY;
    else
        return;
    raft_send(r, out, reply, RAFT_NEEDS_HARD);
}

/* Brings our term up to the message's; false when the message is to be dropped. */
static bool take_term(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    if (m->type == RAFT_MSG_PREVOTE || m->type == RAFT_MSG_VOTE)
        return m->type == RAFT_MSG_PREVOTE || m->term >= r->hard.term ||
               (answer_old_term(r, out, m), false);
    if (m->type == RAFT_MSG_PREVOTE_REPLY && !m->is_refused)
        return true; /* the term is the one we asked about */
    if (m->term > r->hard.term)
        raft_become_follower(r, out, m->term, is_from_leader(m) ? m->from : 0);
    if (m->term < r->hard.term) {
        answer_old_term(r, out, m);
        return false;
    }
    return true;
}

/* The leader of our term speaks. */
static bool hear_leader(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    if (r->role == RAFT_LEADER || m->from == r->id)
        return false; /* not possible, unless the sender is broken */
    if (r->role != RAFT_FOLLOWER || r->leader != m->from)
        raft_become_follower(r, out, m->term, m->from);
    r->contact = r->now;
    raft_election_arm(r);
    if (m->type != RAFT_MSG_HEARTBEAT || !m->is_quiet)
        raft_wake(r, out);
    return true;
}

static void recv(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    if (m->to != r->id || m->from == r->id || raft_tell_removed(r, out, m))
        return;
    if (!take_term(r, out, m) || (is_from_leader(m) && !hear_leader(r, out, m)))
        return;
    struct raft_peer *p = raft_peer_find(r, m->from);
    if (r->role == RAFT_LEADER && p != NULL) {
        p->contact = r->now;
        if (m->type != RAFT_MSG_HEARTBEAT_REPLY || !r->is_quiet || m->round == r->round)
            raft_wake(r, out);
    }
    switch ((enum raft_message_type)m->type) {
    case RAFT_MSG_PREVOTE:
        raft_recv_prevote(r, out, m);
        break;
    case RAFT_MSG_VOTE:
        raft_recv_vote(r, out, m);
        break;
    case RAFT_MSG_PREVOTE_REPLY:
    case RAFT_MSG_VOTE_REPLY:
        raft_recv_vote_reply(r, out, m);
        break;
    case RAFT_MSG_APPEND:
        raft_recv_append(r, out, m);
        break;
    case RAFT_MSG_APPEND_REPLY:
        raft_recv_append_reply(r, out, m);
        break;
    case RAFT_MSG_HEARTBEAT:
    case RAFT_MSG_COMMIT:
        raft_recv_heartbeat(r, out, m);
        break;
    case RAFT_MSG_HEARTBEAT_REPLY:
        raft_recv_heartbeat_reply(r, out, m);
        break;
    case RAFT_MSG_SNAPSHOT:
        raft_recv_snapshot(r, out, m);
        break;
    case RAFT_MSG_TIMEOUT_NOW:
        raft_recv_timeout_now(r, out, m);
        break;
    case RAFT_MSG_READ:
        raft_recv_read(r, out, m);
        break;
    case RAFT_MSG_READ_REPLY:
        raft_recv_read_reply(r, out, m);
        break;
    case RAFT_MSG_REMOVED:
        if (r->role != RAFT_LEADER && !r->is_removed) {
            raft_become_follower(r, out, r->hard.term, r->leader);
            r->is_removed = true;
            out->changed |= RAFT_CH_REMOVED;
        }
        break;
    }
}

/* ---- the other events ---- */

static void tick(struct raft *r, struct raft_out *out, bool is_unwatched)
{
    r->is_unwatched = is_unwatched;
    if (r->is_quiet)
        return;
    if (r->role == RAFT_LEADER) {
        if (r->now >= r->beat_at)
            raft_beat(r, out);
        return;
    }
    if (r->read_count > 0 && r->now >= r->beat_at)
        raft_read_tick(r, out);
    if (r->now >= r->election_at)
        raft_campaign(r, out, 0);
    else
        raft_ask_again(r, out);
}

static void persisted(struct raft *r, struct raft_out *out, uint64_t seq)
{
    must(seq <= r->seq);
    if (seq <= r->seq_durable)
        return;
    r->seq_durable = seq;
    size_t n = 0;
    for (; n < r->write_count && r->write[n].seq <= seq; n++)
        if (r->write[n].last > r->log.stable)
            r->log.stable = r->write[n].last;
    r->write_count -= n;
    memmove(r->write, r->write + n, r->write_count * sizeof *r->write);
    raft_own_vote_durable(r, out);
    raft_commit_advance(r, out);
}

static void applied(struct raft *r, uint64_t index)
{
    must(index <= r->log.handed);
    if (index > r->log.applied)
        r->log.applied = index;
}

/* Entries that were to be applied and are read back. */
static void fetched(struct raft *r, struct raft_out *out, const struct raft_fetched *f)
{
    struct raft_log *l = &r->log;
    if (f->peer != 0) {
        raft_fetched(r, out, f);
        return;
    }
    if (!l->is_fetching || f->first != l->handed + 1) {
        out->outcome = RAFT_E_STALE;
        return;
    }
    l->is_fetching = false;
    for (size_t i = 0; i < f->count; i++) {
        const struct raft_entry *e = &f->entry[i];
        must(e->index == l->handed + 1 && e->index <= l->commit);
        must(e->term == raft_log_term(l, e->index));
        out->apply =
            mem_grow(out->apply, &out->apply_cap, out->apply_count + 1, sizeof *out->apply);
        out->apply[out->apply_count++] = *e;
        l->handed_bytes += e->payload.n;
        l->handed = e->index;
    }
}

/* Payloads nobody waits for: all that is durable and applied, except what a follower that keeps
 * up will soon need. */
static void let_go(struct raft *r, const struct raft_event *ev)
{
    struct raft_log *l = &r->log;
    if (l->kept > l->last && r->held_cap == 0)
        return;
    uint64_t done = l->stable < l->applied ? l->stable : l->applied, keep = done;
    if (r->role == RAFT_LEADER && l->kept_bytes <= r->conf->tail_bytes_max)
        for (size_t i = 0; i < r->peer_count; i++)
            if (r->peer[i].state != RAFT_PEER_SNAPSHOT && r->peer[i].match < keep)
                keep = r->peer[i].match;
    raft_log_let_go(l, keep);
    /* an idle group keeps no room for the busy one that it was */
    if (ev->kind != RAFT_EV_TICK || l->kept <= l->last)
        return;
    l->slot = mem_free(l->slot);
    l->slot_cap = 0;
    if (r->held_count == 0) {
        r->held = mem_free(r->held);
        r->held_cap = 0;
    }
    if (r->read_count == 0) {
        r->read = mem_free(r->read);
        r->read_cap = 0;
    }
    if (r->write_count == 0) {
        r->write = mem_free(r->write);
        r->write_cap = 0;
    }
}

static void snapshot_failed(struct raft *r)
{
    r->installing = 0;
    raft_election_arm(r);
}

static void unreachable(struct raft *r, uint64_t id)
{
    struct raft_peer *p = raft_peer_find(r, id);
    if (r->role == RAFT_LEADER && p != NULL && p->state == RAFT_PEER_REPLICATE)
        raft_peer_probe(p, p->match + 1);
}

/* The log has it as committed: same index and term, same entries up to there. */
static void committed(struct raft *r, struct raft_out *out, const struct raft_snapshot *s)
{
    if (s->index <= r->log.last && raft_log_term(&r->log, s->index) == s->term)
        raft_commit_set(r, out, s->index);
}

void raft_step(struct raft *r, const struct raft_event *ev, struct raft_out *out)
{
    if (ev->now > r->now)
        r->now = ev->now;
    let_go(r, ev);
    out->held_from = r->held_count;
    switch (ev->kind) {
    case RAFT_EV_TICK:
        tick(r, out, ev->is_unwatched);
        break;
    case RAFT_EV_RECV:
        recv(r, out, ev->message);
        break;
    case RAFT_EV_PROPOSE:
        raft_propose(r, out, &ev->propose);
        break;
    case RAFT_EV_PERSISTED:
        persisted(r, out, ev->seq);
        break;
    case RAFT_EV_APPLIED:
        applied(r, ev->index);
        break;
    case RAFT_EV_READ:
        raft_read_ask(r, out, &ev->read);
        break;
    case RAFT_EV_CONF:
        raft_conf_change(r, out, &ev->conf);
        break;
    case RAFT_EV_TRANSFER:
        raft_transfer(r, out, ev->peer);
        break;
    case RAFT_EV_FETCHED:
        fetched(r, out, &ev->fetched);
        break;
    case RAFT_EV_SNAPSHOT_BEGIN:
        raft_snapshot_begin(r, out, &ev->snapshot);
        break;
    case RAFT_EV_SNAPSHOT_SENT:
        raft_snapshot_sent(r, out, ev->peer, ev->ok);
        break;
    case RAFT_EV_SNAPSHOT_INSTALLED:
        raft_snapshot_installed(r, out, &ev->snapshot);
        break;
    case RAFT_EV_SNAPSHOT_FAILED:
        snapshot_failed(r);
        break;
    case RAFT_EV_COMPACT:
        raft_compact(r, out, ev->index);
        break;
    case RAFT_EV_UNREACHABLE:
        unreachable(r, ev->peer);
        break;
    case RAFT_EV_WAKE:
        raft_wake(r, out);
        break;
    case RAFT_EV_CAMPAIGN:
        raft_wake(r, out);
        raft_campaign(r, out, 0);
        break;
    case RAFT_EV_RECOVER:
        raft_recover(r, out, &ev->conf);
        break;
    case RAFT_EV_COMMITTED:
        committed(r, out, &ev->snapshot);
        break;
    }
    if (r->role == RAFT_LEADER)
        raft_commit_broadcast(r, out);
    raft_out_finish(r, out);
}

usec_t raft_deadline(const struct raft *r)
{
    if (r->is_quiet)
        return USEC_NEVER;
    if (r->role == RAFT_LEADER)
        return r->beat_at;
    usec_t at = raft_is_promotable(r) ? r->election_at : USEC_NEVER;
    if (raft_is_asking(r))
        at = usec_min(at, r->ask_at);
    return r->read_count > 0 ? usec_min(at, r->beat_at) : at;
}

struct raft_status raft_status_get(const struct raft *r)
{
    return (struct raft_status){
        .id = r->id,
        .term = r->hard.term,
        .leader = r->leader,
        .role = r->role,
        .base = r->log.base,
        .last = r->log.last,
        .stable = r->log.stable,
        .commit = r->log.commit,
        .applied = r->log.applied,
        .is_quiet = r->is_quiet,
        .is_ready = r->role == RAFT_LEADER && r->log.commit >= r->term_start,
        .has_lease = raft_has_lease(r, r->now),
        .transfer = r->role == RAFT_LEADER ? r->transfer : 0,
    };
}

uint64_t raft_term_at(const struct raft *r, uint64_t index)
{
    return raft_log_term(&r->log, index);
}

bool raft_peer_get(const struct raft *r, uint64_t id, struct raft_peer *out)
{
    const struct raft_peer *p = r->role == RAFT_LEADER ? raft_peer_find(r, id) : NULL;
    if (p == NULL)
        return false;
    *out = *p;
    out->flight = NULL;
    return true;
}

/* ---- check ---- */

static void check_peers(const struct raft *r)
{
    for (size_t i = 0; i < r->peer_count; i++) {
        const struct raft_peer *p = &r->peer[i];
        must(p->id != r->id);
        must(i == 0 || r->peer[i - 1].id < p->id);
        must(p->match < p->next);
        must(p->state == RAFT_PEER_REPLICATE || p->flight_count == 0);
        uint64_t bytes = 0;
        for (uint32_t k = 0; k < p->flight_count; k++)
            bytes += p->flight[(p->flight_at + k) & (p->flight_cap - 1)].bytes;
        must(bytes == p->flight_bytes);
        must(r->role != RAFT_LEADER || p->match <= r->log.last);
        must(r->role != RAFT_LEADER || p->next <= r->log.last + 1 ||
             p->state == RAFT_PEER_SNAPSHOT);
        must(r->role != RAFT_LEADER || p->round_acked <= r->round);
    }
}

static void check_leader(const struct raft *r)
{
    must(r->hard.vote == r->id);
    must(r->hard_seq <= r->seq_durable);
    must(r->leader == r->id);
    must(raft_log_term(&r->log, r->log.last) == r->hard.term);
    uint64_t bytes = 0, i = r->log.commit + 1 > r->term_start ? r->log.commit + 1 : r->term_start;
    for (; i <= r->log.last; i++)
        bytes += raft_log_len(&r->log, i);
    must(bytes == r->uncommitted_bytes);
    if (!r->is_quiet)
        return;
    must(r->read_count == 0);
    must(r->transfer == 0);
    must(r->log.applied == r->log.last);
    for (size_t p = 0; p < r->peer_count; p++)
        must(r->peer[p].match == r->log.last);
}

void raft_check(const struct raft *r)
{
    raft_log_check(&r->log);
    must(raft_log_term(&r->log, r->log.last) <= r->hard.term);
    uint64_t seq = r->seq_durable;
    for (size_t i = 0; i < r->write_count; i++) {
        must(r->write[i].seq == seq + 1);
        must(r->write[i].last <= r->log.last);
        seq = r->write[i].seq;
    }
    must(seq == r->seq);
    for (size_t i = 0; i < r->held_count; i++)
        must(r->held[i].seq > r->seq_durable && r->held[i].seq <= r->seq);
    must(r->config_count > 0);
    for (size_t i = 1; i < r->config_count; i++) {
        must(r->config[i].index > r->config[i - 1].index);
        must(r->config[i].index > r->log.commit);
        must(r->config[i].index <= r->log.last);
    }
    must(r->config[0].index <= r->log.commit);
    for (size_t i = 0; i < r->read_count; i++)
        must(r->read[i].round <= (r->role == RAFT_LEADER ? r->round : r->read_round));
    must(r->role == RAFT_FOLLOWER || r->role == RAFT_LEADER || raft_is_promotable(r));
    must(raft_deadline(r) == USEC_NEVER || !r->is_quiet);
    check_peers(r);
    if (r->role == RAFT_LEADER)
        check_leader(r);
}
