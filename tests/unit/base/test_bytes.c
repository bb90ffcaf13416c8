/* str, buf, crc, uuid.  SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/crc.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "unit/base/suites.h"

START_TEST(utf8_table)
{
    static const struct {
        struct str s;
        bool ok;
    } row[] = {
        {{"", 0}, true},
        {{"plain", 5}, true},
        {{"\xC3\xA9", 2}, true},              /* e acute */
        {{"\xF0\x9F\x98\x80", 4}, true},      /* an emoji: four bytes are fine */
        {{"\xEF\xBB\xBF", 3}, true},          /* U+FEFF is kept (MQTT-1.5.4-3) */
        {{"a\0b", 3}, false},                 /* U+0000 */
        {{"\xC0\x80", 2}, false},             /* overlong */
        {{"\xE0\x80\x80", 3}, false},         /* overlong */
        {{"\xF0\x80\x80\x80", 4}, false},     /* overlong */
        {{"\xED\xA0\x80", 3}, false},         /* a surrogate (MQTT-1.5.4-1) */
        {{"\xF4\x90\x80\x80", 4}, false},     /* above U+10FFFF */
        {{"\xF5\x80\x80\x80", 4}, false},
        {{"\x80", 1}, false},                 /* a tail without a head */
        {{"\xC3", 1}, false},                 /* cut */
        {{"\xE2\x82", 2}, false},
        {{"\xE2\x28\xA1", 3}, false},
    };
    for (size_t i = 0; i < countof(row); i++)
        ck_assert_msg(str_is_utf8(row[i].s) == row[i].ok, "row %zu", i);
}
END_TEST

START_TEST(numbers_in_text)
{
    uint64_t v = 7;
    ck_assert(str_to_u64(STR("18446744073709551615"), &v));
    ck_assert_uint_eq(v, UINT64_MAX);
    static const char *const bad[] = {"", "18446744073709551616", "-1", "+1", "1 ", "0x1", "99999999999999999999"};
    for (size_t i = 0; i < countof(bad); i++) {
        v = 7;
        ck_assert_msg(!str_to_u64(str_of(bad[i]), &v) && v == 7, "%s", bad[i]);
    }
}
END_TEST

START_TEST(parts)
{
    struct str s = STR("a//b/"), part;
    static const char *const want[] = {"a", "", "b", ""};
    for (size_t i = 0; i < countof(want); i++) {
        ck_assert(str_next(&s, '/', &part));
        ck_str(part, str_of(want[i]));
    }
    ck_assert(!str_next(&s, '/', &part));
    ck_assert_int_lt(str_cmp(STR("a"), STR("ab")), 0);
    ck_assert_int_gt(str_cmp(STR("b"), STR("ab")), 0);
    ck_assert(str_has_prefix(STR("abc"), STR("ab")) && !str_has_prefix(STR("a"), STR("ab")));
    char small[4];
    ck_assert_uint_eq(str_copy(small, sizeof small, STR("abcdef")), 3);
    ck_assert_str_eq(small, "abc");
}
END_TEST

START_TEST(buf_puts)
{
    struct buf b = {0};
    buf_put_u8(&b, 1);
    buf_put_u16(&b, 0x0203);
    buf_put_u32(&b, 0x04050607);
    buf_put_u64(&b, 0x08090A0B0C0D0E0F);
    for (uint8_t i = 0; i < 15; i++)
        ck_assert_uint_eq(b.p[i], i + 1u);
    buf_drop(&b, 14);
    ck_assert_uint_eq(b.n, 1);
    buf_printf(&b, "%s-%d", "x", 5);
    ck_str(buf_str(&b), STR("\x0Fx-5"));
    buf_deinit(&b);
}
END_TEST

START_TEST(crc32c_known_answers)
{
    /* RFC 3720 B.4 */
    uint8_t zero[32] = {0}, ones[32];
    memset(ones, 0xFF, sizeof ones);
    ck_assert_uint_eq(crc_update(0, zero, 32), 0x8A9136AAu);
    ck_assert_uint_eq(crc_update(0, ones, 32), 0x62A8AB43u);
    ck_assert_uint_eq(crc_update(0, "123456789", 9), 0xE3069283u);
    ck_assert_uint_eq(crc_update(crc_update(0, "1234", 4), "56789", 5), 0xE3069283u);
}
END_TEST

START_TEST(uuid_text)
{
    uint8_t random[16];
    memset(random, 0xFF, sizeof random);
    struct uuid u = uuid_from_random(random), v;
    char text[UUID_TEXT];
    uuid_format(&u, text);
    ck_assert_str_eq(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    ck_assert(uuid_parse(str_of(text), &v) && uuid_eq(&u, &v));
    ck_assert(!uuid_parse(STR("ffffffff-ffff-4fff-bfff-fffffffffff"), &v));
    ck_assert(!uuid_parse(STR("ffffffff_ffff-4fff-bfff-ffffffffffff"), &v));
    ck_assert(!uuid_parse(STR("fffffffg-ffff-4fff-bfff-ffffffffffff"), &v));
}
END_TEST

Suite *suite_bytes(void)
{
    Suite *s = suite_create("bytes");
    TCase *t = tcase_create("all");
    tcase_add_test(t, utf8_table);
    tcase_add_test(t, numbers_in_text);
    tcase_add_test(t, parts);
    tcase_add_test(t, buf_puts);
    tcase_add_test(t, crc32c_known_answers);
    tcase_add_test(t, uuid_text);
    suite_add_tcase(s, t);
    return s;
}
