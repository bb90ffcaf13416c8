/* Packets that are right: every type, version and property, there and back.  SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/echo.h"
#include "unit/codec/hex.h"
#include "unit/codec/suites.h"

/* In our own spelling, so that decoding and encoding gives the same bytes. */
static const struct row {
    const char *name;
    unsigned version;
    const char *hex;
} row[] = {
    {"connect 3.1", 3, "10 10 \"MQIsdp\" 03 02 003C \"c1\""},
    {"connect 3.1.1 least", 4, "10 0C \"MQTT\" 04 02 0000 \"\""},
    {"connect 3.1.1 all", 4, "10 25 \"MQTT\" 04 EE 003C \"c1\" \"w/t\" \"gone\" \"user\" \"pass\""},
    {"connect 3.1.1 user only", 4, "10 10 \"MQTT\" 04 80 003C \"c1\" \"\""},
    {"connect 5 least", 5, "10 0D \"MQTT\" 05 02 0000 00 \"\""},
    {"connect 5 password only", 5, "10 12 \"MQTT\" 05 42 0000 00 \"\" \"pwd\""},
    {"connect 5 all", 5,
     "10 60 \"MQTT\" 05 F6 000A 23 11 0000000A 21 0014 27 00010000 22 0005 19 01 17 00 15 \"M\" 16 \"D\" 26 \"k\" \"v\""
     "\"c1\" 1C 18 00000005 02 0000001E 01 01 03 \"t\" 26 \"k\" \"v\" 26 \"\" \"\" \"w/t\" \"gone\" \"u\" \"p\""},
    {"connack 3.1.1", 4, "20 02 00 05"},
    {"connack 3.1.1 present", 4, "20 02 01 00"},
    {"connack 5 least", 5, "20 03 01 00 00"},
    {"connack 5 all", 5,
     "20 38 00 00 35 11 0000000A 21 0014 24 01 25 00 27 00010000 12 \"i\" 22 0005 28 00 29 00 2A 00 13 001E "
     "1A \"r\" 1C \"s\" 15 \"M\" 16 \"D\" 1F \"w\""},
    {"connack 5 refused", 5, "20 03 00 87 00"},
    {"publish 3.1.1 QoS 0", 4, "30 07 \"a/b\" 'hi'"},
    {"publish 3.1.1 empty payload", 4, "31 05 \"a/b\""},
    {"publish 3.1.1 QoS 1", 4, "33 09 \"a/b\" 0007 'hi'"},
    {"publish 3.1.1 QoS 2 again", 4, "3C 09 \"a/b\" FFFF 'hi'"},
    {"publish 5 QoS 0", 5, "30 08 \"a/b\" 00 'hi'"},
    {"publish 5 alias only", 5, "30 08 \"\" 03 23 0003 'hi'"},
    {"publish 5 all", 5,
     "32 30 \"a/b\" 0001 27 02 0000001E 23 0003 0B 8001 01 01 08 \"r\" 09 \"c\" 03 \"t\" "
     "26 \"k\" \"v\" 26 \"k\" \"w\" '!'"},
    {"puback 3.1.1", 4, "40 02 0007"},
    {"puback 5", 5, "40 02 0007"},
    {"puback 5 reason", 5, "40 03 0007 10"},
    {"puback 5 props", 5, "40 0F 0007 87 0B 1F \"w\" 26 \"k\" \"v\""},
    {"pubrec 5 reason", 5, "50 03 0007 97"},
    {"pubrel 3.1.1", 4, "62 02 0007"},
    {"pubrel 5 reason", 5, "62 03 0007 92"},
    {"pubcomp 5", 5, "70 03 0007 92"},
    {"subscribe 3.1.1", 4, "82 0B 0001 \"a/+\" 01 \"\" 02"},
    {"subscribe 5", 5, "82 0E 0001 02 0B 07 \"a/+\" 2D \"\" 02"},
    {"suback 3.1.1", 4, "90 06 0001 00 01 02 80"},
    {"suback 5", 5, "90 07 0001 00 00 01 02 A2"},
    {"unsubscribe 3.1.1", 4, "A2 07 0001 \"a/+\""},
    {"unsubscribe 5", 5, "A2 0F 0001 07 26 \"k\" \"v\" \"a/+\""},
    {"unsuback 3.1.1", 4, "B0 02 0001"},
    {"unsuback 5", 5, "B0 05 0001 00 00 11"},
    {"pingreq", 4, "C0 00"},
    {"pingresp", 5, "D0 00"},
    {"disconnect 3.1.1", 4, "E0 00"},
    {"disconnect 5", 5, "E0 00"},
    {"disconnect 5 with will", 5, "E0 01 04"},
    {"disconnect 5 all", 5, "E0 0F 9D 0D 11 00000005 1C \"s\" 1F \"w\""},
    {"auth 5 success", 5, "F0 00"},
    {"auth 5 all", 5, "F0 0E 18 0C 15 \"M\" 16 \"D\" 1F \"w\""},
};

