/* Records of the cluster room.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. What is put is got back; unknown tags are skipped; a record with a damaged field is refused as
 * a whole. Never: allocates when reading, trusts a length or a number. */
#include "cluster/record_priv.h"

#include "base/crc.h"
#include "cluster/keyring.h"
#include "codec/layout.h"

#define MAGIC "BLNKROW1"
#define MAGIC_LEN 8u
#define CRC_LEN 4u

enum { KIND_ROW = 1, KIND_ORDER = 1, KIND_RULE = 1, KIND_GROUPS = 2 };
enum { TAG_GROUP = 1, TAG_WEIGHT };

static void put_be32(uint8_t *p, uint32_t v)
{
    for (int i = 3; i >= 0; i--, v >>= 8)
        p[i] = (uint8_t)v;
}

/* ---- the link ---- */

void cluster_record_head_put(struct buf *b, const struct link_head *h, struct str payload)
{
    uint8_t *p = buf_reserve(b, LINK_HEAD_LEN + payload.n);
    put_be32(p, (uint32_t)payload.n);
    p[4] = h->type;
    p[5] = 0;
    p[6] = (uint8_t)(h->service >> 8);
    p[7] = (uint8_t)h->service;
    put_be32(p + 8, (uint32_t)(h->id >> 32));
    put_be32(p + 12, (uint32_t)h->id);
    put_be32(p + 16, h->shard);
    put_be32(p + 20, h->timeout_ms);
    if (payload.n > 0)
        memcpy(p + LINK_HEAD_LEN, payload.p, payload.n);
    b->n += LINK_HEAD_LEN + payload.n;
}

void cluster_record_head_get(const uint8_t *p, struct link_head *h)
{
    struct codec_cursor c = codec_cursor_of(str_view(p, LINK_HEAD_LEN));
    h->len = codec_cursor_u32(&c);
    h->type = codec_cursor_u8(&c);
    (void)codec_cursor_u8(&c);
    h->service = codec_cursor_u16(&c);
    h->id = codec_cursor_u64(&c);
    h->shard = codec_cursor_u32(&c);
    h->timeout_ms = codec_cursor_u32(&c);
}

static const struct codec_layout hello_layout[] = {
    CODEC_LAYOUT(struct cluster_hello, 1, uuid),
    CODEC_LAYOUT(struct cluster_hello, 2, epoch),
    CODEC_LAYOUT(struct cluster_hello, 3, target),
    CODEC_LAYOUT(struct cluster_hello, 4, label),
    CODEC_LAYOUT(struct cluster_hello, 5, version_min),
    CODEC_LAYOUT(struct cluster_hello, 6, version_max),
};

void cluster_record_hello_put(struct buf *b, uint8_t kind, const struct cluster_hello *h)
{
    codec_record_begin(b, kind, 1);
    codec_layout_put(b, hello_layout, countof(hello_layout), h);
}

bool cluster_record_hello_get(struct str payload, struct cluster_hello *out)
{
    struct codec_cursor c = codec_cursor_of(payload);
    uint8_t kind, version;
    *out = (struct cluster_hello){0};
    codec_record_head(&c, &kind, &version);
    return !c.bad && codec_layout_get(c, hello_layout, countof(hello_layout), out);
}

/* ---- shared.rows ---- */

static const struct codec_layout row_layout[] = {
    CODEC_LAYOUT(struct gossip_event, 1, uuid),    CODEC_LAYOUT(struct gossip_event, 2, space),
    CODEC_LAYOUT(struct gossip_event, 3, key),     CODEC_LAYOUT(struct gossip_event, 4, bytes),
    CODEC_LAYOUT(struct gossip_event, 5, version),
};
enum { TAG_TOMBSTONE = 6 };

void cluster_record_rows_begin(struct buf *b)
{
    buf_put(b, MAGIC, MAGIC_LEN);
}

void cluster_record_row_put(struct buf *b, const struct gossip_row *r)
{
    struct gossip_event ev = {.uuid = r->owner,
                              .space = r->space,
                              .key = r->key,
                              .bytes = r->value,
                              .version = r->version};
    size_t at = b->n;
    buf_put_u32(b, 0);
    codec_record_begin(b, KIND_ROW, 1);
    codec_layout_put(b, row_layout, countof(row_layout), &ev);
    codec_record_u64(b, TAG_TOMBSTONE, r->is_tombstone);
    put_be32(b->p + at, (uint32_t)(b->n - at - 4));
}

void cluster_record_rows_end(struct buf *b)
{
    buf_put_u32(b, crc_update(0, b->p, b->n));
}

