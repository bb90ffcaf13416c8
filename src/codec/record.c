/* Records of tagged fields.  SPDX-License-Identifier: Apache-2.0 */
#include "codec/record.h"

#define OPEN_LEN 4 /* bytes kept for the length of a nested field: 28 bits, padded varint */

void codec_record_begin(struct buf *b, uint8_t kind, uint8_t version)
{
    buf_put_u8(b, kind);
    buf_put_u8(b, version);
}

void codec_record_u64(struct buf *b, uint32_t tag, uint64_t v)
{
    buf_put_varint(b, (uint64_t)tag << 1);
    buf_put_varint(b, v);
}

void codec_record_bytes(struct buf *b, uint32_t tag, struct str v)
{
    buf_put_varint(b, (uint64_t)tag << 1 | 1);
    buf_put_varint(b, v.n);
    buf_put_str(b, v);
}

size_t codec_record_open(struct buf *b, uint32_t tag)
{
    buf_put_varint(b, (uint64_t)tag << 1 | 1);
    (void)buf_reserve(b, OPEN_LEN);
    b->n += OPEN_LEN;
    return b->n;
}

void codec_record_close(struct buf *b, size_t opened)
{
    size_t len = b->n - opened;
    must(opened <= b->n && len < (size_t)1 << (7 * OPEN_LEN));
    uint8_t *at = b->p + opened - OPEN_LEN;
    for (unsigned i = 0; i < OPEN_LEN; i++, len >>= 7)
        at[i] = (uint8_t)((len & 0x7F) | (i + 1 < OPEN_LEN ? 0x80 : 0));
}

void codec_record_head(struct codec_cursor *c, uint8_t *out_kind, uint8_t *out_version)
{
    *out_kind = codec_cursor_u8(c);
    *out_version = codec_cursor_u8(c);
}

bool codec_record_next(struct codec_cursor *c, struct codec_field *out)
{
    if (c->bad || c->p == c->end)
        return false;
    uint64_t key = codec_cursor_varint(c);
    if (key >> 1 > UINT32_MAX)
        codec_cursor_fail(c);
    out->tag = (uint32_t)(key >> 1);
    out->is_bytes = key & 1;
    out->u64 = codec_cursor_varint(c);
    out->bytes = out->is_bytes ? codec_cursor_bytes(c, out->u64) : str_view("", 0);
    return !c->bad;
}
