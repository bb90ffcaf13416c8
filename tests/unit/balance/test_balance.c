/* Balancers over chosen and random landscapes: they reach a fixed point and never break a quorum.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The world here is a model: a command is carried out at once and whole, learners catch up by the
 * next round. */
#include "balance/balance.h"
#include "balance/rule.h"
#include "base/rng.h"
#include "unit/balance/suites.h"

#define NODES 7
#define RANGES 12

struct model {
    struct balance_node node[NODES];
    size_t nodes;
    struct range_descriptor range[RANGES];
    size_t ranges;
    struct balance_rule rule;
    unsigned steps;
};

static struct uuid name(size_t i)
{
    return (struct uuid){{(uint8_t)(i + 1)}};
}

static bool is_live(const struct model *m, const struct uuid *u)
{
    return m->node[u->b[0] - 1].is_live;
}

static void member_put(struct range_descriptor *d, struct uuid node, bool is_voter)
{
    d->member[d->member_count++] = (struct range_member){.node = node,
                                                         .replica = d->member_count + 1,
                                                         .is_voter = is_voter,
                                                         .is_learner = !is_voter,
                                                         .is_current = true};
}

static void model_init(struct model *m, size_t nodes, size_t ranges)
{
    *m = (struct model){.nodes = nodes, .ranges = ranges, .rule = balance_rule_default()};
    m->rule.dead_usec = 60 * USEC_SEC;
    ck_assert(nodes <= NODES && ranges <= RANGES);
    for (size_t i = 0; i < nodes; i++)
        m->node[i] = (struct balance_node){.node = name(i), .is_live = true};
    for (size_t i = 0; i < ranges; i++) {
        m->range[i] = (struct range_descriptor){.id = {1, i},
                                                .version = {1, 1},
                                                .bounds = range_bounds_all(),
                                                .role = RANGE_ROLE_LEADER,
                                                .leader = name(0)};
        member_put(&m->range[i], name(0), true);
    }
}

static void carry_out(struct model *m, const struct balance_step *s)
{
    struct range_descriptor *d = &m->range[s->id.id];
    ck_assert(range_id_eq(d->id, s->id) && d->version.config == s->version.config);
    d->version.config++;
    m->steps++;
    if (s->action == BALANCE_DO_TRANSFER) {
        ck_assert(is_live(m, &s->node[0]));
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
        member_put(d, s->node[i], i < s->voter_count);
        live += i < s->voter_count && is_live(m, &s->node[i]);
        has_leader = has_leader || (i < s->voter_count && uuid_eq(&s->node[i], &old.leader));
        for (unsigned k = 0; k < i; k++)
            ck_assert(!uuid_eq(&s->node[i], &s->node[k]));
    }
    for (unsigned k = 0; k < old.member_count; k++) {
        old_voters += old.member[k].is_voter;
        old_live += old.member[k].is_voter && is_live(m, &old.member[k].node);
    }
    ck_assert(has_leader);
    ck_assert_uint_gt(live * 2, s->voter_count);
    ck_assert_uint_gt(old_live * 2, old_voters); /* else it could not have led */
}

