/* What must hold of the whole group, after every event.  SPDX-License-Identifier: Apache-2.0 */
#include "sim/lib/group.h"

#include "base/hash.h"
#include "base/mem.h"

#define fail(n, ...) world_fail(&(n)->g->w, __VA_ARGS__)
#define U(x) ((unsigned long long)(x))

void group_truth_init(struct group_truth *t)
{
    *t = (struct group_truth){0};
    t->leader = mem_new(GROUP_TERM_MAX * sizeof *t->leader);
    t->term = mem_new(GROUP_INDEX_MAX * sizeof *t->term);
    t->by = mem_new(GROUP_INDEX_MAX * sizeof *t->by);
    t->hash = mem_new(GROUP_INDEX_MAX * sizeof *t->hash);
}

void group_truth_deinit(struct group_truth *t)
{
    mem_free(t->leader);
    mem_free(t->term);
    mem_free(t->by);
    mem_free(t->hash);
    mem_free(t->fact);
    mem_free(t->vote);
    mem_free(t->config);
}

/* One leader a term; it has all that was committed. */
static void check_leader(struct group_node *n)
{
    struct group_truth *t = &n->g->truth;
    const struct raft *r = &n->raft;
    bool leads = r->role == RAFT_LEADER;
    if (!leads || n->was_leader) {
        n->was_leader = leads;
        return;
    }
    n->was_leader = true;
    uint64_t term = r->hard.term;
    if (term >= GROUP_TERM_MAX) {
        fail(n, "term %llu: elections without end", U(term));
        return;
    }
    world_trace(&n->g->w, "leader %llu in term %llu", U(n->id), U(term));
    if (t->leader[term] != 0 && t->leader[term] != n->id)
        fail(n, "two leaders in term %llu: %llu and %llu", U(term), U(t->leader[term]), U(n->id));
    t->leader[term] = n->id;
    for (uint64_t i = r->log.base + 1; i <= t->committed; i++)
        /* one elected by votes that came late leads nobody: later terms are not its own */
        if (t->by[i] < term && raft_term_at(r, i) != t->term[i])
            fail(n, "leader %llu of term %llu lacks committed entry %llu", U(n->id), U(term), U(i));
}

/* On the disks of a quorum, of both in a joint configuration? */
static bool is_durable(struct group *g, const struct raft_config *c, uint64_t index, uint64_t term)
{
    int8_t has[RAFT_MEMBER_MAX] = {0};
    for (size_t i = 0; i < c->count; i++) {
        const struct group_node *n = group_by_id(g, c->member[i].id);
        if (n == NULL || group_disk_term(&n->disk, index) == term || n->disk.app.applied >= index)
            has[i] = 1; /* a wiped one may have had it: its word was good when it gave it */
    }
    return raft_quorum_tally(c, has) == RAFT_TALLY_WON;
}

static void check_commit(struct group_node *n)
{
    struct group_truth *t = &n->g->truth;
    const struct raft *r = &n->raft;
    uint64_t commit = r->log.commit;
    if (commit < n->commit_seen)
        fail(n, "commit of %llu went back from %llu to %llu", U(n->id), U(n->commit_seen),
             U(commit));
    if (commit >= GROUP_INDEX_MAX) {
        fail(n, "log too long for the checker");
        return;
    }
    /* one that a committed change removed has stepped down in the same step */
    if ((r->role == RAFT_LEADER || n->was_leader) && commit > t->committed) {
        const struct raft_config *c = raft_config_get(r);
        /* the one it counted with: a change may have followed in the same step */
        bool ok = is_durable(n->g, c, commit, raft_term_at(r, commit));
        if (!ok && !c->is_joint && n->g->truth.config != NULL)
            ok = is_durable(n->g, t->config, commit, raft_term_at(r, commit));
        if (!ok)
            fail(n, "%llu committed %llu, which is not durable on a quorum", U(n->id), U(commit));
        for (uint64_t i = t->committed + 1; i <= commit; i++) {
            t->term[i] = raft_term_at(r, i);
            t->by[i] = r->hard.term;
        }
        t->committed = commit;
    }
    if (commit > t->committed)
        fail(n, "%llu takes %llu for committed, no leader has committed more than %llu", U(n->id),
             U(commit), U(t->committed));
    for (uint64_t i = n->commit_seen > r->log.base ? n->commit_seen + 1 : r->log.base + 1;
         i <= commit && i <= t->committed; i++)
        if (raft_term_at(r, i) != t->term[i])
            fail(n, "%llu has another entry than the committed %llu", U(n->id), U(i));
    n->commit_seen = commit;
}

static struct group_fact *fact_at(struct group_truth *t, uint64_t index, uint64_t term)
{
    size_t at = hash_u64(index * 8191 + term) & (t->fact_cap - 1);
    while (t->fact[at].index != 0 && (t->fact[at].index != index || t->fact[at].term != term))
        at = (at + 1) & (t->fact_cap - 1);
    return &t->fact[at];
}

static void facts_grow(struct group_truth *t)
{
    struct group_fact *old = t->fact;
    size_t cap = t->fact_cap;
    t->fact_cap = cap ? 2 * cap : 1024;
    t->fact = mem_new(t->fact_cap * sizeof *t->fact);
    for (size_t i = 0; i < cap; i++)
        if (old[i].index != 0)
            *fact_at(t, old[i].index, old[i].term) = old[i];
    mem_free(old);
}

