/* Properties of MQTT 5.0 packets.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants:
 * 1. A block that passed codec_mqtt_props_decode can be walked without further checks.
 * 2. What travels on keeps the order in which it came [MQTT-3.3.2-18]. */
#include "codec/mqtt_priv.h"

const struct prop_row codec_mqtt_prop_row[PROP_ID_MAX + 1] = {
#define X(NAME, field, id, KIND, packets) [id] = {PROP_##KIND, (packets), offsetof(struct codec_mqtt_props, field)},
#include "codec/prop.def"
#undef X
    [CODEC_MQTT_P_USER_PROPERTY] = {PROP_PAIR, 0xFFFF & ~(IN(PINGREQ) | IN(PINGRESP)), 0},
};

uint32_t codec_mqtt_varint_get(struct codec_cursor *c)
{
    uint32_t v = 0;
    for (unsigned shift = 0; shift < 28; shift += 7) {
        uint8_t b = codec_cursor_u8(c);
        v |= (uint32_t)(b & 0x7F) << shift;
        if (b < 0x80) {
            if (b == 0 && shift > 0)
                codec_cursor_fail(c);
            return c->bad ? 0 : v;
        }
    }
    codec_cursor_fail(c);
    return 0;
}

size_t codec_mqtt_varint_len(uint32_t v)
{
    return v < 1u << 7 ? 1 : v < 1u << 14 ? 2 : v < 1u << 21 ? 3 : 4;
}

uint8_t *codec_mqtt_varint_put(uint8_t *at, uint32_t v)
{
    for (; v >= 0x80; v >>= 7)
        *at++ = (uint8_t)(v | 0x80);
    *at++ = (uint8_t)v;
    return at;
}

static const struct prop_row *row_of(uint32_t id)
{
    static const struct prop_row none = {PROP_NONE, 0, 0};
    return id <= PROP_ID_MAX ? &codec_mqtt_prop_row[id] : &none;
}

/* Reads one value into the field at `to` (NULL: only past it). */
static void read_value(struct codec_cursor *c, enum prop_kind kind, void *to)
{
    uint32_t v = 0;
    struct str s = {0};
    switch (kind) {
    case PROP_BYTE:
        v = codec_cursor_u8(c);
        if (to != NULL)
            *(uint8_t *)to = (uint8_t)v;
        return;
    case PROP_U16:
        v = codec_cursor_u16(c);
        if (to != NULL)
            *(uint16_t *)to = (uint16_t)v;
        return;
    case PROP_U32:
    case PROP_VARINT:
        v = kind == PROP_U32 ? codec_cursor_u32(c) : codec_mqtt_varint_get(c);
        if (to != NULL)
            *(uint32_t *)to = v;
        return;
    case PROP_STR:
    case PROP_BIN:
        s = codec_cursor_str16(c);
        if (kind == PROP_STR && !str_is_utf8(s))
            codec_cursor_fail(c);
        if (to != NULL)
            *(struct str *)to = s;
        return;
    case PROP_PAIR:
        if (!str_is_utf8(codec_cursor_str16(c)) || !str_is_utf8(codec_cursor_str16(c)))
            codec_cursor_fail(c);
        return;
    case PROP_NONE:
        codec_cursor_fail(c);
        return;
    }
}

