/* Encoding of log entries.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. What begin, add, split and merge write, decode reads back unchanged; anything else is refused
 * as a whole, on every replica alike. Never looks into a machine's command. */
#include "range/command.h"

enum {
    TAG_VERSION = 1,
    TAG_HLC = 2,
    TAG_COMMAND = 3,
    TAG_KEY = 4,
    TAG_NEW_EPOCH = 5,
    TAG_NEW_ID = 6,
    TAG_SERIAL = 7,
    TAG_OTHER_EPOCH = 8,
    TAG_OTHER_ID = 9,
    TAG_OTHER_VERSION = 10,
    TAG_OTHER_INDEX = 11,
    TAG_OTHER_TERM = 12,
    TAG_OTHER_HLC = 13,
    TAG_START = 14,
    TAG_END = 15, /* range_bounds_encode: the tag after TAG_START */
};

void range_command_begin(struct buf *out, uint32_t boundary, uint64_t hlc)
{
    codec_record_begin(out, RANGE_CMD_WRITE, RANGE_CMD_VERSION);
    codec_record_u64(out, TAG_VERSION, range_version_pack((struct range_version){boundary, 0}));
    codec_record_u64(out, TAG_HLC, hlc);
}

void range_command_add(struct buf *out, struct str command)
{
    codec_record_bytes(out, TAG_COMMAND, command);
}

void range_command_split(struct buf *out, const struct range_command *c)
{
    codec_record_begin(out, RANGE_CMD_SPLIT, RANGE_CMD_VERSION);
    codec_record_u64(out, TAG_VERSION, range_version_pack(c->version));
    codec_record_u64(out, TAG_HLC, c->hlc);
    codec_record_bytes(out, TAG_KEY, c->key);
    codec_record_u64(out, TAG_NEW_EPOCH, c->new_id.epoch);
    codec_record_u64(out, TAG_NEW_ID, c->new_id.id);
}

void range_command_merge(struct buf *out, const struct range_command *c)
{
    codec_record_begin(out, (uint8_t)c->kind, RANGE_CMD_VERSION);
    codec_record_u64(out, TAG_VERSION, range_version_pack(c->version));
    codec_record_u64(out, TAG_HLC, c->hlc);
    codec_record_u64(out, TAG_SERIAL, c->serial);
    codec_record_u64(out, TAG_OTHER_EPOCH, c->other.epoch);
    codec_record_u64(out, TAG_OTHER_ID, c->other.id);
    codec_record_u64(out, TAG_OTHER_VERSION, range_version_pack(c->other_version));
    if (c->kind != RANGE_CMD_MERGE_COMMIT)
        return;
    codec_record_u64(out, TAG_OTHER_INDEX, c->other_index);
    codec_record_u64(out, TAG_OTHER_TERM, c->other_term);
    codec_record_u64(out, TAG_OTHER_HLC, c->other_hlc);
    range_bounds_encode(out, TAG_START, &c->bounds);
}

/* What only a merge has; false: not one of these fields. */
static bool take_merge(struct range_command *r, const struct codec_field *f)
{
    if (f->is_bytes && f->tag == TAG_START)
        r->bounds.start = f->bytes;
    else if (f->is_bytes && f->tag == TAG_END)
        r->bounds.end = f->bytes, r->bounds.is_open = false;
    else if (f->is_bytes)
        return false;
    else if (f->tag == TAG_SERIAL)
        r->serial = f->u64;
    else if (f->tag == TAG_OTHER_EPOCH)
        r->other.epoch = f->u64;
    else if (f->tag == TAG_OTHER_ID)
        r->other.id = f->u64;
    else if (f->tag == TAG_OTHER_VERSION)
        r->other_version = range_version_unpack(f->u64);
    else if (f->tag == TAG_OTHER_INDEX)
        r->other_index = f->u64;
    else if (f->tag == TAG_OTHER_TERM)
        r->other_term = f->u64;
    else if (f->tag == TAG_OTHER_HLC)
        r->other_hlc = f->u64;
    else
        return false;
    return true;
}

static bool is_good(const struct range_command *r, bool has_key)
{
    switch (r->kind) {
    case RANGE_CMD_WRITE:
        return true;
    case RANGE_CMD_SPLIT:
        return has_key && r->key.n > 0 && r->key.n <= RANGE_KEY_MAX;
    case RANGE_CMD_MERGE_COMMIT:
        return r->serial != 0 && r->other_index != 0 && r->bounds.start.n > 0 &&
               r->bounds.end.n <= RANGE_KEY_MAX && range_bounds_is_valid(&r->bounds);
    case RANGE_CMD_MERGE_BEGIN:
    case RANGE_CMD_MERGE_FREEZE:
    case RANGE_CMD_MERGE_CANCEL:
    case RANGE_CMD_MERGE_THAW:
    case RANGE_CMD_MERGE_END:
        return r->serial != 0;
    }
    return false;
}

int range_command_decode(struct str entry, struct range_command *out)
{
    struct codec_cursor c = codec_cursor_of(entry);
    struct range_command r = {.bounds = range_bounds_all()};
    struct codec_field f;
    uint8_t kind, version;
    bool has_key = false;

    codec_record_head(&c, &kind, &version);
    if (c.bad || version != RANGE_CMD_VERSION || kind < RANGE_CMD_WRITE ||
        kind > RANGE_CMD_MERGE_END)
        return RANGE_COMMAND_E_BAD;
    r.kind = (enum range_command_kind)kind;
    r.writes = c;
    while (codec_record_next(&c, &f)) {
        if (f.tag == TAG_VERSION && !f.is_bytes)
            r.version = range_version_unpack(f.u64);
        else if (f.tag == TAG_HLC && !f.is_bytes)
            r.hlc = f.u64;
        else if (f.tag == TAG_NEW_EPOCH && !f.is_bytes)
            r.new_id.epoch = f.u64;
        else if (f.tag == TAG_NEW_ID && !f.is_bytes)
            r.new_id.id = f.u64;
        else if (f.tag == TAG_KEY && f.is_bytes)
            r.key = f.bytes, has_key = true;
        else if (r.kind > RANGE_CMD_SPLIT)
            (void)take_merge(&r, &f);
    }
    if (c.bad || !is_good(&r, has_key))
        return RANGE_COMMAND_E_BAD;
    *out = r;
    return 0;
}

bool range_command_next(struct range_command *c, struct str *out_command)
{
    struct codec_field f;
    while (codec_record_next(&c->writes, &f))
        if (f.tag == TAG_COMMAND && f.is_bytes) {
            *out_command = f.bytes;
            return true;
        }
    return false;
}