/* What this node would do next. */
static void ask(const struct model *m, size_t node, struct balance_step *out)
{
    struct range_descriptor range[RANGES];
    struct balance_view v = {.self = name(node),
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
static void play(struct model *m, unsigned steps_max)
{
    m->steps = 0;
    for (;;) {
        bool is_quiet = true;
        for (size_t i = 0; i < m->nodes; i++) {
            struct balance_step s;
            if (!m->node[i].is_live)
                continue;
            ask(m, i, &s);
            if (s.action == BALANCE_DO_NOTHING)
                continue;
            is_quiet = false;
            carry_out(m, &s);
        }
        if (is_quiet)
            return;
        ck_assert_uint_le(m->steps, steps_max);
    }
}

static unsigned voters(const struct range_descriptor *d)
{
    unsigned n = 0;
    for (unsigned i = 0; i < d->member_count; i++)
        n += d->member[i].is_voter;
    return n;
}

static void elect(struct model *m)
{
    for (size_t i = 0; i < m->ranges; i++) {
        struct range_descriptor *d = &m->range[i];
        for (unsigned k = 0; !is_live(m, &d->leader) && k < d->member_count; k++)
            if (d->member[k].is_voter && is_live(m, &d->member[k].node))
                d->leader = d->member[k].node;
        for (unsigned k = 0; k < d->member_count; k++)
            d->member[k].is_current = is_live(m, &d->member[k].node);
    }
}

START_TEST(grows_from_one_to_three)
{
    struct model m;
    model_init(&m, 1, 4);
    play(&m, 0);
    model_init(&m, 2, 4);
    play(&m, 0); /* two nodes are no better than one */
    model_init(&m, 3, 4);
    play(&m, 4 * 2 + 4);
    unsigned leads[3] = {0};
    for (size_t i = 0; i < m.ranges; i++) {
        ck_assert_uint_eq(voters(&m.range[i]), 3);
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
    member_put(d, name(1), false);
    ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_CONFIG);
    ck_assert_uint_eq(s.node_count, 3);
    ck_assert_uint_eq(s.voter_count, 1);
    play(&m, 10);
    ck_assert_uint_eq(voters(&m.range[0]), 3);
}
END_TEST

START_TEST(the_dead_have_a_grace)
{
    struct model m;
    model_init(&m, 4, 3);
    play(&m, 100);
    m.node[1].is_live = false;
    m.node[1].dead_usec = 59 * USEC_SEC;
    elect(&m);
    struct model before = m;
    play(&m, 20);
    for (size_t i = 0; i < m.ranges; i++) /* leaders may move, members not */
        ck_assert_uint_eq(voters(&m.range[i]), voters(&before.range[i]));
    m.node[1].dead_usec = 61 * USEC_SEC;
    play(&m, 20);
    for (size_t i = 0; i < m.ranges; i++) {
        ck_assert_uint_eq(voters(&m.range[i]), 3);
        for (unsigned k = 0; k < m.range[i].member_count; k++)
            ck_assert(is_live(&m, &m.range[i].member[k].node));
    }
}
END_TEST

START_TEST(three_with_one_dead_stay_three)
{
    struct model m;
    model_init(&m, 3, 2);
    play(&m, 100);
    m.node[2].is_live = false;
    m.node[2].dead_usec = 10 * USEC_SEC;
    elect(&m);
    play(&m, 10);
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert_uint_eq(voters(&m.range[i]), 3);
}
END_TEST

START_TEST(learners_everywhere_else)
{
    struct model m;
    model_init(&m, 5, 2);
    m.rule.learner_count = -1;
    play(&m, 100);
    for (size_t i = 0; i < m.ranges; i++) {
        ck_assert_uint_eq(voters(&m.range[i]), 3);
        ck_assert_uint_eq(m.range[i].member_count, 5);
    }
}
END_TEST

START_TEST(a_silent_member_on_a_live_node_goes)
{
    struct model m;
    model_init(&m, 3, 1);
    play(&m, 100);
    struct range_descriptor *d = &m.range[0];
    for (unsigned k = 0; k < d->member_count; k++)
        if (!uuid_eq(&d->member[k].node, &d->leader)) {
            d->member[k].is_current = false;
            d->member[k].silent_ms = 16000;
            break;
        }
    play(&m, 10); /* removed, learnt anew, voting again */
    ck_assert_uint_eq(voters(d), 3);
}
END_TEST

START_TEST(a_draining_node_gives_its_leaders_away)
{
    struct model m;
    model_init(&m, 3, 6);
    play(&m, 100);
    m.node[0].is_draining = true;
    play(&m, 20);
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert(!uuid_eq(&m.range[i].leader, &m.node[0].node));
}
END_TEST

/* ---- evenness, emptying, concurrency --------------------------------------------------------- */

static void counts(const struct model *m, unsigned votes[NODES], unsigned leads[NODES])
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

static bool is_usable(const struct model *m, size_t i)
{
    return m->node[i].is_live && !m->node[i].is_draining && !m->node[i].is_removed;
}

static unsigned spread(const struct model *m, const unsigned of[NODES])
{
    unsigned least = UINT32_MAX, most = 0;
    for (size_t i = 0; i < m->nodes; i++) {
        if (!is_usable(m, i))
            continue;
        least = of[i] < least ? of[i] : least;
        most = of[i] > most ? of[i] : most;
    }
    return most > least ? most - least : 0;
}

static void check_even(const struct model *m)
{
    unsigned votes[NODES], leads[NODES];
    counts(m, votes, leads);
    ck_assert_uint_le(spread(m, leads), 1);
    ck_assert_uint_le(spread(m, votes), 1);
}

START_TEST(five_nodes_carry_alike)
{
    struct model m;
    model_init(&m, 5, RANGES);
    m.rule.learner_count = _i;
    play(&m, 400);
    check_even(&m);
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert_uint_eq(m.range[i].member_count, _i < 0 ? 5 : 3 + (unsigned)_i);
}
END_TEST

START_TEST(out_to_five_and_in_to_three)
{
    struct model m;
    unsigned votes[NODES], leads[NODES];
    model_init(&m, 3, RANGES);
    play(&m, 400);
    m.nodes = 5;
    for (size_t i = 3; i < 5; i++)
        m.node[i] = (struct balance_node){.node = name(i), .is_live = true};
    play(&m, 400);
    check_even(&m);
    m.node[0].is_removed = true; /* it leads, and is to go */
    m.node[4].is_removed = true;
    play(&m, 400);
    counts(&m, votes, leads);
    ck_assert_uint_eq(votes[0] + votes[4] + leads[0] + leads[4], 0);
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert_uint_eq(m.range[i].member_count, 3);
    check_even(&m);
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
        play(&m, 100);
        check_even(&m);
        counts(&m, votes, leads);
        for (size_t i = 0; i < nodes; i++) {
            all_votes[i] += votes[i];
            all_leads[i] += leads[i];
        }
    }
    /* a leader's own vote stays where it is: with many stores that may leave one too many */
    ck_assert_uint_le(spread(&m, all_votes), stores > 3 ? 2 : 1);
    ck_assert_uint_le(spread(&m, all_leads), stores > 3 ? 2 : 1);
}
END_TEST

START_TEST(the_last_voter_can_be_emptied_too)
{
    struct model m;
    model_init(&m, 2, 4);
    play(&m, 100);
    m.node[0].is_removed = true;
    play(&m, 100);
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
    play(&m, 100);
    m.node[2].is_live = false;
    m.node[2].dead_usec = 100 * USEC_SEC; /* and there is no other */
    elect(&m);
    play(&m, 10);
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert_uint_eq(voters(&m.range[i]), 3);
    m.node[2].is_removed = true; /* an operator says so: then two nodes have one voter */
    play(&m, 10);
    for (size_t i = 0; i < m.ranges; i++)
        ck_assert_uint_eq(voters(&m.range[i]), 1);
    model_init(&m, 5, 3);
    m.rule.voter_count = 5;
    play(&m, 200);
    m.node[3].is_live = m.node[4].is_live = false;
    m.node[3].dead_usec = m.node[4].dead_usec = 100 * USEC_SEC;
    elect(&m);
    play(&m, 100);
    for (size_t i = 0; i < m.ranges; i++) /* three that live are better than three of five */
        ck_assert_uint_eq(voters(&m.range[i]), 3);
}
END_TEST

START_TEST(a_restart_moves_no_data)
{
    struct model m;
    model_init(&m, 5, RANGES);
    m.rule.learner_count = _i;
    play(&m, 400);
    for (size_t i = 0; i < m.nodes; i++) {
        m.node[i].is_draining = true;
        play(&m, 100); /* leaders go */
        struct model before = m;
        m.node[i] = (struct balance_node){.node = name(i), .dead_usec = 30 * USEC_SEC};
        elect(&m);
        play(&m, 100);
        m.node[i] = (struct balance_node){.node = name(i), .is_live = true};
        elect(&m);
        play(&m, 100);
        for (size_t k = 0; k < m.ranges; k++) {
            ck_assert_uint_eq(m.range[k].member_count, before.range[k].member_count);
            for (unsigned j = 0; j < m.range[k].member_count; j++)
                ck_assert(uuid_eq(&m.range[k].member[j].node, &before.range[k].member[j].node));
        }
    }
    check_even(&m);
}
END_TEST

/* Those that were no members before have to catch up first. */
static void carry_out_late(struct model *m, const struct balance_step *s)
{
    struct range_descriptor *d = &m->range[s->id.id], old = *d;
    carry_out(m, s);
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
            ask(&m, i, &s);
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
        ck_assert_uint_eq(voters(&m.range[i]), 3);
    check_even(&m);
}
END_TEST

/* All ranges are led by one node of three: each leadership that has to move moves once. */
START_TEST(leaderships_take_the_shortest_way)
{
    struct model m;
    model_init(&m, 3, RANGES);
    for (size_t i = 0; i < m.ranges; i++) {
        member_put(&m.range[i], name(1), true);
        member_put(&m.range[i], name(2), true);
    }
    play(&m, RANGES);
    ck_assert_uint_eq(m.steps, RANGES - RANGES / 3);
    check_even(&m);
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
            ask(&view, i, &s);
            ask(&view, i, &again);
            ck_assert_int_eq(memcmp(&s, &again, sizeof s), 0);
            if (s.action == BALANCE_DO_NOTHING)
                continue;
            is_quiet = false;
            ck_assert(range_id_eq(m.range[s.id.id].id, s.id));
            if (m.range[s.id.id].version.config == s.version.config)
                carry_out(&m, &s);
        }
        if (is_quiet)
            break;
        ck_assert_uint_le(round, 400);
    }
    if (balance_voters(m.rule.voter_count, (unsigned)m.nodes) > 1) /* else nobody could take over */
        check_even(&m);
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
    ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_MERGE);
    ck_assert(range_id_eq(s.id, m.range[0].id) && range_id_eq(s.neighbour, m.range[1].id));
    m.range[1].bytes = 501;
    ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_NOTHING);
    m.range[1].bytes = 0;
    m.range[1].rate = 11;
    ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_NOTHING);
    m.range[1].rate = 0;
    m.rule.merge_bytes = 1u << 30; /* a rule that would undo every split */
    m.range[0].bytes = 2001;
    ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_NOTHING);
    m.rule.is_off[BALANCE_MERGE] = true;
    m.range[0].bytes = 0;
    ask(&m, 0, &s);
    ck_assert_int_eq(s.action, BALANCE_DO_NOTHING);
}
END_TEST

