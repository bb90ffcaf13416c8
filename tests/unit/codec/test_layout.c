/* Structs as records by a table.  SPDX-License-Identifier: Apache-2.0 */
#include "codec/layout.h"
#include "unit/codec/suites.h"

enum { TAG_UNKNOWN = 99 };

struct thing {
    uint64_t big;
    uint32_t middle;
    uint8_t small;
    bool is_set;
    struct str name;
    struct uuid id;
};

static const struct codec_layout layout[] = {
    CODEC_LAYOUT(struct thing, 1, big),    CODEC_LAYOUT(struct thing, 2, middle),
    CODEC_LAYOUT(struct thing, 3, small),  CODEC_LAYOUT(struct thing, 4, is_set),
    CODEC_LAYOUT(struct thing, 900, name), CODEC_LAYOUT(struct thing, 6, id),
};

static const struct thing example = {
    UINT64_MAX, UINT32_MAX, UINT8_MAX, true, {"n\0m", 3}, {{1, 2, 3}}};

static bool get(struct str s, struct thing *out)
{
    return codec_layout_get(codec_cursor_of(s), layout, countof(layout), out);
}

static void same(const struct thing *a, const struct thing *b)
{
    ck_assert_uint_eq(a->big, b->big);
    ck_assert_uint_eq(a->middle, b->middle);
    ck_assert_uint_eq(a->small, b->small);
    ck_assert(a->is_set == b->is_set);
    ck_str(a->name, b->name);
    ck_assert(uuid_eq(&a->id, &b->id));
}

START_TEST(there_and_back)
{
    struct buf b = {0};
    struct thing got = {.name = STR("")};
    codec_record_u64(&b, TAG_UNKNOWN, 5);
    codec_layout_put(&b, layout, countof(layout), &example);
    codec_record_bytes(&b, TAG_UNKNOWN + 1, STR("later"));
    ck_assert(get(buf_str(&b), &got));
    same(&got, &example);
    buf_deinit(&b);
}
END_TEST

START_TEST(any_order_and_the_last_counts)
{
    struct buf b = {0};
    struct thing got = {.name = STR("")};
    for (size_t i = countof(layout); i-- > 0;)
        codec_layout_put(&b, &layout[i], 1, &example);
    codec_record_u64(&b, 3, 4);
    ck_assert(get(buf_str(&b), &got));
    ck_assert_uint_eq(got.small, 4);
    got.small = example.small;
    same(&got, &example);
    buf_deinit(&b);
}
END_TEST

/* Nothing is written for what is zero, and what is not there stays as it was. */
START_TEST(absent)
{
    struct buf b = {0};
    struct thing got = example, none = {.name = STR("")};
    codec_layout_put(&b, layout, countof(layout), &none);
    ck_assert_uint_eq(b.n, 0);
    ck_assert(get(buf_str(&b), &got));
    same(&got, &example);
    buf_deinit(&b);
}
END_TEST

START_TEST(values_that_do_not_fit)
{
    static const struct {
        uint32_t tag;
        bool is_bytes;
        uint64_t u64;
        struct str bytes;
    } bad[] = {
        {2, false, (uint64_t)UINT32_MAX + 1, {NULL, 0}},
        {3, false, 256, {NULL, 0}},
        {1, true, 0, STR("1")},
        {4, true, 0, STR("")},
        {900, false, 1, {NULL, 0}},
        {6, true, 0, STR("fifteen bytes..")},
        {6, true, 0, STR("seventeen bytes..")},
        {6, false, 0, {NULL, 0}},
    };
    for (size_t i = 0; i < countof(bad); i++) {
        struct buf b = {0};
        struct thing got;
        if (bad[i].is_bytes)
            codec_record_bytes(&b, bad[i].tag, bad[i].bytes);
        else
            codec_record_u64(&b, bad[i].tag, bad[i].u64);
        ck_assert_msg(!get(buf_str(&b), &got), "row %zu was taken", i);
        buf_deinit(&b);
    }
}
END_TEST

/* However it is cut: refused, or what stands before the cut is whole fields. */
START_TEST(truncated)
{
    struct buf b = {0}, whole = {0};
    codec_layout_put(&b, layout, countof(layout), &example);
    size_t fields = 0;
    for (size_t n = 0; n <= b.n; n++) {
        struct thing got = {.name = STR("")};
        if (!get(str_view(b.p, n), &got))
            continue;
        whole.n = 0;
        codec_layout_put(&whole, layout, countof(layout), &got);
        ck_assert_uint_eq(whole.n, n);
        fields++;
    }
    ck_assert_uint_eq(fields, countof(layout) + 1);
    buf_deinit(&b);
    buf_deinit(&whole);
}
END_TEST

Suite *suite_layout(void)
{
    Suite *s = suite_create("layout");
    TCase *t = tcase_create("layout");
    tcase_add_test(t, there_and_back);
    tcase_add_test(t, any_order_and_the_last_counts);
    tcase_add_test(t, absent);
    tcase_add_test(t, values_that_do_not_fit);
    tcase_add_test(t, truncated);
    suite_add_tcase(s, t);
    return s;
}
