/* Reads bytes that somebody else wrote.  SPDX-License-Identifier: Apache-2.0
 *
 * The error is sticky: after the first read past the end or of a bad value every read gives 0 or an empty view.  So:
 * read all fields, then look at .bad once. */
#pragma once

#include "base/str.h"

struct codec_cursor {
    const uint8_t *p, *end;
    bool bad;
};

static inline struct codec_cursor codec_cursor_of(struct str s)
{
    const uint8_t *p = (const uint8_t *)(s.p != NULL ? s.p : ""); /* an empty view may be NULL */
    return (struct codec_cursor){p, p + s.n, false};
}

static inline size_t codec_cursor_left(const struct codec_cursor *c)
{
    return (size_t)(c->end - c->p);
}

/* Marks it bad and empty. */
void codec_cursor_fail(struct codec_cursor *c);

/* Big endian. */
uint8_t codec_cursor_u8(struct codec_cursor *c);
uint16_t codec_cursor_u16(struct codec_cursor *c);
uint32_t codec_cursor_u32(struct codec_cursor *c);
uint64_t codec_cursor_u64(struct codec_cursor *c);

/* What buf_put_varint wrote; more than 10 bytes or 64 bits is bad. */
uint64_t codec_cursor_varint(struct codec_cursor *c);

/* The next n bytes as a view into the input. */
struct str codec_cursor_bytes(struct codec_cursor *c, size_t n);

/* A 16 bit length and that many bytes: MQTT's strings and binary data (MQTT5 1.5.4, 1.5.6). */
struct str codec_cursor_str16(struct codec_cursor *c);