START_TEST(names_are_understood)
{
    for (int k = 0; k < BALANCE_KIND_COUNT; k++)
        ck_assert_int_eq(balance_kind_of(str_of(balance_name((enum balance_kind)k))), k);
    ck_assert_int_eq(
        balance_kind_of(STR("org.apache.bifromq.dist.worker.ReplicaCntBalancerFactory")),
        BALANCE_REPLICAS);
    ck_assert_int_eq(balance_kind_of(STR("ReplicaCnt")), BALANCE_KIND_COUNT);
    ck_assert_int_eq(balance_kind_of(STR("")), BALANCE_KIND_COUNT);
}
END_TEST

START_TEST(rules_are_taken_or_refused_whole)
{
    static const struct {
        enum balance_kind kind;
        const char *text, *why; /* NULL: taken */
    } c[] = {
        {BALANCE_REPLICAS, "{}", NULL},
        {BALANCE_REPLICAS, " { \"votersPerRange\" : 5 , \"learnersPerRange\":-1 } ", NULL},
        {BALANCE_REPLICAS, "{\"disable\":true}", NULL},
        {BALANCE_SPLIT, "{\"maxBytesPerRange\":1000000,\"maxCommandsPerSecond\":0}", NULL},
        {BALANCE_REPLICAS, "{\"votersPerRange\":4}", "votersPerRange must be odd"},
        {BALANCE_REPLICAS, "{\"votersPerRange\":0}", "votersPerRange must be 1 to 15"},
        {BALANCE_REPLICAS, "{\"votersPerRange\":17}", "votersPerRange must be 1 to 15"},
        {BALANCE_REPLICAS, "{\"votersPerRange\":-1}", "votersPerRange must be 1 to 15"},
        {BALANCE_REPLICAS, "{\"learnersPerRange\":-2}", "learnersPerRange must be -1 to 15"},
        {BALANCE_REPLICAS, "{\"votersPerRange\":\"3\"}", "votersPerRange must be"},
        {BALANCE_REPLICAS, "{\"votersPerRange\":3.5}", "the rules must be a JSON object"},
        {BALANCE_REPLICAS, "{\"votersPerRange\":99999999999999999999}", "votersPerRange must be"},
        {BALANCE_LEADER, "{\"votersPerRange\":3}", "RangeLeaderBalancer has no rule \"voters"},
        {BALANCE_REPLICAS, "{\"disable\":1}", "disable must be true or false"},
        {BALANCE_REPLICAS, "{\"votersPerRange\":3,}", "the rules must be a JSON object"},
        {BALANCE_REPLICAS, "{\"votersPerRange\":3", "the rules must be a JSON object"},
        {BALANCE_REPLICAS, "{\"votersPerRange\"", "the rules must be a JSON object"},
        {BALANCE_REPLICAS, "{\"", "the rules must be a JSON object"},
        {BALANCE_REPLICAS, "{} x", "something follows"},
        {BALANCE_REPLICAS, "3", "the rules must be a JSON object"},
        {BALANCE_REPLICAS, "", "the rules must be a JSON object"},
    };
    for (size_t i = 0; i < countof(c); i++) {
        struct balance_rule r = balance_rule_default(), before = r;
        char why[BALANCE_RULE_WHY_MAX];
        int e = balance_rule_put(&r, c[i].kind, str_of(c[i].text), why);
        ck_assert_msg((e == 0) == (c[i].why == NULL), "%s: %s", c[i].text, why);
        if (e) {
            ck_assert_msg(strstr(why, c[i].why) == why, "%s: %s", c[i].text, why);
            ck_assert_int_eq(memcmp(&r, &before, sizeof r), 0);
        }
    }
    struct balance_rule r = {.voter_count = 5,
                             .learner_count = -1,
                             .move_max = 2,
                             .dead_usec = 60 * USEC_SEC},
                        back = {.unreachable_usec = 0};
    char why[BALANCE_RULE_WHY_MAX];
    struct buf out = {0};
    r.is_off[BALANCE_REPLICAS] = true;
    balance_rule_print(&r, BALANCE_REPLICAS, &out);
    ck_assert_int_eq(balance_rule_put(&back, BALANCE_REPLICAS, buf_str(&out), why), 0);
    ck_assert_int_eq(memcmp(&r, &back, sizeof r), 0);
    buf_deinit(&out);
}
END_TEST

