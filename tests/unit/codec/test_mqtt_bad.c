/* Packets that are wrong and the reason code that each is answered with.  SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/echo.h"
#include "unit/codec/hex.h"
#include "unit/codec/suites.h"

#define BAD 0x81
#define PROTO 0x82

static const struct row {
    const char *name;
    unsigned version;
    const char *hex;
    int reason;
} row[] = {
    /* frames */
    {"type 0", 4, "00 00", BAD},
    {"pubrel flags", 4, "60 02 0001", BAD},
    {"subscribe flags", 4, "80 06 0001 \"a\" 00", BAD},
    {"pingreq flags", 4, "C1 00", BAD},
    {"length of five bytes", 4, "30 FF FF FF FF 01", BAD},
    {"disconnect flags", 5, "E4 00", BAD},
    /* CONNECT */
    {"protocol name", 4, "10 0C \"MQXX\" 04 02 0000 \"\"", 0x84},
    {"protocol level 6", 5, "10 0C \"MQTT\" 06 02 0000 \"\"", 0x84},
    {"level 4 with the old name", 5, "10 0E \"MQIsdp\" 04 02 0000 \"\"", 0x84},
    {"reserved connect flag", 4, "10 0C \"MQTT\" 04 03 0000 \"\"", BAD},
    {"will QoS without will", 4, "10 0C \"MQTT\" 04 0A 0000 \"\"", BAD},
    {"will retain without will", 4, "10 0C \"MQTT\" 04 22 0000 \"\"", BAD},
    {"will QoS 3", 4, "10 10 \"MQTT\" 04 1E 0000 \"\" \"\" \"\"", BAD},
    {"password without user name", 4, "10 0E \"MQTT\" 04 42 0000 \"\" \"\"", BAD},
    {"user name missing", 4, "10 0C \"MQTT\" 04 82 0000 \"\"", BAD},
    {"bytes behind", 4, "10 0D \"MQTT\" 04 02 0000 \"\" 00", BAD},
    {"no client identifier", 4, "10 0A \"MQTT\" 04 02 0000", BAD},
    {"no keep alive", 4, "10 08 \"MQTT\" 04 02", BAD},
    {"receive maximum 0", 5, "10 10 \"MQTT\" 05 02 0000 03 21 0000 \"\"", PROTO},
    {"packet size 0", 5, "10 12 \"MQTT\" 05 02 0000 05 27 00000000 \"\"", PROTO},
    {"session expiry twice", 5, "10 17 \"MQTT\" 05 02 0000 0A 11 00000001 11 00000001 \"\"", PROTO},
    {"request problem information 2", 5, "10 0F \"MQTT\" 05 02 0000 02 17 02 \"\"", PROTO},
    {"request response information 2", 5, "10 0F \"MQTT\" 05 02 0000 02 19 02 \"\"", PROTO},
    {"auth data without method", 5, "10 10 \"MQTT\" 05 02 0000 03 16 0000 \"\"", PROTO},
    {"topic alias in connect", 5, "10 10 \"MQTT\" 05 02 0000 03 23 0001 \"\"", BAD},
    {"unknown property", 5, "10 0F \"MQTT\" 05 02 0000 02 7F 01 \"\"", BAD},
    {"property over the block", 5, "10 0F \"MQTT\" 05 02 0000 02 11 00 \"\"", BAD},
    {"property length over the packet", 5, "10 0D \"MQTT\" 05 02 0000 7F \"\"", BAD},
    {"user property not UTF-8", 5, "10 14 \"MQTT\" 05 02 0000 07 26 0001 FF 0001 41 \"\"", BAD},
    {"padded property length", 5, "10 0E \"MQTT\" 05 02 0000 80 00 \"\"", BAD},
    {"padded remaining length", 5, "10 8D 00 \"MQTT\" 05 02 0000 00 \"\"", BAD},
    {"will delay in connect", 5, "10 12 \"MQTT\" 05 02 0000 05 18 00000001 \"\"", BAD},
    {"expiry in will twice", 5, "10 1C \"MQTT\" 05 06 0000 00 \"\" 0A 02 00000001 02 00000001 \"\" \"\"", PROTO},
    /* CONNACK */
    {"connack flags", 4, "20 02 02 00", BAD},
    {"connack return code 6", 4, "20 02 00 06", PROTO},
    {"connack reason", 5, "20 03 00 01 00", PROTO},
    {"connack maximum QoS 2", 5, "20 05 00 00 02 24 02", PROTO},
    {"connack behind", 4, "20 03 00 00 00", BAD},
    /* PUBLISH */
    {"QoS 3", 4, "36 05 \"a\" 0001", BAD},
    {"DUP with QoS 0", 4, "38 03 \"a\"", PROTO},
    {"packet identifier 0", 4, "32 05 \"a\" 0000", PROTO},
    {"packet identifier missing", 4, "32 03 \"a\"", BAD},
    {"topic longer than the packet", 4, "30 03 0005 'a'", BAD},
    {"no topic", 4, "30 01 00", BAD},
    {"publish no property length", 5, "30 03 \"a\"", BAD},
    {"publish property length over", 5, "30 04 \"a\" 05", BAD},
    {"topic alias 0", 5, "30 07 \"a\" 03 23 0000", 0x94},
    {"topic alias twice", 5, "30 0A \"a\" 06 23 0001 23 0001", PROTO},
    {"expiry twice", 5, "30 0E \"a\" 0A 02 00000001 02 00000001", PROTO},
    {"payload format 2", 5, "30 06 \"a\" 02 01 02", PROTO},
    {"response topic twice", 5, "30 0C \"a\" 08 08 \"r\" 08 \"r\"", PROTO},
    {"content type not UTF-8", 5, "30 08 \"a\" 04 03 0001 FF", BAD},
    {"response topic with NUL", 5, "30 08 \"a\" 04 08 0001 00", BAD},
    {"subscription identifier 0", 5, "30 06 \"a\" 02 0B 00", PROTO},
    {"session expiry in publish", 5, "30 09 \"a\" 05 11 00000001", BAD},
    {"padded publish", 5, "30 86 00 \"a\" 00 'hi'", BAD},
    {"subscription identifier padded", 5, "30 07 \"a\" 03 0B 8100", BAD},
    {"subscription identifier of five bytes", 5, "30 0A \"a\" 06 0B FFFFFFFF01", BAD},
    /* acknowledgements */
    {"puback short", 4, "40 01 00", BAD},
    {"puback id 0", 4, "40 02 0000", PROTO},
    {"puback with a reason before 5.0", 4, "40 03 0001 00", BAD},
    {"puback reason", 5, "40 03 0001 92", PROTO},
    {"pubrec reason", 5, "50 03 0001 18", PROTO},
    {"pubrel reason", 5, "62 03 0001 80", PROTO},
    {"pubcomp reason", 5, "70 03 0001 10", PROTO},
    {"puback reason string twice", 5, "40 0A 0001 00 06 1F \"\" 1F \"\"", PROTO},
    {"puback property", 5, "40 09 0001 00 05 11 00000001", BAD},
    {"puback behind", 5, "40 05 0001 00 00 00", BAD},
    {"puback padded", 5, "40 82 00 0001", BAD},
    /* SUBSCRIBE and friends */
    {"no filter", 4, "82 02 0001", PROTO},
    {"no filter 5", 5, "82 03 0001 00", PROTO},
    {"subscribe id 0", 4, "82 06 0000 \"a\" 00", PROTO},
    {"subscribe id 0 5", 5, "82 07 0000 00 \"a\" 00", PROTO},
    {"subscribe QoS 3", 4, "82 06 0001 \"a\" 03", BAD},
    {"reserved options 3.1.1", 4, "82 06 0001 \"a\" 04", BAD},
    {"reserved options 5", 5, "82 07 0001 00 \"a\" 40", BAD},
    {"retain handling 3", 5, "82 07 0001 00 \"a\" 30", PROTO},
    {"options missing", 4, "82 05 0001 \"a\"", BAD},
    {"second filter cut", 4, "82 08 0001 \"a\" 00 0005", BAD},
    {"subscription identifier 0", 5, "82 09 0001 02 0B 00 \"a\" 00", PROTO},
    {"subscription identifier twice", 5, "82 0B 0001 04 0B 01 0B 02 \"a\" 00", PROTO},
    {"unsubscribe empty", 4, "A2 02 0001", PROTO},
    {"unsubscribe id 0", 4, "A2 05 0000 \"a\"", PROTO},
    {"unsubscribe with sub id", 5, "A2 08 0001 02 0B 01 \"a\"", BAD},
    {"suback empty", 4, "90 02 0001", BAD},
    {"suback code 3", 4, "90 03 0001 03", PROTO},
    {"suback reason", 5, "90 04 0001 00 11", PROTO},
    {"unsuback reason", 5, "B0 04 0001 00 01", PROTO},
    {"unsuback with codes before 5.0", 4, "B0 03 0001 00", BAD},
    /* the rest */
    {"pingreq body", 4, "C0 01 00", BAD},
    {"disconnect body", 4, "E0 01 00", BAD},
    {"disconnect reason", 5, "E0 01 01", PROTO},
    {"disconnect property", 5, "E0 05 00 03 23 0001", BAD},
    {"disconnect expiry twice", 5, "E0 0C 00 0A 11 00000001 11 00000001", PROTO},
    {"disconnect behind", 5, "E0 03 00 00 00", BAD},
    {"auth before 5.0", 4, "F0 00", BAD},
    {"auth reason", 5, "F0 01 01", PROTO},
    {"auth data without method", 5, "F0 05 18 03 16 0000", PROTO},
};

