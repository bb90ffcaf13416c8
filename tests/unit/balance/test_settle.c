/* Whole landscapes, chosen and random: they reach a fixed point, are even there, and no quorum breaks on the way.
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "unit/balance/model.h"
#include "unit/balance/suites.h"

START_TEST(five_nodes_carry_alike)
{
    struct model m;
    model_init(&m, 5, RANGES);
    m.rule.learner_count = _i;
    model_play(&m, 400);
    model_check_even(&m);
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert_uint_eq(m.range[i].member_count, _i < 0 ? 5 : 3 + (unsigned)_i);
}
END_TEST

START_TEST(out_to_five_and_in_to_three)
{
    struct model m;
    unsigned votes[NODES], leads[NODES];
    model_init(&m, 3, RANGES);
    model_play(&m, 400);
    m.nodes = 5;
    for (size_t i = 3; i < 5; i++)
        m.node[i] = (struct balance_node){.node = model_name(i), .is_live = true};
    model_play(&m, 400);
    model_check_even(&m);
    m.node[0].is_removed = true; /* it leads, and is to go */
    m.node[4].is_removed = true;
    model_play(&m, 400);
    model_counts(&m, votes, leads);
    ck_assert_uint_eq(votes[0] + votes[4] + leads[0] + leads[4], 0);
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert_uint_eq(m.range[i].member_count, 3);
    model_check_even(&m);
}
END_TEST

/* Stores of one or two ranges: what does not go evenly into the nodes goes to others each time. */
START_TEST(stores_heed_those_before_them)
{
    size_t nodes = 3 + (size_t)_i % 4, stores = 1 + (size_t)_i % 7;
    unsigned all_votes[NODES] = {0}, all_leads[NODES] = {0};
    struct model m;
    for (size_t k = 0; k < stores; k++) {
        unsigned votes[NODES], leads[NODES];
        model_init(&m, nodes, 1 + (k + (size_t)_i) % 2);
        for (size_t i = 0; i < nodes; i++) {
            m.node[i].leads_before = all_leads[i];
            m.node[i].votes_before = all_votes[i];
        }
        model_play(&m, 100);
        model_check_even(&m);
        model_counts(&m, votes, leads);
        for (size_t i = 0; i < nodes; i++) {
            all_votes[i] += votes[i];
            all_leads[i] += leads[i];
        }
    }
    /* a leader's own vote stays where it is: with many stores that may leave one too many */
    ck_assert_uint_le(model_spread(&m, all_votes), stores > 3 ? 2 : 1);
    ck_assert_uint_le(model_spread(&m, all_leads), stores > 3 ? 2 : 1);
}
END_TEST

/* Those that were no members before have to catch up first. */
static void carry_out_late(struct model *m, const struct balance_step *s)
{
    struct range_descriptor *d = &m->range[s->id.id], old = *d;
    model_carry_out(m, s);
    if (s->action != BALANCE_DO_CONFIG)
        return;
    for (unsigned i = 0; i < d->member_count; i++) {
        d->member[i].is_current = false;
        for (unsigned k = 0; k < old.member_count; k++)
            if (uuid_eq(&d->member[i].node, &old.member[k].node))
                d->member[i].is_current = old.member[k].is_current;
    }
}

static unsigned behind(struct model *m, struct range_member **out_first)
{
    unsigned n = 0;
    for (size_t i = 0; i < m->ranges; i++)
        for (unsigned k = 0; k < m->range[i].member_count; k++)
            if (!m->range[i].member[k].is_current && n++ == 0)
                *out_first = &m->range[i].member[k];
    return n;
}

