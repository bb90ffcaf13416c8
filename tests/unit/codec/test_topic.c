/* Topic Names, Topic Filters and what matches.  SPDX-License-Identifier: Apache-2.0 */
#include "codec/topic.h"
#include "unit/codec/suites.h"

#define OK 0
#define MAL CODEC_TOPIC_E_MALFORMED
#define INV CODEC_TOPIC_E_INVALID
#define LIM CODEC_TOPIC_E_LIMIT

static const struct codec_topic_limits limits = {.level_max = 3, .level_len_max = 4, .len_max = 10};

START_TEST(name_table)
{
    static const struct {
        struct str s;
        int want, limited;
    } row[] = {
        {{"a/b", 3}, OK, OK}, {{"/", 1}, OK, OK}, {{"a b", 3}, OK, OK}, {{"$SYS/x", 6}, OK, OK},
        {{"", 0}, INV, INV}, {{"a/+", 3}, INV, INV}, {{"a/#", 3}, INV, INV}, {{"a+b", 3}, INV, INV},
        {{"a\0b", 3}, MAL, MAL}, {{"\xFF", 1}, MAL, MAL}, {{"\xED\xA0\x80", 3}, MAL, MAL}, {{"a\xC3", 2}, MAL, MAL},
        {{"\xF0\x9F\x98\x80/\xC3\xA9", 7}, OK, OK}, {{"$share/g/a", 10}, INV, LIM}, {{"$oshare/g/a", 11}, INV, LIM},
        {{"$shared/a", 9}, OK, LIM}, {{"a/b/c/d", 7}, OK, LIM}, {{"abcde", 5}, OK, LIM}, {{"abcd/efgh/i", 11}, OK, LIM},
        {{"\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9", 8}, OK, OK}, /* four characters */
        {{"\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9", 10}, OK, LIM},
    };
    for (size_t i = 0; i < countof(row); i++) {
        ck_assert_msg(codec_topic_name_check(row[i].s, NULL) == row[i].want, "row %zu", i);
        ck_assert_msg(codec_topic_name_check(row[i].s, &limits) == row[i].limited, "row %zu limited", i);
    }
}
END_TEST

START_TEST(filter_table)
{
    static const struct {
        const char *text;
        int want;
        enum codec_topic_kind kind;
        const char *group, *filter;
        bool has_wildcard;
    } row[] = {
        {"a/b", OK, CODEC_TOPIC_NORMAL, "", "a/b", false},
        {"#", OK, CODEC_TOPIC_NORMAL, "", "#", true},
        {"+", OK, CODEC_TOPIC_NORMAL, "", "+", true},
        {"+/+/#", OK, CODEC_TOPIC_NORMAL, "", "+/+/#", true},
        {"a/+/b", OK, CODEC_TOPIC_NORMAL, "", "a/+/b", true},
        {"/+", OK, CODEC_TOPIC_NORMAL, "", "/+", true},
        {"$SYS/#", OK, CODEC_TOPIC_NORMAL, "", "$SYS/#", true},
        {"$share/g/a/+", OK, CODEC_TOPIC_SHARE, "g", "a/+", true},
        {"$oshare/g h/#", OK, CODEC_TOPIC_OSHARE, "g h", "#", true},
        {"$share/g//", OK, CODEC_TOPIC_SHARE, "g", "/", false},
        {"$sharex/g", OK, CODEC_TOPIC_NORMAL, "", "$sharex/g", false},
        {"", INV, CODEC_TOPIC_NORMAL, "", "", false},
        {"a#", INV, CODEC_TOPIC_NORMAL, "", "a#", false},
        {"#/a", INV, CODEC_TOPIC_NORMAL, "", "#/a", false},
        {"a/#/b", INV, CODEC_TOPIC_NORMAL, "", "a/#/b", false},
        {"a+/b", INV, CODEC_TOPIC_NORMAL, "", "a+/b", false},
        {"a/+b", INV, CODEC_TOPIC_NORMAL, "", "a/+b", false},
        {"++", INV, CODEC_TOPIC_NORMAL, "", "++", false},
        {"$share/g", INV, CODEC_TOPIC_SHARE, "g", "", false},
        {"$share/g/", INV, CODEC_TOPIC_SHARE, "g", "", false},
        {"$share//a", INV, CODEC_TOPIC_SHARE, "", "a", false},
        {"$share/", INV, CODEC_TOPIC_SHARE, "", "", false},
        {"$share/g+/a", INV, CODEC_TOPIC_SHARE, "g+", "a", false},
        {"$share/#/a", INV, CODEC_TOPIC_SHARE, "#", "a", false},
        {"$oshare/g/a#", INV, CODEC_TOPIC_OSHARE, "g", "a#", false},
        {"$share/\xFF/a", MAL, CODEC_TOPIC_SHARE, "", "", false},
    };
    for (size_t i = 0; i < countof(row); i++) {
        struct codec_topic_filter f;
        int r = codec_topic_filter_parse(str_of(row[i].text), NULL, &f);
        ck_assert_msg(r == row[i].want, "%s: %d", row[i].text, r);
        ck_assert_int_eq(f.kind, row[i].kind);
        if (r != 0)
            continue;
        ck_str(f.group, str_of(row[i].group));
        ck_str(f.filter, str_of(row[i].filter));
        ck_str(f.text, str_of(row[i].text));
        ck_assert_msg(f.has_wildcard == row[i].has_wildcard, "%s", row[i].text);
    }
    /* limits are of the part behind the share */
    struct codec_topic_filter f;
    ck_assert_int_eq(codec_topic_filter_parse(STR("$share/longgroup/a/b/c"), &limits, &f), 0);
    ck_assert_int_eq(codec_topic_filter_parse(STR("$share/longgroup/a/b/c/d"), &limits, &f), LIM);
}
END_TEST