START_TEST(refused)
{
    struct buf in = {0};
    struct echo e = {0};
    struct codec_mqtt_packet p;
    hex_put(&in, row[_i].hex);
    int r = codec_mqtt_frame(buf_str(&in), CODEC_MQTT_PACKET_MAX, &p);
    if (r == 0) {
        ck_assert_msg(p.len == in.n, "%s: length %zu of %zu", row[_i].name, p.len, in.n);
        r = echo(&e, &p, row[_i].version);
    }
    ck_assert_msg(r == row[_i].reason, "%s: 0x%02X", row[_i].name, (unsigned)r);
    ck_assert_msg(p.why[0] != 0, "%s: no word why", row[_i].name);
    buf_deinit(&in);
    echo_deinit(&e);
}
END_TEST

/* A value of each property, in the packets of which it may be and in all others. */
static const struct {
    uint8_t id;
    const char *value;
    uint16_t packets;
} prop[] = {
#define IN(type) (1u << CODEC_MQTT_##type)
#define WILL 1u
#define VALUE_BYTE "01"
#define VALUE_U16 "0001"
#define VALUE_U32 "00000001"
#define VALUE_VARINT "01"
#define VALUE_STR "\"s\""
#define VALUE_BIN "\"b\""
#define X(NAME, field, id, KIND, packets) {id, VALUE_##KIND, (packets)},
#include "codec/prop.def"
#undef X
};

