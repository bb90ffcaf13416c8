/* bilrost-bench: counting and measuring.  SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/rng.h"
#include "bench/conf.h"
#include "bench/hist.h"
#include "bench/track.h"
#include "unit/bench/suites.h"

#include <getopt.h>

#define VALUES 20000

static int by_value(const void *a, const void *b)
{
    usec_t x = *(const usec_t *)a, y = *(const usec_t *)b;
    return x < y ? -1 : x > y;
}

START_TEST(quantiles_are_within_two_percent)
{
    static usec_t value[VALUES];
    struct bench_hist *h = mem_new(sizeof *h);
    struct rng r;
    rng_init(&r, 3);
    for (size_t i = 0; i < VALUES; i++) {
        value[i] = rng_below(&r, (uint64_t)1 << rng_between(&r, 1, 30));
        bench_hist_put(h, value[i]);
    }
    qsort(value, VALUES, sizeof *value, by_value);
    static const unsigned q[] = {1, 100, 500, 900, 990, 999, 1000};
    for (size_t i = 0; i < countof(q); i++) {
        usec_t want = value[(VALUES * q[i] + 999) / 1000 - 1], got = bench_hist_quantile(h, q[i]);
        ck_assert_uint_ge(got, want);
        ck_assert_uint_le(got, want + want / 50 + 1);
    }
    ck_assert_uint_eq(h->max, value[VALUES - 1]);
    mem_free(h);
}
END_TEST

START_TEST(empty_histogram)
{
    struct bench_hist *h = mem_new(sizeof *h);
    ck_assert_uint_eq(bench_hist_quantile(h, 500), 0);
    mem_free(h);
}
END_TEST

/* Random arrivals against a plain array: every number counted once, the rest are duplicates. */
START_TEST(track_agrees_with_an_array)
{
    static bool seen[VALUES];
    memset(seen, 0, sizeof seen);
    struct bench_track t = {0};
    struct rng r;
    rng_init(&r, 4);
    uint64_t unique = 0, duplicate = 0, newest = 0, late = 0;
    for (size_t i = 0; i < VALUES; i++) {
        uint64_t from = i > 300 ? i - 300 : 0;
        uint64_t seq = rng_chance(&r, 700000) ? i : rng_between(&r, from, i);
        if (seen[seq]) {
            duplicate++;
        } else {
            unique++;
            late += unique > 1 && seq < newest;
        }
        seen[seq] = true;
        newest = seq > newest ? seq : newest;
        bench_track_put(&t, seq);
    }
    ck_assert_uint_eq(t.unique, unique);
    ck_assert_uint_eq(t.duplicate, duplicate);
    ck_assert_uint_eq(t.reordered, late);
    bench_track_deinit(&t);
}
END_TEST

START_TEST(track_in_order_needs_no_memory)
{
    struct bench_track t = {0};
    for (uint64_t i = 0; i < 100000; i++)
        bench_track_put(&t, i);
    ck_assert_ptr_null(t.seen);
    ck_assert_uint_eq(t.unique, 100000);
    bench_track_put(&t, 99999); /* again */
    bench_track_put(&t, 5);
    ck_assert_uint_eq(t.duplicate, 2);
    ck_assert(bench_track_put(&t, 300000)); /* a wide gap */
    ck_assert_uint_eq(t.unique, 100001);
    ck_assert(bench_track_put(&t, 100000)); /* late, however far behind */
    ck_assert(!bench_track_put(&t, 100000));
    ck_assert(bench_track_put(&t, 299999));
    ck_assert_uint_eq(t.reordered, 2);
    ck_assert_uint_eq(t.duplicate, 3);
    ck_assert_uint_eq(t.next, 300001);
    bench_track_deinit(&t);
}
END_TEST

START_TEST(track_refused_have_no_place)
{
    struct bench_track t = {0};
    bench_track_put(&t, 0);
    bench_track_refused(&t, 1);
    bench_track_refused(&t, 2);
    bench_track_refused(&t, 200);
    bench_track_refused(&t, 200);
    ck_assert_uint_eq(t.excused, 3);
    bench_track_put(&t, 3);
    ck_assert(bench_track_put(&t, 2)); /* it was taken all the same: neither late nor missing */
    ck_assert(!bench_track_put(&t, 2));
    bench_track_refused(&t, 3); /* we hear of it after it came */
    ck_assert_uint_eq(t.excused, 2);
    ck_assert_uint_eq(t.reordered, 0);
    ck_assert_uint_eq(t.duplicate, 1);
    bench_track_put(&t, 5);
    bench_track_put(&t, 4); /* not refused, late */
    ck_assert_uint_eq(t.reordered, 1);
    ck_assert_uint_eq(t.unique, 5);
    bench_track_deinit(&t);
}
END_TEST

START_TEST(options)
{
    struct bench_conf c;
    char *good[] = {"bilrost-bench", "fanout",         "--qos",  "1",
                    "--host",        "127.0.0.1:1999", "--mqtt", "5"};
    optind = 1;
    ck_assert_int_eq(bench_conf_parse(countof(good), good, &c), -1);
    ck_assert_uint_eq(c.publishers, 1);
    ck_assert_uint_eq(c.subscribers, 1000);
    ck_assert_uint_eq(c.sub_qos, 1);
    ck_assert_uint_eq(c.host[0].port, 1999);
    ck_str(str_of(c.host[0].name), STR("127.0.0.1"));
    static char *bad[][4] = {
        {"bilrost-bench", "pairs", "--qos", "3"},
        {"bilrost-bench", "pairs", "--size", "x"},
        {"bilrost-bench", "nothing", "--qos", "1"},
        {"bilrost-bench", "pairs", "--host", ":1883"},
        {"bilrost-bench", "pairs", "--host", "a:b"},
        {"bilrost-bench", "pairs", "--host", "::1"},
        {"bilrost-bench", "pairs", "--host", "a:0"},
        {"bilrost-bench", "pairs", "--mqtt", "2"},
        {"bilrost-bench", "retain", "--filters", "0"},
        {"bilrost-bench", "conn", "--connect-window", "0"},
        {"bilrost-bench", "pairs", "--prefix", "a/+"},
        {"bilrost-bench", "pairs", "--password", "x"},
        {"bilrost-bench", "pairs", "fanin", "--json"},
    };
    for (size_t i = 0; i < countof(bad); i++) {
        optind = 1;
        ck_assert_int_eq(bench_conf_parse(4, bad[i], &c), 64);
    }
}
END_TEST

Suite *suite_count(void)
{
    Suite *s = suite_create("bench");
    TCase *t = tcase_create("all");
    tcase_add_test(t, quantiles_are_within_two_percent);
    tcase_add_test(t, empty_histogram);
    tcase_add_test(t, track_agrees_with_an_array);
    tcase_add_test(t, track_in_order_needs_no_memory);
    tcase_add_test(t, track_refused_have_no_place);
    tcase_add_test(t, options);
    suite_add_tcase(s, t);
    return s;
}
