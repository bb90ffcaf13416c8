/* What is said of a range that cannot decide.  SPDX-License-Identifier: Apache-2.0 */
#include "kv/kv_priv.h"
#include "unit/kv/suites.h"

static struct kv_member member(uint8_t name, bool is_voter, bool is_next, bool is_live)
{
    return (struct kv_member){
        .node = {{name}}, .is_voter = is_voter, .is_next_voter = is_next, .is_live = is_live};
}

static bool says(const struct kv_member *m, unsigned count, const char *what)
{
    const struct kv_loop alone = {0};
    struct buf why = {0};
    bool is_short = kv_status_no_quorum(&alone, m, count, &why);
    bool ok = is_short == (what != NULL) && (!what || str_has_prefix(buf_str(&why), str_of(what)));
    if (!ok)
        fprintf(stderr, "said: %.*s\n", STR_ARG(buf_str(&why)));
    buf_deinit(&why);
    return ok;
}

START_TEST(a_majority_of_the_voters_decides)
{
    struct kv_member m[] = {member(1, true, true, true), member(2, true, true, true),
                            member(3, true, true, false), member(4, false, false, false)};
    ck_assert(says(m, countof(m), NULL));
    m[1].is_live = false;
    ck_assert(says(m, countof(m), "no quorum: 1 of 3 voters are alive; missing: node 02"));
    ck_assert(says(m, 0, NULL)); /* nothing is known */
}
END_TEST

/* Of one voter and three to be, each set needs its own majority. */
START_TEST(during_a_joint_change_both_sets_decide)
{
    struct kv_member m[] = {member(1, true, true, true), member(2, false, true, false),
                            member(3, false, true, false)};
    ck_assert(says(m, countof(m), "no quorum: 1 of 3 voters are alive; missing: node 02"));
    m[1].is_live = true;
    ck_assert(says(m, countof(m), NULL));
    m[0].is_live = false;
    m[2].is_live = true;
    ck_assert(says(m, countof(m), "no quorum: 0 of 1 voters are alive; missing: node 01"));
}
END_TEST

Suite *suite_status(void)
{
    Suite *s = suite_create("status");
    TCase *t = tcase_create("quorum");
    tcase_add_test(t, a_majority_of_the_voters_decides);
    tcase_add_test(t, during_a_joint_change_both_sets_decide);
    suite_add_tcase(s, t);
    return s;
}
