/* Balancers over chosen landscapes.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/balance/model.h"
#include "unit/balance/suites.h"

START_TEST(grows_from_one_to_three)
{
    struct model m;
    model_init(&m, 1, 4);
    model_play(&m, 0);
    model_init(&m, 2, 4);
    model_play(&m, 0); /* two nodes are no better than one */
    model_init(&m, 3, 4);
    model_play(&m, 4 * 2 + 4);
    unsigned leads[3] = {0};
    for (size_t i = 0; i < m.ranges; i++) {
        ck_assert_uint_eq(model_voters(&m.range[i]), 3);
        leads[m.range[i].leader.b[0] - 1]++;
    }
    for (int i = 0; i < 3; i++)
        ck_assert(leads[i] >= 1 && leads[i] <= 2);
}
END_TEST

/* A range that was split when one of its two learners had been added: the other one is added, too.
 */
START_TEST(one_ready_learner_is_not_enough)
{
    struct model m;
    struct balance_step s;
    model_init(&m, 3, 1);
    struct range_descriptor *d = &m.range[0];
    ck_assert_uint_eq(d->member_count, 1);
    model_member_put(d, model_name(1), false);
    model_ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_CONFIG);
    ck_assert_uint_eq(s.node_count, 3);
    ck_assert_uint_eq(s.voter_count, 1);
    model_play(&m, 10);
    ck_assert_uint_eq(model_voters(&m.range[0]), 3);
}
END_TEST

START_TEST(the_dead_have_a_grace)
{
    struct model m;
    model_init(&m, 4, 3);
    model_play(&m, 100);
    m.node[1].is_live = false;
    m.node[1].dead_usec = 59 * USEC_SEC;
    model_elect(&m);
    struct model before = m;
    model_play(&m, 20);
    for (size_t i = 0; i < m.ranges; i++) /* leaders may move, members not */
        ck_assert_uint_eq(model_voters(&m.range[i]), model_voters(&before.range[i]));
    m.node[1].dead_usec = 61 * USEC_SEC;
    model_play(&m, 20);
    for (size_t i = 0; i < m.ranges; i++) {
        ck_assert_uint_eq(model_voters(&m.range[i]), 3);
        for (unsigned k = 0; k < m.range[i].member_count; k++)
            ck_assert(model_is_live(&m, &m.range[i].member[k].node));
    }
}
END_TEST

START_TEST(three_with_one_dead_stay_three)
{
    struct model m;
    model_init(&m, 3, 2);
    model_play(&m, 100);
    m.node[2].is_live = false;
    m.node[2].dead_usec = 10 * USEC_SEC;
    model_elect(&m);
    model_play(&m, 10);
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert_uint_eq(model_voters(&m.range[i]), 3);
}
END_TEST

START_TEST(learners_everywhere_else)
{
    struct model m;
    model_init(&m, 5, 2);
    m.rule.learner_count = -1;
    model_play(&m, 100);
    for (size_t i = 0; i < m.ranges; i++) {
        ck_assert_uint_eq(model_voters(&m.range[i]), 3);
        ck_assert_uint_eq(m.range[i].member_count, 5);
    }
}
END_TEST

START_TEST(a_silent_member_on_a_live_node_goes)
{
    struct model m;
    model_init(&m, 3, 1);
    model_play(&m, 100);
    struct range_descriptor *d = &m.range[0];
    for (unsigned k = 0; k < d->member_count; k++)
        if (!uuid_eq(&d->member[k].node, &d->leader)) {
            d->member[k].is_current = false;
            d->member[k].silent_ms = 16000;
            break;
        }
    model_play(&m, 10); /* removed, learnt anew, voting again */
    ck_assert_uint_eq(model_voters(d), 3);
}
END_TEST

START_TEST(a_draining_node_gives_its_leaders_away)
{
    struct model m;
    model_init(&m, 3, 6);
    model_play(&m, 100);
    m.node[0].is_draining = true;
    model_play(&m, 20);
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert(!uuid_eq(&m.range[i].leader, &m.node[0].node));
}
END_TEST

START_TEST(the_last_voter_can_be_emptied_too)
{
    struct model m;
    model_init(&m, 2, 4);
    model_play(&m, 100);
    m.node[0].is_removed = true;
    model_play(&m, 100);
    for (size_t i = 0; i < m.ranges; i++) {
        ck_assert_uint_eq(m.range[i].member_count, 1);
        ck_assert(uuid_eq(&m.range[i].leader, &m.node[1].node));
    }
}
END_TEST

