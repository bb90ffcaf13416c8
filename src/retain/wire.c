/* Retained messages as bytes: keys, rows, commands, requests, replies.  SPDX-License-Identifier:
 * Apache-2.0 */
#include "codec/record.h"
#include "retain/retain_priv.h"

#define KIND_VALUE 0xE8

enum { TAG_PAYLOAD = 1, TAG_PROPS, TAG_PUBLISHER, TAG_HLC, TAG_EXPIRY, TAG_QOS };

/* ---- keys ------------------------------------------------------------------------------------ */

void retain_key(struct buf *out, struct str tenant, struct str topic)
{
    buf_put_str(out, tenant);
    buf_put_u8(out, 0);
    buf_put_str(out, topic);
}

void retain_key_tenant(struct buf *from, struct buf *to, struct str tenant)
{
    buf_put_str(from, tenant);
    buf_put_u8(from, 0);
    buf_put_str(to, tenant);
    buf_put_u8(to, 1);
}

/* ---- values ---------------------------------------------------------------------------------- */

void retain_value_encode(struct buf *out, const struct retain_message *m)
{
    codec_record_begin(out, KIND_VALUE, RETAIN_VERSION);
    codec_record_bytes(out, TAG_PAYLOAD, m->payload);
    if (m->props.n > 0)
        codec_record_bytes(out, TAG_PROPS, m->props);
    if (m->publisher.n > 0)
        codec_record_bytes(out, TAG_PUBLISHER, m->publisher);
    codec_record_u64(out, TAG_HLC, m->hlc);
    if (m->expiry_sec != UINT32_MAX)
        codec_record_u64(out, TAG_EXPIRY, m->expiry_sec);
    if (m->qos != 0)
        codec_record_u64(out, TAG_QOS, m->qos);
}

bool retain_value_decode(struct str value, struct retain_message *out)
{
    struct codec_cursor c = codec_cursor_of(value);
    struct codec_field f;
    uint8_t kind, version;
    *out = (struct retain_message){.expiry_sec = UINT32_MAX,
                                   .topic = STR(""),
                                   .payload = STR(""),
                                   .props = STR(""),
                                   .publisher = STR("")};
    codec_record_head(&c, &kind, &version);
    while (codec_record_next(&c, &f)) {
        if (f.tag == TAG_PAYLOAD && f.is_bytes)
            out->payload = f.bytes;
        else if (f.tag == TAG_PROPS && f.is_bytes)
            out->props = f.bytes;
        else if (f.tag == TAG_PUBLISHER && f.is_bytes)
            out->publisher = f.bytes;
        else if (f.tag == TAG_HLC)
            out->hlc = f.u64;
        else if (f.tag == TAG_EXPIRY)
            out->expiry_sec = f.u64 < UINT32_MAX ? (uint32_t)f.u64 : UINT32_MAX;
        else if (f.tag == TAG_QOS)
            out->qos = (uint8_t)(f.u64 & 3);
    }
    return !c.bad && kind == KIND_VALUE && version == RETAIN_VERSION && out->qos <= 2;
}

uint64_t retain_message_due_ms(uint64_t hlc, uint32_t expiry_sec)
{
    return expiry_sec == UINT32_MAX ? UINT64_MAX : (hlc >> 16) + (uint64_t)expiry_sec * 1000;
}

/* ---- commands -------------------------------------------------------------------------------- */

void retain_command_begin(struct buf *out)
{
    codec_record_begin(out, RETAIN_KIND_SET, RETAIN_VERSION);
}

void retain_command_set(struct buf *out, struct str tenant, const struct retain_message *m,
                        uint64_t topic_max, uint64_t byte_max)
{
    size_t set = codec_record_open(out, RETAIN_TAG_SET);
    codec_record_bytes(out, RETAIN_TAG_TENANT, tenant);
    codec_record_bytes(out, RETAIN_TAG_TOPIC, m->topic);
    size_t value = codec_record_open(out, RETAIN_TAG_VALUE);
    retain_value_encode(out, m);
    codec_record_close(out, value);
    if (topic_max != 0)
        codec_record_u64(out, RETAIN_TAG_TOPIC_MAX, topic_max);
    if (byte_max != 0)
        codec_record_u64(out, RETAIN_TAG_BYTE_MAX, byte_max);
    codec_record_close(out, set);
}