/* Of a store that grows from one node to three, with members that need their time. */
START_TEST(only_so_many_members_catch_up_at_once)
{
    struct model m;
    unsigned most = 0;
    model_init(&m, 3, RANGES);
    m.rule.move_max = (unsigned)_i;
    for (unsigned asked = 0; asked < 1000; asked++) {
        struct range_member *first = NULL;
        bool is_quiet = true;
        for (size_t i = 0; i < m.nodes; i++) {
            struct balance_step s;
            model_ask(&m, i, &s);
            if (s.action == BALANCE_DO_NOTHING)
                continue;
            is_quiet = false;
            carry_out_late(&m, &s);
            unsigned n = behind(&m, &first);
            ck_assert_uint_le(n, m.rule.move_max);
            most = n > most ? n : most;
        }
        if (is_quiet && behind(&m, &first) == 0)
            break;
        if (is_quiet)
            first->is_current = true;
    }
    ck_assert_uint_eq(most, m.rule.move_max); /* and no fewer than that */
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert_uint_eq(model_voters(&m.range[i]), 3);
    model_check_even(&m);
}
END_TEST

/* All ranges are led by one node of three: each leadership that has to move moves once. */
START_TEST(leaderships_take_the_shortest_way)
{
    struct model m;
    model_init(&m, 3, RANGES);
    for (size_t i = 0; i < m.ranges; i++) {
        model_member_put(&m.range[i], model_name(1), true);
        model_member_put(&m.range[i], model_name(2), true);
    }
    model_play(&m, RANGES);
    ck_assert_uint_eq(m.steps, RANGES - RANGES / 3);
    model_check_even(&m);
}
END_TEST

/* The first node leads three ranges and the last one leads one, of which neither votes in any of the
 * other's: the two between them, which lead two each, have to help. */
