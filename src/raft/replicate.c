/* The log's way from the leader to its followers, and the heartbeat.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * 1  The leader commits by majority only what its own term wrote (Raft 5.4.2), and counts
 * itself only as far as its own
 *    disk has it.
 * 2  A follower cuts its log only where the terms differ, never at or below commit.
 * 3  A follower takes commit from an append up to the last entry of that append, no further.
 * 4  An acknowledgement waits for the disk; a heartbeat acknowledges nothing of the log.  What
 * it says of the last entry
 *    only tells the leader that something was lost on the way.
 * 5  Every acknowledgement lets the next appends go, as far as the windows allow. */
#include "raft/raft_priv.h"

void raft_append_own(struct raft *r, struct raft_out *out, enum raft_entry_type type,
                     struct str payload)
{
    struct raft_entry e = {0, r->hard.term, payload, (uint8_t)type};
    raft_log_append(&r->log, &e, 1);
    if (out->append_from == 0)
        out->append_from = r->log.last;
    if (r->role != RAFT_LEADER)
        return;
    r->busy_at = r->now;
    r->uncommitted_bytes += payload.n;
    raft_pump_all(r, out);
}

static int propose_outcome(const struct raft *r, const struct raft_propose *p, size_t *out_bytes)
{
    *out_bytes = 0;
    if (r->role != RAFT_LEADER)
        return RAFT_E_NOT_LEADER;
    if (r->transfer != 0)
        return RAFT_E_TRANSFER;
    for (size_t i = 0; i < p->count; i++) {
        if (p->payload[i].n > r->conf->entry_bytes_max)
            return RAFT_E_TOO_BIG;
        *out_bytes += p->payload[i].n;
    }
    if (r->uncommitted_bytes > 0 &&
        r->uncommitted_bytes + *out_bytes > r->conf->uncommitted_bytes_max)
        return RAFT_E_FULL;
    return RAFT_OK;
}

void raft_propose(struct raft *r, struct raft_out *out, const struct raft_propose *p)
{
    size_t bytes;
    out->outcome = propose_outcome(r, p, &bytes);
    if (out->outcome != RAFT_OK || p->count == 0)
        return;
    raft_wake(r, out);
    out->index = r->log.last + 1;
    out->term = r->hard.term;
    if (out->append_from == 0)
        out->append_from = out->index;
    struct raft_entry small[64], *e = small;
    if (p->count > countof(small))
        e = mem_alloc(p->count * sizeof *e);
    for (size_t i = 0; i < p->count; i++)
        e[i] = (struct raft_entry){0, r->hard.term, p->payload[i], RAFT_ENTRY_DATA};
    raft_log_append(&r->log, e, p->count);
    if (e != small)
        mem_free(e);
    r->uncommitted_bytes += bytes;
    r->busy_at = r->now;
    raft_pump_all(r, out);
}

/* ---- leader: sending ---- */

static bool has_window(const struct raft *r, const struct raft_peer *p)
{
    if (p->state == RAFT_PEER_SNAPSHOT || p->is_paused || p->is_fetching)
        return false;
    if (p->state == RAFT_PEER_PROBE)
        return p->match < r->log.last;
    return p->flight_count < r->conf->inflight_max && p->flight_bytes < r->conf->inflight_bytes_max;
}

/* Sends count entries after next - 1, which are at offset `at` of out->entry. */
static void send_append(struct raft *r, struct raft_out *out, struct raft_peer *p, size_t at,
                        size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += out->entry[at + i].payload.n;
    uint64_t last = p->next - 1 + count;
    struct raft_message m = {
        .to = p->id,
        .type = RAFT_MSG_APPEND,
        .index = p->next - 1,
        .log_term = raft_log_term(&r->log, p->next - 1),
        .commit = r->log.commit,
        .hint = at,
        .entry_count = (uint32_t)count,
    };
    raft_send(r, out, m, RAFT_NEEDS_NOTHING);
    p->sent_at = r->now;
    if (p->state == RAFT_PEER_PROBE) {
        p->is_paused = true;
        return;
    }
    if (count == 0)
        return;
    uint64_t commit = r->log.commit < last ? r->log.commit : last;
    if (p->commit_sent < commit)
        p->commit_sent = commit;
    p->next = last + 1;
    raft_peer_flight_push(p, last, (uint32_t)bytes);
}

