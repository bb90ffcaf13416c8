/* An application message on its way.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: a kept message is one block, struct first, then topic, properties, payload and publisher; it never
 * changes but for refs.  A decoded one borrows from its record. */
#include "codec/msg.h"

#include "base/mem.h"
#include "codec/mqtt_priv.h"
#include "codec/record.h"

#define RECORD_VERSION 1

enum tag {
    TAG_TOPIC = 1,
    TAG_PAYLOAD = 2,
    TAG_PROPS = 3,
    TAG_PUBLISHER = 4,
    TAG_HLC = 5,
    TAG_INCARNATION = 6,
    TAG_EXCHANGE = 7,
    TAG_EXPIRY = 8, /* seconds + 1, so that absent means none */
    TAG_FLAGS = 9,
};

enum flag {
    FLAG_QOS = 0x03,
    FLAG_RETAIN = 0x04,
    FLAG_UTF8 = 0x08,
};

static struct str put(char **at, struct str s)
{
    struct str to = str_view(*at, s.n);
    if (s.n > 0)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return to;
}

size_t codec_msg_cost(const struct codec_msg *m)
{
    return sizeof *m + m->topic.n + m->props.n + m->payload.n + m->publisher.n;
}

struct codec_msg *codec_msg_dup(const struct codec_msg *m)
{
    struct codec_msg *k = mem_alloc(codec_msg_cost(m));
    char *at = (char *)(k + 1);
    memcpy(k, m, offsetof(struct codec_msg, refs)); /* others may be counting on m right now */
    k->topic = put(&at, m->topic);
    k->props = put(&at, m->props);
    k->payload = put(&at, m->payload);
    k->publisher = put(&at, m->publisher);
    atomic_init(&k->refs, 1);
    return k;
}

struct codec_msg *codec_msg_keep(const struct codec_msg *m)
{
    if (atomic_load_explicit(&m->refs, memory_order_relaxed) == 0)
        return codec_msg_dup(m);
    return codec_msg_ref((struct codec_msg *)(uintptr_t)m);
}

struct codec_msg *codec_msg_unref(struct codec_msg *m)
{
    if (m == NULL)
        return NULL;
    uint32_t before = atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel);
    must(before > 0);
    return before == 1 ? mem_free(m) : NULL;
}

uint32_t codec_msg_left_sec(const struct codec_msg *m, uint64_t wall_ms)
{
    if (!m->has_expiry)
        return UINT32_MAX;
    uint64_t end_ms = hlc_ms(m->hlc) + (uint64_t)m->expiry_sec * 1000;
    if (wall_ms >= end_ms)
        return 0;
    uint64_t left = (end_ms - wall_ms + 999) / 1000;
    return left > m->expiry_sec ? m->expiry_sec : (uint32_t)left; /* a clock behind the publisher's adds nothing */
}

static void put_bytes(struct buf *b, enum tag tag, struct str s)
{
    if (s.n > 0)
        codec_record_bytes(b, tag, s);
}

static void put_u64(struct buf *b, enum tag tag, uint64_t v)
{
    if (v != 0)
        codec_record_u64(b, tag, v);
}

void codec_msg_encode(struct buf *b, const struct codec_msg *m)
{
    (void)buf_reserve(b, codec_msg_cost(m));
    codec_record_begin(b, CODEC_MSG_RECORD_KIND, RECORD_VERSION);
    put_bytes(b, TAG_TOPIC, m->topic);
    put_bytes(b, TAG_PAYLOAD, m->payload);
    put_bytes(b, TAG_PROPS, m->props);
    put_bytes(b, TAG_PUBLISHER, m->publisher);
    put_u64(b, TAG_HLC, m->hlc);
    put_u64(b, TAG_INCARNATION, m->incarnation);
    put_u64(b, TAG_EXCHANGE, m->exchange);
    put_u64(b, TAG_EXPIRY, m->has_expiry ? (uint64_t)m->expiry_sec + 1 : 0);
    put_u64(b, TAG_FLAGS, m->qos | (m->is_retain ? FLAG_RETAIN : 0u) | (m->is_utf8 ? FLAG_UTF8 : 0u));
}

/* One field; false when its value cannot be. */
static bool take(const struct codec_field *f, struct codec_msg *m)
{
    switch ((enum tag)f->tag) {
    case TAG_TOPIC:
        m->topic = f->bytes;
        return f->is_bytes;
    case TAG_PAYLOAD:
        m->payload = f->bytes;
        return f->is_bytes;
    case TAG_PROPS:
        m->props = f->bytes;
        return f->is_bytes;
    case TAG_PUBLISHER:
        m->publisher = f->bytes;
        return f->is_bytes;
    case TAG_HLC:
        m->hlc = f->u64;
        return !f->is_bytes;
    case TAG_INCARNATION:
        m->incarnation = f->u64;
        return !f->is_bytes;
    case TAG_EXCHANGE:
        m->exchange = f->u64;
        return !f->is_bytes;
    case TAG_EXPIRY:
        m->has_expiry = f->u64 > 0;
        m->expiry_sec = (uint32_t)(f->u64 - (f->u64 > 0));
        return !f->is_bytes && f->u64 <= (uint64_t)UINT32_MAX + 1;
    case TAG_FLAGS:
        m->qos = f->u64 & FLAG_QOS;
        m->is_retain = (f->u64 & FLAG_RETAIN) != 0;
        m->is_utf8 = (f->u64 & FLAG_UTF8) != 0;
        return !f->is_bytes && m->qos <= 2;
    default:
        return true; /* of a newer version */
    }
}

int codec_msg_decode(struct str record, struct codec_msg *out)
{
    struct codec_cursor c = codec_cursor_of(record);
    struct codec_field f;
    struct str none = str_view("", 0);
    uint8_t kind, version;
    bool is_good = true;
    *out = (struct codec_msg){.topic = none, .payload = none, .props = none, .publisher = none};
    codec_record_head(&c, &kind, &version);
    if (c.bad || kind != CODEC_MSG_RECORD_KIND || version != RECORD_VERSION)
        return CODEC_MSG_E_MALFORMED;
    while (codec_record_next(&c, &f))
        is_good = take(&f, out) && is_good;
    if (c.bad || !is_good || out->topic.n == 0 || !codec_mqtt_props_travel_check(out->props))
        return CODEC_MSG_E_MALFORMED;
    return 0;
}
