/* Records of kv on wire and disk.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. What encode writes, decode reads back; unknown tags are skipped; a record of another kind or
 *    version, or with a
 *    value out of its range, is refused as a whole.
 * Never allocates when decoding, never trusts a length. */
#include "kv/wire_priv.h"

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

static bool get_uuid(struct str s, struct uuid *out)
{
    if (s.n != sizeof out->b)
        return false;
    memcpy(out->b, s.p, sizeof out->b);
    return true;
}

static void put_uuid(struct buf *out, uint32_t tag, const struct uuid *u)
{
    codec_record_bytes(out, tag, str_view(u->b, sizeof u->b));
}

/* Cuts the head off; false when it is not this kind. */
static bool open_record(struct str s, uint8_t kind, struct codec_cursor *out)
{
    uint8_t got, version;
    *out = codec_cursor_of(s);
    codec_record_head(out, &got, &version);
    return !out->bad && got == kind && version == 1;
}

void kv_wire_propose_encode(const struct kv_wire_propose *p, struct buf *out)
{
    codec_record_begin(out, KIND_PROPOSE, 1);
    codec_record_u64(out, 1, p->store);
    codec_record_u64(out, 2, p->tag);
    codec_record_u64(out, 3, p->boundary);
    codec_record_u64(out, 5, p->convoy.sender);
    codec_record_u64(out, 6, p->convoy.id);
    codec_record_u64(out, 7, p->convoy.place);
    codec_record_bytes(out, 4, p->data); /* last: what was cut off is refused */
}

void kv_wire_query_encode(const struct kv_wire_query *q, struct buf *out)
{
    codec_record_begin(out, KIND_QUERY, 1);
    codec_record_u64(out, 1, q->store);
    codec_record_u64(out, 2, q->tag);
    codec_record_u64(out, 3, q->is_stale);
    codec_record_bytes(out, 4, q->key);
    codec_record_bytes(out, 5, q->request);
}

