/* Descriptors of replicas.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. Unknown fields are skipped, so newer nodes may tell more; too many members are refused.
 * Never allocates when decoding. */
#include "range/descriptor.h"

enum {
    TAG_EPOCH = 1,
    TAG_ID = 2,
    TAG_VERSION = 3,
    TAG_START = 4,
    TAG_END = 5,
    TAG_REPLICA = 6,
    TAG_ROLE = 7,
    TAG_LEADER = 8,
    TAG_TERM = 9,
    TAG_COMMIT = 10,
    TAG_APPLIED = 11,
    TAG_BYTES = 12,
    TAG_LOG_BYTES = 13,
    TAG_RATE = 14,
    TAG_FLAGS = 15,
    TAG_MEMBER = 16,
    TAG_FACT = 17,
};
enum { RANGE_DESCRIPTOR = 17, FLAG_READY = 1, FLAG_JOINT = 2 };
enum { MEMBER_NODE = 1, MEMBER_REPLICA = 2, MEMBER_LAG = 3, MEMBER_SILENT = 4, MEMBER_ROLE = 5 };
enum { IS_VOTER = 1, IS_LEARNER = 2, IS_NEXT_VOTER = 4, IS_NEXT_LEARNER = 8, IS_CURRENT = 16 };

static void encode_member(const struct range_member *m, struct buf *out)
{
    uint64_t role = (m->is_voter ? IS_VOTER : 0u) | (m->is_learner ? IS_LEARNER : 0u) |
                    (m->is_next_voter ? IS_NEXT_VOTER : 0u) |
                    (m->is_next_learner ? IS_NEXT_LEARNER : 0u) | (m->is_current ? IS_CURRENT : 0u);
    size_t at = codec_record_open(out, TAG_MEMBER);
    codec_record_bytes(out, MEMBER_NODE, str_view(m->node.b, sizeof m->node.b));
    codec_record_u64(out, MEMBER_REPLICA, m->replica);
    codec_record_u64(out, MEMBER_LAG, m->lag);
    codec_record_u64(out, MEMBER_SILENT, m->silent_ms);
    codec_record_u64(out, MEMBER_ROLE, role);
    codec_record_close(out, at);
}

void range_descriptor_encode(const struct range_descriptor *d, struct buf *out)
{
    codec_record_begin(out, RANGE_DESCRIPTOR, 1);
    codec_record_u64(out, TAG_EPOCH, d->id.epoch);
    codec_record_u64(out, TAG_ID, d->id.id);
    codec_record_u64(out, TAG_VERSION, range_version_pack(d->version));
    range_bounds_encode(out, TAG_START, &d->bounds);
    codec_record_u64(out, TAG_REPLICA, d->replica);
    codec_record_u64(out, TAG_ROLE, d->role);
    if (!uuid_is_zero(&d->leader))
        codec_record_bytes(out, TAG_LEADER, str_view(d->leader.b, sizeof d->leader.b));
    codec_record_u64(out, TAG_TERM, d->term);
    codec_record_u64(out, TAG_COMMIT, d->commit);
    codec_record_u64(out, TAG_APPLIED, d->applied);
    codec_record_u64(out, TAG_BYTES, d->bytes);
    codec_record_u64(out, TAG_LOG_BYTES, d->log_bytes);
    codec_record_u64(out, TAG_RATE, d->rate);
    codec_record_u64(out, TAG_FLAGS,
                     (d->is_ready ? FLAG_READY : 0u) | (d->is_joint ? FLAG_JOINT : 0u));
    for (unsigned i = 0; i < d->member_count; i++)
        encode_member(&d->member[i], out);
    if (d->fact.n > 0 && d->fact.n <= RANGE_FACT_MAX)
        codec_record_bytes(out, TAG_FACT, d->fact);
}

static bool decode_member(struct str s, struct range_member *out)
{
    struct codec_cursor c = codec_cursor_of(s);
    struct codec_field f;
    bool is_good = true;

    *out = (struct range_member){0};
    while (codec_record_next(&c, &f))
        switch (f.tag) {
        case MEMBER_NODE:
            is_good = is_good && uuid_of_bytes(f.bytes, &out->node);
            break;
        case MEMBER_REPLICA:
            out->replica = f.u64;
            break;
        case MEMBER_LAG:
            out->lag = f.u64;
            break;
        case MEMBER_SILENT:
            out->silent_ms = f.u64;
            break;
        case MEMBER_ROLE:
            out->is_voter = f.u64 & IS_VOTER;
            out->is_learner = f.u64 & IS_LEARNER;
            out->is_next_voter = f.u64 & IS_NEXT_VOTER;
            out->is_next_learner = f.u64 & IS_NEXT_LEARNER;
            out->is_current = f.u64 & IS_CURRENT;
            break;
        default:
            break;
        }
    return is_good && !c.bad;
}

