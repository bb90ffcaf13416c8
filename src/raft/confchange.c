/* Which configuration is in force, and how it changes.  SPDX-License-Identifier: Apache-2.0
 *
 * A configuration is in force from the moment its entry is in the log (Raft thesis 4.1), so the
 * stack of them follows the log: pushed on append, cut back with a truncated tail, and its
 * bottom is the newest one known to be committed.
 *
 * 1  The stack ascends by index; the one on top is in force.
 * 2  A leader starts a change only when the one before is committed, and left the joint one,
 * and the term's own first
 *    entry is committed.
 * 3  The leader that commits a joint configuration appends its end at once; so does a new
 * leader that finds one. 4  A leader that a committed change has removed goes on until then,
 * tells its peers, and steps down. */
#include "raft/raft_priv.h"

const struct raft_config *raft_config_get(const struct raft *r)
{
    return r->config[r->config_count - 1].config;
}

static uint64_t in_force_since(const struct raft *r)
{
    return r->config[r->config_count - 1].index;
}

void raft_config_push(struct raft *r, struct raft_out *out, uint64_t index, struct raft_config *c)
{
    must(r->config_count == 0 || r->config[r->config_count - 1].index < index);
    r->config = mem_grow(r->config, &r->config_cap, r->config_count + 1, sizeof *r->config);
    r->config[r->config_count++] = (struct raft_config_at){index, c};
    raft_peers_rebuild(r);
    if (out != NULL)
        out->changed |= RAFT_CH_CONFIG;
}

void raft_config_rollback(struct raft *r, struct raft_out *out, uint64_t index)
{
    size_t before = r->config_count;
    while (r->config_count > 0 && r->config[r->config_count - 1].index >= index)
        mem_free(r->config[--r->config_count].config);
    must(r->config_count > 0);
    if (r->config_count == before)
        return;
    raft_peers_rebuild(r);
    out->changed |= RAFT_CH_CONFIG;
}

void raft_config_rollback_all(struct raft *r)
{
    while (r->config_count > 0)
        mem_free(r->config[--r->config_count].config);
}

static void append_config(struct raft *r, struct raft_out *out, struct raft_config *c)
{
    struct buf b = {0};
    raft_config_encode(c, &b);
    raft_config_push(r, out, r->log.last + 1, c);
    raft_append_own(r, out, RAFT_ENTRY_CONFIG, buf_str(&b));
    buf_deinit(&b);
}

/* Those who were in old and are no longer: say so once, lest they stand for election for ever. */
static void say_farewell(struct raft *r, struct raft_out *out, const struct raft_config *old)
{
    for (size_t i = 0; i < old->count; i++) {
        uint64_t id = old->member[i].id;
        if (id == r->id || raft_config_find(raft_config_get(r), id) != NULL)
            continue;
        struct raft_message m = {.to = id, .type = RAFT_MSG_REMOVED, .index = in_force_since(r)};
        raft_send(r, out, m, RAFT_NEEDS_NOTHING);
    }
}

/* A leader that has removed itself asks the voter that has most to stand at once, so that
 * nobody waits in vain. */
static void hand_over(struct raft *r, struct raft_out *out)
{
    const struct raft_peer *best = NULL;
    for (size_t i = 0; i < r->peer_count; i++)
        if (raft_config_is_voter(raft_config_get(r), r->peer[i].id) &&
            (best == NULL || r->peer[i].match > best->match))
            best = &r->peer[i];
    if (best == NULL)
        return;
    struct raft_message m = {.to = best->id, .type = RAFT_MSG_TIMEOUT_NOW, .epoch = r->epoch};
    raft_send(r, out, m, RAFT_NEEDS_NOTHING);
}

