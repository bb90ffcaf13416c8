/* The balancers, in their order.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. A configuration that is asked for always has its leader as a voter and a majority of its
 * voters on live nodes.
 * 2. Nothing is asked for a range while a change of it is under way.
 * Never remembers anything: the same view gives the same answer. */
#include "balance/balance_priv.h"

#define UNREACHABLE_USEC (15 * USEC_SEC)
#define DEAD_USEC (300 * USEC_SEC)
#define MOVE_MAX 4

static const char *const kind_name[BALANCE_KIND_COUNT] = {
    [BALANCE_UNREACHABLE] = "UnreachableReplicaRemovalBalancer",
    [BALANCE_REPLICAS] = "ReplicaCntBalancer",
    [BALANCE_LEADER] = "RangeLeaderBalancer",
    [BALANCE_SPLIT] = "RangeSplitBalancer",
    [BALANCE_MERGE] = "RangeMergeBalancer",
    [BALANCE_BOOTSTRAP] = "RangeBootstrapBalancer",
    [BALANCE_REDUNDANT] = "RedundantEpochRemovalBalancer",
    [BALANCE_RECOVERY] = "RecoveryBalancer",
};

const char *balance_name(enum balance_kind k)
{
    return kind_name[k];
}

enum balance_kind balance_kind_of(struct str name)
{
    struct str rest = name, part = name;
    while (str_next(&rest, '.', &part)) /* the last part of a class name */
        ;
    if (part.n > 7 && str_eq(str_view(part.p + part.n - 7, 7), STR("Factory")))
        part.n -= 7;
    int k = 0;
    while (k < BALANCE_KIND_COUNT && !str_eq(part, str_of(kind_name[k])))
        k++;
    return (enum balance_kind)k;
}

struct balance_rule balance_rule_default(void)
{
    return (struct balance_rule){.voter_count = 3,
                                 .move_max = MOVE_MAX,
                                 .dead_usec = DEAD_USEC,
                                 .unreachable_usec = UNREACHABLE_USEC};
}

unsigned balance_voters(unsigned wanted, unsigned n)
{
    unsigned k = wanted < n ? wanted : n;
    return k == 0 ? 1 : k % 2 ? k : k - 1;
}

/* ---- looking --------------------------------------------------------------------------------- */

size_t balance_index_of(const struct balance_sight *s, const struct uuid *u)
{
    size_t i = 0;
    while (i < s->node_count && !uuid_eq(&s->v->node[i].node, u))
        i++;
    return i;
}

const struct balance_node *balance_node_of(const struct balance_sight *s, const struct uuid *u)
{
    size_t i = balance_index_of(s, u);
    return i < s->node_count ? &s->v->node[i] : NULL;
}

struct balance_tally balance_tally_of(const struct balance_sight *s, const struct uuid *u)
{
    size_t i = balance_index_of(s, u);
    return i < s->node_count ? s->tally[i] : (struct balance_tally){0};
}

bool balance_is_live(const struct balance_sight *s, const struct uuid *u)
{
    const struct balance_node *n = balance_node_of(s, u);
    return n && n->is_live;
}

bool balance_is_usable(const struct balance_sight *s, const struct uuid *u)
{
    const struct balance_node *n = balance_node_of(s, u);
    return n && n->is_live && !n->is_draining && !n->is_removed;
}

bool balance_is_lost(const struct balance_sight *s, const struct uuid *u)
{
    const struct balance_node *n = balance_node_of(s, u);
    if (!n) /* not heard of since we joined: from then on it has its time */
        return s->v->known_usec >= s->v->rule.dead_usec;
    return !n->is_live && n->dead_usec >= s->v->rule.dead_usec;
}

bool balance_is_removed(const struct balance_sight *s, const struct uuid *u)
{
    const struct balance_node *n = balance_node_of(s, u);
    return n && n->is_removed;
}

const struct range_member *balance_member_of(const struct range_descriptor *d, const struct uuid *u)
{
    for (unsigned i = 0; i < d->member_count; i++)
        if (uuid_eq(&d->member[i].node, u))
            return &d->member[i];
    return NULL;
}

bool balance_is_ready(const struct balance_sight *s, const struct range_member *m)
{
    return m && m->is_current && m->lag <= BALANCE_LAG_MAX && balance_is_usable(s, &m->node);
}

unsigned balance_gain(unsigned here, unsigned here_before, unsigned there, unsigned there_before)
{
    unsigned all_here = here + here_before, all_there = there + there_before;
    if (here >= there + 2)
        return here - there;
    return here == there + 1 && all_here >= all_there + 2;
}

static void sight_init(struct balance_sight *s, const struct balance_view *v)
{
    *s = (struct balance_sight){.v = v};
    s->node_count = v->node_count < BALANCE_NODE_MAX ? v->node_count : BALANCE_NODE_MAX;
    for (size_t i = 0; i < s->node_count; i++) {
        s->tally[i].votes_before = v->node[i].votes_before;
        s->tally[i].leads_before = v->node[i].leads_before;
    }
    for (size_t i = 0; i < v->range_count; i++) {
        const struct range_descriptor *d = &v->range[i];
        for (unsigned k = 0; k < d->member_count; k++) {
            const struct range_member *m = &d->member[k];
            size_t at = balance_index_of(s, &m->node);
            if (at == s->node_count)
                continue;
            s->tally[at].replicas++;
            s->tally[at].votes += m->is_voter;
            s->moving += !m->is_current && v->node[at].is_live && !uuid_eq(&m->node, &d->leader);
        }
        size_t at = balance_index_of(s, &d->leader);
        if (at < s->node_count)
            s->tally[at].leads++;
    }
    balance_lead_find(s);
    balance_swap_find(s);
}