bool cluster_record_rows_open(struct str file, struct codec_cursor *out)
{
    if (file.n < MAGIC_LEN + CRC_LEN || memcmp(file.p, MAGIC, MAGIC_LEN) != 0)
        return false;
    size_t n = file.n - CRC_LEN;
    struct codec_cursor c = codec_cursor_of(str_view(file.p + n, CRC_LEN));
    *out = codec_cursor_of(str_view(file.p + MAGIC_LEN, n - MAGIC_LEN));
    return codec_cursor_u32(&c) == crc_update(0, file.p, n);
}

static bool get_row(struct str s, struct gossip_event *ev)
{
    struct codec_cursor c = codec_cursor_of(s);
    struct codec_field f;
    uint8_t kind, version;
    *ev = (struct gossip_event){.kind = GOSSIP_EV_ROW_LOAD, .key = STR(""), .bytes = STR("")};
    codec_record_head(&c, &kind, &version);
    if (c.bad || !codec_layout_get(c, row_layout, countof(row_layout), ev))
        return false;
    while (codec_record_next(&c, &f))
        if (f.tag == TAG_TOMBSTONE)
            ev->flags = f.u64 != 0;
    return ev->key.n > 0;
}

bool cluster_record_row_next(struct codec_cursor *c, struct gossip_event *out)
{
    while (codec_cursor_left(c) > 0) {
        struct str row = codec_cursor_bytes(c, codec_cursor_u32(c));
        if (!c->bad && get_row(row, out))
            return true;
    }
    return false;
}

/* ---- orders ---- */

static const struct codec_layout order_layout[] = {
    CODEC_LAYOUT(struct cluster_order, 1, what),  CODEC_LAYOUT(struct cluster_order, 2, key),
    CODEC_LAYOUT(struct cluster_order, 3, print), CODEC_LAYOUT(struct cluster_order, 4, target),
    CODEC_LAYOUT(struct cluster_order, 5, epoch),
};

void cluster_record_order_put(struct buf *b, const struct cluster_order *o)
{
    codec_record_begin(b, KIND_ORDER, 1);
    codec_layout_put(b, order_layout, countof(order_layout), o);
}

bool cluster_record_order_get(struct str s, struct cluster_order *out)
{
    struct codec_cursor c = codec_cursor_of(s);
    uint8_t kind, version;
    *out = (struct cluster_order){.key = STR(""), .print = STR("")};
    codec_record_head(&c, &kind, &version);
    if (c.bad || !codec_layout_get(c, order_layout, countof(order_layout), out))
        return false;
    if (out->what == CLUSTER_KEYRING_ADD)
        return out->key.n == CLUSTER_KEY_LEN;
    return out->what == CLUSTER_KEYRING_USE || out->what == CLUSTER_KEYRING_REMOVE;
}

/* ---- traffic ---- */

void cluster_record_rule_put(struct buf *b, const struct cluster_traffic_rule *r)
{
    codec_record_begin(b, KIND_RULE, 1);
    for (size_t i = 0; i < r->share_count; i++) {
        codec_record_bytes(b, TAG_GROUP, r->share[i].group);
        codec_record_u64(b, TAG_WEIGHT, r->share[i].weight);
    }
}

bool cluster_record_rule_get(struct str value, struct cluster_traffic_rule *out)
{
    struct codec_cursor c = codec_cursor_of(value);
    struct codec_field f;
    uint8_t kind, version;
    out->share_count = 0;
    codec_record_head(&c, &kind, &version);
    while (codec_record_next(&c, &f)) {
        if (f.tag == TAG_GROUP && f.is_bytes) {
            if (out->share_count == CLUSTER_TRAFFIC_GROUPS_MAX)
                return false;
            out->share[out->share_count++] = (struct cluster_traffic_share){.group = f.bytes};
        } else if (f.tag == TAG_WEIGHT && out->share_count > 0 &&
                   f.u64 <= CLUSTER_TRAFFIC_WEIGHT_MAX)
            out->share[out->share_count - 1].weight = (uint32_t)f.u64;
    }
    return !c.bad && kind == KIND_RULE;
}

void cluster_record_groups_put(struct buf *b, const struct str *group, size_t count)
{
    codec_record_begin(b, KIND_GROUPS, 1);
    for (size_t i = 0; i < count; i++)
        codec_record_bytes(b, TAG_GROUP, group[i]);
}

size_t cluster_record_groups_get(struct str value, struct str out[CLUSTER_TRAFFIC_GROUPS_MAX])
{
    struct codec_cursor c = codec_cursor_of(value);
    struct codec_field f;
    uint8_t kind, version;
    size_t count = 0;
    codec_record_head(&c, &kind, &version);
    while (codec_record_next(&c, &f))
        if (f.tag == TAG_GROUP && f.is_bytes && count < CLUSTER_TRAFFIC_GROUPS_MAX)
            out[count++] = f.bytes;
    return c.bad || kind != KIND_GROUPS ? 0 : count;
}
