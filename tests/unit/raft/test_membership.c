/* Configurations and quorums.  SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/rng.h"
#include "raft/membership.h"
#include "unit/raft/suites.h"

/* "v1 v2 l3 v>l4 >v5": roles now and next. */
static struct raft_config *config_of(const char *text, uint64_t id_max)
{
    struct raft_member m[RAFT_MEMBER_MAX];
    size_t n = 0;
    bool next = false;
    m[0] = (struct raft_member){0};
    for (const char *p = text; *p; p++) {
        if (*p == '>') {
            next = true;
        } else if (*p == 'v') {
            m[n].role |= next ? RAFT_NEXT_VOTER : RAFT_VOTER;
        } else if (*p == 'l') {
            m[n].role |= next ? RAFT_NEXT_LEARNER : RAFT_LEARNER;
        } else if (*p >= '0' && *p <= '9') {
            m[n].id = (uint64_t)(*p - '0');
            m[++n] = (struct raft_member){0};
            next = false;
        }
    }
    return raft_config_new(m, n, id_max);
}

START_TEST(test_well_formed)
{
    static const char *const bad[] = {"v0", "v1 v1", "1", "vl1", ">v>l1"};
    for (size_t i = 0; i < countof(bad); i++)
        ck_assert_msg(config_of(bad[i], 0) == NULL, "%s is taken", bad[i]);
    struct raft_config *c = config_of("v3 l1 v2", 7);
    ck_assert_uint_eq(c->count, 3);
    ck_assert_uint_eq(c->member[0].id, 1);
    ck_assert_uint_eq(c->member[2].id, 3);
    ck_assert_uint_eq(c->id_max, 7);
    ck_assert(!c->is_joint && raft_config_is_voter(c, 2) && !raft_config_is_voter(c, 1));
    mem_free(c);
    struct raft_member many[RAFT_MEMBER_MAX + 1];
    for (size_t i = 0; i < countof(many); i++)
        many[i] = (struct raft_member){.id = i + 1, .role = RAFT_VOTER};
    ck_assert_ptr_null(raft_config_new(many, countof(many), 0));
    c = raft_config_new(many, RAFT_MEMBER_MAX, 0);
    ck_assert_ptr_nonnull(c);
    mem_free(c);
}
END_TEST

static void check_change(const char *from, const char *target, const char *via, const char *to)
{
    struct raft_config *a = config_of(from, 5), *t = config_of(target, 0);
    struct raft_config *got = raft_config_enter(a, t->member, t->count);
    struct raft_config *want = via != NULL ? config_of(via, 5) : NULL;
    ck_assert_msg((got == NULL) == (want == NULL), "%s to %s", from, target);
    if (got != NULL) {
        ck_assert_msg(raft_config_eq(got, want), "%s to %s is not through %s", from, target, via);
        ck_assert_int_eq(got->is_joint, to != NULL);
    }
    if (to != NULL) {
        struct raft_config *end = raft_config_leave(got), *want_end = config_of(to, 5);
        ck_assert_msg(raft_config_eq(end, want_end), "%s to %s does not end in %s", from, target,
                      to);
        mem_free(end);
        mem_free(want_end);
    }
    mem_free(a);
    mem_free(t);
    mem_free(got);
    mem_free(want);
}

START_TEST(test_enter_leave)
{
    check_change("v1 v2 v3", "v1 v2 v3 l6", "v1 v2 v3 l6", NULL); /* learners only: not joint */
    check_change("v1 v2 v3 l4", "v1 v2 v3", "v1 v2 v3", NULL);
    check_change("v1 v2 l3", "v1 v2 v3", "v>v1 v>v2 l>v3", "v1 v2 v3");
    check_change("v1 v2 v3", "v1 v2 l3", "v>v1 v>v2 v>l3", "v1 v2 l3");
    check_change("v1 v2 v3", "v6", "v1 v2 v3 >v6", "v6");
    check_change("v1", "v1 v6 v7", "v>v1 >v6 >v7", "v1 v6 v7");
    check_change("v1 v2", "l1 l2", NULL, NULL);    /* no voter */
    check_change("v1 v2", "v1 v2 l4", NULL, NULL); /* 4 <= id_max was somebody once */
}
END_TEST