/* ---- plans ----------------------------------------------------------------------------------- */

static bool is_in(const struct uuid *set, unsigned n, const struct uuid *u)
{
    for (unsigned i = 0; i < n; i++)
        if (uuid_eq(&set[i], u))
            return true;
    return false;
}

void balance_plan_init(struct balance_plan *p, const struct balance_sight *s,
                       const struct range_descriptor *d)
{
    *p = (struct balance_plan){.s = s, .d = d};
    for (unsigned i = 0; i < d->member_count; i++)
        if (d->member[i].is_voter)
            p->voter[p->voters++] = d->member[i].node;
        else
            p->learner[p->learners++] = d->member[i].node;
}

bool balance_plan_votes(const struct balance_plan *p, const struct uuid *u)
{
    return is_in(p->voter, p->voters, u);
}

bool balance_plan_has(const struct balance_plan *p, const struct uuid *u)
{
    return is_in(p->voter, p->voters, u) || is_in(p->learner, p->learners, u);
}

static void drop(struct uuid *set, unsigned *n, const struct uuid *u)
{
    for (unsigned i = 0; i < *n; i++)
        if (uuid_eq(&set[i], u)) {
            set[i] = set[--*n];
            return;
        }
}

void balance_plan_drop(struct balance_plan *p, const struct uuid *u)
{
    struct uuid copy = *u; /* it may lie in the sets */
    drop(p->voter, &p->voters, &copy);
    drop(p->learner, &p->learners, &copy);
}

static bool has_live_majority(const struct balance_plan *p)
{
    unsigned live = 0;
    for (unsigned i = 0; i < p->voters; i++)
        live += balance_is_live(p->s, &p->voter[i]);
    return live > p->voters / 2;
}

bool balance_plan_step(const struct balance_plan *p, enum balance_kind kind, const char *why,
                       struct balance_step *out)
{
    const struct range_descriptor *d = p->d;
    bool is_same = p->voters + p->learners == d->member_count;
    for (unsigned i = 0; i < d->member_count && is_same; i++)
        is_same = d->member[i].is_voter ? is_in(p->voter, p->voters, &d->member[i].node)
                                        : is_in(p->learner, p->learners, &d->member[i].node);
    if (is_same || p->voters == 0 || p->voters + p->learners > RANGE_MEMBER_MAX ||
        !is_in(p->voter, p->voters, &d->leader) || !has_live_majority(p))
        return false;
    *out = (struct balance_step){.action = BALANCE_DO_CONFIG,
                                 .kind = kind,
                                 .id = d->id,
                                 .version = d->version,
                                 .voter_count = p->voters,
                                 .node_count = p->voters + p->learners,
                                 .why = why};
    memcpy(out->node, p->voter, p->voters * sizeof *out->node);
    memcpy(out->node + p->voters, p->learner, p->learners * sizeof *out->node);
    return true;
}

/* ---- UnreachableReplicaRemovalBalancer ------------------------------------------------------- */

bool balance_unreachable(const struct balance_sight *s, const struct range_descriptor *d,
                         struct balance_step *out)
{
    usec_t limit = s->v->rule.unreachable_usec;
    for (unsigned i = 0; i < d->member_count; i++) {
        const struct range_member *m = &d->member[i];
        struct balance_plan p;
        if (m->is_current || uuid_eq(&m->node, &d->leader) || !balance_is_live(s, &m->node) ||
            m->silent_ms * USEC_MSEC < limit)
            continue;
        balance_plan_init(&p, s, d);
        balance_plan_drop(&p, &m->node);
        if (balance_plan_step(&p, BALANCE_UNREACHABLE,
                              "its node is alive and the replica does not answer", out))
            return true;
    }
    return false;
}

/* ---- all of them ----------------------------------------------------------------------------- */

void balance_next(const struct balance_view *v, struct balance_step *out)
{
    static balance_ask *const ask[] = {
        [BALANCE_UNREACHABLE] = balance_unreachable,
        [BALANCE_REPLICAS] = balance_replicas,
        [BALANCE_LEADER] = balance_leader,
        [BALANCE_SPLIT] = balance_split,
        [BALANCE_MERGE] = balance_merge,
    };
    struct balance_sight s;
    sight_init(&s, v);
    *out = (struct balance_step){.action = BALANCE_DO_NOTHING};
    for (size_t k = 0; k < countof(ask); k++)
        for (size_t i = 0; i < v->mine_count && !v->rule.is_off[k]; i++) {
            const struct range_descriptor *d = &v->range[i];
            if (!d->is_joint && uuid_eq(&d->leader, &v->self) && ask[k](&s, d, out))
                return;
        }
}
