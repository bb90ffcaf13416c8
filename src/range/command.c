/* Encoding of log entries.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. What begin, add and split write, decode reads back unchanged; anything else is refused as a
 *    whole, on every replica
 *    alike.
 * Never looks into a machine's command. */
#include "range/command.h"

enum {
    TAG_VERSION = 1,
    TAG_HLC = 2,
    TAG_COMMAND = 3,
    TAG_KEY = 4,
    TAG_NEW_EPOCH = 5,
    TAG_NEW_ID = 6
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

int range_command_decode(struct str entry, struct range_command *out)
{
    struct codec_cursor c = codec_cursor_of(entry);
    struct range_command r = {0};
    struct codec_field f;
    uint8_t kind, version;
    bool has_key = false;

    codec_record_head(&c, &kind, &version);
    if (c.bad || version != RANGE_CMD_VERSION ||
        (kind != RANGE_CMD_WRITE && kind != RANGE_CMD_SPLIT))
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
    }
    if (c.bad)
        return RANGE_COMMAND_E_BAD;
    if (r.kind == RANGE_CMD_SPLIT && (!has_key || r.key.n == 0 || r.key.n > RANGE_KEY_MAX))
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