START_TEST(death_alone_leaves_three_voters)
{
    struct model m;
    model_init(&m, 3, 3);
    model_play(&m, 100);
    m.node[2].is_live = false;
    m.node[2].dead_usec = 100 * USEC_SEC; /* and there is no other */
    model_elect(&m);
    model_play(&m, 10);
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert_uint_eq(model_voters(&m.range[i]), 3);
    m.node[2].is_removed = true; /* an operator says so: then two nodes have one voter */
    model_play(&m, 10);
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert_uint_eq(model_voters(&m.range[i]), 1);
    model_init(&m, 5, 3);
    m.rule.voter_count = 5;
    model_play(&m, 200);
    m.node[3].is_live = m.node[4].is_live = false;
    m.node[3].dead_usec = m.node[4].dead_usec = 100 * USEC_SEC;
    model_elect(&m);
    model_play(&m, 100);
    for (size_t i = 0; i < m.ranges; i++) /* three that live are better than three of five */
        ck_assert_uint_eq(model_voters(&m.range[i]), 3);
}
END_TEST

START_TEST(a_restart_moves_no_data)
{
    struct model m;
    model_init(&m, 5, RANGES);
    m.rule.learner_count = _i;
    model_play(&m, 400);
    for (size_t i = 0; i < m.nodes; i++) {
        m.node[i].is_draining = true;
        model_play(&m, 100); /* leaders go */
        struct model before = m;
        m.node[i] = (struct balance_node){.node = model_name(i), .dead_usec = 30 * USEC_SEC};
        model_elect(&m);
        model_play(&m, 100);
        m.node[i] = (struct balance_node){.node = model_name(i), .is_live = true};
        model_elect(&m);
        model_play(&m, 100);
        for (size_t k = 0; k < m.ranges; k++) {
            ck_assert_uint_eq(m.range[k].member_count, before.range[k].member_count);
            for (unsigned j = 0; j < m.range[k].member_count; j++)
                ck_assert(uuid_eq(&m.range[k].member[j].node, &before.range[k].member[j].node));
        }
    }
    model_check_even(&m);
}
END_TEST

START_TEST(small_cold_neighbours_merge)
{
    struct model m;
    struct balance_step s;
    model_init(&m, 1, 2);
    m.rule.merge_bytes = 1000;
    m.rule.merge_rate = 10;
    m.rule.split_bytes = 4000;
    m.range[0].bounds = (struct range_bounds){.start = STR(""), .end = STR("m")};
    m.range[1].bounds = (struct range_bounds){.start = STR("m"), .end = STR(""), .is_open = true};
    m.range[0].bytes = m.range[1].bytes = 500;
    model_ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_MERGE);
    ck_assert(range_id_eq(s.id, m.range[0].id) && range_id_eq(s.neighbour, m.range[1].id));
    m.range[1].bytes = 501;
    model_ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_NOTHING);
    m.range[1].bytes = 0;
    m.range[1].rate = 11;
    model_ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_NOTHING);
    m.range[1].rate = 0;
    m.rule.merge_bytes = 1u << 30; /* a rule that would undo every split */
    m.range[0].bytes = 2001;
    model_ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_NOTHING);
    m.rule.is_off[BALANCE_MERGE] = true;
    m.range[0].bytes = 0;
    model_ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_NOTHING);
}
END_TEST

/* One node is told to leave, its successor for a range learns on another, and that is told too. */
START_TEST(a_learner_on_a_node_that_leaves_is_in_nobodys_way)
{
    struct model m;
    model_init(&m, 5, 1);
    model_member_put(&m.range[0], model_name(1), true);
    model_member_put(&m.range[0], model_name(2), true);
    model_member_put(&m.range[0], model_name(4), false);
    m.node[2].is_removed = true;
    m.node[4].is_removed = true;
    model_play(&m, 100);
    ck_assert_uint_eq(m.range[0].member_count, 3);
    for (unsigned i = 0; i < m.range[0].member_count; i++) {
        ck_assert(m.range[0].member[i].is_voter);
        ck_assert(model_is_usable(&m, m.range[0].member[i].node.b[0] - 1U));
    }
}
END_TEST

/* A learner on a drained node cannot be promoted: it does not stand for the one that is needed. */
START_TEST(a_learner_that_cannot_vote_is_not_counted_on)
{
    struct model m;
    model_init(&m, 4, 1);
    m.rule.voter_count = 1;
    m.rule.learner_count = 1;
    model_member_put(&m.range[0], model_name(1), false);
    m.node[0].is_removed = true;
    m.node[1].is_draining = true;
    model_play(&m, 100);
    ck_assert(model_is_usable(&m, m.range[0].leader.b[0] - 1U));
    for (unsigned i = 0; i < m.range[0].member_count; i++)
        ck_assert_uint_ne(m.range[0].member[i].node.b[0], 1);
}
END_TEST

/* The leader's node is to be emptied and the other voters' nodes are drained: somebody must lead.
 */
START_TEST(a_leader_that_leaves_finds_an_heir_among_the_drained)
{
    struct model m;
    model_init(&m, 5, 1);
    model_member_put(&m.range[0], model_name(1), true);
    model_member_put(&m.range[0], model_name(2), true);
    m.node[0].is_removed = true;
    m.node[1].is_draining = true;
    m.node[2].is_draining = true;
    model_play(&m, 100);
    ck_assert_uint_eq(model_voters(&m.range[0]), 3);
    ck_assert(model_is_usable(&m, m.range[0].leader.b[0] - 1U));
    for (unsigned i = 0; i < m.range[0].member_count; i++)
        ck_assert_uint_ne(m.range[0].member[i].node.b[0], 1);
}
END_TEST