/* How many entries from first on one append takes; at least one. */
static uint64_t append_last(const struct raft *r, uint64_t first)
{
    uint64_t last = first;
    size_t bytes = raft_log_len(&r->log, first);
    while (last < r->log.last && last - first + 1 < r->conf->append_entry_max) {
        bytes += raft_log_len(&r->log, last + 1);
        if (bytes > r->conf->append_bytes_max)
            break;
        last++;
    }
    return last;
}

static bool is_alive(const struct raft *r, const struct raft_peer *p)
{
    return r->now < p->contact + r->conf->election_usec;
}

/* One append, or what must come before it; false when there is nothing to do now. */
static bool pump_once(struct raft *r, struct raft_out *out, struct raft_peer *p)
{
    const struct raft_log *l = &r->log;
    if (!has_window(r, p))
        return false;
    if (p->next <= l->base) {
        if (!is_alive(r, p))
            return false; /* nobody there to send a snapshot to */
        raft_peer_snapshot(p);
        raft_out_snapshot(out, p->id);
        return false;
    }
    if (p->next > l->last) {
        if (p->state == RAFT_PEER_PROBE)
            send_append(r, out, p, 0, 0);
        return false;
    }
    if (p->next < l->kept) {
        struct raft_fetch f = {p->id, p->next, l->kept - 1, r->conf->append_bytes_max};
        if (f.last - f.first >= r->conf->append_entry_max)
            f.last = f.first + r->conf->append_entry_max - 1;
        p->is_fetching = true;
        raft_out_fetch(out, f);
        return false;
    }
    uint64_t last = append_last(r, p->next);
    size_t at = raft_out_entries(out, l, p->next, last);
    send_append(r, out, p, at, (size_t)(last + 1 - p->next));
    return p->state == RAFT_PEER_REPLICATE && p->next <= l->last;
}

void raft_pump(struct raft *r, struct raft_out *out, struct raft_peer *p)
{
    while (pump_once(r, out, p))
        continue;
}

void raft_pump_all(struct raft *r, struct raft_out *out)
{
    for (size_t i = 0; i < r->peer_count; i++)
        if (r->peer[i].next <= r->log.last)
            raft_pump(r, out, &r->peer[i]);
}

void raft_fetched(struct raft *r, struct raft_out *out, const struct raft_fetched *f)
{
    struct raft_peer *p = raft_peer_find(r, f->peer);
    if (r->role != RAFT_LEADER || p == NULL || !p->is_fetching) {
        out->outcome = RAFT_E_STALE;
        return;
    }
    p->is_fetching = false;
    if (f->count == 0 || p->next != f->first || !has_window(r, p) || f->first <= r->log.base) {
        out->outcome = RAFT_E_STALE; /* the next answer of the peer starts anew */
        if (p->next != f->first || f->first <= r->log.base)
            raft_pump(r, out, p);
        return;
    }
    size_t at = out->entry_count;
    out->entry = mem_grow(out->entry, &out->entry_cap, at + f->count, sizeof *out->entry);
    for (size_t i = 0; i < f->count; i++) {
        must(f->entry[i].index == f->first + i);
        must(f->entry[i].term == raft_log_term(&r->log, f->entry[i].index));
        out->entry[out->entry_count++] = f->entry[i];
    }
    send_append(r, out, p, at, f->count);
    raft_pump(r, out, p);
}

/* ---- leader: commit ---- */

