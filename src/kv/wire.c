/* Records of kv on wire and disk.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. What encode writes, decode reads back; unknown tags are skipped; a record of another kind or
 *    version, or with a value out of its range, is refused as a whole.
 * Never allocates when decoding, never trusts a length. */
#include "kv/wire_priv.h"

#include "codec/layout.h"

enum {
    KIND_PROPOSE = 32,
    KIND_QUERY = 33,
    KIND_COMMAND = 34,
    KIND_REPLY = 35,
    KIND_ENSURE = 36,
    KIND_REPLICA = 37,
    KIND_APPLIED = 38,
    KIND_SHIP = 39,
};
enum { TAG_COMMAND = 3 }; /* as range_command_add writes it */
enum { TAG_NODE = 7 };    /* of a command, any number */
enum { TAG_BOUNDS = 5 };  /* of an ensure: two fields */
enum { TAG_FLAGS = 5 };   /* of a replica */
enum { FLAG_FOUNDED = 1, FLAG_SPLIT_BORN = 2 };

#define PUT(out, kind, layout, from) put(out, kind, layout, countof(layout), from)
#define GET(s, kind, layout, to) get(s, kind, layout, countof(layout), to)

static void put(struct buf *out, uint8_t kind, const struct codec_layout *layout, size_t count,
                const void *from)
{
    codec_record_begin(out, kind, 1);
    codec_layout_put(out, layout, count, from);
}

/* Cuts the head off; false when it is not this kind. */
static bool open_record(struct str s, uint8_t kind, struct codec_cursor *out)
{
    uint8_t got, version;
    *out = codec_cursor_of(s);
    codec_record_head(out, &got, &version);
    return !out->bad && got == kind && version == 1;
}

static bool get(struct str s, uint8_t kind, const struct codec_layout *layout, size_t count,
                void *to)
{
    struct codec_cursor c;
    return open_record(s, kind, &c) && codec_layout_get(c, layout, count, to);
}

/* ---- requests ---- */

static const struct codec_layout propose_layout[] = {
    CODEC_LAYOUT(struct kv_wire_propose, 1, store),
    CODEC_LAYOUT(struct kv_wire_propose, 2, tag),
    CODEC_LAYOUT(struct kv_wire_propose, 3, boundary),
    CODEC_LAYOUT(struct kv_wire_propose, 5, convoy.sender),
    CODEC_LAYOUT(struct kv_wire_propose, 6, convoy.id),
    CODEC_LAYOUT(struct kv_wire_propose, 7, convoy.place),
    CODEC_LAYOUT(struct kv_wire_propose, 4, data), /* last: what was cut off is refused */
};

void kv_wire_propose_encode(const struct kv_wire_propose *p, struct buf *out)
{
    PUT(out, KIND_PROPOSE, propose_layout, p);
}

uint32_t kv_wire_count(struct str data)
{
    struct codec_cursor c = codec_cursor_of(data);
    struct codec_field f;
    uint32_t n = 0;
    while (codec_record_next(&c, &f)) {
        if (f.tag != TAG_COMMAND || !f.is_bytes)
            return UINT32_MAX;
        n++;
    }
    return c.bad ? UINT32_MAX : n;
}

static int decode_propose(struct str s, struct kv_wire_propose *p)
{
    *p = (struct kv_wire_propose){.data = STR("")};
    if (!GET(s, KIND_PROPOSE, propose_layout, p))
        return KV_WIRE_E_BAD;
    p->count = kv_wire_count(p->data);
    return p->count == 0 || p->count == UINT32_MAX ? KV_WIRE_E_BAD : 0;
}

static const struct codec_layout query_layout[] = {
    CODEC_LAYOUT(struct kv_wire_query, 1, store),    CODEC_LAYOUT(struct kv_wire_query, 2, tag),
    CODEC_LAYOUT(struct kv_wire_query, 3, is_stale), CODEC_LAYOUT(struct kv_wire_query, 4, key),
    CODEC_LAYOUT(struct kv_wire_query, 5, request),
};

void kv_wire_query_encode(const struct kv_wire_query *q, struct buf *out)
{
    PUT(out, KIND_QUERY, query_layout, q);
}

static int decode_query(struct str s, struct kv_wire_query *q)
{
    *q = (struct kv_wire_query){.key = STR(""), .request = STR("")};
    return GET(s, KIND_QUERY, query_layout, q) ? 0 : KV_WIRE_E_BAD;
}

static const struct codec_layout command_layout[] = {
    CODEC_LAYOUT(struct kv_wire_command, 1, store),
    CODEC_LAYOUT(struct kv_wire_command, 2, tag),
    CODEC_LAYOUT(struct kv_wire_command, 3, kind),
    CODEC_LAYOUT(struct kv_wire_command, 4, version),
    CODEC_LAYOUT(struct kv_wire_command, 5, voter_count),
    CODEC_LAYOUT(struct kv_wire_command, 6, key),
};

