/* The replicated description of a range and what commands do to it.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. The boundary version grows with every change of the bounds, the config version with every
 *    change of members.
 * 2. A split gives two ranges that together are what was, both at the raised boundary version, so
 *    that every writer that
 *    was routed by the old bounds is refused.
 * 3. Time does not go back.
 * Never looks into a machine's command. */
#include "range/range.h"

enum { TAG_EPOCH = 1, TAG_ID = 2, TAG_VERSION = 3, TAG_START = 4, TAG_END = 5, TAG_HLC = 6 };
enum { RANGE_RECORD = 16 };

void range_init(struct range *r, struct range_id id)
{
    struct range_bounds all = range_bounds_all();
    *r = (struct range){.id = id, .version = {1, 0}, .bounds = range_bounds_dup(&all)};
}

void range_deinit(struct range *r)
{
    range_bounds_free(&r->bounds);
}

static int apply_split(struct range *r, const struct range_command *c, struct range *out_right)
{
    if (c->version.boundary != r->version.boundary || c->version.config != r->version.config)
        return RANGE_E_VERSION;
    if (!range_bounds_can_split(&r->bounds, c->key))
        return RANGE_E_KEY;
    struct range_bounds left = r->bounds, right = r->bounds;
    left.end = right.start = c->key;
    left.is_open = false;
    r->version.boundary++;
    *out_right = (struct range){c->new_id, r->version, range_bounds_dup(&right), r->hlc};
    left = range_bounds_dup(&left);
    range_bounds_free(&r->bounds);
    r->bounds = left;
    return RANGE_OK;
}

int range_apply(struct range *r, struct range_command *c, struct range *out_right)
{
    if (c->hlc < r->hlc)
        c->hlc = r->hlc;
    r->hlc = c->hlc;
    switch (c->kind) {
    case RANGE_CMD_WRITE:
        return c->version.boundary == r->version.boundary ? RANGE_OK : RANGE_E_VERSION;
    case RANGE_CMD_SPLIT:
        return apply_split(r, c, out_right);
    }
    return RANGE_E_VERSION;
}

bool range_has_rows(const struct range *r, const struct range_out *out)
{
    for (size_t i = 0; i < out->row_count; i++) {
        struct str key = range_out_row(out, i).key;
        if (!range_bounds_has(&r->bounds, key))
            return false;
    }
    return true;
}

void range_config_changed(struct range *r)
{
    r->version.config++;
}

void range_check(const struct range *r)
{
    must(range_bounds_is_valid(&r->bounds));
    must(r->version.boundary > 0);
    must(r->bounds.start.n <= RANGE_KEY_MAX);
}

void range_encode(const struct range *r, struct buf *out)
{
    codec_record_begin(out, RANGE_RECORD, 1);
    codec_record_u64(out, TAG_EPOCH, r->id.epoch);
    codec_record_u64(out, TAG_ID, r->id.id);
    codec_record_u64(out, TAG_VERSION, range_version_pack(r->version));
    range_bounds_encode(out, TAG_START, &r->bounds);
    codec_record_u64(out, TAG_HLC, r->hlc);
}

int range_decode(struct str record, struct range *out)
{
    struct codec_cursor c = codec_cursor_of(record);
    struct range r = {.bounds = range_bounds_all()};
    struct codec_field f;
    uint8_t kind, version;

    codec_record_head(&c, &kind, &version);
    if (c.bad || kind != RANGE_RECORD || version != 1)
        return RANGE_DECODE_E_BAD;
    while (codec_record_next(&c, &f))
        switch (f.tag) {
        case TAG_EPOCH:
            r.id.epoch = f.u64;
            break;
        case TAG_ID:
            r.id.id = f.u64;
            break;
        case TAG_VERSION:
            r.version = range_version_unpack(f.u64);
            break;
        case TAG_START:
            r.bounds.start = f.bytes;
            break;
        case TAG_END:
            r.bounds.end = f.bytes, r.bounds.is_open = false;
            break;
        case TAG_HLC:
            r.hlc = f.u64;
            break;
        default:
            break;
        }
    if (c.bad || r.version.boundary == 0 || !range_bounds_is_valid(&r.bounds) ||
        r.bounds.start.n > RANGE_KEY_MAX || r.bounds.end.n > RANGE_KEY_MAX)
        return RANGE_DECODE_E_BAD;
    r.bounds = range_bounds_dup(&r.bounds);
    *out = r;
    return 0;
}