/* Two of five are to be emptied while two others are away for a moment: the one that is left and two
 * dead ones could decide nothing.  When these are back, the change is made. */
START_TEST(nobody_leaves_while_the_rest_is_away)
{
    struct model m;
    model_init(&m, 5, 2);
    m.rule.voter_count = 5;
    model_play(&m, 100);
    for (size_t i = 3; i < 5; i++)
        m.node[i] = (struct balance_node){.node = model_name(i), .dead_usec = USEC_SEC};
    model_elect(&m);
    m.node[1].is_removed = m.node[2].is_removed = true;
    model_play(&m, 100);
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert_uint_eq(model_voters(&m.range[i]), 5);
    for (size_t i = 3; i < 5; i++)
        m.node[i] = (struct balance_node){.node = model_name(i), .is_live = true};
    model_elect(&m);
    model_play(&m, 100);
    for (size_t i = 0; i < m.ranges; i++) {
        ck_assert_uint_eq(m.range[i].member_count, 3);
        for (unsigned k = 0; k < 3; k++)
            ck_assert(model_is_usable(&m, m.range[i].member[k].node.b[0] - 1U));
    }
}
END_TEST

/* The third voter is away: the second one is needed, even if it does not answer for now. */
START_TEST(a_silent_member_stays_while_another_is_away)
{
    struct model m;
    model_init(&m, 3, 1);
    model_play(&m, 100);
    struct range_descriptor *d = &m.range[0];
    size_t silent = 0;
    while (uuid_eq(&d->member[silent].node, &d->leader))
        silent++;
    for (unsigned k = 0; k < d->member_count; k++)
        if (k != silent && !uuid_eq(&d->member[k].node, &d->leader)) {
            struct balance_node *away = &m.node[d->member[k].node.b[0] - 1];
            away->is_live = false;
            away->dead_usec = USEC_SEC;
        }
    model_elect(&m);
    d->member[silent].is_current = false;
    d->member[silent].silent_ms = 16000;
    model_play(&m, 0);
    ck_assert_uint_eq(model_voters(d), 3);
}
END_TEST

/* A filter with many receivers is split off while that is possible, and not merged back. */
START_TEST(a_crowd_gets_its_own_range)
{
    struct model m;
    struct balance_step s;
    model_init(&m, 1, 2);
    m.rule.merge_bytes = 1000;
    m.range[0].bounds = (struct range_bounds){.start = STR(""), .end = STR("m")};
    m.range[1].bounds = (struct range_bounds){.start = STR("m"), .end = STR(""), .is_open = true};
    m.range[1].fanout = 101;
    m.range[1].has_crowd = true;
    model_ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_MERGE); /* nobody asked for splits by fan-out */
    m.rule.split_fanout = 101;
    model_ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_NOTHING); /* as many as may be; too many to merge */
    m.rule.split_fanout = 100;
    model_ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_SPLIT);
    ck_assert(s.is_beside_crowd && range_id_eq(s.id, m.range[1].id));
    m.range[1].has_crowd = false;
    model_ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_NOTHING);
    m.rule.split_bytes = 10;
    m.range[1].bytes = 11;
    m.range[1].has_crowd = true;
    model_ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_SPLIT);
    ck_assert(!s.is_beside_crowd); /* in the middle: it is too large as well */
}
END_TEST

Suite *suite_balance(void)
{
    Suite *s = suite_create("balance");
    TCase *t = tcase_create("balancers");
    tcase_add_test(t, grows_from_one_to_three);
    tcase_add_test(t, one_ready_learner_is_not_enough);
    tcase_add_test(t, the_dead_have_a_grace);
    tcase_add_test(t, three_with_one_dead_stay_three);
    tcase_add_test(t, learners_everywhere_else);
    tcase_add_test(t, a_silent_member_on_a_live_node_goes);
    tcase_add_test(t, a_draining_node_gives_its_leaders_away);
    tcase_add_test(t, the_last_voter_can_be_emptied_too);
    tcase_add_test(t, death_alone_leaves_three_voters);
    tcase_add_loop_test(t, a_restart_moves_no_data, -1, 2);
    tcase_add_test(t, small_cold_neighbours_merge);
    tcase_add_test(t, a_learner_on_a_node_that_leaves_is_in_nobodys_way);
    tcase_add_test(t, a_learner_that_cannot_vote_is_not_counted_on);
    tcase_add_test(t, a_leader_that_leaves_finds_an_heir_among_the_drained);
    tcase_add_test(t, a_crowd_gets_its_own_range);
    tcase_add_test(t, nobody_leaves_while_the_rest_is_away);
    tcase_add_test(t, a_silent_member_stays_while_another_is_away);
    suite_add_tcase(s, t);
    return s;
}