/* A packet of this type with this property block. */
static void packet_with(struct buf *b, unsigned type, const struct buf *block)
{
    static const char *const before[16] = {
        [1] = "\"MQTT\" 05 02 0000", [2] = "00 00", [3] = "\"a\"", [4] = "0001 00", [5] = "0001 00", [6] = "0001 00",
        [7] = "0001 00", [8] = "0001", [9] = "0001", [10] = "0001", [11] = "0001", [14] = "00", [15] = "00"};
    static const char *const behind[16] = {[1] = "\"\"", [8] = "\"a\" 00", [9] = "00", [10] = "\"a\"", [11] = "00"};
    struct buf body = {0};
    hex_put(&body, before[type]);
    buf_put_u8(&body, (uint8_t)block->n);
    buf_put_str(&body, buf_str(block));
    if (behind[type] != NULL)
        hex_put(&body, behind[type]);
    buf_put_u8(b, (uint8_t)(type << 4 | (type == 6 || type == 8 || type == 10 ? 2 : 0)));
    buf_put_u8(b, (uint8_t)body.n);
    buf_put_str(b, buf_str(&body));
    buf_deinit(&body);
}

START_TEST(property_in_packet)
{
    for (unsigned type = 1; type <= 15; type++) {
        struct buf block = {0}, in = {0};
        struct echo e = {0};
        struct codec_mqtt_packet p;
        if (type == CODEC_MQTT_PINGREQ || type == CODEC_MQTT_PINGRESP)
            continue;
        bool needs_method = prop[_i].id == CODEC_MQTT_P_AUTHENTICATION_DATA;
        if (needs_method && (prop[_i].packets & 1u << type) != 0)
            hex_put(&block, "15 \"m\"");
        buf_put_u8(&block, prop[_i].id);
        hex_put(&block, prop[_i].value);
        packet_with(&in, type, &block);
        ck_assert_int_eq(codec_mqtt_frame(buf_str(&in), in.n, &p), 0);
        int r = echo(&e, &p, 5);
        int want = (prop[_i].packets & 1u << type) != 0 ? 0 : BAD;
        ck_assert_msg(r == want, "property 0x%02X in %s: 0x%02X", prop[_i].id, codec_mqtt_type_name(type), (unsigned)r);
        if (want == 0)
            ck_assert(memmem(e.out.p, e.out.n, block.p, block.n) != NULL);
        /* twice is too much, but for Subscription Identifiers of a PUBLISH */
        buf_put_u8(&block, prop[_i].id);
        hex_put(&block, prop[_i].value);
        in.n = 0;
        packet_with(&in, type, &block);
        ck_assert_int_eq(codec_mqtt_frame(buf_str(&in), in.n, &p), 0);
        r = echo(&e, &p, 5);
        bool may_repeat = prop[_i].id == CODEC_MQTT_P_SUBSCRIPTION_IDENTIFIER && type == CODEC_MQTT_PUBLISH;
        ck_assert_int_eq(r, want != 0 ? BAD : may_repeat ? 0 : PROTO);
        buf_deinit(&block);
        buf_deinit(&in);
        echo_deinit(&e);
    }
}
END_TEST

