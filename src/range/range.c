/* The replicated description of a range and what commands do to it.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * 1. The boundary version grows with every change of the bounds, the config version with every
 *    change of members.
 * 2. A split gives two ranges that together are what was, both at the raised boundary version, so
 *    that every writer that
 *    was routed by the old bounds is refused.
 * 3. Time does not go back.
 * 4. Of COMMIT and CANCEL of one merge the first counts; whoever is frozen changes nothing but by
 *    THAW; a FREEZE that comes after the THAW of its merge finds another version.
 * Never looks into a machine's command. */
#include "range/range.h"

enum {
    TAG_EPOCH = 1,
    TAG_ID = 2,
    TAG_VERSION = 3,
    TAG_START = 4,
    TAG_END = 5,
    TAG_HLC = 6,
    TAG_MERGE_STATE = 7, /* these only while there is a merge */
    TAG_MERGE_SERIAL = 8,
    TAG_MERGEE_EPOCH = 9,
    TAG_MERGEE_ID = 10,
    TAG_MERGEE_VERSION = 11,
    TAG_FROZEN = 12,
};
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
    if (r->frozen != 0 || r->merge.state != RANGE_MERGE_NONE)
        return RANGE_E_BUSY;
    if (!range_bounds_can_split(&r->bounds, c->key))
        return RANGE_E_KEY;
    struct range_bounds left = r->bounds, right = r->bounds;
    left.end = right.start = c->key;
    left.is_open = false;
    r->version.boundary++;
    *out_right = (struct range){
        .id = c->new_id, .version = r->version, .bounds = range_bounds_dup(&right), .hlc = r->hlc};
    left = range_bounds_dup(&left);
    range_bounds_free(&r->bounds);
    r->bounds = left;
    return RANGE_OK;
}

static bool is_at(const struct range *r, struct range_version v)
{
    return r->version.boundary == v.boundary && r->version.config == v.config;
}

static int apply_begin(struct range *r, const struct range_command *c)
{
    if (!is_at(r, c->version))
        return RANGE_E_VERSION;
    if (r->frozen != 0 || r->merge.state != RANGE_MERGE_NONE || r->bounds.is_open)
        return RANGE_E_BUSY;
    r->merge = (struct range_merge){RANGE_MERGE_BEGUN, c->serial, c->other, c->other_version};
    r->version.config++;
    return RANGE_OK;
}

static int apply_freeze(struct range *r, const struct range_command *c)
{
    if (r->frozen == c->serial)
        return RANGE_OK;
    if (!is_at(r, c->version))
        return RANGE_E_VERSION;
    if (r->frozen != 0 || r->merge.state != RANGE_MERGE_NONE)
        return RANGE_E_BUSY;
    r->frozen = c->serial;
    return RANGE_OK;
}

bool range_can_commit(const struct range *r, const struct range_command *c)
{
    return r->merge.state == RANGE_MERGE_BEGUN && r->merge.serial == c->serial &&
           is_at(r, c->version) && !r->bounds.is_open && str_eq(r->bounds.end, c->bounds.start);
}

static int apply_commit(struct range *r, const struct range_command *c)
{
    struct range_bounds both = r->bounds, old = r->bounds;
    if (!range_can_commit(r, c))
        return RANGE_E_BUSY;
    both.end = c->bounds.end;
    both.is_open = c->bounds.is_open;
    r->bounds = range_bounds_dup(&both);
    range_bounds_free(&old);
    if (r->version.boundary < c->other_version.boundary)
        r->version.boundary = c->other_version.boundary;
    r->version.boundary++;
    if (r->hlc < c->other_hlc)
        r->hlc = c->other_hlc;
    r->merge = (struct range_merge){0};
    return RANGE_OK;
}

static int apply_cancel(struct range *r, const struct range_command *c)
{
    if (r->merge.state != RANGE_MERGE_BEGUN || r->merge.serial != c->serial)
        return RANGE_E_BUSY;
    r->merge.state = RANGE_MERGE_CANCELLED;
    r->version.config++;
    return RANGE_OK;
}

static int apply_thaw(struct range *r, const struct range_command *c)
{
    if (r->frozen != c->serial && !is_at(r, c->other_version))
        return RANGE_OK; /* it was never frozen by this, and never will be */
    if (r->frozen == c->serial)
        r->frozen = 0;
    r->version.config++;
    return RANGE_OK;
}

