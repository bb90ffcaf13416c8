/* Names of balancers and texts of rules.  SPDX-License-Identifier: Apache-2.0 */
#include "balance/rule.h"
#include "unit/balance/suites.h"

#include <string.h>

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
        {BALANCE_SPLIT, "{\"maxFanoutPerRange\":100000}", NULL},
        {BALANCE_SPLIT, "{\"maxFanoutPerRange\":-1}", "maxFanoutPerRange must be 0 to 4294967295"},
        {BALANCE_MERGE, "{\"maxFanoutPerRange\":1}", "RangeMergeBalancer has no rule \"maxFan"},
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

Suite *suite_rule(void)
{
    Suite *s = suite_create("rule");
    TCase *t = tcase_create("rules");
    tcase_add_test(t, names_are_understood);
    tcase_add_test(t, rules_are_taken_or_refused_whole);
    suite_add_tcase(s, t);
    return s;
}
