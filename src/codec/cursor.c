/* Reads bytes that somebody else wrote.  SPDX-License-Identifier: Apache-2.0 */
#include "codec/cursor.h"

void codec_cursor_fail(struct codec_cursor *c)
{
    c->bad = true;
    c->p = c->end;
}

static uint64_t read_be(struct codec_cursor *c, unsigned bytes)
{
    uint64_t v = 0;
    if (codec_cursor_left(c) < bytes) {
        codec_cursor_fail(c);
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | *c->p++;
    return v;
}

uint8_t codec_cursor_u8(struct codec_cursor *c)
{
    return (uint8_t)read_be(c, 1);
}

uint16_t codec_cursor_u16(struct codec_cursor *c)
{
    return (uint16_t)read_be(c, 2);
}

uint32_t codec_cursor_u32(struct codec_cursor *c)
{
    return (uint32_t)read_be(c, 4);
}

uint64_t codec_cursor_u64(struct codec_cursor *c)
{
    return read_be(c, 8);
}

uint64_t codec_cursor_varint(struct codec_cursor *c)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b = codec_cursor_u8(c);
        if (shift == 63 && b > 1)
            break;
        v |= (uint64_t)(b & 0x7F) << shift;
        if (b < 0x80)
            return c->bad ? 0 : v;
    }
    codec_cursor_fail(c);
    return 0;
}

struct str codec_cursor_bytes(struct codec_cursor *c, size_t n)
{
    if (codec_cursor_left(c) < n) {
        codec_cursor_fail(c);
        return str_view("", 0);
    }
    struct str s = str_view(c->p, n);
    c->p += n;
    return s;
}

struct str codec_cursor_str16(struct codec_cursor *c)
{
    return codec_cursor_bytes(c, codec_cursor_u16(c));
}
