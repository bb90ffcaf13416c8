/* Encoding of packets.  SPDX-License-Identifier: Apache-2.0
 *
 * Packet: record { HEAD_* fields, then repeated MSG }.  The head comes first, so that a reader
 * knows the sender before it reads what was said. */
#include "gossip/packet.h"

enum { HEAD_UUID = 1, HEAD_EPOCH, HEAD_INC, HEAD_HLC, HEAD_HASH, HEAD_MEMBERS, HEAD_MSG = 16 };
enum {
    TAG_UUID = 1,
    TAG_EPOCH,
    TAG_INC,
    TAG_FROM,
    TAG_SEQ,
    TAG_ADDR,
    TAG_FLAGS,
    TAG_VERSION_MIN,
    TAG_VERSION_MAX,
    TAG_BYTES,
    TAG_SPACE,
    TAG_KEY,
    TAG_VERSION,
    TAG_REPLACES,
    TAG_STATE,
};
#define ADDR_LEN 18

void gossip_head_encode(struct buf *b, const struct gossip_head *h)
{
    codec_record_begin(b, GOSSIP_PACKET_KIND, GOSSIP_PACKET_VERSION);
    codec_record_bytes(b, HEAD_UUID, str_view(h->uuid.b, sizeof h->uuid.b));
    codec_record_u64(b, HEAD_EPOCH, h->epoch);
    codec_record_u64(b, HEAD_INC, h->inc);
    codec_record_u64(b, HEAD_HLC, h->hlc);
    codec_record_u64(b, HEAD_HASH, h->table_hash);
    codec_record_u64(b, HEAD_MEMBERS, h->member_hash);
}

static void put_u64(struct buf *b, uint32_t tag, uint64_t v)
{
    if (v != 0)
        codec_record_u64(b, tag, v);
}

static void put_uuid(struct buf *b, uint32_t tag, const struct uuid *u)
{
    if (!uuid_is_zero(u))
        codec_record_bytes(b, tag, str_view(u->b, sizeof u->b));
}

void gossip_msg_bare(struct buf *b, const struct gossip_msg *m)
{
    codec_record_begin(b, m->kind, 1);
    put_uuid(b, TAG_UUID, &m->uuid);
    put_u64(b, TAG_EPOCH, m->epoch);
    put_u64(b, TAG_INC, m->inc);
    put_uuid(b, TAG_FROM, &m->from);
    put_u64(b, TAG_SEQ, m->seq);
    if (m->addr.port != 0) {
        uint8_t a[ADDR_LEN];
        memcpy(a, m->addr.ip, 16);
        a[16] = (uint8_t)(m->addr.port >> 8);
        a[17] = (uint8_t)m->addr.port;
        codec_record_bytes(b, TAG_ADDR, str_view(a, sizeof a));
    }
    put_u64(b, TAG_FLAGS, m->flags);
    put_u64(b, TAG_VERSION_MIN, m->version_min);
    put_u64(b, TAG_VERSION_MAX, m->version_max);
    if (m->bytes.n > 0)
        codec_record_bytes(b, TAG_BYTES, m->bytes);
    put_u64(b, TAG_SPACE, m->space);
    if (m->key.n > 0)
        codec_record_bytes(b, TAG_KEY, m->key);
    put_u64(b, TAG_VERSION, m->version);
    put_u64(b, TAG_REPLACES, m->replaces);
    put_u64(b, TAG_STATE, m->state);
}

void gossip_msg_encode(struct buf *b, const struct gossip_msg *m)
{
    size_t at = codec_record_open(b, HEAD_MSG);
    gossip_msg_bare(b, m);
    codec_record_close(b, at);
}

void gossip_msg_put(struct buf *b, struct str encoded)
{
    codec_record_bytes(b, HEAD_MSG, encoded);
}

static void get_uuid(struct codec_cursor *c, struct str s, struct uuid *out)
{
    if (!uuid_of_bytes(s, out))
        codec_cursor_fail(c);
}

static void get_addr(struct codec_cursor *c, struct str s, struct gossip_addr *out)
{
    if (s.n != ADDR_LEN) {
        codec_cursor_fail(c);
        return;
    }
    const uint8_t *a = (const uint8_t *)s.p;
    memcpy(out->ip, a, 16);
    out->port = (uint16_t)(a[16] << 8 | a[17]);
}

static uint64_t bounded(struct codec_cursor *c, uint64_t v, uint64_t max)
{
    if (v > max) {
        codec_cursor_fail(c);
        return 0;
    }
    return v;
}

