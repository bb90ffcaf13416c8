/* Messages: keeping, expiry, records.  SPDX-License-Identifier: Apache-2.0 */
#include "codec/msg.h"
#include "codec/record.h"
#include "unit/codec/suites.h"

static struct codec_msg example(void)
{
    return (struct codec_msg){.topic = STR("a/b"), .payload = STR("hello"), .props = STR("\x01\x01\x03\0\x01t"),
                              .publisher = STR("c1"), .hlc = hlc_of_ms(5000) + 3, .incarnation = 7, .exchange = 9,
                              .expiry_sec = 10, .has_expiry = true, .qos = 2, .is_retain = true, .is_utf8 = true};
}

static void same(const struct codec_msg *a, const struct codec_msg *b)
{
    ck_str(a->topic, b->topic);
    ck_str(a->payload, b->payload);
    ck_str(a->props, b->props);
    ck_str(a->publisher, b->publisher);
    ck_assert_uint_eq(a->hlc, b->hlc);
    ck_assert_uint_eq(a->incarnation, b->incarnation);
    ck_assert_uint_eq(a->exchange, b->exchange);
    ck_assert_uint_eq(a->expiry_sec, b->expiry_sec);
    ck_assert_uint_eq(a->qos, b->qos);
    ck_assert(a->has_expiry == b->has_expiry && a->is_retain == b->is_retain && a->is_utf8 == b->is_utf8);
}

START_TEST(keeping)
{
    struct codec_msg m = example();
    struct codec_msg *k = codec_msg_keep(&m);
    same(k, &m);
    ck_assert_ptr_ne(k->topic.p, m.topic.p);
    ck_assert_uint_eq(k->refs, 1);
    struct codec_msg *again = codec_msg_keep(k);
    ck_assert_ptr_eq(again, k);
    ck_assert_uint_eq(k->refs, 2);
    ck_assert_ptr_null(codec_msg_unref(again));
    same(k, &m);
    ck_assert_ptr_null(codec_msg_unref(k));
    ck_assert_ptr_null(codec_msg_unref(NULL));
}
END_TEST

START_TEST(records)
{
    struct codec_msg m = example(), got, plain = {.topic = STR("t")};
    struct buf b = {0};
    codec_msg_encode(&b, &m);
    ck_assert_int_eq(codec_msg_decode(buf_str(&b), &got), 0);
    same(&got, &m);
    ck_assert_uint_eq(got.refs, 0);
    codec_record_u64(&b, 99, 5); /* a field of a newer writer */
    ck_assert_int_eq(codec_msg_decode(buf_str(&b), &got), 0);
    same(&got, &m);
    b.n = 0;
    codec_msg_encode(&b, &plain);
    ck_assert_uint_eq(b.n, 5);
    ck_assert_int_eq(codec_msg_decode(buf_str(&b), &got), 0);
    same(&got, &plain);
    buf_deinit(&b);
}
END_TEST

START_TEST(bad_records)
{
    static const struct str row[] = {
        {"", 0}, {"M", 1}, {"M\x02\x03\x01t", 5}, {"X\x01\x03\x01t", 5}, {"M\x01", 2}, /* no topic */
        {"M\x01\x03\x05t", 5},                 /* cut */
        {"M\x01\x02\x01", 4},                  /* topic as a number */
        {"M\x01\x03\x01t\x12\x03", 7},         /* QoS 3 */
        {"M\x01\x03\x01t\x07\x01\xFF", 8},     /* properties that are none */
        {"M\x01\x03\x01t\x07\x03\x23\0\x01", 10}, /* an alias does not travel */
    };
    struct codec_msg got;
    for (size_t i = 0; i < countof(row); i++)
        ck_assert_msg(codec_msg_decode(row[i], &got) == CODEC_MSG_E_MALFORMED, "row %zu", i);
}
END_TEST

START_TEST(expiry)
{
    struct codec_msg m = example();
    ck_assert_uint_eq(codec_msg_left_sec(&m, 5000), 10);
    ck_assert_uint_eq(codec_msg_left_sec(&m, 0), 10);
    ck_assert_uint_eq(codec_msg_left_sec(&m, 5001), 10);
    ck_assert_uint_eq(codec_msg_left_sec(&m, 6000), 9);
    ck_assert_uint_eq(codec_msg_left_sec(&m, 14999), 1);
    ck_assert(!codec_msg_is_expired(&m, 14999));
    ck_assert_uint_eq(codec_msg_left_sec(&m, 15000), 0);
    ck_assert(codec_msg_is_expired(&m, 15000));
    m.expiry_sec = UINT32_MAX; /* legal up to 2^32 - 1 */
    ck_assert(!codec_msg_is_expired(&m, 5000 + (uint64_t)INT32_MAX * 1000));
    m.has_expiry = false;
    ck_assert_uint_eq(codec_msg_left_sec(&m, UINT64_MAX), UINT32_MAX);
    ck_assert(!codec_msg_is_expired(&m, UINT64_MAX));
}
END_TEST

Suite *suite_msg(void)
{
    Suite *s = suite_create("msg");
    TCase *t = tcase_create("msg");
    tcase_add_test(t, keeping);
    tcase_add_test(t, records);
    tcase_add_test(t, bad_records);
    tcase_add_test(t, expiry);
    suite_add_tcase(s, t);
    return s;
}