/* Every reason code in every packet that has one. */
START_TEST(reason_in_packet)
{
    static const unsigned type[] = {2, 4, 5, 6, 7, 9, 11, 14, 15};
    static const char *const before[] = {"20 03 00", "40 03 0001", "50 03 0001", "62 03 0001", "70 03 0001",
                                         "90 04 0001 00", "B0 04 0001 00", "E0 01", "F0 01"};
    for (unsigned code = 0; code < 256; code++) {
        struct buf in = {0};
        struct echo e = {0};
        struct codec_mqtt_packet p;
        hex_put(&in, before[_i]);
        buf_put_u8(&in, (uint8_t)code);
        if (type[_i] == CODEC_MQTT_CONNACK)
            buf_put_u8(&in, 0);
        ck_assert_int_eq(codec_mqtt_frame(buf_str(&in), in.n, &p), 0);
        int r = echo(&e, &p, 5);
        ck_assert_int_eq(r, codec_mqtt_reason_fits(code, type[_i]) ? 0 : PROTO);
        buf_deinit(&in);
        echo_deinit(&e);
    }
}
END_TEST

Suite *suite_mqtt_bad(void)
{
    Suite *s = suite_create("mqtt_bad");
    TCase *t = tcase_create("bad");
    tcase_add_loop_test(t, refused, 0, (int)countof(row));
    tcase_add_loop_test(t, property_in_packet, 0, (int)countof(prop));
    tcase_add_loop_test(t, reason_in_packet, 0, 9);
    suite_add_tcase(s, t);
    return s;
}
