/* Records of kv on wire and disk.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. What encode writes, decode reads back; unknown tags are skipped; a record of another kind or
 *    version, or with a value out of its range, is refused as a whole.
 * Never allocates when decoding, never trusts a length. */
#include "kv/wire_priv.h"

#include "base/crc.h"
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
    KIND_HELD = 40,
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

bool kv_wire_reply_is_of(const struct kv_wire_reply *r, struct str key)
{
    return r->is_last || str_cmp(r->end, key) > 0;
}

int kv_wire_reply_decode(struct str s, struct kv_wire_reply *out)
{
    *out = (struct kv_wire_reply){.bytes = STR(""), .end = STR("")};
    if (!GET(s, KIND_REPLY, reply_layout, out))
        return KV_WIRE_E_BAD;
    return out->answer.status >= KV_WIRE_STATUS_COUNT ? KV_WIRE_E_BAD : 0;
}

void kv_wire_answer_put(struct buf *out, struct str bytes)
{
    buf_put_varint(out, bytes.n);
    buf_put_str(out, bytes);
}

struct str kv_wire_answer_next(struct codec_cursor *c)
{
    return codec_cursor_bytes(c, codec_cursor_varint(c));
}

/* ---- two that merge ---- */

void kv_wire_order_encode(const struct kv_wire_order *o, struct buf *out)
{
    buf_put_u64(out, o->serial);
    buf_put_u64(out, o->id.epoch);
    buf_put_u64(out, o->id.id);
    buf_put_u64(out, o->version);
}

int kv_wire_order_decode(struct str s, struct kv_wire_order *out)
{
    struct codec_cursor c = codec_cursor_of(s);
    out->serial = codec_cursor_u64(&c);
    out->id.epoch = codec_cursor_u64(&c);
    out->id.id = codec_cursor_u64(&c);
    out->version = codec_cursor_u64(&c);
    return c.bad || out->serial == 0 ? KV_WIRE_E_BAD : 0;
}

void kv_wire_frozen_encode(const struct kv_wire_frozen *f, struct buf *out)
{
    buf_put_u64(out, f->serial);
    buf_put_u64(out, f->version);
    buf_put_u64(out, f->index);
    buf_put_u64(out, f->term);
    buf_put_u64(out, f->hlc);
    buf_put_u64(out, f->bounds.is_open);
    kv_wire_answer_put(out, f->bounds.start);
    kv_wire_answer_put(out, f->bounds.end);
}