/* The length that a row's bytes must say; the table above may say 00. */
START_TEST(there_and_back)
{
    struct buf in = {0};
    struct echo e = {0};
    struct codec_mqtt_packet p;
    hex_put(&in, row[_i].hex);
    int r = codec_mqtt_frame(buf_str(&in), CODEC_MQTT_PACKET_MAX, &p);
    ck_assert_msg(r == 0, "%s: frame %d, length %zu of %zu", row[_i].name, r, p.len, in.n);
    ck_assert_msg(p.len == in.n, "%s: length %zu of %zu", row[_i].name, p.len, in.n);
    r = echo(&e, &p, row[_i].version);
    ck_assert_msg(r == 0, "%s: %d %s", row[_i].name, r, p.why);
    ck_assert_msg(str_eq(buf_str(&e.out), buf_str(&in)), "%s: not the same again", row[_i].name);
    /* the same packet behind another one, and one byte at a time */
    for (size_t k = 0; k < in.n; k++)
        ck_assert_int_eq(codec_mqtt_frame(str_view(in.p, k), CODEC_MQTT_PACKET_MAX, &p), CODEC_MQTT_E_MORE);
    ck_assert_int_eq(codec_mqtt_frame(buf_str(&in), in.n - 1, &p), CODEC_MQTT_E_TOO_LARGE);
    ck_assert_int_eq(codec_mqtt_frame(buf_str(&in), in.n, &p), 0);
    /* cut short inside: refused, never read past the end */
    for (size_t k = 0; k < p.body.n; k++) {
        struct codec_mqtt_packet cut = p;
        uint8_t *exact = mem_dup(p.body.p, k);
        cut.body = str_view(exact, k);
        r = echo(&e, &cut, row[_i].version);
        ck_assert_int_ge(r, 0);
        mem_free(exact);
    }
    buf_deinit(&in);
    echo_deinit(&e);
}
END_TEST

START_TEST(connect_fields)
{
    struct buf in = {0}, scratch = {0};
    struct codec_mqtt_packet p;
    struct codec_mqtt_connect c;
    hex_put(&in, row[6].hex);
    ck_assert_int_eq(codec_mqtt_frame(buf_str(&in), in.n, &p), 0);
    ck_assert_int_eq(codec_mqtt_connect_decode(&p, &scratch, &c), 0);
    ck_assert_uint_eq(c.version, 5);
    ck_assert(c.is_clean && c.has_will && c.has_username && c.has_password);
    ck_assert_uint_eq(c.keep_alive_sec, 10);
    ck_str(c.client_id, STR("c1"));
    ck_str(c.username, STR("u"));
    ck_str(c.password, STR("p"));
    ck_assert_uint_eq(c.props.session_expiry_sec, 10);
    ck_assert_uint_eq(c.props.receive_max, 20);
    ck_assert_uint_eq(c.props.packet_len_max, 65536);
    ck_assert_uint_eq(c.props.topic_alias_max, 5);
    ck_assert(CODEC_MQTT_HAS(&c.props, REQUEST_RESPONSE_INFORMATION) && c.props.request_response_info == 1);
    ck_assert(CODEC_MQTT_HAS(&c.props, REQUEST_PROBLEM_INFORMATION) && c.props.request_problem_info == 0);
    ck_str(c.props.auth_method, STR("M"));
    ck_str(c.props.auth_data, STR("D"));
    ck_str(c.will.topic, STR("w/t"));
    ck_str(c.will.payload, STR("gone"));
    ck_assert_uint_eq(c.will.qos, 2);
    ck_assert(c.will.is_retain && c.will.is_utf8 && c.will.has_expiry);
    ck_assert_uint_eq(c.will.delay_sec, 5);
    ck_assert_uint_eq(c.will.expiry_sec, 30);
    ck_str(c.will.props, STR("\x01\x01\x03\0\x01t\x26\0\x01k\0\x01v\x26\0\0\0\0"));
    ck_assert(!CODEC_MQTT_HAS(&c.props, ASSIGNED_CLIENT_IDENTIFIER));
    buf_deinit(&in);
    buf_deinit(&scratch);
}
END_TEST

