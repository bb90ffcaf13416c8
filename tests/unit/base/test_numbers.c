/* usec, rng, hlc, budget.  SPDX-License-Identifier: Apache-2.0 */
#include "base/budget.h"
#include "base/hlc.h"
#include "base/rng.h"
#include "unit/base/suites.h"

START_TEST(time_never_wraps)
{
    ck_assert_uint_eq(usec_add(USEC_NEVER, 5), USEC_NEVER);
    ck_assert_uint_eq(usec_add(USEC_NEVER - 3, 5), USEC_NEVER);
    ck_assert_uint_eq(usec_until(10, 4), 0);
    ck_assert_uint_eq(usec_until(4, 10), 6);
}
END_TEST

START_TEST(chance_repeats_with_its_seed)
{
    struct rng a, b;
    rng_init(&a, 42);
    rng_init(&b, 42);
    uint64_t seen = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t x = rng_between(&a, 3, 10);
        ck_assert_uint_eq(x, rng_between(&b, 3, 10));
        ck_assert(x >= 3 && x <= 10);
        seen |= 1ull << x;
    }
    ck_assert_uint_eq(seen, 0x7F8); /* every value came */
    ck_assert(!rng_chance(&a, 0) && rng_chance(&a, 1000000));
}
END_TEST

START_TEST(hlc_only_grows)
{
    struct hlc c = {0};
    uint64_t t1 = hlc_now(&c, 5000 * USEC_MSEC);
    ck_assert_uint_eq(hlc_ms(t1), 5000);
    uint64_t t2 = hlc_now(&c, 4000 * USEC_MSEC); /* the wall clock jumped back */
    ck_assert_uint_gt(t2, t1);
    ck_assert_int_eq(hlc_update(&c, 5000 * USEC_MSEC, hlc_of_ms(9000)), 0);
    ck_assert_uint_gt(hlc_now(&c, 5000 * USEC_MSEC), hlc_of_ms(9000));
    uint64_t before = c.last;
    ck_assert_int_eq(hlc_update(&c, 5000 * USEC_MSEC, hlc_of_ms(15001)), HLC_E_SKEW);
    ck_assert_uint_eq(c.last, before);
    c.last = hlc_of_ms(20000) | 0xFFFF; /* a full counter borrows a millisecond */
    ck_assert_uint_eq(hlc_now(&c, 5000 * USEC_MSEC), hlc_of_ms(20001));
}
END_TEST

START_TEST(budget_takes_from_all_or_none)
{
    struct budget process, tenant, client;
    budget_init(&process, NULL, 100);
    budget_init(&tenant, &process, 60);
    budget_init(&client, &tenant, 1000);
    ck_assert_int_eq(budget_charge(&client, 60), 0);
    ck_assert_int_eq(budget_charge(&client, 1), BUDGET_E_FULL);
    ck_assert_uint_eq(budget_used(&client), 60);
    ck_assert_uint_eq(budget_used(&process), 60);
    ck_assert_int_eq(budget_charge(&process, 41), BUDGET_E_FULL);
    ck_assert_int_eq(budget_charge(&process, UINT64_MAX), BUDGET_E_FULL);
    ck_assert_int_eq(budget_charge(&process, 40), 0);
    budget_return(&process, 40);
    budget_return(&client, 60);
    ck_assert_uint_eq(budget_used(&client) + budget_used(&tenant) + budget_used(&process), 0);
}
END_TEST

Suite *suite_numbers(void)
{
    Suite *s = suite_create("numbers");
    TCase *t = tcase_create("all");
    tcase_add_test(t, time_never_wraps);
    tcase_add_test(t, chance_repeats_with_its_seed);
    tcase_add_test(t, hlc_only_grows);
    tcase_add_test(t, budget_takes_from_all_or_none);
    suite_add_tcase(s, t);
    return s;
}
