/* A growing run of bytes that we own.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <string.h>

#include "base/str.h"

struct buf {
    uint8_t *p;
    size_t n;   /* bytes used */
    size_t cap; /* bytes there */
};

/* Room for n more bytes; returns where they go.  The caller then adds what it wrote to b->n. */
uint8_t *buf_reserve(struct buf *b, size_t n);

void buf_deinit(struct buf *b);

/* Takes n bytes off the front (moves the rest down). */
void buf_drop(struct buf *b, size_t n);

static inline void buf_put(struct buf *b, const void *p, size_t n)
{
    if (n == 0)
        return;
    if (unlikely(b->cap - b->n < n))
        (void)buf_reserve(b, n);
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static inline void buf_put_str(struct buf *b, struct str s)
{
    buf_put(b, s.p, s.n);
}

static inline void buf_put_u8(struct buf *b, uint8_t v)
{
    if (unlikely(b->n == b->cap))
        (void)buf_reserve(b, 1);
    b->p[b->n++] = v;
}

/* Big endian, as MQTT and our records have it. */
void buf_put_u16(struct buf *b, uint16_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);

/* Seven bits a byte, low first, at most 10 bytes. */
void buf_put_varint(struct buf *b, uint64_t v);

/* printf onto the end. */
void buf_printf(struct buf *b, const char *fmt, ...) print_like(2, 3);

static inline struct str buf_str(const struct buf *b)
{
    return str_view(b->p, b->n);
}
