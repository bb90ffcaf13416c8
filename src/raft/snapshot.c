/* Snapshots and compaction: the log's lower end.  SPDX-License-Identifier: Apache-2.0
 *
 * 1  A snapshot that is not newer than what is committed here, or whose last entry we have, is
 * answered at once with what
 *    we have; it is never installed and never ignored.
 * 2  Otherwise our log holds nothing that is committed beyond ours, so the whole log may go
 * when it is installed. 3  commit never goes back. The data itself is the host's; here are only
 * index, term and configuration. */
#include "raft/raft_priv.h"

void raft_snapshot_begin(struct raft *r, struct raft_out *out, const struct raft_snapshot *s)
{
    struct raft_peer *p = raft_peer_find(r, s->peer);
    if (r->role != RAFT_LEADER || p == NULL || p->state != RAFT_PEER_SNAPSHOT ||
        s->index < r->log.base || s->index > r->log.applied) {
        out->outcome = RAFT_E_STALE;
        return;
    }
    p->snapshot = s->index;
    raft_config_encode(s->config, &out->bytes);
    struct raft_message m = {
        .to = p->id,
        .type = RAFT_MSG_SNAPSHOT,
        .index = s->index,
        .log_term = s->term,
        .config = buf_str(&out->bytes),
    };
    raft_send(r, out, m, RAFT_NEEDS_NOTHING);
}

void raft_snapshot_sent(struct raft *r, struct raft_out *out, uint64_t peer, bool ok)
{
    struct raft_peer *p = raft_peer_find(r, peer);
    if (r->role != RAFT_LEADER || p == NULL || p->state != RAFT_PEER_SNAPSHOT) {
        out->outcome = RAFT_E_STALE;
        return;
    }
    uint64_t next = ok && p->snapshot > p->match ? p->snapshot + 1 : p->match + 1;
    raft_peer_probe(p, next);
    p->is_paused = true; /* until it answers a heartbeat, or says that it has the snapshot */
    p->sent_at = r->now;
}

void raft_recv_snapshot(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    struct raft_log *l = &r->log;
    struct raft_config *c = raft_config_decode(m->config);
    if (c == NULL || m->index == 0)
        return;
    mem_free(c);
    bool has_it =
        m->index <= l->last && m->index >= l->base && raft_log_term(l, m->index) == m->log_term;
    if (has_it)
        raft_commit_set(r, out, m->index);
    if (has_it || m->index <= l->commit) {
        struct raft_message reply = {
            .to = m->from, .type = RAFT_MSG_APPEND_REPLY, .index = l->commit};
        raft_send(r, out, reply, RAFT_NEEDS_ALL);
        return;
    }
    r->installing = m->index;
    out->install = (struct raft_install){m->from, m->index, m->log_term, m->config};
}

void raft_snapshot_installed(struct raft *r, struct raft_out *out, const struct raft_snapshot *s)
{
    r->installing = 0;
    raft_election_arm(r);
    if (s->index <= r->log.commit) {
        out->outcome = RAFT_E_STALE;
        return;
    }
    raft_log_reset(&r->log, s->index, s->term);
    for (size_t i = 0; i < r->write_count; i++)
        r->write[i].last = 0;
    out->persist.reset = s->index;
    out->persist.reset_term = s->term;
    raft_config_rollback_all(r);
    raft_config_push(r, out, s->index, raft_config_dup(s->config));
    raft_config_committed(r, out);
    if (r->leader == 0 || r->role == RAFT_LEADER)
        return;
    struct raft_message reply = {.to = r->leader, .type = RAFT_MSG_APPEND_REPLY, .index = s->index};
    raft_send(r, out, reply, RAFT_NEEDS_ALL);
}

/* The oldest index a stream under way starts from. */
static uint64_t streams_min(const struct raft *r, uint64_t index)
{
    if (r->role != RAFT_LEADER)
        return index;
    for (size_t i = 0; i < r->peer_count; i++)
        if (r->peer[i].state == RAFT_PEER_SNAPSHOT && r->peer[i].snapshot != 0 &&
            r->peer[i].snapshot < index)
            index = r->peer[i].snapshot;
    return index;
}

uint64_t raft_compact_max(const struct raft *r)
{
    uint64_t index = streams_min(r, r->log.applied);
    for (size_t i = 0; r->role == RAFT_LEADER && i < r->peer_count; i++) {
        const struct raft_peer *p = &r->peer[i];
        if (p->state != RAFT_PEER_SNAPSHOT && p->match < index &&
            r->now < p->contact + r->conf->election_usec)
            index = p->match;
    }
    return index > r->log.base ? index : r->log.base;
}

void raft_compact(struct raft *r, struct raft_out *out, uint64_t index)
{
    index = streams_min(r, index < r->log.applied ? index : r->log.applied);
    if (index <= r->log.base) {
        out->outcome = RAFT_E_STALE;
        return;
    }
    raft_log_compact(&r->log, index);
    out->persist.compact = index;
    out->persist.compact_term = r->log.base_term;
}