void kv_wire_command_encode(const struct kv_wire_command *c, struct buf *out)
{
    PUT(out, KIND_COMMAND, command_layout, c);
    for (unsigned i = 0; i < c->node_count; i++)
        codec_record_bytes(out, TAG_NODE, str_view(c->node[i].b, sizeof c->node[i].b));
}

static int decode_command(struct str s, struct kv_wire_command *o)
{
    struct codec_cursor c;
    struct codec_field f;
    *o = (struct kv_wire_command){.key = STR("")};
    if (!open_record(s, KIND_COMMAND, &c) ||
        !codec_layout_get(c, command_layout, countof(command_layout), o))
        return KV_WIRE_E_BAD;
    while (codec_record_next(&c, &f)) {
        if (f.tag != TAG_NODE)
            continue;
        if (o->node_count == RANGE_MEMBER_MAX || f.bytes.n != sizeof o->node[0].b)
            return KV_WIRE_E_BAD;
        memcpy(o->node[o->node_count++].b, f.bytes.p, f.bytes.n);
    }
    return o->voter_count > o->node_count ? KV_WIRE_E_BAD : 0;
}

int kv_wire_request_decode(struct str s, struct kv_wire_request *out)
{
    switch (s.n > 0 ? s.p[0] : 0) {
    case KIND_PROPOSE:
        out->kind = KV_WIRE_PROPOSE;
        return decode_propose(s, &out->propose);
    case KIND_QUERY:
        out->kind = KV_WIRE_QUERY;
        return decode_query(s, &out->query);
    case KIND_COMMAND:
        out->kind = KV_WIRE_COMMAND;
        return decode_command(s, &out->command);
    default:
        return KV_WIRE_E_BAD;
    }
}

static const struct codec_layout reply_layout[] = {
    CODEC_LAYOUT(struct kv_wire_reply, 1, answer.status),
    CODEC_LAYOUT(struct kv_wire_reply, 2, answer.leader),
    CODEC_LAYOUT(struct kv_wire_reply, 3, answer.term),
    CODEC_LAYOUT(struct kv_wire_reply, 4, end),
    CODEC_LAYOUT(struct kv_wire_reply, 5, is_last),
    CODEC_LAYOUT(struct kv_wire_reply, 6, bytes),
};

void kv_wire_reply_encode(const struct kv_wire_reply *r, struct buf *out)
{
    PUT(out, KIND_REPLY, reply_layout, r);
}

int kv_wire_reply_decode(struct str s, struct kv_wire_reply *out)
{
    *out = (struct kv_wire_reply){.bytes = STR(""), .end = STR("")};
    if (!GET(s, KIND_REPLY, reply_layout, out))
        return KV_WIRE_E_BAD;
    return out->answer.status >= KV_WIRE_STATUS_COUNT ? KV_WIRE_E_BAD : 0;
}

/* ---- frames ---- */

size_t kv_wire_frame_open(struct buf *out, enum kv_wire_frame kind, uint64_t tag)
{
    buf_put_u8(out, (uint8_t)kind);
    buf_put_u64(out, tag);
    buf_put_u32(out, 0);
    return out->n;
}

void kv_wire_frame_close(struct buf *out, size_t opened)
{
    size_t n = out->n - opened;
    must(opened >= 4 && n <= UINT32_MAX);
    for (unsigned i = 0; i < 4; i++)
        out->p[opened - 4 + i] = (uint8_t)(n >> (24 - 8 * i));
}

bool kv_wire_frame_next(struct codec_cursor *c, enum kv_wire_frame *out_kind, uint64_t *out_tag,
                        struct str *out_body)
{
    if (c->bad || codec_cursor_left(c) == 0)
        return false;
    *out_kind = (enum kv_wire_frame)codec_cursor_u8(c);
    *out_tag = codec_cursor_u64(c);
    *out_body = codec_cursor_bytes(c, codec_cursor_u32(c));
    return !c->bad;
}

static const struct codec_layout ensure_layout[] = {
    CODEC_LAYOUT(struct kv_wire_ensure, 1, store),
    CODEC_LAYOUT(struct kv_wire_ensure, 2, id.epoch),
    CODEC_LAYOUT(struct kv_wire_ensure, 3, id.id),
    CODEC_LAYOUT(struct kv_wire_ensure, 4, replica),
};

void kv_wire_ensure_encode(const struct kv_wire_ensure *e, struct buf *out)
{
    PUT(out, KIND_ENSURE, ensure_layout, e);
    range_bounds_encode(out, TAG_BOUNDS, &e->bounds);
}