START_TEST(a_third_node_passes_leaderships_on)
{
    static const size_t voters[][3] = {{0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {1, 3, 2},
                                       {1, 3, 2}, {2, 0, 1}, {2, 0, 1}, {3, 1, 2}};
    struct model m;
    unsigned votes[NODES], leads[NODES];
    model_init(&m, 4, countof(voters));
    m.rule.is_off[BALANCE_REPLICAS] = true;
    for (size_t i = 0; i < m.ranges; i++) {
        m.range[i].leader = model_name(voters[i][0]);
        m.range[i].member_count = 0;
        for (int k = 0; k < 3; k++)
            model_member_put(&m.range[i], model_name(voters[i][k]), true);
    }
    model_play(&m, 2);
    model_counts(&m, votes, leads);
    for (size_t i = 0; i < m.nodes; i++)
        ck_assert_uint_eq(leads[i], 2);
}
END_TEST

/* All nodes decide on one view; what they want is then done if its version still fits. */
START_TEST(all_at_once_settle_too)
{
    struct rng rng;
    struct model m;
    rng_init(&rng, (uint64_t)_i);
    model_init(&m, 1 + rng_below(&rng, NODES), 1 + rng_below(&rng, RANGES));
    m.rule.voter_count = 1 + 2 * (unsigned)rng_below(&rng, 3);
    m.rule.learner_count = (int)rng_below(&rng, 3) - 1;
    for (size_t i = 0; i < m.nodes; i++) {
        m.node[i].leads_before = (unsigned)rng_below(&rng, 5);
        m.node[i].votes_before = (unsigned)rng_below(&rng, 9);
    }
    for (unsigned round = 0;; round++) {
        struct model view = m;
        bool is_quiet = true;
        for (size_t i = 0; i < m.nodes; i++) {
            struct balance_step s, again;
            model_ask(&view, i, &s);
            model_ask(&view, i, &again);
            ck_assert_int_eq(memcmp(&s, &again, sizeof s), 0);
            if (s.action == BALANCE_DO_NOTHING)
                continue;
            is_quiet = false;
            ck_assert(range_id_eq(m.range[s.id.id].id, s.id));
            if (m.range[s.id.id].version.config == s.version.config)
                model_carry_out(&m, &s);
        }
        if (is_quiet)
            break;
        ck_assert_uint_le(round, 400);
    }
    if (balance_voters(m.rule.voter_count, (unsigned)m.nodes) > 1) /* else nobody could take over */
        model_check_even(&m);
}
END_TEST

/* With enough nodes to go to, and nobody awaited, a node that leaves has nothing left, every range
 * as many voters as the rule says, all of them on nodes that live; and leaders and votes are even
 * while no node is drained: such a node keeps its votes, and what it votes in may have nobody else
 * who could lead. */
static void is_as_wanted(const struct model *m)
{
    unsigned usable = 0, drained = 0;
    for (size_t i = 0; i < m->nodes; i++) {
        const struct balance_node *n = &m->node[i];
        usable += model_is_usable(m, i);
        drained += n->is_live && n->is_draining && !n->is_removed;
        if (!m->node[i].is_live && m->node[i].dead_usec < m->rule.dead_usec)
            return; /* its grace runs */
    }
    if (usable < m->rule.voter_count)
        return;
    for (size_t i = 0; i < m->ranges; i++) {
        ck_assert_uint_eq(model_voters(&m->range[i]), m->rule.voter_count);
        for (unsigned k = 0; k < m->range[i].member_count; k++) {
            const struct balance_node *n = &m->node[m->range[i].member[k].node.b[0] - 1];
            ck_assert(n->is_live && !n->is_removed);
        }
    }
    if (drained == 0 && m->rule.voter_count > 1) /* one voter alone leads where it is */
        model_check_even(m);
}

/* Random landscapes: nodes come, die, are forgotten, drain; after each change there is a fixed
 * point. */
START_TEST(random_landscapes_settle)
{
    struct rng rng;
    struct model m;
    rng_init(&rng, (uint64_t)_i);
    model_init(&m, 1 + rng_below(&rng, NODES), 1 + rng_below(&rng, RANGES));
    m.rule.voter_count = 1 + 2 * (unsigned)rng_below(&rng, 3);
    m.rule.learner_count = (int)rng_below(&rng, 3) - 1;
    for (size_t i = 0; i < m.nodes; i++) {
        m.node[i].leads_before = (unsigned)rng_below(&rng, 5);
        m.node[i].votes_before = (unsigned)rng_below(&rng, 9);
    }
    model_play(&m, 1000);
    for (int round = 0; round < 10; round++) {
        size_t i = rng_below(&rng, m.nodes), dead = 0, voters_max = 0;
        for (size_t k = 0; k < m.nodes; k++)
            dead += !m.node[k].is_live;
        for (size_t k = 0; k < m.ranges; k++)
            voters_max =
                model_voters(&m.range[k]) > voters_max ? model_voters(&m.range[k]) : voters_max;
        m.node[i].is_draining = rng_chance(&rng, 200000) && m.nodes > 1;
        m.node[i].is_removed = rng_chance(&rng, 100000) && m.nodes > 1;
        if (m.node[i].is_live && dead == 0 && voters_max >= 3) {
            m.node[i].is_live = false;
            m.node[i].dead_usec = rng_chance(&rng, 500000) ? USEC_SEC : 100 * USEC_SEC;
        } else if (!m.node[i].is_live) {
            m.node[i].is_live = true;
            m.node[i].dead_usec = 0;
        }
        bool has_quorum = true;
        model_elect(&m);
        for (size_t k = 0; k < m.ranges; k++) {
            unsigned live = 0;
            for (unsigned j = 0; j < m.range[k].member_count; j++)
                live +=
                    m.range[k].member[j].is_voter && model_is_live(&m, &m.range[k].member[j].node);
            has_quorum = has_quorum && live * 2 > model_voters(&m.range[k]);
        }
        if (has_quorum) {
            model_play(&m, 1000);
            is_as_wanted(&m);
        }
    }
}
END_TEST

Suite *suite_settle(void)
{
    Suite *s = suite_create("settle");
    TCase *t = tcase_create("landscapes");
    tcase_add_loop_test(t, five_nodes_carry_alike, -1, 2);
    tcase_add_test(t, out_to_five_and_in_to_three);
    tcase_add_loop_test(t, stores_heed_those_before_them, 0, 84);
    tcase_add_loop_test(t, only_so_many_members_catch_up_at_once, 1, 6);
    tcase_add_test(t, leaderships_take_the_shortest_way);
    tcase_add_test(t, a_third_node_passes_leaderships_on);
    tcase_add_loop_test(t, all_at_once_settle_too, 0, 300);
    tcase_add_loop_test(t, random_landscapes_settle, 0, 1600);
    suite_add_tcase(s, t);
    return s;
}