void raft_commit_broadcast(struct raft *r, struct raft_out *out)
{
    for (size_t i = 0; i < r->peer_count; i++) {
        struct raft_peer *p = &r->peer[i];
        uint64_t commit = p->match < r->log.commit ? p->match : r->log.commit;
        if (commit <= p->commit_sent)
            continue;
        p->commit_sent = commit;
        struct raft_message m = {.to = p->id, .type = RAFT_MSG_COMMIT, .commit = commit};
        raft_send(r, out, m, RAFT_NEEDS_NOTHING);
    }
}

void raft_commit_set(struct raft *r, struct raft_out *out, uint64_t commit)
{
    if (commit <= r->log.commit)
        return;
    must(commit <= r->log.last);
    if (r->role == RAFT_LEADER) {
        uint64_t i = r->log.commit + 1 > r->term_start ? r->log.commit + 1 : r->term_start;
        for (; i <= commit; i++)
            r->uncommitted_bytes -= raft_log_len(&r->log, i);
    }
    r->log.commit = commit;
    raft_config_committed(r, out);
}

void raft_commit_advance(struct raft *r, struct raft_out *out)
{
    if (r->role != RAFT_LEADER)
        return;
    uint64_t q = raft_quorum_of(r, RAFT_VALUE_MATCH, r->log.stable);
    if (q <= r->log.commit || raft_log_term(&r->log, q) != r->hard.term)
        return;
    raft_commit_set(r, out, q);
    if (r->role == RAFT_LEADER)
        raft_read_advance(r, out);
}

static void take_refusal(struct raft *r, struct raft_peer *p, const struct raft_message *m)
{
    if (p->state == RAFT_PEER_REPLICATE && m->index > p->match) {
        raft_peer_probe(p, p->match + 1);
    } else if (p->state == RAFT_PEER_PROBE && m->index == p->next - 1 && m->index > p->match) {
        uint64_t hint = m->hint < m->index ? m->hint : m->index - 1;
        uint64_t next = raft_log_find(&r->log, hint, m->hint_term) + 1;
        /* below our log, the follower's own end tells where it is */
        if (hint < r->log.base)
            next = hint + 1;
        raft_peer_probe(p, next > p->match ? next : p->match + 1);
    }
}

void raft_recv_append_reply(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    struct raft_peer *p = raft_peer_find(r, m->from);
    if (r->role != RAFT_LEADER || p == NULL || m->index > r->log.last)
        return;
    if (m->is_refused) {
        take_refusal(r, p, m);
        raft_pump(r, out, p);
        return;
    }
    if (m->index > p->match) {
        p->match = m->index;
        r->busy_at = r->now;
    }
    raft_peer_flight_pop(p, p->match);
    if (p->next <= p->match)
        p->next = p->match + 1;
    if (p->state == RAFT_PEER_PROBE && m->index == p->match)
        raft_peer_replicate(p);
    else if (p->state == RAFT_PEER_SNAPSHOT && p->match >= r->log.base)
        raft_peer_replicate(p);
    raft_commit_advance(r, out);
    if (r->role != RAFT_LEADER || (p = raft_peer_find(r, m->from)) == NULL)
        return;
    if (!raft_canary(RAFT_CANARY_NOT_ACK_CLOCKED))
        raft_pump(r, out, p);
    raft_transfer_push(r, out);
}

/* ---- follower ---- */

static void append_entries(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    struct raft_log *l = &r->log;
    uint32_t i = 0;
    while (i < m->entry_count && raft_log_term(l, m->entry[i].index) == m->entry[i].term)
        i++;
    if (raft_canary(RAFT_CANARY_TRUNCATE) && i > 0 && i == m->entry_count &&
        m->entry[i - 1].index < l->last)
        i--;
    if (i == m->entry_count)
        return;
    uint64_t first = m->entry[i].index;
    if (first <= l->last) {
        raft_log_truncate(l, first); /* dies rather than cut at or below commit */
        out->persist.truncate = first;
        for (size_t w = 0; w < r->write_count; w++)
            if (r->write[w].last >= first)
                r->write[w].last = first - 1;
        raft_config_rollback(r, out, first);
    }
    must(out->append_from == 0);
    out->append_from = first;
    raft_log_append(l, m->entry + i, m->entry_count - i);
    for (; i < m->entry_count; i++) {
        if (m->entry[i].type != RAFT_ENTRY_CONFIG)
            continue;
        struct raft_config *c = raft_config_decode(m->entry[i].payload);
        must(c != NULL); /* refused on arrival: is_sound */
        raft_config_push(r, out, m->entry[i].index, c);
    }
}