START_TEST(publish_fields)
{
    struct buf in = {0}, scratch = {0};
    struct codec_mqtt_packet p;
    struct codec_mqtt_publish pub;
    hex_put(&in, "3D 2E \"a/b\" 0001 24 01 01 02 0000001E 08 \"r\" 23 0003 ");
    hex_put(&in, "09 \"c\" 03 \"t\" 26 \"k\" \"v\" 26 \"k\" \"w\" '!!'");
    ck_assert_int_eq(codec_mqtt_frame(buf_str(&in), in.n, &p), 0);
    ck_assert_int_eq(codec_mqtt_publish_decode(&p, 5, &pub), 0);
    ck_str(pub.topic, STR("a/b"));
    ck_str(pub.payload, STR("!!"));
    ck_str(pub.response_topic, STR("r"));
    ck_assert_uint_eq(pub.qos, 2);
    ck_assert(pub.is_dup && pub.is_retain && pub.is_utf8 && pub.has_alias && pub.has_expiry);
    ck_assert_uint_eq(pub.topic_alias, 3);
    ck_assert_uint_eq(pub.expiry_sec, 30);
    /* what travels on keeps its order, without expiry and alias */
    ck_str(codec_mqtt_publish_props(&pub, &scratch),
           STR("\x01\x01\x08\0\x01r\x09\0\x01" "c\x03\0\x01t\x26\0\x01k\0\x01v\x26\0\x01k\0\x01w"));
    buf_deinit(&in);
    buf_deinit(&scratch);
}
END_TEST

/* MQTT 3.1: user name and password flags may promise what the length does not hold. */
START_TEST(old_clients)
{
    struct buf in = {0}, scratch = {0};
    struct codec_mqtt_packet p;
    struct codec_mqtt_connect c;
    hex_put(&in, "10 10 \"MQIsdp\" 03 C2 003C \"c1\"");
    ck_assert_int_eq(codec_mqtt_frame(buf_str(&in), in.n, &p), 0);
    ck_assert_int_eq(codec_mqtt_connect_decode(&p, &scratch, &c), 0);
    ck_assert(!c.has_username && !c.has_password);
    /* a length that is not in its shortest form is fine before 5.0 */
    in.n = 0;
    hex_put(&in, "30 87 80 00 \"a/b\" 'hi'");
    ck_assert_int_eq(codec_mqtt_frame(buf_str(&in), in.n, &p), 0);
    ck_assert(p.is_padded);
    struct codec_mqtt_publish pub;
    ck_assert_int_eq(codec_mqtt_publish_decode(&p, 4, &pub), 0);
    ck_str(pub.payload, STR("hi"));
    buf_deinit(&in);
    buf_deinit(&scratch);
}
END_TEST

/* Reason String goes first, then User Properties, then the packet itself [MQTT-3.2.2-19] [MQTT-3.4.2-2]. */
START_TEST(what_fits)
{
    struct buf b = {0}, user = {0};
    struct codec_mqtt_peer peer = {.version = 5};
    struct codec_mqtt_ack a = {.packet_id = 7, .reason = 0x87};
    codec_mqtt_user_put(&user, STR("k"), STR("v"));
    a.props.user = buf_str(&user);
    CODEC_MQTT_SET(&a.props, REASON_STRING, reason_string, STR("because"));
    static const struct {
        uint32_t max;
        size_t want;
    } fit[] = {{0, 23}, {23, 23}, {22, 13}, {13, 13}, {12, 5}, {5, 5}, {4, 0}};
    for (size_t i = 0; i < countof(fit); i++) {
        peer.packet_len_max = fit[i].max;
        b.n = 0;
        int r = codec_mqtt_ack_encode(&b, &peer, CODEC_MQTT_PUBACK, &a);
        ck_assert_msg(b.n == fit[i].want, "limit %u: %zu bytes", fit[i].max, b.n);
        ck_assert_int_eq(r, fit[i].want > 0 ? 0 : CODEC_MQTT_ENCODE_E_TOO_LARGE);
    }
    struct codec_msg m = {.topic = STR("a/b"), .payload = STR("0123456789")};
    struct codec_mqtt_delivery d = {.qos = 1, .packet_id = 9};
    b.n = 0;
    peer.packet_len_max = 19;
    ck_assert_int_eq(codec_mqtt_publish_encode(&b, &peer, &m, &d), CODEC_MQTT_ENCODE_E_TOO_LARGE);
    ck_assert_uint_eq(b.n, 0);
    peer.packet_len_max = 20;
    ck_assert_int_eq(codec_mqtt_publish_encode(&b, &peer, &m, &d), 0);
    ck_assert_uint_eq(b.n, 20);
    buf_deinit(&b);
    buf_deinit(&user);
}
END_TEST