/* Same index and term: same entry, and the same before it (so, by induction, the same log). */
static void check_entries(struct group_node *n, const struct raft_persist *p)
{
    struct group_truth *t = &n->g->truth;
    for (size_t i = 0; i < p->entry_count; i++) {
        const struct raft_entry *e = &p->entry[i];
        uint64_t payload = hash_bytes(e->payload.p, e->payload.n, e->type);
        uint64_t before = raft_term_at(&n->raft, e->index - 1);
        if (2 * t->fact_count >= t->fact_cap)
            facts_grow(t);
        struct group_fact *f = fact_at(t, e->index, e->term);
        if (f->index == 0) {
            *f = (struct group_fact){e->index, e->term, payload, before};
            t->fact_count++;
        } else if (f->payload != payload || f->before != before) {
            fail(n, "logs differ at index %llu, term %llu", U(e->index), U(e->term));
        }
    }
}

void group_check_out(struct group_node *n, const struct raft_out *out)
{
    if (out->persist.seq != 0)
        check_entries(n, &out->persist);
    check_commit(n);
    check_leader(n);
}

static void check_vote(struct group_node *n, uint64_t term, uint64_t to)
{
    struct group_truth *t = &n->g->truth;
    if (n->disk.hard.term != term || n->disk.hard.vote != to)
        fail(n, "a vote of %llu leaves before it is durable", U(n->id));
    for (size_t i = 0; i < t->vote_count; i++) {
        const struct group_vote *v = &t->vote[i];
        if (v->id != n->id || v->term != term)
            continue;
        if (v->to != to)
            fail(n, "%llu votes twice in term %llu", U(n->id), U(term));
        return;
    }
    t->vote = mem_grow(t->vote, &t->vote_cap, t->vote_count + 1, sizeof *t->vote);
    t->vote[t->vote_count++] = (struct group_vote){n->id, term, to};
}

void group_check_message(struct group_node *n, const struct raft_message *m)
{
    const struct group_disk *d = &n->disk;
    if (n->g->has_lying_disk)
        return; /* the others must find out */
    if (m->type == RAFT_MSG_VOTE_REPLY && !m->is_refused)
        check_vote(n, m->term, m->to);
    if (m->type == RAFT_MSG_VOTE)
        check_vote(n, m->term, n->id);
    if (m->type == RAFT_MSG_APPEND_REPLY && !m->is_refused && m->index > 0 &&
        group_disk_term(d, m->index) == 0 && d->app.applied < m->index)
        fail(n, "%llu acknowledges %llu before it is durable", U(n->id), U(m->index));
    if (m->type == RAFT_MSG_APPEND_REPLY && !m->is_refused && m->index > d->base &&
        m->index >= n->raft.log.base &&
        group_disk_term(d, m->index) != raft_term_at(&n->raft, m->index))
        fail(n, "%llu acknowledges %llu, durable is another entry", U(n->id), U(m->index));
    if (d->hard.term < m->term && m->type != RAFT_MSG_PREVOTE && m->type != RAFT_MSG_PREVOTE_REPLY)
        fail(n, "%llu speaks in term %llu before it is durable", U(n->id), U(m->term));
}

/* Every two consecutive configurations share a quorum: the voters stay, or it goes through a
 * joint one. */
static bool may_follow(const struct raft_config *a, const struct raft_config *b)
{
    for (int side = 0; side < 2; side++) {
        const struct raft_config *c = side ? b : a;
        for (size_t i = 0; i < c->count; i++) {
            const struct raft_member *x = raft_config_find(a, c->member[i].id);
            const struct raft_member *y = raft_config_find(b, c->member[i].id);
            uint8_t was = a->is_joint ? RAFT_NEXT_VOTER : RAFT_VOTER;
            bool v = x != NULL && (x->role & was) != 0;
            bool w = y != NULL && (y->role & RAFT_VOTER) != 0;
            if (v != w)
                return false;
        }
    }
    return true;
}

void group_check_applied(struct group_node *n, const struct raft_entry *e)
{
    struct group_truth *t = &n->g->truth;
    if (e->index > t->committed || t->term[e->index] != e->term)
        fail(n, "%llu applies %llu, which is not committed", U(n->id), U(e->index));
    if (!n->g->has_lying_disk && group_disk_term(&n->disk, e->index) != e->term)
        fail(n, "%llu applies %llu, which is not durable there", U(n->id), U(e->index));
    if (t->hash[e->index] == 0)
        t->hash[e->index] = n->app.hash;
    else if (t->hash[e->index] != n->app.hash)
        fail(n, "states differ after %llu", U(e->index));
    if (e->type != RAFT_ENTRY_CONFIG || e->index <= t->config_index)
        return;
    struct raft_config *c = raft_config_decode(e->payload);
    if (c == NULL || (t->config->is_joint && c->is_joint) || !may_follow(t->config, c)) {
        fail(n, "configuration %llu does not follow from the one before", U(e->index));
        mem_free(c);
        return;
    }
    mem_free(t->config);
    t->config = c;
    t->config_index = e->index;
}
