/* In which spaces the rows of a replica lie.  SPDX-License-Identifier: Apache-2.0 */
#include "kv/kv_priv.h"
#include "unit/kv/suites.h"

static void want_span(const struct kv_spans *s, size_t i, uint64_t space, const char *from,
                      const char *to)
{
    ck_assert_uint_lt(i, s->count);
    ck_assert_uint_eq(s->at[i].space, space);
    ck_str(buf_str(&s->at[i].from), str_of(from));
    ck_str(buf_str(&s->at[i].to), str_of(to));
}

/* 1: [.., g), 2: [g, p), 3: [p, ..) */
static struct kv_parts three(void)
{
    struct kv_parts p = {.space = 1}, two = {.space = 2}, three = {.space = 3};
    kv_parts_join(&two, STR("p"), &three);
    kv_parts_join(&p, STR("g"), &two);
    kv_parts_free(&two);
    return p;
}

START_TEST(a_key_has_one_space)
{
    struct kv_parts p = three();
    ck_assert_uint_eq(kv_parts_at(&p, STR("")), 1);
    ck_assert_uint_eq(kv_parts_at(&p, STR("fz")), 1);
    ck_assert_uint_eq(kv_parts_at(&p, STR("g")), 2);
    ck_assert_uint_eq(kv_parts_at(&p, STR("ozz")), 2);
    ck_assert_uint_eq(kv_parts_at(&p, STR("p")), 3);
    ck_assert_uint_eq(kv_parts_at(&p, STR("zz")), 3);
    kv_parts_free(&p);
}
END_TEST

START_TEST(spans_are_the_bounds_without_gaps)
{
    struct kv_parts p = three();
    struct kv_spans s = kv_spans_of(&p, STR("b"), STR("x"));
    ck_assert_uint_eq(s.count, 3);
    want_span(&s, 0, 1, "b", "g");
    want_span(&s, 1, 2, "g", "p");
    want_span(&s, 2, 3, "p", "x");
    kv_spans_free(&s);
    s = kv_spans_of(&p, STR("g"), STR("p"));
    ck_assert_uint_eq(s.count, 1);
    want_span(&s, 0, 2, "g", "p");
    kv_spans_free(&s);
    s = kv_spans_of(&p, STR("q"), STR(""));
    ck_assert_uint_eq(s.count, 1);
    want_span(&s, 0, 3, "q", "");
    kv_spans_free(&s);
    kv_parts_free(&p);
}
END_TEST

START_TEST(cut_and_joined_they_are_what_they_were)
{
    static const char *const at[] = {"a", "g", "h", "p", "z"};
    for (size_t i = 0; i < countof(at); i++) {
        struct kv_parts p = three(), whole = three();
        struct kv_parts right = kv_parts_cut(&p, str_of(at[i]));
        struct kv_spans s = kv_spans_of(&p, STR(""), str_of(at[i]));
        ck_assert_uint_eq(s.at[s.count - 1].space, kv_parts_at(&p, STR("zzz")));
        kv_spans_free(&s);
        ck_assert_uint_eq(kv_parts_at(&right, str_of(at[i])), kv_parts_at(&whole, str_of(at[i])));
        kv_parts_join(&p, str_of(at[i]), &right);
        for (char key[2] = "a"; key[0] <= 'z'; key[0]++)
            ck_assert_uint_eq(kv_parts_at(&p, str_of(key)), kv_parts_at(&whole, str_of(key)));
        struct buf b = {0};
        kv_parts_encode(&p, &b);
        struct kv_parts back = kv_parts_decode(p.space, buf_str(&b));
        ck_assert_uint_eq(back.count, 2);
        ck_assert_uint_eq(kv_parts_at(&back, STR("h")), 2);
        buf_deinit(&b);
        kv_parts_free(&back);
        kv_parts_free(&right);
        kv_parts_free(&p);
        kv_parts_free(&whole);
    }
}
END_TEST

Suite *suite_span(void)
{
    Suite *s = suite_create("span");
    TCase *t = tcase_create("spaces");
    tcase_add_test(t, a_key_has_one_space);
    tcase_add_test(t, spans_are_the_bounds_without_gaps);
    tcase_add_test(t, cut_and_joined_they_are_what_they_were);
    suite_add_tcase(s, t);
    return s;
}
