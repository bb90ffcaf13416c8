/* The record of a route.  SPDX-License-Identifier: Apache-2.0
 *
 * It never judges a route: dist_index_add does.  Unknown tags are skipped, numbers that do not fit
 * make it bad. */
#include "dist/wire_priv.h"

enum {
    TAG_TENANT = 1,
    TAG_FILTER,
    TAG_SHARE,
    TAG_GROUP,
    TAG_KIND,
    TAG_NODE,
    TAG_EPOCH,
    TAG_CLIENT,
    TAG_SESSION,
    TAG_INCARNATION,
    TAG_OPTIONS,
    TAG_SUB_ID,
    TAG_MEMBER_MAX,
};

static void put_str(struct buf *out, uint32_t tag, struct str s)
{
    if (s.n > 0)
        codec_record_bytes(out, tag, s);
}

static void put_u64(struct buf *out, uint32_t tag, uint64_t v)
{
    if (v > 0)
        codec_record_u64(out, tag, v);
}

void dist_wire_put(struct buf *out, uint32_t tag, const struct dist_route *r, uint32_t member_max)
{
    size_t opened = codec_record_open(out, tag);
    put_str(out, TAG_TENANT, r->tenant);
    put_str(out, TAG_FILTER, r->filter);
    put_u64(out, TAG_SHARE, r->share);
    put_str(out, TAG_GROUP, r->group);
    put_u64(out, TAG_KIND, r->kind);
    if (!uuid_is_zero(&r->node))
        codec_record_bytes(out, TAG_NODE, str_view(r->node.b, sizeof r->node.b));
    put_u64(out, TAG_EPOCH, r->epoch);
    put_str(out, TAG_CLIENT, r->client);
    put_u64(out, TAG_SESSION, r->session);
    put_u64(out, TAG_INCARNATION, r->incarnation);
    put_u64(out, TAG_OPTIONS, r->options);
    put_u64(out, TAG_SUB_ID, r->sub_id);
    put_u64(out, TAG_MEMBER_MAX, member_max);
    codec_record_close(out, opened);
}

static bool get_bytes(const struct codec_field *f, struct dist_route *out)
{
    switch (f->tag) {
    case TAG_TENANT:
        out->tenant = f->bytes;
        break;
    case TAG_FILTER:
        out->filter = f->bytes;
        break;
    case TAG_GROUP:
        out->group = f->bytes;
        break;
    case TAG_CLIENT:
        out->client = f->bytes;
        break;
    case TAG_NODE:
        if (f->bytes.n != sizeof out->node.b)
            return false;
        memcpy(out->node.b, f->bytes.p, f->bytes.n);
        break;
    default:
        break;
    }
    return true;
}

static bool get_number(const struct codec_field *f, struct dist_route *out,
                       uint32_t *out_member_max)
{
    switch (f->tag) {
    case TAG_SHARE:
        out->share = (enum dist_share)f->u64;
        return f->u64 <= DIST_SHARE_ORDERED;
    case TAG_KIND:
        out->kind = (enum dist_kind)f->u64;
        return f->u64 <= DIST_KIND_MEMBER;
    case TAG_EPOCH:
        out->epoch = f->u64;
        break;
    case TAG_SESSION:
        out->session = f->u64;
        break;
    case TAG_INCARNATION:
        out->incarnation = f->u64;
        break;
    case TAG_OPTIONS:
        out->options = (uint8_t)f->u64;
        return f->u64 <= UINT8_MAX;
    case TAG_SUB_ID:
        out->sub_id = (uint32_t)f->u64;
        return f->u64 <= DIST_SUB_ID_MAX;
    case TAG_MEMBER_MAX:
        *out_member_max = (uint32_t)f->u64;
        return f->u64 <= UINT32_MAX;
    default:
        break;
    }
    return true;
}

bool dist_wire_get(struct str fields, struct dist_route *out, uint32_t *out_member_max)
{
    struct codec_cursor c = codec_cursor_of(fields);
    struct codec_field f;
    *out = (struct dist_route){0};
    *out_member_max = 0;
    while (codec_record_next(&c, &f)) {
        if (f.is_bytes ? !get_bytes(&f, out) : !get_number(&f, out, out_member_max))
            return false;
    }
    return !c.bad;
}