/* Can everything in it be understood?  The decoder has checked order and terms. */
static bool is_sound(const struct raft *r, const struct raft_message *m)
{
    for (uint32_t i = 0; i < m->entry_count; i++) {
        if (m->entry[i].type != RAFT_ENTRY_CONFIG || m->entry[i].index <= r->log.commit)
            continue;
        struct raft_config *c = raft_config_decode(m->entry[i].payload);
        if (c == NULL)
            return false;
        mem_free(c);
    }
    return true;
}

/* Too much is waiting to be applied: take no more; the leader asks again with its heartbeat. */
static bool is_full(const struct raft *r)
{
    return r->log.kept_bytes > 2 * (uint64_t)r->conf->tail_bytes_max &&
           r->log.applied < r->log.commit;
}

void raft_recv_append(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    struct raft_log *l = &r->log;
    if (r->installing != 0 || !is_sound(r, m) || (m->entry_count > 0 && is_full(r)))
        return;
    struct raft_message reply = {.to = m->from, .type = RAFT_MSG_APPEND_REPLY};
    if (m->index < l->commit) {
        reply.index = l->commit;
        raft_send(r, out, reply, RAFT_NEEDS_ALL);
        return;
    }
    if (raft_log_term(l, m->index) != m->log_term || m->index > l->last) {
        reply.is_refused = true;
        reply.index = m->index;
        reply.hint = raft_log_find(l, m->index, m->log_term);
        reply.hint_term = raft_log_term(l, reply.hint);
        raft_send(r, out, reply, RAFT_NEEDS_HARD);
        return;
    }
    append_entries(r, out, m);
    uint64_t last = m->index + m->entry_count;
    raft_commit_set(r, out, m->commit < last ? m->commit : last);
    if (raft_canary(RAFT_CANARY_OVER_COMMIT) && m->commit > l->stable)
        raft_commit_set(r, out, l->last);
    reply.index = last;
    raft_send(r, out, reply,
              raft_canary(RAFT_CANARY_ACK_UNFLUSHED) ? RAFT_NEEDS_NOTHING : RAFT_NEEDS_ALL);
}

/* ---- heartbeats ---- */

/* Nobody waits for anything: the group may sleep. */
static bool is_idle(const struct raft *r)
{
    const struct raft_log *l = &r->log;
    if (r->conf->hibernate_usec == 0 || r->is_unwatched || r->now < r->busy_at + r->conf->hibernate_usec ||
        r->transfer != 0 || r->read_count > 0 || l->applied != l->last || l->commit != l->last ||
        l->stable != l->last || raft_config_get(r)->is_joint || r->seq != r->seq_durable)
        return false;
    for (size_t i = 0; i < r->peer_count; i++)
        if (r->peer[i].match != l->last || !is_alive(r, &r->peer[i]))
            return false;
    return true;
}

void raft_beat_round(struct raft *r, struct raft_out *out, bool is_quiet)
{
    r->round++;
    r->beat_at = (r->now / r->conf->heartbeat_usec + 1) * r->conf->heartbeat_usec;
    raft_read_round(r);
    for (size_t i = 0; i < r->peer_count; i++) {
        struct raft_peer *p = &r->peer[i];
        struct raft_message m = {
            .to = p->id,
            .type = RAFT_MSG_HEARTBEAT,
            .commit = p->match < r->log.commit ? p->match : r->log.commit,
            .index = is_quiet ? r->log.last : 0,
            .round = r->round,
            .stamp = r->now,
            .epoch = r->epoch,
            .is_quiet = is_quiet,
        };
        if (p->commit_sent < m.commit)
            p->commit_sent = m.commit;
        raft_send(r, out, m, RAFT_NEEDS_NOTHING);
    }
    if (r->peer_count == 0)
        raft_read_advance(r, out);
}