/* One node is told to leave, its successor for a range learns on another, and that is told too. */
START_TEST(a_learner_on_a_node_that_leaves_is_in_nobodys_way)
{
    struct model m;
    model_init(&m, 5, 1);
    member_put(&m.range[0], name(1), true);
    member_put(&m.range[0], name(2), true);
    member_put(&m.range[0], name(4), false);
    m.node[2].is_removed = true;
    m.node[4].is_removed = true;
    play(&m, 100);
    ck_assert_uint_eq(m.range[0].member_count, 3);
    for (unsigned i = 0; i < m.range[0].member_count; i++) {
        ck_assert(m.range[0].member[i].is_voter);
        ck_assert(is_usable(&m, m.range[0].member[i].node.b[0] - 1U));
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
    member_put(&m.range[0], name(1), false);
    m.node[0].is_removed = true;
    m.node[1].is_draining = true;
    play(&m, 100);
    ck_assert(is_usable(&m, m.range[0].leader.b[0] - 1U));
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
    member_put(&m.range[0], name(1), true);
    member_put(&m.range[0], name(2), true);
    m.node[0].is_removed = true;
    m.node[1].is_draining = true;
    m.node[2].is_draining = true;
    play(&m, 100);
    ck_assert_uint_eq(voters(&m.range[0]), 3);
    ck_assert(is_usable(&m, m.range[0].leader.b[0] - 1U));
    for (unsigned i = 0; i < m.range[0].member_count; i++)
        ck_assert_uint_ne(m.range[0].member[i].node.b[0], 1);
}
END_TEST

/* With enough nodes to go to, and nobody awaited, a node that leaves has nothing left, every range
 * as many voters as the rule says, all of them on nodes that live. */
static void is_as_wanted(const struct model *m)
{
    unsigned usable = 0;
    for (size_t i = 0; i < m->nodes; i++) {
        usable += is_usable(m, i);
        if (!m->node[i].is_live && m->node[i].dead_usec < m->rule.dead_usec)
            return; /* its grace runs */
    }
    if (usable < m->rule.voter_count)
        return;
    for (size_t i = 0; i < m->ranges; i++) {
        ck_assert_uint_eq(voters(&m->range[i]), m->rule.voter_count);
        for (unsigned k = 0; k < m->range[i].member_count; k++) {
            const struct balance_node *n = &m->node[m->range[i].member[k].node.b[0] - 1];
            ck_assert(n->is_live && !n->is_removed);
        }
    }
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
    play(&m, 1000);
    for (int round = 0; round < 10; round++) {
        size_t i = rng_below(&rng, m.nodes), dead = 0, voters_max = 0;
        for (size_t k = 0; k < m.nodes; k++)
            dead += !m.node[k].is_live;
        for (size_t k = 0; k < m.ranges; k++)
            voters_max = voters(&m.range[k]) > voters_max ? voters(&m.range[k]) : voters_max;
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
        elect(&m);
        for (size_t k = 0; k < m.ranges; k++) {
            unsigned live = 0;
            for (unsigned j = 0; j < m.range[k].member_count; j++)
                live += m.range[k].member[j].is_voter && is_live(&m, &m.range[k].member[j].node);
            has_quorum = has_quorum && live * 2 > voters(&m.range[k]);
        }
        if (has_quorum) {
            play(&m, 1000);
            is_as_wanted(&m);
        }
    }
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
    tcase_add_loop_test(t, five_nodes_carry_alike, -1, 2);
    tcase_add_test(t, out_to_five_and_in_to_three);
    tcase_add_loop_test(t, stores_heed_those_before_them, 0, 84);
    tcase_add_test(t, the_last_voter_can_be_emptied_too);
    tcase_add_test(t, death_alone_leaves_three_voters);
    tcase_add_loop_test(t, a_restart_moves_no_data, -1, 2);
    tcase_add_loop_test(t, only_so_many_members_catch_up_at_once, 1, 6);
    tcase_add_test(t, leaderships_take_the_shortest_way);
    tcase_add_loop_test(t, all_at_once_settle_too, 0, 300);
    tcase_add_test(t, small_cold_neighbours_merge);
    tcase_add_test(t, names_are_understood);
    tcase_add_test(t, rules_are_taken_or_refused_whole);
    tcase_add_test(t, a_learner_on_a_node_that_leaves_is_in_nobodys_way);
    tcase_add_test(t, a_learner_that_cannot_vote_is_not_counted_on);
    tcase_add_test(t, a_leader_that_leaves_finds_an_heir_among_the_drained);
    tcase_add_loop_test(t, random_landscapes_settle, 0, 600);
    suite_add_tcase(s, t);
    return s;
}