void raft_config_committed(struct raft *r, struct raft_out *out)
{
    size_t drop = 0;
    while (drop + 1 < r->config_count && r->config[drop + 1].index <= r->log.commit)
        drop++;
    if (drop > 0 && drop + 1 == r->config_count && r->role == RAFT_LEADER)
        say_farewell(r, out, r->config[drop - 1].config);
    for (size_t i = 0; i < drop; i++)
        mem_free(r->config[i].config);
    r->config_count -= drop;
    memmove(r->config, r->config + drop, r->config_count * sizeof *r->config);

    const struct raft_config *c = raft_config_get(r);
    if (in_force_since(r) > r->log.commit)
        return;
    if (c->is_joint) {
        if (r->role == RAFT_LEADER)
            append_config(r, out, raft_config_leave(c));
        return;
    }
    if (r->role == RAFT_LEADER && !raft_config_is_voter(c, r->id)) {
        raft_commit_broadcast(r, out);
        hand_over(r, out);
        raft_become_follower(r, out, r->hard.term, 0);
    }
    if (raft_config_find(c, r->id) == NULL && r->id <= c->id_max && !r->is_removed) {
        r->is_removed = true;
        out->changed |= RAFT_CH_REMOVED;
    }
}

/* A learner that does not keep up would slow or stop every commit as a voter. */
static bool is_caught_up(const struct raft *r, const struct raft_config *next)
{
    const struct raft_config *now = raft_config_get(r);
    for (size_t i = 0; i < next->count; i++) {
        uint64_t id = next->member[i].id;
        if (id == r->id || !raft_config_is_voter(next, id) || raft_config_is_voter(now, id))
            continue;
        const struct raft_peer *p = raft_peer_find(r, id);
        if (p == NULL || p->match < r->log.base ||
            (p->state != RAFT_PEER_REPLICATE && p->match != r->log.last) ||
            p->contact + r->conf->election_usec < r->now)
            return false;
    }
    return true;
}

void raft_conf_change(struct raft *r, struct raft_out *out, const struct raft_conf_change *c)
{
    if (r->role != RAFT_LEADER) {
        out->outcome = RAFT_E_NOT_LEADER;
        return;
    }
    if (r->transfer != 0) {
        out->outcome = RAFT_E_TRANSFER;
        return;
    }
    if (raft_config_get(r)->is_joint || in_force_since(r) > r->log.commit ||
        r->log.commit < r->term_start) {
        out->outcome = RAFT_E_PENDING;
        return;
    }
    struct raft_config *next = raft_config_enter(raft_config_get(r), c->member, c->count);
    if (next == NULL) {
        out->outcome = RAFT_E_INVALID;
        return;
    }
    raft_wake(r, out); /* who slept had everything, and has not been asked since */
    if (!is_caught_up(r, next)) {
        mem_free(next);
        out->outcome = RAFT_E_BEHIND;
        return;
    }
    out->index = r->log.last + 1;
    out->term = r->hard.term;
    append_config(r, out, next);
}

void raft_recover(struct raft *r, struct raft_out *out, const struct raft_conf_change *c)
{
    struct raft_config *next = raft_config_new(c->member, c->count, raft_config_get(r)->id_max);
    const struct raft_member *self = next != NULL ? raft_config_find(next, r->id) : NULL;
    if (next == NULL || next->is_joint || self == NULL || self->role != RAFT_VOTER ||
        r->role == RAFT_LEADER) {
        mem_free(next);
        out->outcome = RAFT_E_INVALID;
        return;
    }
    raft_wake(r, out);
    /* a term of our own, so that the entry cannot be taken for anybody else's */
    raft_become_follower(r, out, r->hard.term + 1, 0);
    r->hard.vote = r->id;
    out->index = r->log.last + 1;
    out->term = r->hard.term;
    append_config(r, out, next);
    r->contact = 0;
    r->born = 0;
    r->election_at = r->now;
}

bool raft_tell_removed(struct raft *r, struct raft_out *out, const struct raft_message *m)
{
    const struct raft_config *c = r->config[0].config;
    if (r->config[0].index > r->log.commit || m->from > c->id_max ||
        raft_config_find(c, m->from) != NULL ||
        raft_config_find(raft_config_get(r), m->from) != NULL)
        return false;
    if (m->type == RAFT_MSG_PREVOTE || m->type == RAFT_MSG_VOTE || m->type == RAFT_MSG_READ) {
        struct raft_message reply = {
            .to = m->from, .type = RAFT_MSG_REMOVED, .index = r->config[0].index};
        if (r->hard.term > 0)
            raft_send(r, out, reply, RAFT_NEEDS_HARD);
    }
    return true;
}
