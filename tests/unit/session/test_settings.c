/* The table of tenant settings.  SPDX-License-Identifier: Apache-2.0 */
#include "session/settings.h"
#include "unit/session/suites.h"

START_TEST(defaults_fit)
{
    struct session_settings s;
    size_t n;
    const struct session_setting *row = session_settings_table(&n);
    ck_assert_uint_eq(n, 40);
    session_settings_init(&s);
    session_settings_check(&s);
    for (size_t i = 0; i < n; i++) {
        ck_assert_ptr_eq(session_settings_find(str_of(row[i].name)), &row[i]);
        ck_assert_msg(row[i].value_min <= row[i].value_default && row[i].value_default <= row[i].value_max, "%s",
                      row[i].name);
        ck_assert_msg(row[i].kind == SESSION_SETTING_NUM || row[i].value_max == 1, "%s", row[i].name);
        ck_assert(row[i].meaning[0] != 0);
    }
    ck_assert_int_eq(s.maximum_qos, 2);
    ck_assert_int_eq(s.max_topic_alias, 10);
    ck_assert_int_eq(s.receiving_maximum, 200);
}
END_TEST

START_TEST(setting)
{
    struct session_settings s;
    session_settings_init(&s);
    ck_assert_int_eq(session_settings_set(&s, STR("MaximumQoS"), 1), 0);
    ck_assert_int_eq(s.maximum_qos, 1);
    ck_assert_int_eq(session_settings_set(&s, STR("MaximumQoS"), 3), SESSION_SETTINGS_E_BOUNDS);
    ck_assert_int_eq(session_settings_set(&s, STR("MaximumQoS"), -1), SESSION_SETTINGS_E_BOUNDS);
    ck_assert_int_eq(s.maximum_qos, 1);
    ck_assert_int_eq(session_settings_set(&s, STR("maximumqos"), 1), SESSION_SETTINGS_E_UNKNOWN);
    ck_assert_ptr_null(session_settings_find(STR("")));
    ck_assert_ptr_null(session_settings_conflict(&s));
    s.min_session_expiry_seconds = s.max_session_expiry_seconds + 1;
    ck_assert_str_eq(session_settings_conflict(&s), "MinSessionExpirySeconds");
}
END_TEST

/* What a client heard in CONNACK stays; a LIVE setting is that of its tenant. */
START_TEST(renewing)
{
    struct session_settings born, now, got;
    size_t n;
    const struct session_setting *row = session_settings_table(&n);
    session_settings_init(&born);
    session_settings_init(&now);
    for (size_t i = 0; i < n; i++) {
        int64_t other = row[i].value_default > row[i].value_min ? row[i].value_min : row[i].value_min + 1;
        ck_assert_int_eq(session_settings_set(&now, str_of(row[i].name), other), 0);
    }
    session_settings_renew(&born, &now, &got);
    for (size_t i = 0; i < n; i++) {
        const struct session_settings *of = row[i].when == SESSION_SETTING_LIVE ? &now : &born;
        size_t at = row[i].offset;
        ck_assert_msg(memcmp((const char *)&got + at, (const char *)of + at, sizeof(int64_t)) == 0, "%s",
                      row[i].name);
    }
    ck_assert_int_eq(got.receiving_maximum, born.receiving_maximum);
    ck_assert_int_eq(got.msg_pub_per_sec, now.msg_pub_per_sec);
    session_settings_renew(&born, &now, &born); /* in place */
    ck_assert_int_eq(memcmp(&born, &got, sizeof got), 0);
}
END_TEST

Suite *suite_settings(void)
{
    Suite *s = suite_create("settings");
    TCase *t = tcase_create("settings");
    tcase_add_test(t, defaults_fit);
    tcase_add_test(t, setting);
    tcase_add_test(t, renewing);
    suite_add_tcase(s, t);
    return s;
}
