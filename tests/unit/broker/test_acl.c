/* Access rules: what they allow and how filters lie to each other.  SPDX-License-Identifier: Apache-2.0 */
#include "broker/acl.h"
#include "unit/broker/suites.h"

static const char rules[] = "# for clients without a name\n"
                            "topic read public/#\n"
                            "\n"
                            "user alice\n"
                            "topic readwrite a/b\n"
                            "topic write w/+/x\n"
                            "topic deny a/b/secret\n"
                            "topic a/#\n"
                            "user bob smith\n"
                            "topic read #\r\n"
                            "pattern readwrite own/%u/%c/#\n";

static struct broker_acl *parsed(const char *text)
{
    struct broker_acl *acl = NULL;
    size_t line = 0;
    const char *error = "";
    ck_assert_msg(broker_acl_parse(str_of(text), &acl, &line, &error) == 0, "line %zu: %s", line, error);
    return acl;
}

START_TEST(allows)
{
    static const struct {
        const char *user, *client, *topic;
        enum broker_acl_action action;
        bool want;
    } c[] = {
        {"", "c", "public/x", BROKER_ACL_READ, true},
        {"", "c", "public/x", BROKER_ACL_WRITE, false},
        {"", "c", "public", BROKER_ACL_READ, true},
        {"alice", "c", "public/x", BROKER_ACL_READ, false},
        {"alice", "c", "a/b", BROKER_ACL_WRITE, true},
        {"alice", "c", "a/c/d", BROKER_ACL_WRITE, true},
        {"alice", "c", "a/b/secret", BROKER_ACL_READ, false},
        {"alice", "c", "w/1/x", BROKER_ACL_WRITE, true},
        {"alice", "c", "w/1/x", BROKER_ACL_READ, false},
        {"alice", "c", "w/1/2/x", BROKER_ACL_WRITE, false},
        {"bob smith", "c", "anything", BROKER_ACL_READ, true},
        {"bob smith", "c", "$SYS/x", BROKER_ACL_READ, false},
        {"bob smith", "c9", "own/bob smith/c9/t", BROKER_ACL_WRITE, true},
        {"bob smith", "c8", "own/bob smith/c9/t", BROKER_ACL_WRITE, false},
        {"+", "c9", "own/x/c9/t", BROKER_ACL_WRITE, false},
        {"eve", "a/b", "own/eve/a/b", BROKER_ACL_WRITE, false},
    };
    struct broker_acl *acl = parsed(rules);
    for (size_t i = 0; i < countof(c); i++)
        ck_assert_msg(broker_acl_allows(acl, str_of(c[i].user), str_of(c[i].client), c[i].action,
                                        str_of(c[i].topic)) == c[i].want,
                      "case %zu: %s %s", i, c[i].user, c[i].topic);
    broker_acl_free(acl);
}
END_TEST

START_TEST(covers)
{
    static const struct {
        const char *user, *filter;
        enum broker_acl_cover want;
    } c[] = {
        {"", "public/#", BROKER_ACL_ALL},    {"", "public/+/x", BROKER_ACL_ALL},
        {"", "#", BROKER_ACL_SOME},          {"", "other/#", BROKER_ACL_NONE},
        {"alice", "a/#", BROKER_ACL_SOME},   {"alice", "a/b/secret", BROKER_ACL_NONE},
        {"alice", "a/c/+", BROKER_ACL_ALL},  {"alice", "w/1/x", BROKER_ACL_NONE},
        {"alice", "+/b", BROKER_ACL_SOME},   {"bob smith", "x/+/#", BROKER_ACL_ALL},
        {"bob smith", "$SYS/#", BROKER_ACL_NONE},
    };
    struct broker_acl *acl = parsed(rules);
    for (size_t i = 0; i < countof(c); i++)
        ck_assert_msg(broker_acl_covers(acl, str_of(c[i].user), STR("c"), str_of(c[i].filter)) ==
                          c[i].want,
                      "case %zu: %s %s", i, c[i].user, c[i].filter);
    broker_acl_free(acl);
}
END_TEST

START_TEST(refuses)
{
    static const struct {
        const char *text;
        size_t line;
    } c[] = {{"topic read a\nuser\n", 2}, {"nonsense a\n", 1}, {"topic read\ntopic\n", 2}, {"\n\npattern \n", 3}};
    for (size_t i = 0; i < countof(c); i++) {
        struct broker_acl *acl = NULL;
        size_t line = 0;
        const char *error = NULL;
        ck_assert_int_eq(broker_acl_parse(str_of(c[i].text), &acl, &line, &error), BROKER_ACL_E_SYNTAX);
        ck_assert_uint_eq(line, c[i].line);
        ck_assert_ptr_nonnull(error);
    }
}
END_TEST

Suite *suite_acl(void)
{
    Suite *s = suite_create("acl");
    TCase *t = tcase_create("acl");
    tcase_add_test(t, allows);
    tcase_add_test(t, covers);
    tcase_add_test(t, refuses);
    suite_add_tcase(s, t);
    return s;
}
