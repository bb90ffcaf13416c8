/* Facts about members: what wins.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/unit.h"

#include "gossip/gossip_priv.h"

static const struct uuid us = {.b = {1}}, x = {.b = {2}}, y = {.b = {3}};
static struct gossip *g;
static struct gossip_out out;

static void setup(void)
{
    struct gossip_conf c = {.uuid = us,
                            .epoch = 7,
                            .addr = {.ip = {1}, .port = 1},
                            .version_min = 1,
                            .version_max = 2,
                            .meta = STR("")};
    g = gossip_new(&c, 0, 1, 1);
    out = (struct gossip_out){0};
}

static void teardown(void)
{
    gossip_check(g);
    g = gossip_free(g);
    gossip_out_deinit(&out);
}

static void say(uint8_t kind, const struct uuid *who, uint64_t epoch, uint32_t inc,
                const struct uuid *from)
{
    struct gossip_msg m = {
        .kind = kind,
        .uuid = *who,
        .epoch = epoch,
        .inc = inc,
        .addr = {.ip = {9}, .port = 99},
        .version_min = 2,
        .version_max = 3,
        .key = STR(""),
        .bytes = STR("meta"),
    };
    if (from != NULL)
        m.from = *from;
    gossip_fact(g, &m, false, &out);
    gossip_check(g);
}

static bool told(enum gossip_effect_kind kind)
{
    for (size_t i = 0; i < out.count; i++)
        if (out.effect[i].kind == kind) {
            gossip_out_reset(&out);
            return true;
        }
    return false;
}

static void is(enum gossip_state state, uint64_t epoch, uint32_t inc)
{
    const struct gossip_member *m = gossip_member_find(g, &x);
    ck_assert_int_eq(m->state, state);
    ck_assert_uint_eq(m->epoch, epoch);
    ck_assert_uint_eq(m->inc, inc);
}

START_TEST(test_an_equal_incarnation_does_not_refute)
{
    say(GOSSIP_MSG_ALIVE, &x, 5, 3, NULL);
    ck_assert(told(GOSSIP_OUT_ALIVE));
    say(GOSSIP_MSG_SUSPECT, &x, 5, 3, &y);
    ck_assert(told(GOSSIP_OUT_SUSPECT));
    say(GOSSIP_MSG_ALIVE, &x, 5, 3, NULL);
    is(GOSSIP_ST_SUSPECT, 5, 3);
    say(GOSSIP_MSG_ALIVE, &x, 5, 4, NULL);
    is(GOSSIP_ST_ALIVE, 5, 4);
    say(GOSSIP_MSG_SUSPECT, &x, 5, 3, &y); /* old news */
    is(GOSSIP_ST_ALIVE, 5, 4);
}
END_TEST

START_TEST(test_the_dead_stay_dead)
{
    say(GOSSIP_MSG_ALIVE, &x, 5, 3, NULL);
    say(GOSSIP_MSG_DEAD, &x, 5, 3, &y);
    ck_assert(told(GOSSIP_OUT_DEAD));
    say(GOSSIP_MSG_ALIVE, &x, 5, 3, NULL);
    say(GOSSIP_MSG_ALIVE, &x, 4, 9, NULL);
    say(GOSSIP_MSG_SUSPECT, &x, 5, 8, &y);
    is(GOSSIP_ST_DEAD, 5, 3);
    say(GOSSIP_MSG_LEFT, &x, 5, 3, NULL);
    is(GOSSIP_ST_LEFT, 5, 3);
    say(GOSSIP_MSG_ALIVE, &x, 6, 0, NULL); /* it has started again */
    is(GOSSIP_ST_ALIVE, 6, 0);
    say(GOSSIP_MSG_DEAD, &x, 5, 99, &y);
    is(GOSSIP_ST_ALIVE, 6, 0);
}
END_TEST

START_TEST(test_a_new_life_ends_the_old_one)
{
    say(GOSSIP_MSG_ALIVE, &x, 5, 3, NULL);
    gossip_out_reset(&out);
    say(GOSSIP_MSG_ALIVE, &x, 6, 0, NULL);
    ck_assert_uint_ge(out.count, 2);
    ck_assert_int_eq(out.effect[0].kind, GOSSIP_OUT_DEAD);
    ck_assert_uint_eq(out.effect[0].epoch, 5);
    ck_assert(told(GOSSIP_OUT_ALIVE));
}
END_TEST

START_TEST(test_we_refute)
{
    say(GOSSIP_MSG_SUSPECT, &us, 7, 0, &y);
    ck_assert(told(GOSSIP_OUT_REFUTED));
    ck_assert_uint_eq(gossip_self(g)->inc, 1);
    say(GOSSIP_MSG_DEAD, &us, 7, 0, &y); /* about what we were */
    ck_assert_uint_eq(gossip_self(g)->inc, 1);
    say(GOSSIP_MSG_DEAD, &us, 7, 5, &y);
    ck_assert_uint_eq(gossip_self(g)->inc, 6);
    say(GOSSIP_MSG_DEAD, &us, 6, 50, &y); /* an earlier life */
    ck_assert_uint_eq(gossip_self(g)->inc, 6);
    gossip_out_reset(&out);
    say(GOSSIP_MSG_ALIVE, &us, 8, 0, NULL); /* somebody else is us */
    ck_assert(told(GOSSIP_OUT_DUPLICATE));
}
END_TEST

START_TEST(test_a_death_told_by_an_exchange_is_a_doubt)
{
    struct gossip_msg m = {.kind = GOSSIP_MSG_MEMBER,
                           .uuid = x,
                           .epoch = 5,
                           .inc = 3,
                           .state = GOSSIP_ST_DEAD,
                           .from = y,
                           .addr = {.ip = {9}, .port = 99},
                           .version_min = 1,
                           .version_max = 1,
                           .key = STR(""),
                           .bytes = STR("")};
    say(GOSSIP_MSG_ALIVE, &x, 5, 3, NULL);
    gossip_fact(g, &m, true, &out);
    is(GOSSIP_ST_SUSPECT, 5, 3);
}
END_TEST

START_TEST(test_strangers)
{
    say(GOSSIP_MSG_SUSPECT, &x, 5, 3, &y); /* nobody we know */
    ck_assert_ptr_null(gossip_member_find(g, &x));
    say(GOSSIP_MSG_DEAD, &x, 5, 3, &y); /* remembered, so that older news cannot bring it */
    is(GOSSIP_ST_DEAD, 5, 3);
    struct gossip_msg m = {.kind = GOSSIP_MSG_ALIVE,
                           .uuid = y,
                           .epoch = 1,
                           .addr = {.ip = {9}, .port = 98},
                           .version_min = 3,
                           .version_max = 4,
                           .key = STR(""),
                           .bytes = STR("")};
    gossip_fact(g, &m, false, &out); /* speaks nothing that we speak */
    ck_assert_ptr_null(gossip_member_find(g, &y));
}
END_TEST

Suite *suite_member(void);

Suite *suite_member(void)
{
    Suite *s = suite_create("member");
    TCase *t = tcase_create("member");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_an_equal_incarnation_does_not_refute);
    tcase_add_test(t, test_the_dead_stay_dead);
    tcase_add_test(t, test_a_new_life_ends_the_old_one);
    tcase_add_test(t, test_we_refute);
    tcase_add_test(t, test_a_death_told_by_an_exchange_is_a_doubt);
    tcase_add_test(t, test_strangers);
    suite_add_tcase(s, t);
    return s;
}
