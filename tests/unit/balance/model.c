/* See model.h.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/balance/model.h"

struct uuid model_name(size_t i)
{
    return (struct uuid){{(uint8_t)(i + 1)}};
}

bool model_is_live(const struct model *m, const struct uuid *u)
{
    return m->node[u->b[0] - 1].is_live;
}

void model_member_put(struct range_descriptor *d, struct uuid node, bool is_voter)
{
    d->member[d->member_count++] = (struct range_member){.node = node,
                                                         .replica = d->member_count + 1,
                                                         .is_voter = is_voter,
                                                         .is_learner = !is_voter,
                                                         .is_current = true};
}

void model_init(struct model *m, size_t nodes, size_t ranges)
{
    *m = (struct model){.nodes = nodes, .ranges = ranges, .rule = balance_rule_default()};
    m->rule.dead_usec = 60 * USEC_SEC;
    ck_assert(nodes <= NODES && ranges <= RANGES);
    for (size_t i = 0; i < nodes; i++)
        m->node[i] = (struct balance_node){.node = model_name(i), .is_live = true};
    for (size_t i = 0; i < ranges; i++) {
        m->range[i] = (struct range_descriptor){.id = {1, i},
                                                .version = {1, 1},
                                                .bounds = range_bounds_all(),
                                                .role = RANGE_ROLE_LEADER,
                                                .leader = model_name(0)};
        model_member_put(&m->range[i], model_name(0), true);
    }
}

void model_carry_out(struct model *m, const struct balance_step *s)
{
    struct range_descriptor *d = &m->range[s->id.id];
    ck_assert(range_id_eq(d->id, s->id) && d->version.config == s->version.config);
    d->version.config++;
    m->steps++;
    if (s->action == BALANCE_DO_TRANSFER) {
        ck_assert(model_is_live(m, &s->node[0]));
        d->leader = s->node[0];
        return;
    }
    ck_assert_int_eq(s->action, BALANCE_DO_CONFIG);
    struct range_descriptor old = *d;
    unsigned live = 0, old_live = 0, old_voters = 0;
    bool has_leader = false;
    d->member_count = 0;
    for (unsigned i = 0; i < s->node_count; i++) {
        bool was = false;
        for (unsigned k = 0; k < old.member_count; k++)
            was = was || uuid_eq(&old.member[k].node, &s->node[i]);
        if (i < s->voter_count)
            ck_assert(was); /* nobody votes who has not learnt */
        model_member_put(d, s->node[i], i < s->voter_count);
        live += i < s->voter_count && model_is_live(m, &s->node[i]);
        has_leader = has_leader || (i < s->voter_count && uuid_eq(&s->node[i], &old.leader));
        for (unsigned k = 0; k < i; k++)
            ck_assert(!uuid_eq(&s->node[i], &s->node[k]));
    }
    for (unsigned k = 0; k < old.member_count; k++) {
        old_voters += old.member[k].is_voter;
        old_live += old.member[k].is_voter && model_is_live(m, &old.member[k].node);
    }
    ck_assert(has_leader);
    ck_assert_uint_gt(live * 2, s->voter_count);
    ck_assert_uint_gt(old_live * 2, old_voters); /* else it could not have led */
}

/* What this node would do next. */
void model_ask(const struct model *m, size_t node, struct balance_step *out)
{
    struct range_descriptor range[RANGES];
    struct balance_view v = {.self = model_name(node),
                             .node = m->node,
                             .node_count = m->nodes,
                             .range = range,
                             .rule = m->rule};
    for (size_t i = 0; i < m->ranges; i++)
        if (uuid_eq(&m->range[i].leader, &v.self))
            range[v.mine_count++] = m->range[i];
    v.range_count = v.mine_count;
    for (size_t i = 0; i < m->ranges; i++)
        if (!uuid_eq(&m->range[i].leader, &v.self))
            range[v.range_count++] = m->range[i];
    balance_next(&v, out);
}

/* Every live node asks in turn until nobody wants anything: the fixed point. */
void model_play(struct model *m, unsigned steps_max)
{
    m->steps = 0;
    for (;;) {
        bool is_quiet = true;
        for (size_t i = 0; i < m->nodes; i++) {
            struct balance_step s;
            if (!m->node[i].is_live)
                continue;
            model_ask(m, i, &s);
            if (s.action == BALANCE_DO_NOTHING)
                continue;
            is_quiet = false;
            model_carry_out(m, &s);
        }
        if (is_quiet)
            return;
        ck_assert_uint_le(m->steps, steps_max);
    }
}

unsigned model_voters(const struct range_descriptor *d)
{
    unsigned n = 0;
    for (unsigned i = 0; i < d->member_count; i++)
        n += d->member[i].is_voter;
    return n;
}

void model_elect(struct model *m)
{
    for (size_t i = 0; i < m->ranges; i++) {
        struct range_descriptor *d = &m->range[i];
        for (unsigned k = 0; !model_is_live(m, &d->leader) && k < d->member_count; k++)
            if (d->member[k].is_voter && model_is_live(m, &d->member[k].node))
                d->leader = d->member[k].node;
        for (unsigned k = 0; k < d->member_count; k++)
            d->member[k].is_current = model_is_live(m, &d->member[k].node);
    }
}

void model_counts(const struct model *m, unsigned votes[NODES], unsigned leads[NODES])
{
    memset(votes, 0, NODES * sizeof *votes);
    memset(leads, 0, NODES * sizeof *leads);
    for (size_t i = 0; i < m->ranges; i++) {
        const struct range_descriptor *d = &m->range[i];
        leads[d->leader.b[0] - 1]++;
        for (unsigned k = 0; k < d->member_count; k++)
            votes[d->member[k].node.b[0] - 1] += d->member[k].is_voter;
    }
}

bool model_is_usable(const struct model *m, size_t i)
{
    return m->node[i].is_live && !m->node[i].is_draining && !m->node[i].is_removed;
}

unsigned model_spread(const struct model *m, const unsigned of[NODES])
{
    unsigned least = UINT32_MAX, most = 0;
    for (size_t i = 0; i < m->nodes; i++) {
        if (!model_is_usable(m, i))
            continue;
        least = of[i] < least ? of[i] : least;
        most = of[i] > most ? of[i] : most;
    }
    return most > least ? most - least : 0;
}

void model_check_even(const struct model *m)
{
    unsigned votes[NODES], leads[NODES];
    model_counts(m, votes, leads);
    ck_assert_uint_le(model_spread(m, leads), 1);
    ck_assert_uint_le(model_spread(m, votes), 1);
}
