/* bilrost-bench: what it counts against brokers that do wrong.  SPDX-License-Identifier:
 * Apache-2.0 */
#include "bench/load.h"

#include "bench/payload.h"
#include "unit/bench/rogue.h"
#include "unit/bench/suites.h"

static struct net_loop *loop;
static struct rogue rogue;
static struct bench_load load;
static struct bench_conf conf;

static void setup(void)
{
    struct net_loop_conf lc = {.seed = 5};
    ck_assert_int_eq(net_loop_new(&lc, &loop), 0);
    rogue_init(&rogue, loop);
}

static void teardown(void)
{
    bench_load_deinit(&load);
    rogue_deinit(&rogue, loop);
    loop = net_loop_free(loop);
}

static struct bench_conf conf_of(enum bench_scenario s, uint8_t qos, uint8_t version)
{
    struct bench_conf c = {.scenario = s,
                           .version = version,
                           .qos = qos,
                           .sub_qos = qos,
                           .publishers = s == BENCH_FANOUT ? 1 : 2,
                           .subscribers = s == BENCH_FANIN ? 1 : 2,
                           .size = 32,
                           .window = 64,
                           .count = 200,
                           .drain_sec = 1,
                           .connect_window = 10,
                           .prefix = "b",
                           .host_count = 1};
    c.host[0].address = *net_listener_address(rogue.listener);
    return c;
}

static const struct bench_result *play(const struct bench_conf *c)
{
    conf = *c;
    bench_load_play(&load, &conf, loop, NULL, NULL);
    return &load.result;
}

/* Two streams of 200 messages each.  A closed loop of 8 messages has 20 of them lost and goes on.
 */
static const struct {
    enum bench_scenario scenario;
    uint8_t qos, version;
    uint32_t window;
} wrong[] = {{BENCH_PAIRS, 0, 4, 8},
             {BENCH_FANIN, 1, 5, 64},
             {BENCH_FANOUT, 2, 3, 64},
             {BENCH_SHARED, 1, 4, 64}};

START_TEST(what_went_wrong_is_counted_exactly)
{
    struct bench_conf c = conf_of(wrong[_i].scenario, wrong[_i].qos, wrong[_i].version);
    c.window = wrong[_i].window;
    const struct bench_result *r = play(&c);
    ck_assert_ptr_null(r->error);
    ck_assert_uint_eq(r->published, c.publishers * 200);
    ck_assert_uint_eq(r->acked, c.qos > 0 ? r->published : 0);
    ck_assert_uint_eq(r->lost, 40);
    ck_assert_uint_eq(r->duplicate, 80);
    ck_assert_uint_eq(r->reordered, 40);
    ck_assert_uint_eq(r->received, 400 - 40 + 80);
    ck_assert_uint_eq(r->stray, 0);
}
END_TEST

/* What a broker says that it did not take is not sent again: it may come or not, and has no place. */
START_TEST(refused_is_neither_lost_nor_late)
{
    struct bench_conf c = conf_of(BENCH_FAILOVER, (uint8_t)(_i + 1), 5);
    rogue.is_refusing = true;
    c.is_persistent = true;
    const struct bench_result *r = play(&c);
    ck_assert_ptr_null(r->error);
    ck_assert_uint_eq(r->published, 400);
    ck_assert_uint_eq(r->refused, 80);
    ck_assert_uint_eq(r->acked, 320);
    ck_assert_uint_eq(r->received, 360);
    ck_assert_uint_eq(r->lost + r->duplicate + r->reordered, 0);
    ck_assert_uint_eq(r->connections_lost, 0);
}
END_TEST

/* Messages of an earlier run, of another pair, with a number that was never sent, of somebody else.
 */
START_TEST(messages_of_other_runs_count_apart)
{
    uint8_t other[3][32] = {{0}};
    struct bench_conf c = conf_of(BENCH_FANIN, 1, 4);
    bench_payload_put(other[0], &(struct bench_payload){1, 1, 0, 0});
    bench_payload_put(other[1], &(struct bench_payload){1, 1, 99, 3});
    for (unsigned i = 0; i < 2; i++)
        rogue.stray[i] = str_view((const char *)other[i], sizeof other[i]);
    rogue.stray[2] = STR("short");
    rogue.stray[3] = STR("nothing that this tool has ever sent");
    rogue.is_honest = true;
    const struct bench_result *r = play(&c);
    ck_assert_ptr_null(r->error);
    ck_assert_uint_eq(r->stray, 4);
    ck_assert_uint_eq(r->received, 400);
    ck_assert_uint_eq(r->lost + r->duplicate + r->reordered, 0);
}
END_TEST

/* Sessions that stay begin empty: 5.0 says so in one CONNECT, before it takes one more. */
START_TEST(sessions_begin_empty)
{
    struct bench_conf c = conf_of(BENCH_PAIRS, 1, _i == 0 ? 4 : 5);
    rogue.is_honest = true;
    c.is_persistent = true;
    const struct bench_result *r = play(&c);
    ck_assert_ptr_null(r->error);
    ck_assert_uint_eq(r->received, 400);
    ck_assert_uint_eq(r->connections_lost, 0);
    ck_assert_uint_eq(rogue.connects, _i == 0 ? 6 : 4);
    ck_assert_uint_eq(rogue.cleaned, 4);
}
END_TEST

START_TEST(a_run_ends_with_a_broker_that_does_not_answer)
{
    struct bench_conf c = conf_of(BENCH_PAIRS, 1, _i == 0 ? 4 : 5);
    rogue.is_mute = true;
    rogue.receive_max = 10;
    const struct bench_result *r = play(&c);
    ck_assert_ptr_nonnull(r->error);
    ck_assert_uint_eq(r->published, _i == 0 ? 128 : 20); /* a window each, or what it takes */
    ck_assert_uint_eq(r->acked, 0);
    ck_assert_uint_eq(r->lost, r->published);
}
END_TEST

Suite *suite_load(void)
{
    Suite *s = suite_create("load");
    TCase *t = tcase_create("load");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, what_went_wrong_is_counted_exactly, 0, countof(wrong));
    tcase_add_loop_test(t, refused_is_neither_lost_nor_late, 0, 2);
    tcase_add_test(t, messages_of_other_runs_count_apart);
    tcase_add_loop_test(t, sessions_begin_empty, 0, 2);
    tcase_add_loop_test(t, a_run_ends_with_a_broker_that_does_not_answer, 0, 2);
    suite_add_tcase(s, t);
    return s;
}