/* Values that their descriptions forbid; NULL: fine.  *out_reason is what to answer. */
static const char *forbidden(const struct codec_mqtt_props *p, int *out_reason)
{
    *out_reason = CODEC_MQTT_RC_PROTOCOL_ERROR;
#define FLAG_ONLY(NAME, field) \
    if (CODEC_MQTT_HAS(p, NAME) && p->field > 1) \
        return #NAME " other than 0 or 1";
    FLAG_ONLY(REQUEST_RESPONSE_INFORMATION, request_response_info)
    FLAG_ONLY(REQUEST_PROBLEM_INFORMATION, request_problem_info)
    FLAG_ONLY(PAYLOAD_FORMAT_INDICATOR, payload_format)
    FLAG_ONLY(MAXIMUM_QOS, maximum_qos)
    FLAG_ONLY(RETAIN_AVAILABLE, retain_available)
    FLAG_ONLY(WILDCARD_SUBSCRIPTION_AVAILABLE, wildcard_available)
    FLAG_ONLY(SUBSCRIPTION_IDENTIFIER_AVAILABLE, subscription_id_available)
    FLAG_ONLY(SHARED_SUBSCRIPTION_AVAILABLE, shared_available)
#undef FLAG_ONLY
    if (CODEC_MQTT_HAS(p, RECEIVE_MAXIMUM) && p->receive_max == 0)
        return "MQTT5 3.1.2.11.3: Receive Maximum 0";
    if (CODEC_MQTT_HAS(p, MAXIMUM_PACKET_SIZE) && p->packet_len_max == 0)
        return "MQTT5 3.1.2.11.4: Maximum Packet Size 0";
    if (CODEC_MQTT_HAS(p, SUBSCRIPTION_IDENTIFIER) && p->subscription_id == 0)
        return "MQTT5 3.8.2.1.2: Subscription Identifier 0";
    if (CODEC_MQTT_HAS(p, AUTHENTICATION_DATA) && !CODEC_MQTT_HAS(p, AUTHENTICATION_METHOD))
        return "MQTT5 3.1.2.11.10: authentication data without a method";
    *out_reason = CODEC_MQTT_RC_TOPIC_ALIAS_INVALID;
    if (CODEC_MQTT_HAS(p, TOPIC_ALIAS) && p->topic_alias == 0)
        return "MQTT-3.3.2-8: topic alias 0";
    return NULL;
}

int codec_mqtt_props_decode(struct str block, unsigned where, struct codec_mqtt_props *out,
                            size_t *out_travel_len, const char **why)
{
    struct codec_cursor c = codec_cursor_of(block);
    int reason;
    out->has = 0;
    out->user = block;
    out->user_count = 0;
    *out_travel_len = 0;
    while (c.p != c.end) {
        const uint8_t *at = c.p;
        uint32_t id = codec_mqtt_varint_get(&c);
        const struct prop_row *row = row_of(id);
        uint64_t bit = (uint64_t)1 << (id & 63);
        if (c.bad || (row->packets & where) == 0) {
            *why = "MQTT5 2.2.2.2: a property that may not be here";
            return CODEC_MQTT_RC_MALFORMED_PACKET;
        }
        bool is_again = (out->has & bit) != 0 && row->kind != PROP_PAIR;
        if (is_again && !(id == CODEC_MQTT_P_SUBSCRIPTION_IDENTIFIER && where == IN(PUBLISH))) {
            *why = "a property more than once";
            return CODEC_MQTT_RC_PROTOCOL_ERROR;
        }
        out->has |= bit;
        read_value(&c, row->kind, row->kind == PROP_PAIR || is_again ? NULL : (char *)out + row->offset);
        if (c.bad) {
            *why = "a property that cannot be read";
            return CODEC_MQTT_RC_MALFORMED_PACKET;
        }
        out->user_count += row->kind == PROP_PAIR;
        if ((bit & PROPS_HOP) == 0)
            *out_travel_len += (size_t)(c.p - at);
    }
    const char *bad = forbidden(out, &reason);
    if (bad == NULL)
        return 0;
    *why = bad;
    return reason;
}

struct str codec_mqtt_props_travel(struct str block, size_t travel_len, struct buf *scratch)
{
    if (travel_len == 0)
        return str_view("", 0);
    if (travel_len == block.n)
        return block;
    struct codec_cursor c = codec_cursor_of(block);
    (void)buf_reserve(scratch, travel_len);
    size_t begin = scratch->n;
    while (c.p != c.end) {
        const uint8_t *at = c.p;
        uint32_t id = codec_mqtt_varint_get(&c);
        read_value(&c, row_of(id)->kind, NULL);
        must(!c.bad);
        if (((uint64_t)1 << id & PROPS_HOP) == 0)
            buf_put(scratch, at, (size_t)(c.p - at));
    }
    must(scratch->n - begin == travel_len);
    return str_view(scratch->p + begin, travel_len);
}

