/* Suspicions and local health.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/unit.h"

#include "gossip/awareness.h"
#include "gossip/suspicion.h"

static struct uuid name(uint8_t i)
{
    return (struct uuid){.b = {i}};
}

START_TEST(test_log10)
{
    static const struct {
        uint64_t n;
        unsigned want;
    } t[] = {{1, 0},     {2, 301},   {3, 477},     {10, 1000},
             {50, 1699}, {99, 1996}, {1000, 3000}, {4096, 3612}};
    for (unsigned i = 0; i < countof(t); i++) {
        unsigned got = gossip_log10_milli(t[i].n);
        ck_assert_msg(got + 1 >= t[i].want && got <= t[i].want + 1, "log10(%u) is %u",
                      (unsigned)t[i].n, got);
    }
}
END_TEST

START_TEST(test_length_grows_with_the_cluster)
{
    ck_assert_uint_eq(gossip_suspicion_min(3, 4, USEC_SEC), 4 * USEC_SEC);
    ck_assert_uint_eq(gossip_suspicion_min(10, 4, USEC_SEC), 4 * USEC_SEC);
    usec_t at50 = gossip_suspicion_min(50, 4, USEC_SEC);
    ck_assert(at50 > 67 * USEC_SEC / 10 && at50 < 69 * USEC_SEC / 10);
}
END_TEST

START_TEST(test_independent_accusers_shorten)
{
    struct gossip_suspicion s;
    usec_t min = 4 * USEC_SEC;
    struct uuid a = name(1), b = name(2), c = name(3), d = name(4);
    gossip_suspicion_begin(&s, 100, min, 10, &a);
    ck_assert_uint_eq(s.deadline, 100 + 6 * min);
    ck_assert_int_eq(gossip_suspicion_accuse(&s, &a), GOSSIP_SUSPICION_E_KNOWN);
    ck_assert_uint_eq(s.deadline, 100 + 6 * min);
    ck_assert_int_eq(gossip_suspicion_accuse(&s, &b), 0);
    ck_assert_uint_lt(s.deadline, 100 + 3 * min);
    ck_assert_uint_gt(s.deadline, 100 + min);
    ck_assert_int_eq(gossip_suspicion_accuse(&s, &c), 0);
    ck_assert_uint_eq(s.deadline, 100 + min);
    ck_assert_int_eq(gossip_suspicion_accuse(&s, &d), GOSSIP_SUSPICION_E_KNOWN);
    gossip_suspicion_check(&s);
    gossip_suspicion_extend(&s, 5 * USEC_SEC);
    ck_assert_uint_eq(s.deadline, 100 + min + 5 * USEC_SEC);
    gossip_suspicion_stretch(&s);
    ck_assert_uint_eq(s.deadline, s.start + 6 * min);
    gossip_suspicion_relax(&s);
    ck_assert_uint_eq(s.deadline, s.start + min);
    gossip_suspicion_check(&s);
}
END_TEST

START_TEST(test_three_members_cannot_confirm)
{
    struct gossip_suspicion s;
    struct uuid a = name(1), b = name(2);
    gossip_suspicion_begin(&s, 0, 4 * USEC_SEC, 3, &a);
    ck_assert_uint_eq(s.deadline, 4 * USEC_SEC);
    ck_assert_int_eq(gossip_suspicion_accuse(&s, &b), GOSSIP_SUSPICION_E_KNOWN);
    gossip_suspicion_relax(&s);
    gossip_suspicion_check(&s);
}
END_TEST

START_TEST(test_score_stays_in_bounds)
{
    struct gossip_awareness a = {0};
    gossip_awareness_add(&a, -1);
    ck_assert_uint_eq(a.score, 0);
    gossip_awareness_add(&a, 3);
    ck_assert_uint_eq(gossip_awareness_scale(&a, USEC_SEC), 4 * USEC_SEC);
    gossip_awareness_add(&a, 100);
    ck_assert_uint_eq(a.score, GOSSIP_SCORE_MAX);
}
END_TEST

Suite *suite_suspicion(void);

Suite *suite_suspicion(void)
{
    Suite *s = suite_create("suspicion");
    TCase *t = tcase_create("suspicion");
    tcase_add_test(t, test_log10);
    tcase_add_test(t, test_length_grows_with_the_cluster);
    tcase_add_test(t, test_independent_accusers_shorten);
    tcase_add_test(t, test_three_members_cannot_confirm);
    tcase_add_test(t, test_score_stays_in_bounds);
    suite_add_tcase(s, t);
    return s;
}