START_TEST(images_are_encodings)
{
    struct codec_mqtt_images set = {0};
    struct buf want = {0}, got = {0};
    struct codec_msg m = {.topic = STR("a/b"), .payload = STR("hello"), .props = STR("\x01\x01"), .qos = 2,
                          .has_expiry = true, .expiry_sec = 30, .hlc = hlc_of_ms(1000)};
    codec_mqtt_images_begin(&set, &m, 11000);
    for (unsigned v = 4; v <= 5; v++) {
        for (unsigned qos = 0; qos <= 2; qos++) {
            for (unsigned retain = 0; retain <= 1; retain++) {
                struct codec_mqtt_peer peer = {.version = (uint8_t)v};
                struct codec_mqtt_delivery d = {.qos = (uint8_t)qos, .is_retain = retain, .packet_id = 0x1234,
                                                .has_expiry = true, .expiry_sec = 20};
                want.n = got.n = 0;
                ck_assert_int_eq(codec_mqtt_publish_encode(&want, &peer, &m, &d), 0);
                struct codec_mqtt_image i = codec_mqtt_images_get(&set, v, qos, retain);
                codec_mqtt_images_put(&got, &set, i, 0x1234);
                ck_str(buf_str(&got), buf_str(&want));
            }
        }
    }
    codec_mqtt_images_deinit(&set);
    buf_deinit(&want);
    buf_deinit(&got);
}
END_TEST

START_TEST(names)
{
    ck_assert_str_eq(codec_mqtt_type_name(CODEC_MQTT_PUBLISH), "PUBLISH");
    ck_assert_str_eq(codec_mqtt_type_name(0), "?");
    ck_assert_str_eq(codec_mqtt_type_name(99), "?");
    ck_assert_str_eq(codec_mqtt_reason_text(0x87), "Not authorized");
    ck_assert_str_eq(codec_mqtt_reason_text(0x03), "?");
    ck_assert(codec_mqtt_reason_fits(0x10, CODEC_MQTT_PUBACK));
    ck_assert(!codec_mqtt_reason_fits(0x10, CODEC_MQTT_PUBCOMP));
    ck_assert(!codec_mqtt_reason_fits(0x10, 99));
}
END_TEST

START_TEST(controls)
{
    static const struct {
        struct str s;
        bool has;
    } c[] = {{{"plain", 5}, false}, {{"a\tb", 3}, true}, {{"\x7F", 1}, true}, {{"\xC2\x80", 2}, true},
             {{"\xC2\xA0", 2}, false}, {{"\xEF\xBF\xBE", 3}, true}, {{"\xEF\xB7\x90", 3}, true},
             {{"\xEF\xBF\xBD", 3}, false}, {{"\xF0\x9F\xBF\xBF", 4}, true}, {{"\xF0\x9F\x98\x80", 4}, false}};
    for (size_t i = 0; i < countof(c); i++)
        ck_assert_msg(codec_mqtt_has_control(c[i].s) == c[i].has, "row %zu", i);
}
END_TEST

Suite *suite_mqtt(void)
{
    Suite *s = suite_create("mqtt");
    TCase *t = tcase_create("good");
    tcase_add_loop_test(t, there_and_back, 0, (int)countof(row));
    tcase_add_test(t, connect_fields);
    tcase_add_test(t, publish_fields);
    tcase_add_test(t, old_clients);
    tcase_add_test(t, what_fits);
    tcase_add_test(t, images_are_encodings);
    tcase_add_test(t, names);
    tcase_add_test(t, controls);
    suite_add_tcase(s, t);
    return s;
}