int kv_wire_ensure_decode(struct str s, struct kv_wire_ensure *out)
{
    struct codec_cursor c;
    struct codec_field f;
    *out = (struct kv_wire_ensure){.bounds = range_bounds_all()};
    if (!open_record(s, KIND_ENSURE, &c) ||
        !codec_layout_get(c, ensure_layout, countof(ensure_layout), out))
        return KV_WIRE_E_BAD;
    while (codec_record_next(&c, &f))
        if (f.tag == TAG_BOUNDS)
            out->bounds.start = f.bytes;
        else if (f.tag == TAG_BOUNDS + 1)
            out->bounds.end = f.bytes, out->bounds.is_open = false;
    return out->replica == 0 || !range_bounds_is_valid(&out->bounds) ? KV_WIRE_E_BAD : 0;
}

/* ---- disk ---- */

static const struct codec_layout replica_layout[] = {
    CODEC_LAYOUT(struct kv_wire_replica, 1, store),
    CODEC_LAYOUT(struct kv_wire_replica, 2, id.epoch),
    CODEC_LAYOUT(struct kv_wire_replica, 3, id.id),
    CODEC_LAYOUT(struct kv_wire_replica, 4, replica),
    CODEC_LAYOUT(struct kv_wire_replica, 6, space),
    CODEC_LAYOUT(struct kv_wire_replica, 7, snapshot_index),
    CODEC_LAYOUT(struct kv_wire_replica, 8, config),
    CODEC_LAYOUT(struct kv_wire_replica, 9, range),
    CODEC_LAYOUT(struct kv_wire_replica, 10, parts),
};

void kv_wire_replica_encode(const struct kv_wire_replica *r, struct buf *out)
{
    PUT(out, KIND_REPLICA, replica_layout, r);
    uint64_t flags = (r->is_founded ? FLAG_FOUNDED : 0) | (r->is_split_born ? FLAG_SPLIT_BORN : 0);
    if (flags)
        codec_record_u64(out, TAG_FLAGS, flags);
}

int kv_wire_replica_decode(struct str s, struct kv_wire_replica *out)
{
    struct codec_cursor c;
    struct codec_field f;
    *out = (struct kv_wire_replica){
        .store = STR(""), .config = STR(""), .range = STR(""), .parts = STR("")};
    if (!open_record(s, KIND_REPLICA, &c) ||
        !codec_layout_get(c, replica_layout, countof(replica_layout), out))
        return KV_WIRE_E_BAD;
    while (codec_record_next(&c, &f))
        if (f.tag == TAG_FLAGS) {
            out->is_founded = f.u64 & FLAG_FOUNDED;
            out->is_split_born = f.u64 & FLAG_SPLIT_BORN;
        }
    return out->replica == 0 ? KV_WIRE_E_BAD : 0;
}

static const struct codec_layout applied_layout[] = {
    CODEC_LAYOUT(struct kv_wire_applied, 1, index),
    CODEC_LAYOUT(struct kv_wire_applied, 2, term),
    CODEC_LAYOUT(struct kv_wire_applied, 3, hlc),
};

void kv_wire_applied_encode(const struct kv_wire_applied *a, struct buf *out)
{
    PUT(out, KIND_APPLIED, applied_layout, a);
}

int kv_wire_applied_decode(struct str s, struct kv_wire_applied *out)
{
    *out = (struct kv_wire_applied){0};
    return GET(s, KIND_APPLIED, applied_layout, out) ? 0 : KV_WIRE_E_BAD;
}

static const struct codec_layout ship_layout[] = {
    CODEC_LAYOUT(struct kv_wire_ship, 1, store),   CODEC_LAYOUT(struct kv_wire_ship, 2, id.epoch),
    CODEC_LAYOUT(struct kv_wire_ship, 3, id.id),   CODEC_LAYOUT(struct kv_wire_ship, 4, index),
    CODEC_LAYOUT(struct kv_wire_ship, 5, term),    CODEC_LAYOUT(struct kv_wire_ship, 6, range),
    CODEC_LAYOUT(struct kv_wire_ship, 7, message),
};

void kv_wire_ship_encode(const struct kv_wire_ship *s, struct buf *out)
{
    PUT(out, KIND_SHIP, ship_layout, s);
}

int kv_wire_ship_decode(struct str s, struct kv_wire_ship *out)
{
    *out = (struct kv_wire_ship){.range = STR(""), .message = STR("")};
    if (!GET(s, KIND_SHIP, ship_layout, out))
        return KV_WIRE_E_BAD;
    return out->index == 0 || out->range.n == 0 || out->message.n == 0 ? KV_WIRE_E_BAD : 0;
}