START_TEST(test_record)
{
    static const char *const text[] = {"", "v1", "v1 v2 l3", "v>v1 v2 l>v3 >l4"};
    for (size_t i = 0; i < countof(text); i++) {
        struct raft_config *c = config_of(text[i], 9);
        for (size_t k = 0; k < c->count; k++)
            c->member[k].store.b[k] = (uint8_t)(k + 1);
        struct buf b = {0};
        raft_config_encode(c, &b);
        struct raft_config *back = raft_config_decode(buf_str(&b));
        ck_assert(back != NULL && raft_config_eq(c, back));
        mem_free(back);
        for (size_t n = 0; n < b.n; n++) { /* any part of it is refused, or is one with less */
            back = raft_config_decode(str_view(b.p, n));
            ck_assert(back == NULL || back->count <= c->count);
            mem_free(back);
        }
        buf_deinit(&b);
        mem_free(c);
    }
}
END_TEST

/* The definition, word for word: the largest v that more than half of the voters have reached. */
static uint64_t naive(const struct raft_config *c, const uint64_t *value, uint8_t voter)
{
    uint64_t best = 0;
    for (size_t i = 0; i < c->count; i++) {
        size_t n = 0, have = 0;
        for (size_t k = 0; k < c->count; k++) {
            n += (c->member[k].role & voter) != 0;
            have += (c->member[k].role & voter) != 0 && value[k] >= value[i];
        }
        if (2 * have > n && value[i] > best)
            best = value[i];
    }
    return best;
}

START_TEST(test_quorum_value)
{
    struct rng r;
    rng_init(&r, 1);
    for (int round = 0; round < 20000; round++) {
        struct raft_member m[9];
        size_t n = 1 + rng_below(&r, countof(m));
        bool joint = rng_chance(&r, 500000);
        for (size_t i = 0; i < n; i++) {
            m[i] = (struct raft_member){.id = i + 1};
            m[i].role = rng_chance(&r, 700000) ? RAFT_VOTER : RAFT_LEARNER;
            if (joint)
                m[i].role |= rng_chance(&r, 700000) ? RAFT_NEXT_VOTER : RAFT_NEXT_LEARNER;
        }
        m[0].role |= joint ? RAFT_NEXT_LEARNER : RAFT_VOTER;
        struct raft_config *c = raft_config_new(m, n, 0);
        if (c == NULL)
            continue; /* both roles of one kind: not well-formed */
        uint64_t value[RAFT_MEMBER_MAX];
        int8_t vote[RAFT_MEMBER_MAX];
        for (size_t i = 0; i < n; i++) {
            value[i] = rng_below(&r, 5);
            vote[i] = value[i] >= 3 ? 1 : value[i] >= 1 ? -1 : 0;
        }
        uint64_t want = naive(c, value, RAFT_VOTER), next = naive(c, value, RAFT_NEXT_VOTER);
        if (c->is_joint && next < want)
            want = next;
        ck_assert_uint_eq(raft_quorum_value(c, value), want);
        enum raft_tally t = raft_quorum_tally(c, vote);
        ck_assert_int_eq(t == RAFT_TALLY_WON, want >= 3);
        for (size_t i = 0; i < n; i++) /* lost: even if all the silent ones said yes */
            value[i] = vote[i] >= 0;
        ck_assert_int_eq(t == RAFT_TALLY_LOST, raft_quorum_value(c, value) == 0);
        mem_free(c);
    }
}
END_TEST

Suite *suite_membership(void)
{
    Suite *s = suite_create("membership");
    TCase *t = tcase_create("membership");
    tcase_add_test(t, test_well_formed);
    tcase_add_test(t, test_enter_leave);
    tcase_add_test(t, test_record);
    tcase_add_test(t, test_quorum_value);
    suite_add_tcase(s, t);
    return s;
}