START_TEST(match_table)
{
    static const struct {
        const char *filter, *name;
        bool want;
    } row[] = {
        {"a/b", "a/b", true}, {"a/b", "a/B", false}, {"a/b", "a/b/c", false}, {"a/b", "a", false},
        {"sport/#", "sport", true}, {"sport/#", "sport/", true}, {"sport/#", "sport/a/b", true},
        {"sport/#", "sports", false},
        {"#", "a", true}, {"#", "/", true}, {"#", "$SYS/a", false}, {"+/a", "$SYS/a", false},
        {"$SYS/#", "$SYS/a", true},
        {"$SYS/#", "$SYS", true}, {"$SYS/+", "$SYS/a", true}, {"+", "a", true}, {"+", "/a", false}, {"+/+", "/a", true},
        {"/+", "/a", true}, {"+", "", true}, {"a/+", "a", false}, {"a/+", "a/", true}, {"a/+/c", "a//c", true},
        {"a/+/c", "a/b/c", true}, {"a/+/c", "a/b/d", false}, {"+/b/#", "a/b", true}, {"a//b", "a/b", false},
    };
    for (size_t i = 0; i < countof(row); i++)
        ck_assert_msg(codec_topic_match(str_of(row[i].filter), str_of(row[i].name)) == row[i].want, "%s %s",
                      row[i].filter, row[i].name);
}
END_TEST

START_TEST(levels)
{
    struct str rest = STR("a//b"), level;
    ck_assert(codec_topic_next(&rest, &level));
    ck_str(level, STR("a"));
    ck_assert(codec_topic_next(&rest, &level));
    ck_str(level, STR(""));
    ck_assert(codec_topic_next(&rest, &level));
    ck_str(level, STR("b"));
    ck_assert(!codec_topic_next(&rest, &level));
    ck_assert_uint_eq(codec_topic_levels(STR("/")), 2);
    ck_assert_uint_eq(codec_topic_levels(STR("a/b/c")), 3);
}
END_TEST

Suite *suite_topic(void)
{
    Suite *s = suite_create("topic");
    TCase *t = tcase_create("topic");
    tcase_add_test(t, name_table);
    tcase_add_test(t, filter_table);
    tcase_add_test(t, match_table);
    tcase_add_test(t, levels);
    suite_add_tcase(s, t);
    return s;
}