bool codec_mqtt_props_travel_check(struct str block)
{
    struct codec_mqtt_props props;
    const char *why;
    size_t travel_len;
    return block.n == 0 || (codec_mqtt_props_decode(block, WILL, &props, &travel_len, &why) == 0 &&
                            travel_len == block.n);
}

bool codec_mqtt_user_next(struct str *rest, struct str *out_name, struct str *out_value)
{
    struct codec_cursor c = codec_cursor_of(*rest);
    while (c.p != c.end) {
        uint32_t id = codec_mqtt_varint_get(&c);
        enum prop_kind kind = row_of(id)->kind;
        if (kind == PROP_PAIR) {
            *out_name = codec_cursor_str16(&c);
            *out_value = codec_cursor_str16(&c);
            *rest = str_view(c.p, codec_cursor_left(&c));
            return !c.bad;
        }
        read_value(&c, kind, NULL);
    }
    *rest = str_view(c.p, 0);
    return false;
}

void codec_mqtt_user_put(struct buf *b, struct str name, struct str value)
{
    must(name.n <= UINT16_MAX && value.n <= UINT16_MAX);
    buf_put_u8(b, CODEC_MQTT_P_USER_PROPERTY);
    buf_put_u16(b, (uint16_t)name.n);
    buf_put_str(b, name);
    buf_put_u16(b, (uint16_t)value.n);
    buf_put_str(b, value);
}

static size_t value_len(const struct prop_row *row, const struct codec_mqtt_props *p)
{
    const void *from = (const char *)p + row->offset;
    switch ((enum prop_kind)row->kind) {
    case PROP_BYTE:
        return 1;
    case PROP_U16:
        return 2;
    case PROP_U32:
        return 4;
    case PROP_VARINT:
        return codec_mqtt_varint_len(*(const uint32_t *)from);
    case PROP_STR:
    case PROP_BIN:
        return 2 + ((const struct str *)from)->n;
    case PROP_PAIR:
    case PROP_NONE:
        break;
    }
    return 0;
}

static void value_put(struct buf *b, const struct prop_row *row, const struct codec_mqtt_props *p)
{
    const void *from = (const char *)p + row->offset;
    uint8_t varint[4];
    switch ((enum prop_kind)row->kind) {
    case PROP_BYTE:
        buf_put_u8(b, *(const uint8_t *)from);
        return;
    case PROP_U16:
        buf_put_u16(b, *(const uint16_t *)from);
        return;
    case PROP_U32:
        buf_put_u32(b, *(const uint32_t *)from);
        return;
    case PROP_VARINT:
        buf_put(b, varint, (size_t)(codec_mqtt_varint_put(varint, *(const uint32_t *)from) - varint));
        return;
    case PROP_STR:
    case PROP_BIN:
        must(((const struct str *)from)->n <= UINT16_MAX);
        buf_put_u16(b, (uint16_t)((const struct str *)from)->n);
        buf_put_str(b, *(const struct str *)from);
        return;
    case PROP_PAIR:
    case PROP_NONE:
        return;
    }
}

/* Identifiers in the order of prop.def. */
static const uint8_t prop_order[] = {
#define X(NAME, field, id, KIND, packets) id,
#include "codec/prop.def"
#undef X
};

size_t codec_mqtt_props_len(const struct codec_mqtt_props *p, uint64_t mask, bool has_user)
{
    size_t n = has_user ? p->user.n : 0;
    if ((p->has & mask) == 0)
        return n;
    for (size_t i = 0; i < countof(prop_order); i++)
        if ((p->has & mask & (uint64_t)1 << prop_order[i]) != 0)
            n += 1 + value_len(&codec_mqtt_prop_row[prop_order[i]], p);
    return n;
}

void codec_mqtt_props_put(struct buf *b, const struct codec_mqtt_props *p, uint64_t mask, bool has_user)
{
    for (size_t i = 0; i < countof(prop_order); i++) {
        if ((p->has & mask & (uint64_t)1 << prop_order[i]) != 0) {
            buf_put_u8(b, prop_order[i]);
            value_put(b, &codec_mqtt_prop_row[prop_order[i]], p);
        }
    }
    if (has_user)
        buf_put_str(b, p->user);
}