static int apply_end(struct range *r, const struct range_command *c)
{
    if (r->merge.state != RANGE_MERGE_CANCELLED || r->merge.serial != c->serial)
        return RANGE_E_BUSY;
    r->merge = (struct range_merge){0};
    return RANGE_OK;
}

int range_apply(struct range *r, struct range_command *c, struct range *out_right)
{
    if (c->hlc < r->hlc)
        c->hlc = r->hlc;
    r->hlc = c->hlc;
    switch (c->kind) {
    case RANGE_CMD_WRITE:
        return c->version.boundary == r->version.boundary && r->frozen == 0 ? RANGE_OK
                                                                            : RANGE_E_VERSION;
    case RANGE_CMD_SPLIT:
        return apply_split(r, c, out_right);
    case RANGE_CMD_MERGE_BEGIN:
        return apply_begin(r, c);
    case RANGE_CMD_MERGE_FREEZE:
        return apply_freeze(r, c);
    case RANGE_CMD_MERGE_COMMIT:
        return apply_commit(r, c);
    case RANGE_CMD_MERGE_CANCEL:
        return apply_cancel(r, c);
    case RANGE_CMD_MERGE_THAW:
        return apply_thaw(r, c);
    case RANGE_CMD_MERGE_END:
        return apply_end(r, c);
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
    must(r->frozen == 0 || r->merge.state == RANGE_MERGE_NONE);
    must(r->merge.state == RANGE_MERGE_NONE || !r->bounds.is_open);
}

void range_encode(const struct range *r, struct buf *out)
{
    codec_record_begin(out, RANGE_RECORD, 1);
    codec_record_u64(out, TAG_EPOCH, r->id.epoch);
    codec_record_u64(out, TAG_ID, r->id.id);
    codec_record_u64(out, TAG_VERSION, range_version_pack(r->version));
    range_bounds_encode(out, TAG_START, &r->bounds);
    codec_record_u64(out, TAG_HLC, r->hlc);
    if (r->frozen != 0)
        codec_record_u64(out, TAG_FROZEN, r->frozen);
    if (r->merge.state == RANGE_MERGE_NONE)
        return;
    codec_record_u64(out, TAG_MERGE_STATE, r->merge.state);
    codec_record_u64(out, TAG_MERGE_SERIAL, r->merge.serial);
    codec_record_u64(out, TAG_MERGEE_EPOCH, r->merge.mergee.epoch);
    codec_record_u64(out, TAG_MERGEE_ID, r->merge.mergee.id);
    codec_record_u64(out, TAG_MERGEE_VERSION, range_version_pack(r->merge.version));
}

/* false: no such state */
static bool take_merge(struct range *r, const struct codec_field *f)
{
    if (f->tag == TAG_FROZEN)
        r->frozen = f->u64;
    else if (f->tag == TAG_MERGE_STATE)
        r->merge.state = (enum range_merge_state)f->u64;
    else if (f->tag == TAG_MERGE_SERIAL)
        r->merge.serial = f->u64;
    else if (f->tag == TAG_MERGEE_EPOCH)
        r->merge.mergee.epoch = f->u64;
    else if (f->tag == TAG_MERGEE_ID)
        r->merge.mergee.id = f->u64;
    else if (f->tag == TAG_MERGEE_VERSION)
        r->merge.version = range_version_unpack(f->u64);
    return f->tag != TAG_MERGE_STATE || f->u64 <= RANGE_MERGE_CANCELLED;
}

static bool is_merge_possible(const struct range *r)
{
    return r->merge.state == RANGE_MERGE_NONE || (r->frozen == 0 && !r->bounds.is_open);
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
            if (!take_merge(&r, &f))
                return RANGE_DECODE_E_BAD;
            break;
        }
    if (c.bad || !is_merge_possible(&r) || r.version.boundary == 0 ||
        !range_bounds_is_valid(&r.bounds) || r.bounds.start.n > RANGE_KEY_MAX ||
        r.bounds.end.n > RANGE_KEY_MAX)
        return RANGE_DECODE_E_BAD;
    r.bounds = range_bounds_dup(&r.bounds);
    *out = r;
    return 0;
}