void raft_beat(struct raft *r, struct raft_out *out)
{
    usec_t heard = raft_quorum_of(r, RAFT_VALUE_CONTACT, r->now);
    if (r->now >= heard + r->conf->election_usec) {
        raft_become_follower(r, out, r->hard.term, 0); /* check-quorum */
        return;
    }
    if (r->transfer != 0 && r->now >= r->transfer_until)
        raft_transfer_end(r, out);
    raft_read_tick(r, out);
    bool is_quiet = is_idle(r);
    raft_beat_round(r, out, is_quiet);
    if (!is_quiet)
        return;
    r->is_quiet = true;
    out->changed |= RAFT_CH_QUIET;
    for (size_t i = 0; i < r->peer_count; i++)
        raft_peer_flight_free(&r->peer[i]);
}

void raft_wake(struct raft *r, struct raft_out *out)
{
    if (!r->is_quiet)
        return;
    r->is_quiet = false;
    out->changed |= RAFT_CH_QUIET;
    r->busy_at = r->now;
    raft_election_arm(r);
    if (r->role != RAFT_LEADER) {
        /* the silence was long enough; only the random part is left to wait */
        if (r->now >= r->contact + r->conf->election_usec)
            r->election_at -= r->conf->election_usec;
        return;
    }
    r->beat_at = r->now;
    for (size_t i = 0; i < r->peer_count; i++)
        r->peer[i].contact = r->now; /* nobody was asked meanwhile */
}

static bool goes_quiet(const struct raft *r, const struct raft_message *m)
{
    const struct raft_log *l = &r->log;
    return m->is_quiet && m->index == l->last && l->commit == l->last && l->stable == l->last &&
           l->applied == l->last && r->read_count == 0 && r->installing == 0 &&
           r->seq == r->seq_durable;
}

void raft_recv_heartbeat(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    if (m->commit <= r->log.last && r->installing == 0)
        raft_commit_set(r, out, m->commit);
    if (m->type == RAFT_MSG_COMMIT)
        return;
    if (m->term > r->epoch_term || m->epoch > r->epoch)
        r->epoch = m->epoch;
    r->epoch_term = m->term;
    if (goes_quiet(r, m)) {
        if (!r->is_quiet)
            out->changed |= RAFT_CH_QUIET;
        r->is_quiet = true;
        return;
    }
    struct raft_message reply = {
        .to = m->from,
        .type = RAFT_MSG_HEARTBEAT_REPLY,
        .round = m->round,
        .stamp = m->stamp,
        .hint = r->log.last,
    };
    raft_send(r, out, reply, RAFT_NEEDS_HARD);
}

/* Sent before this heartbeat, not there when it was answered: lost on the way. */
static void find_loss(struct raft *r, struct raft_out *out, struct raft_peer *p,
                      const struct raft_message *m)
{
    if (p->flight_count == 0 || p->sent_at >= m->stamp)
        return;
    if (m->hint + 1 < p->next)
        raft_peer_probe(p, m->hint > p->match ? m->hint + 1 : p->match + 1);
    else
        send_append(r, out, p, 0, 0); /* it is the acknowledgement that is missing */
}

void raft_recv_heartbeat_reply(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    struct raft_peer *p = raft_peer_find(r, m->from);
    if (r->role != RAFT_LEADER || p == NULL)
        return;
    if (m->stamp >= r->epoch_since && m->stamp > p->stamp_acked && m->stamp <= r->now)
        p->stamp_acked = m->stamp;
    if (m->round > p->round_acked && m->round <= r->round)
        p->round_acked = m->round;
    if (p->state == RAFT_PEER_PROBE)
        p->is_paused = p->is_paused && p->sent_at >= m->stamp;
    else if (p->state == RAFT_PEER_REPLICATE)
        find_loss(r, out, p, m);
    raft_pump(r, out, p);
    raft_read_advance(r, out);
}