int kv_wire_frozen_decode(struct str s, struct kv_wire_frozen *out)
{
    struct codec_cursor c = codec_cursor_of(s);
    out->serial = codec_cursor_u64(&c);
    out->version = codec_cursor_u64(&c);
    out->index = codec_cursor_u64(&c);
    out->term = codec_cursor_u64(&c);
    out->hlc = codec_cursor_u64(&c);
    uint64_t is_open = codec_cursor_u64(&c);
    struct str start = kv_wire_answer_next(&c), end = kv_wire_answer_next(&c);
    out->bounds = (struct range_bounds){start, end, is_open != 0};
    return c.bad || is_open > 1 || !range_bounds_is_valid(&out->bounds) ? KV_WIRE_E_BAD : 0;
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

int kv_wire_number_decode(struct str body, uint64_t *out)
{
    struct codec_cursor c = codec_cursor_of(body);
    *out = codec_cursor_varint(&c);
    return c.bad ? KV_WIRE_E_BAD : 0;
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

void kv_wire_key_encode(enum kv_wire_key what, uint64_t n, char out[KV_WIRE_KEY])
{
    out[0] = (char)what;
    for (unsigned i = KV_WIRE_KEY - 1; i > 0; i--, n >>= 8)
        out[i] = (char)(n & 255);
}

int kv_wire_key_decode(struct str key, enum kv_wire_key *out_what, uint64_t *out_n)
{
    struct codec_cursor c = codec_cursor_of(key);
    uint8_t what = codec_cursor_u8(&c);
    *out_n = codec_cursor_u64(&c);
    *out_what = (enum kv_wire_key)what;
    bool is_known =
        what == KV_WIRE_KEY_REPLICA || what == KV_WIRE_KEY_APPLIED || what == KV_WIRE_KEY_TOMBSTONE;
    return c.bad || codec_cursor_left(&c) > 0 || !is_known ? KV_WIRE_E_BAD : 0;
}

void kv_wire_tombstone_encode(uint64_t id, struct buf *out)
{
    buf_put_u64(out, id);
}

int kv_wire_tombstone_decode(struct str s, uint64_t *out_id)
{
    struct codec_cursor c = codec_cursor_of(s);
    *out_id = codec_cursor_u64(&c);
    return c.bad ? KV_WIRE_E_BAD : 0;
}

/* ---- snapshots ---- */

static const struct codec_layout ship_layout[] = {
    CODEC_LAYOUT(struct kv_wire_ship, 1, store),
    CODEC_LAYOUT(struct kv_wire_ship, 2, id.epoch),
    CODEC_LAYOUT(struct kv_wire_ship, 3, id.id),
    CODEC_LAYOUT(struct kv_wire_ship, 4, range),
    CODEC_LAYOUT(struct kv_wire_ship, 5, message),
    CODEC_LAYOUT(struct kv_wire_ship, 6, is_question),
    CODEC_LAYOUT(struct kv_wire_ship, 7, held),
};

void kv_wire_ship_encode(const struct kv_wire_ship *s, struct buf *out)
{
    PUT(out, KIND_SHIP, ship_layout, s);
}

int kv_wire_ship_decode(struct str s, struct kv_wire_ship *out)
{
    *out = (struct kv_wire_ship){.range = STR(""), .message = STR(""), .held = STR("")};
    if (!GET(s, KIND_SHIP, ship_layout, out))
        return KV_WIRE_E_BAD;
    return !out->is_question && (out->range.n == 0 || out->message.n == 0) ? KV_WIRE_E_BAD : 0;
}

static const struct codec_layout held_layout[] = {
    CODEC_LAYOUT(struct kv_wire_held, 1, index), CODEC_LAYOUT(struct kv_wire_held, 2, term),
    CODEC_LAYOUT(struct kv_wire_held, 3, count), CODEC_LAYOUT(struct kv_wire_held, 4, crc),
    CODEC_LAYOUT(struct kv_wire_held, 5, key),
};

void kv_wire_held_encode(const struct kv_wire_held *h, struct buf *out)
{
    PUT(out, KIND_HELD, held_layout, h);
}

int kv_wire_held_decode(struct str s, struct kv_wire_held *out)
{
    *out = (struct kv_wire_held){.key = STR("")};
    return GET(s, KIND_HELD, held_layout, out) ? 0 : KV_WIRE_E_BAD;
}

enum { PIECE_ROW = 1, PIECE_END = 2, PIECE_MARK = 3 };

void kv_wire_row_put(struct kv_wire_rows *r, struct str key, struct str value, struct buf *out)
{
    size_t from = out->n;
    must(!r->is_end);
    buf_put_u8(out, PIECE_ROW);
    buf_put_varint(out, key.n);
    buf_put_str(out, key);
    buf_put_varint(out, value.n);
    buf_put_str(out, value);
    r->crc = crc_update(r->crc, out->p + from, out->n - from);
    r->count++;
}

static void sum_put(const struct kv_wire_rows *r, uint8_t piece, struct buf *out)
{
    must(!r->is_end);
    buf_put_u8(out, piece);
    buf_put_varint(out, r->count);
    buf_put_u32(out, r->crc);
}

void kv_wire_rows_mark(const struct kv_wire_rows *r, struct buf *out)
{
    sum_put(r, PIECE_MARK, out);
}

void kv_wire_rows_end(struct kv_wire_rows *r, struct buf *out)
{
    sum_put(r, PIECE_END, out);
    r->is_end = true;
}

enum kv_wire_piece kv_wire_row_next(struct kv_wire_rows *r, struct codec_cursor *c,
                                    struct str *out_key, struct str *out_value)
{
    struct codec_cursor at = *c;
    if (codec_cursor_left(c) == 0)
        return KV_WIRE_PIECE_SHORT;
    uint8_t kind = codec_cursor_u8(&at);
    if (r->is_end || (kind != PIECE_ROW && kind != PIECE_END && kind != PIECE_MARK))
        return KV_WIRE_PIECE_BAD;
    if (kind != PIECE_ROW) {
        uint64_t count = codec_cursor_varint(&at);
        uint32_t crc = codec_cursor_u32(&at);
        if (at.bad)
            return KV_WIRE_PIECE_SHORT;
        r->is_end = kind == PIECE_END;
        *c = at;
        if (count != r->count || crc != r->crc)
            return KV_WIRE_PIECE_BAD;
        return r->is_end ? KV_WIRE_PIECE_END : KV_WIRE_PIECE_MARK;
    }
    *out_key = codec_cursor_bytes(&at, codec_cursor_varint(&at));
    *out_value = codec_cursor_bytes(&at, codec_cursor_varint(&at));
    if (at.bad)
        return KV_WIRE_PIECE_SHORT;
    r->crc = crc_update(r->crc, c->p, (size_t)(at.p - c->p));
    r->count++;
    *c = at;
    return KV_WIRE_PIECE_ROW;
}