/* false: the value is not allowed there */
static bool take_field(struct range_descriptor *d, const struct codec_field *f)
{
    switch (f->tag) {
    case TAG_EPOCH:
        d->id.epoch = f->u64;
        break;
    case TAG_ID:
        d->id.id = f->u64;
        break;
    case TAG_VERSION:
        d->version = range_version_unpack(f->u64);
        break;
    case TAG_START:
        d->bounds.start = f->bytes;
        break;
    case TAG_END:
        d->bounds.end = f->bytes, d->bounds.is_open = false;
        break;
    case TAG_REPLICA:
        d->replica = f->u64;
        break;
    case TAG_ROLE:
        d->role = (enum range_replica_role)f->u64;
        return f->u64 <= RANGE_ROLE_LEADER;
    case TAG_LEADER:
        return uuid_of_bytes(f->bytes, &d->leader);
    case TAG_TERM:
        d->term = f->u64;
        break;
    case TAG_COMMIT:
        d->commit = f->u64;
        break;
    case TAG_APPLIED:
        d->applied = f->u64;
        break;
    case TAG_BYTES:
        d->bytes = f->u64;
        break;
    case TAG_LOG_BYTES:
        d->log_bytes = f->u64;
        break;
    case TAG_RATE:
        d->rate = (uint32_t)f->u64;
        break;
    case TAG_FLAGS:
        d->is_ready = f->u64 & FLAG_READY;
        d->is_joint = f->u64 & FLAG_JOINT;
        break;
    case TAG_MEMBER:
        return d->member_count < RANGE_MEMBER_MAX &&
               decode_member(f->bytes, &d->member[d->member_count++]);
    case TAG_FACT:
        d->fact = f->bytes;
        return f->bytes.n <= RANGE_FACT_MAX;
    default:
        break;
    }
    return true;
}

int range_descriptor_decode(struct str record, struct range_descriptor *out)
{
    struct codec_cursor c = codec_cursor_of(record);
    struct codec_field f;
    uint8_t kind, version;

    *out = (struct range_descriptor){.bounds = range_bounds_all(), .fact = STR("")};
    codec_record_head(&c, &kind, &version);
    if (c.bad || kind != RANGE_DESCRIPTOR || version != 1)
        return RANGE_DESCRIPTOR_E_BAD;
    while (codec_record_next(&c, &f))
        if (!take_field(out, &f))
            return RANGE_DESCRIPTOR_E_BAD;
    return c.bad || !range_bounds_is_valid(&out->bounds) ? RANGE_DESCRIPTOR_E_BAD : 0;
}

static void put_hex(char *at, uint64_t v)
{
    for (int i = 15; i >= 0; i--, v >>= 4)
        at[i] = "0123456789abcdef"[v & 15];
}

static bool get_hex(const char *p, uint64_t *out)
{
    uint64_t v = 0;
    for (int i = 0; i < 16; i++) {
        unsigned d = p[i] >= '0' && p[i] <= '9'   ? (unsigned)(p[i] - '0')
                     : p[i] >= 'a' && p[i] <= 'f' ? (unsigned)(p[i] - 'a') + 10
                                                  : 16;
        if (d > 15)
            return false;
        v = v << 4 | d;
    }
    *out = v;
    return true;
}

void range_id_format(struct range_id id, char out[RANGE_ID_TEXT])
{
    put_hex(out, id.epoch);
    out[16] = '-';
    put_hex(out + 17, id.id);
    out[33] = '\0';
}

bool range_id_parse(struct str s, struct range_id *out)
{
    struct range_id id;
    if (s.n != RANGE_ID_TEXT - 1 || s.p[16] != '-' || !get_hex(s.p, &id.epoch) ||
        !get_hex(s.p + 17, &id.id))
        return false;
    *out = id;
    return true;
}
