/* The log's shape against a plain array.  SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/rng.h"
#include "raft/raft_priv.h"
#include "unit/raft/suites.h"

#define LEN_MAX 400

struct model {
    uint64_t base, base_term, last;
    uint64_t term[LEN_MAX];
    uint32_t len[LEN_MAX];
};

static uint64_t model_term(const struct model *m, uint64_t i)
{
    return i == m->base ? m->base_term : i < m->base || i > m->last ? 0 : m->term[i];
}

static uint64_t model_find(const struct model *m, uint64_t index, uint64_t term)
{
    uint64_t i = index < m->last ? index : m->last;
    while (i > m->base && m->term[i] > term)
        i--;
    return i > m->base ? i : m->base;
}

static void compare(const struct raft_log *l, const struct model *m, struct rng *r)
{
    raft_log_check(l);
    ck_assert_uint_eq(l->last, m->last);
    ck_assert_uint_eq(l->base, m->base);
    for (uint64_t i = 0; i <= m->last + 2; i++)
        ck_assert_uint_eq(raft_log_term(l, i), model_term(m, i));
    for (int k = 0; k < 10; k++) {
        uint64_t index = rng_below(r, m->last + 3), term = rng_below(r, 30);
        ck_assert_uint_eq(raft_log_find(l, index, term), model_find(m, index, term));
    }
    for (uint64_t i = l->kept; i <= l->last; i++) {
        struct raft_entry e = raft_log_entry(l, i);
        ck_assert_uint_eq(e.term, m->term[i]);
        ck_assert_uint_eq(e.payload.n, m->len[i]);
        for (size_t k = 0; k < e.payload.n; k++)
            ck_assert_int_eq(e.payload.p[k], (char)('a' + i % 26));
    }
}

static void append(struct raft_log *l, struct model *m, struct rng *r, uint64_t *term)
{
    struct raft_entry e[8];
    char text[8][16];
    size_t n = 1 + rng_below(r, countof(e));
    if (m->last + n >= LEN_MAX)
        return;
    for (size_t i = 0; i < n; i++) {
        uint64_t index = m->last + 1;
        *term += rng_chance(r, 200000) ? 1 + rng_below(r, 2) : 0;
        m->len[index] = (uint32_t)rng_below(r, sizeof text[0]);
        memset(text[i], (int)('a' + index % 26), sizeof text[0]);
        e[i] = (struct raft_entry){.term = *term, .payload = str_view(text[i], m->len[index])};
        m->term[index] = *term;
        m->last = index;
    }
    raft_log_append(l, e, n);
}

START_TEST(test_against_model)
{
    for (uint64_t seed = 1; seed < 60; seed++) {
        struct rng r;
        struct raft_log l;
        struct model m = {0};
        uint64_t term = 1;
        rng_init(&r, seed);
        raft_log_init(&l, &(struct raft_boot){.id = 1});
        for (int round = 0; round < 120; round++) {
            uint64_t what = rng_below(&r, 10);
            if (what < 5) {
                append(&l, &m, &r, &term);
            } else if (what == 5 && m.last > l.commit) {
                uint64_t from = rng_between(&r, l.commit + 1, m.last);
                raft_log_truncate(&l, from);
                m.last = from - 1;
                term++;
            } else if (what == 6) {
                l.stable = rng_between(&r, l.stable, l.last);
                l.commit = rng_between(&r, l.commit, l.last);
                l.handed = l.commit < l.stable ? l.commit : l.stable;
                l.applied = l.handed;
            } else if (what == 7) {
                raft_log_let_go(&l, rng_between(&r, 0, l.applied));
            } else if (what == 8 && l.applied > l.base) {
                uint64_t to = rng_between(&r, l.base + 1, l.applied);
                m.base_term = model_term(&m, to);
                m.base = to;
                raft_log_compact(&l, to);
            } else if (what == 9 && rng_chance(&r, 100000) && l.commit + 20 < LEN_MAX) {
                uint64_t to = l.commit + 1 + rng_below(&r, 10);
                term++;
                raft_log_reset(&l, to, term);
                m = (struct model){.base = to, .base_term = term, .last = to};
            }
            compare(&l, &m, &r);
        }
        raft_log_deinit(&l);
    }
}
END_TEST

START_TEST(test_boot_runs)
{
    static const struct raft_run run[] = {{6, 2}, {8, 5}, {9, 7}};
    struct raft_log l;
    raft_log_init(&l, &(struct raft_boot){.id = 1,
                                          .base = 5,
                                          .base_term = 2,
                                          .last = 12,
                                          .run = run,
                                          .run_count = 3,
                                          .applied = 7,
                                          .hard = {.commit = 99}});
    ck_assert_uint_eq(raft_log_term(&l, 5), 2);
    ck_assert_uint_eq(raft_log_term(&l, 7), 2);
    ck_assert_uint_eq(raft_log_term(&l, 8), 5);
    ck_assert_uint_eq(raft_log_term(&l, 12), 7);
    ck_assert_uint_eq(raft_log_term(&l, 13), 0);
    ck_assert_uint_eq(l.commit, 12); /* a hint beyond the log says no more than the log */
    ck_assert_uint_eq(l.kept, 13);   /* no payload is in memory */
    ck_assert_uint_eq(raft_log_find(&l, 12, 6), 8);
    ck_assert_uint_eq(raft_log_find(&l, 12, 1), 5);
    raft_log_deinit(&l);
}
END_TEST

Suite *suite_log(void)
{
    Suite *s = suite_create("log");
    TCase *t = tcase_create("log");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_against_model);
    tcase_add_test(t, test_boot_runs);
    suite_add_tcase(s, t);
    return s;
}
