/* Bytes as people write them: "30 05 'a/b' 68".  SPDX-License-Identifier: Apache-2.0
 *
 * Two hex digits are a byte; 'text' is its bytes; "text" in quotation marks has its 16 bit length in front. */
#pragma once

#include "base/buf.h"

static inline unsigned hex_digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
}

static inline void hex_put(struct buf *b, const char *z)
{
    for (; *z != 0; z++) {
        if (*z == ' ')
            continue;
        if (*z == '\'' || *z == '"') {
            const char *end = strchr(z + 1, *z);
            struct str s = str_view(z + 1, (size_t)(end - z - 1));
            if (*z == '"')
                buf_put_u16(b, (uint16_t)s.n);
            buf_put_str(b, s);
            z = end;
            continue;
        }
        buf_put_u8(b, (uint8_t)(hex_digit(z[0]) << 4 | hex_digit(z[1])));
        z++;
    }
}
