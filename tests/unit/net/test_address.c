/* Addresses and ranges as text.  SPDX-License-Identifier: Apache-2.0 */
#include "net/address.h"

#include <errno.h>

#include "unit/net/net.h"

START_TEST(parses_and_prints)
{
    static const struct {
        const char *in, *out;
        int r;
    } table[] = {
        {"127.0.0.1:1883", "127.0.0.1:1883", 0},
        {"[::1]:0", "[::1]:0", 0},
        {"[fe80::1]:65535", "[fe80::1]:65535", 0},
        {"1.2.3.4", NULL, -EINVAL},
        {"1.2.3.4:65536", NULL, -EINVAL},
        {"::1:1883", NULL, -EINVAL},
        {"localhost:1883", NULL, -EINVAL},
        {":1883", NULL, -EINVAL},
        {"", NULL, -EINVAL},
        {"1.2.3.4:", NULL, -EINVAL},
        {"[::ffff:10.0.0.1]:5", "10.0.0.1:5", 0},
    };
    for (size_t i = 0; i < countof(table); i++) {
        struct net_address a;
        char text[NET_ADDRESS_TEXT];
        ck_assert_int_eq(net_address_parse(str_of(table[i].in), &a), table[i].r);
        if (table[i].r == 0) {
            net_address_format(&a, text);
            ck_assert_str_eq(text, table[i].out);
        }
    }
}
END_TEST

START_TEST(joins_host_and_port)
{
    static const struct {
        const char *host, *out;
    } table[] = {{"127.0.0.1", "127.0.0.1:1883"},
                 {"::1", "[::1]:1883"},
                 {"[::1]", "[::1]:1883"},
                 {"a.example.org", "a.example.org:1883"},
                 {"", ":1883"}};
    for (size_t i = 0; i < countof(table); i++) {
        char text[32];
        net_address_join(table[i].host, 1883, text, sizeof text);
        ck_assert_str_eq(text, table[i].out);
    }
    char small[4];
    net_address_join("127.0.0.1", 1883, small, sizeof small);
    ck_assert_str_eq(small, "127");
}
END_TEST

START_TEST(ranges)
{
    static const struct {
        const char *range, *address;
        bool in;
    } table[] = {
        {"10.0.0.0/8", "10.255.1.2:1", true},  {"10.0.0.0/8", "11.0.0.1:1", false},
        {"10.0.0.0/9", "10.128.0.1:1", false}, {"10.0.0.1", "10.0.0.1:1", true},
        {"10.0.0.1", "10.0.0.2:1", false},     {"fd00::/8", "[fd12::1]:1", true},
        {"fd00::/8", "[fe80::1]:1", false},    {"10.0.0.0/8", "[::ffff:10.1.1.1]:1", true},
        {"0.0.0.0/0", "9.9.9.9:1", true},      {"::/0", "[::1]:1", true},
        {"unix", "1.1.1.1:1", false},
    };
    for (size_t i = 0; i < countof(table); i++) {
        struct net_range r;
        struct net_address a;
        ck_assert_int_eq(net_range_parse(str_of(table[i].range), &r), 0);
        ck_assert_int_eq(net_address_parse(str_of(table[i].address), &a), 0);
        ck_assert_msg(net_range_has(&r, &a) == table[i].in, "%s %s", table[i].range,
                      table[i].address);
    }
    struct net_range r;
    ck_assert_int_eq(net_range_parse(STR("10.0.0.0/33"), &r), -EINVAL);
    ck_assert_int_eq(net_range_parse(STR("nonsense"), &r), -EINVAL);
}
END_TEST

Suite *address_suite(void)
{
    Suite *s = suite_create("address");
    TCase *t = tcase_create("address");
    tcase_add_test(t, parses_and_prints);
    tcase_add_test(t, joins_host_and_port);
    tcase_add_test(t, ranges);
    suite_add_tcase(s, t);
    return s;
}