void retain_command_expire(struct buf *out, struct str tenant, uint32_t age_sec, uint32_t max)
{
    codec_record_begin(out, RETAIN_KIND_EXPIRE, RETAIN_VERSION);
    codec_record_bytes(out, RETAIN_TAG_TENANT, tenant);
    codec_record_u64(out, RETAIN_TAG_AGE, age_sec);
    codec_record_u64(out, RETAIN_TAG_MAX, max);
}

/* ---- requests and replies -------------------------------------------------------------------- */

void retain_query_match(struct buf *out, struct str tenant, struct str filter, struct str after,
                        uint32_t message_max, uint32_t byte_max)
{
    codec_record_begin(out, RETAIN_KIND_MATCH, RETAIN_VERSION);
    codec_record_bytes(out, RETAIN_TAG_TENANT, tenant);
    codec_record_bytes(out, RETAIN_TAG_FILTER, filter);
    codec_record_bytes(out, RETAIN_TAG_AFTER, after);
    codec_record_u64(out, RETAIN_TAG_MAX, message_max);
    codec_record_u64(out, RETAIN_TAG_BYTE_MAX, byte_max);
}

static struct str varint_bytes(struct codec_cursor *c)
{
    uint64_t n = codec_cursor_varint(c);
    return codec_cursor_bytes(c, n);
}

bool retain_reply_begin(struct str reply, struct retain_reply *out)
{
    struct codec_cursor c = codec_cursor_of(reply);
    *out = (struct retain_reply){.after = varint_bytes(&c)};
    out->rest = str_view(c.p, codec_cursor_left(&c));
    out->is_bad = c.bad;
    return !c.bad;
}

bool retain_reply_next(struct retain_reply *r, struct retain_message *out)
{
    if (r->is_bad || r->rest.n == 0)
        return false;
    struct codec_cursor c = codec_cursor_of(r->rest);
    struct str topic = varint_bytes(&c), value = varint_bytes(&c);
    r->rest = str_view(c.p, codec_cursor_left(&c));
    bool is_large = value.n == 0;
    *out = (struct retain_message){.payload = STR(""), .props = STR(""), .publisher = STR("")};
    if (c.bad || (!is_large && !retain_value_decode(value, out))) {
        r->is_bad = true;
        return false;
    }
    out->topic = topic;
    out->is_large = is_large;
    return true;
}

void retain_query_get(struct buf *out, struct str tenant, struct str topic)
{
    codec_record_begin(out, RETAIN_KIND_GET, RETAIN_VERSION);
    codec_record_bytes(out, RETAIN_TAG_TENANT, tenant);
    codec_record_bytes(out, RETAIN_TAG_TOPIC, topic);
}

enum retain_get retain_reply_get(struct str reply, uint64_t hlc, struct retain_message *out)
{
    struct codec_cursor c = codec_cursor_of(reply);
    (void)varint_bytes(&c); /* the key that was scanned for */
    if (c.bad)
        return RETAIN_GET_BAD;
    if (c.p == c.end)
        return RETAIN_GET_NONE;
    struct str key = varint_bytes(&c), value = varint_bytes(&c);
    const char *topic = key.n > 0 ? memchr(key.p, 0, key.n) : NULL;
    if (c.bad || topic == NULL || !retain_value_decode(value, out))
        return RETAIN_GET_BAD;
    out->topic = str_view(topic + 1, key.n - (size_t)(topic + 1 - key.p));
    return retain_message_due_ms(out->hlc, out->expiry_sec) <= hlc >> 16 ? RETAIN_GET_NONE
                                                                         : RETAIN_GET_FOUND;
}

void retain_query_stat(struct buf *out, struct str tenant)
{
    codec_record_begin(out, RETAIN_KIND_STAT, RETAIN_VERSION);
    codec_record_bytes(out, RETAIN_TAG_TENANT, tenant);
}

bool retain_reply_stat(struct str reply, struct retain_stat *out)
{
    struct codec_cursor c = codec_cursor_of(reply);
    out->topics = codec_cursor_varint(&c);
    out->bytes = codec_cursor_varint(&c);
    return !c.bad;
}

bool retain_reply_expired(struct str reply, uint64_t *out_removed)
{
    struct codec_cursor c = codec_cursor_of(reply);
    *out_removed = codec_cursor_varint(&c);
    return !c.bad;
}