void kv_wire_command_encode(const struct kv_wire_command *c, struct buf *out)
{
    codec_record_begin(out, KIND_COMMAND, 1);
    codec_record_u64(out, 1, c->store);
    codec_record_u64(out, 2, c->tag);
    codec_record_u64(out, 3, c->kind);
    codec_record_u64(out, 4, c->version);
    codec_record_u64(out, 5, c->voter_count);
    codec_record_bytes(out, 6, c->key);
    for (unsigned i = 0; i < c->node_count; i++)
        put_uuid(out, 7, &c->node[i]);
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

static int decode_propose(struct codec_cursor c, struct kv_wire_propose *p)
{
    struct codec_field f;
    *p = (struct kv_wire_propose){.data = STR("")};
    while (codec_record_next(&c, &f))
        switch (f.tag) {
        case 1:
            p->store = f.u64;
            break;
        case 2:
            p->tag = f.u64;
            break;
        case 3:
            p->boundary = (uint32_t)f.u64;
            break;
        case 4:
            p->data = f.bytes;
            break;
        case 5:
            p->convoy.sender = f.u64;
            break;
        case 6:
            p->convoy.id = f.u64;
            break;
        case 7:
            p->convoy.place = f.u64;
            break;
        default:
            break;
        }
    if (c.bad)
        return KV_WIRE_E_BAD;
    p->count = kv_wire_count(p->data);
    return p->count == 0 || p->count == UINT32_MAX ? KV_WIRE_E_BAD : 0;
}

static int decode_query(struct codec_cursor c, struct kv_wire_query *q)
{
    struct codec_field f;
    *q = (struct kv_wire_query){.key = STR(""), .request = STR("")};
    while (codec_record_next(&c, &f))
        switch (f.tag) {
        case 1:
            q->store = f.u64;
            break;
        case 2:
            q->tag = f.u64;
            break;
        case 3:
            q->is_stale = f.u64 != 0;
            break;
        case 4:
            q->key = f.bytes;
            break;
        case 5:
            q->request = f.bytes;
            break;
        default:
            break;
        }
    return c.bad ? KV_WIRE_E_BAD : 0;
}

static int decode_command(struct codec_cursor c, struct kv_wire_command *o)
{
    struct codec_field f;
    uint64_t voters = 0;
    *o = (struct kv_wire_command){.key = STR("")};
    while (codec_record_next(&c, &f))
        switch (f.tag) {
        case 1:
            o->store = f.u64;
            break;
        case 2:
            o->tag = f.u64;
            break;
        case 3:
            o->kind = (uint8_t)(f.u64 > 255 ? 255 : f.u64);
            break;
        case 4:
            o->version = f.u64;
            break;
        case 5:
            voters = f.u64;
            break;
        case 6:
            o->key = f.bytes;
            break;
        case 7:
            if (o->node_count == RANGE_MEMBER_MAX || !get_uuid(f.bytes, &o->node[o->node_count++]))
                return KV_WIRE_E_BAD;
            break;
        default:
            break;
        }
    if (c.bad || voters > o->node_count)
        return KV_WIRE_E_BAD;
    o->voter_count = (unsigned)voters;
    return 0;
}

int kv_wire_request_decode(struct str s, struct kv_wire_request *out)
{
    struct codec_cursor c;
    if (open_record(s, KIND_PROPOSE, &c)) {
        out->kind = KV_WIRE_PROPOSE;
        return decode_propose(c, &out->propose);
    }
    if (open_record(s, KIND_QUERY, &c)) {
        out->kind = KV_WIRE_QUERY;
        return decode_query(c, &out->query);
    }
    if (open_record(s, KIND_COMMAND, &c)) {
        out->kind = KV_WIRE_COMMAND;
        return decode_command(c, &out->command);
    }
    return KV_WIRE_E_BAD;
}

void kv_wire_reply_encode(const struct kv_wire_reply *r, struct buf *out)
{
    codec_record_begin(out, KIND_REPLY, 1);
    codec_record_u64(out, 1, r->answer.status);
    if (!uuid_is_zero(&r->answer.leader)) {
        put_uuid(out, 2, &r->answer.leader);
        codec_record_u64(out, 3, r->answer.term);
    }
    if (r->end.n > 0)
        codec_record_bytes(out, 4, r->end);
    if (r->is_last)
        codec_record_u64(out, 5, 1);
    if (r->bytes.n > 0)
        codec_record_bytes(out, 6, r->bytes);
}

int kv_wire_reply_decode(struct str s, struct kv_wire_reply *out)
{
    struct codec_cursor c;
    struct codec_field f;
    uint64_t status = 0;
    if (!open_record(s, KIND_REPLY, &c))
        return KV_WIRE_E_BAD;
    *out = (struct kv_wire_reply){.bytes = STR(""), .end = STR("")};
    while (codec_record_next(&c, &f))
        switch (f.tag) {
        case 1:
            status = f.u64;
            break;
        case 2:
            if (!get_uuid(f.bytes, &out->answer.leader))
                return KV_WIRE_E_BAD;
            break;
        case 3:
            out->answer.term = f.u64;
            break;
        case 4:
            out->end = f.bytes;
            break;
        case 5:
            out->is_last = f.u64 != 0;
            break;
        case 6:
            out->bytes = f.bytes;
            break;
        default:
            break;
        }
    if (c.bad || status >= KV_WIRE_STATUS_COUNT)
        return KV_WIRE_E_BAD;
    out->answer.status = (enum kv_wire_status)status;
    return 0;
}

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

void kv_wire_ensure_encode(const struct kv_wire_ensure *e, struct buf *out)
{
    codec_record_begin(out, KIND_ENSURE, 1);
    codec_record_u64(out, 1, e->store);
    codec_record_u64(out, 2, e->id.epoch);
    codec_record_u64(out, 3, e->id.id);
    codec_record_u64(out, 4, e->replica);
    range_bounds_encode(out, 5, &e->bounds);
}

int kv_wire_ensure_decode(struct str s, struct kv_wire_ensure *out)
{
    struct codec_cursor c;
    struct codec_field f;
    if (!open_record(s, KIND_ENSURE, &c))
        return KV_WIRE_E_BAD;
    *out = (struct kv_wire_ensure){.bounds = range_bounds_all()};
    while (codec_record_next(&c, &f))
        switch (f.tag) {
        case 1:
            out->store = f.u64;
            break;
        case 2:
            out->id.epoch = f.u64;
            break;
        case 3:
            out->id.id = f.u64;
            break;
        case 4:
            out->replica = f.u64;
            break;
        case 5:
            out->bounds.start = f.bytes;
            break;
        case 6:
            out->bounds.end = f.bytes, out->bounds.is_open = false;
            break;
        default:
            break;
        }
    return c.bad || out->replica == 0 || !range_bounds_is_valid(&out->bounds) ? KV_WIRE_E_BAD : 0;
}

void kv_wire_replica_encode(const struct kv_wire_replica *r, struct buf *out)
{
    codec_record_begin(out, KIND_REPLICA, 1);
    codec_record_bytes(out, 1, r->store);
    codec_record_u64(out, 2, r->id.epoch);
    codec_record_u64(out, 3, r->id.id);
    codec_record_u64(out, 4, r->replica);
    codec_record_u64(out, 5, (r->is_founded ? 1u : 0u) | (r->is_split_born ? 2u : 0u));
    codec_record_u64(out, 6, r->space);
    codec_record_u64(out, 7, r->snapshot_index);
    if (r->config.n > 0)
        codec_record_bytes(out, 8, r->config);
    if (r->range.n > 0)
        codec_record_bytes(out, 9, r->range);
    if (r->parts.n > 0)
        codec_record_bytes(out, 10, r->parts);
}

int kv_wire_replica_decode(struct str s, struct kv_wire_replica *out)
{
    struct codec_cursor c;
    struct codec_field f;
    if (!open_record(s, KIND_REPLICA, &c))
        return KV_WIRE_E_BAD;
    *out = (struct kv_wire_replica){
        .store = STR(""), .config = STR(""), .range = STR(""), .parts = STR("")};
    while (codec_record_next(&c, &f))
        switch (f.tag) {
        case 1:
            out->store = f.bytes;
            break;
        case 2:
            out->id.epoch = f.u64;
            break;
        case 3:
            out->id.id = f.u64;
            break;
        case 4:
            out->replica = f.u64;
            break;
        case 5:
            out->is_founded = f.u64 & 1;
            out->is_split_born = f.u64 & 2;
            break;
        case 6:
            out->space = f.u64;
            break;
        case 7:
            out->snapshot_index = f.u64;
            break;
        case 8:
            out->config = f.bytes;
            break;
        case 9:
            out->range = f.bytes;
            break;
        case 10:
            out->parts = f.bytes;
            break;
        default:
            break;
        }
    return c.bad || out->replica == 0 ? KV_WIRE_E_BAD : 0;
}

void kv_wire_applied_encode(const struct kv_wire_applied *a, struct buf *out)
{
    codec_record_begin(out, KIND_APPLIED, 1);
    codec_record_u64(out, 1, a->index);
    codec_record_u64(out, 2, a->term);
    codec_record_u64(out, 3, a->hlc);
}

int kv_wire_applied_decode(struct str s, struct kv_wire_applied *out)
{
    struct codec_cursor c;
    struct codec_field f;
    if (!open_record(s, KIND_APPLIED, &c))
        return KV_WIRE_E_BAD;
    *out = (struct kv_wire_applied){0};
    while (codec_record_next(&c, &f))
        switch (f.tag) {
        case 1:
            out->index = f.u64;
            break;
        case 2:
            out->term = f.u64;
            break;
        case 3:
            out->hlc = f.u64;
            break;
        default:
            break;
        }
    return c.bad ? KV_WIRE_E_BAD : 0;
}

void kv_wire_ship_encode(const struct kv_wire_ship *s, struct buf *out)
{
    codec_record_begin(out, KIND_SHIP, 1);
    codec_record_u64(out, 1, s->store);
    codec_record_u64(out, 2, s->id.epoch);
    codec_record_u64(out, 3, s->id.id);
    codec_record_u64(out, 4, s->index);
    codec_record_u64(out, 5, s->term);
    codec_record_bytes(out, 6, s->range);
    codec_record_bytes(out, 7, s->message);
}

int kv_wire_ship_decode(struct str s, struct kv_wire_ship *out)
{
    struct codec_cursor c;
    struct codec_field f;
    if (!open_record(s, KIND_SHIP, &c))
        return KV_WIRE_E_BAD;
    *out = (struct kv_wire_ship){.range = STR(""), .message = STR("")};
    while (codec_record_next(&c, &f))
        switch (f.tag) {
        case 1:
            out->store = f.u64;
            break;
        case 2:
            out->id.epoch = f.u64;
            break;
        case 3:
            out->id.id = f.u64;
            break;
        case 4:
            out->index = f.u64;
            break;
        case 5:
            out->term = f.u64;
            break;
        case 6:
            out->range = f.bytes;
            break;
        case 7:
            out->message = f.bytes;
            break;
        default:
            break;
        }
    return c.bad || out->index == 0 || out->range.n == 0 || out->message.n == 0 ? KV_WIRE_E_BAD : 0;
}