bool gossip_head_decode(struct codec_cursor *c, struct gossip_head *out)
{
    uint8_t kind, version;
    *out = (struct gossip_head){0};
    codec_record_head(c, &kind, &version);
    if (c->bad || kind != GOSSIP_PACKET_KIND || version != GOSSIP_PACKET_VERSION)
        return false;
    struct codec_cursor at = *c;
    struct codec_field f;
    while (codec_record_next(c, &f) && f.tag < HEAD_MSG) {
        switch (f.tag) {
        case HEAD_UUID:
            get_uuid(c, f.bytes, &out->uuid);
            break;
        case HEAD_EPOCH:
            out->epoch = f.u64;
            break;
        case HEAD_INC:
            out->inc = (uint32_t)bounded(c, f.u64, UINT32_MAX);
            break;
        case HEAD_HLC:
            out->hlc = f.u64;
            break;
        case HEAD_HASH:
            out->table_hash = f.u64;
            break;
        case HEAD_MEMBERS:
            out->member_hash = f.u64;
            break;
        default:
            break;
        }
        at = *c;
    }
    if (c->bad)
        return false;
    *c = at;
    return !uuid_is_zero(&out->uuid) && out->epoch != 0;
}

static void get_field(struct codec_cursor *c, const struct codec_field *f, struct gossip_msg *m)
{
    switch (f->tag) {
    case TAG_UUID:
        get_uuid(c, f->bytes, &m->uuid);
        break;
    case TAG_EPOCH:
        m->epoch = f->u64;
        break;
    case TAG_INC:
        m->inc = (uint32_t)bounded(c, f->u64, UINT32_MAX);
        break;
    case TAG_FROM:
        get_uuid(c, f->bytes, &m->from);
        break;
    case TAG_SEQ:
        m->seq = f->u64;
        break;
    case TAG_ADDR:
        get_addr(c, f->bytes, &m->addr);
        break;
    case TAG_FLAGS:
        m->flags = (uint32_t)bounded(c, f->u64, UINT32_MAX);
        break;
    case TAG_VERSION_MIN:
        m->version_min = (uint16_t)bounded(c, f->u64, UINT16_MAX);
        break;
    case TAG_VERSION_MAX:
        m->version_max = (uint16_t)bounded(c, f->u64, UINT16_MAX);
        break;
    case TAG_BYTES:
        m->bytes = f->bytes;
        break;
    case TAG_SPACE:
        m->space = (uint8_t)bounded(c, f->u64, UINT8_MAX);
        break;
    case TAG_KEY:
        m->key = f->bytes;
        break;
    case TAG_VERSION:
        m->version = f->u64;
        break;
    case TAG_REPLACES:
        m->replaces = f->u64;
        break;
    case TAG_STATE:
        m->state = (enum gossip_state)bounded(c, f->u64, GOSSIP_ST_LEFT);
        break;
    default:
        break;
    }
}

static bool is_about_a_member(uint8_t kind)
{
    return kind >= GOSSIP_MSG_ACK && kind != GOSSIP_MSG_NACK && kind != GOSSIP_MSG_HINT &&
           kind != GOSSIP_MSG_SYNC && kind != GOSSIP_MSG_SHARED && kind <= GOSSIP_MSG_DELTA;
}

/* What every handler may rely on. */
static void check_ranges(struct codec_cursor *c, const struct gossip_msg *m)
{
    bool is_row = m->kind == GOSSIP_MSG_ROW || m->kind == GOSSIP_MSG_HINT;
    if (m->key.n > GOSSIP_KEY_MAX || (m->kind == GOSSIP_MSG_ROW && m->bytes.n > GOSSIP_VALUE_MAX))
        codec_cursor_fail(c);
    if ((m->kind == GOSSIP_MSG_ALIVE || m->kind == GOSSIP_MSG_MEMBER) &&
        (m->bytes.n > GOSSIP_META_MAX || m->addr.port == 0))
        codec_cursor_fail(c);
    if (is_about_a_member(m->kind) && uuid_is_zero(&m->uuid))
        codec_cursor_fail(c);
    if (is_row && m->space >= GOSSIP_SPACE_SHARED ? m->key.n == 0 || m->version == 0 : false)
        codec_cursor_fail(c);
    if (m->kind == GOSSIP_MSG_ROW && m->space < GOSSIP_SPACE_SHARED &&
        (m->seq == 0 || m->key.n == 0))
        codec_cursor_fail(c);
}

bool gossip_msg_next(struct codec_cursor *c, struct gossip_msg *out)
{
    struct codec_field f;
    while (codec_record_next(c, &f)) {
        if (f.tag != HEAD_MSG || !f.is_bytes)
            continue;
        struct codec_cursor in = codec_cursor_of(f.bytes);
        uint8_t version;
        *out = (struct gossip_msg){.key = STR(""), .bytes = STR("")};
        codec_record_head(&in, &out->kind, &version);
        for (struct codec_field g; codec_record_next(&in, &g);)
            get_field(&in, &g, out);
        check_ranges(&in, out);
        if (in.bad) {
            codec_cursor_fail(c);
            return false;
        }
        return true;
    }
    return false;
}
