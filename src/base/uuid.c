/* RFC 9562 identifiers.  SPDX-License-Identifier: Apache-2.0 */
#include "base/uuid.h"

static const char hex[] = "0123456789abcdef";

bool uuid_is_zero(const struct uuid *u)
{
    static const uint8_t zero[16];
    return memcmp(u->b, zero, 16) == 0;
}

struct uuid uuid_from_random(const uint8_t random[16])
{
    struct uuid u;
    memcpy(u.b, random, 16);
    u.b[6] = (uint8_t)((u.b[6] & 0x0F) | 0x40);
    u.b[8] = (uint8_t)((u.b[8] & 0x3F) | 0x80);
    return u;
}

static bool dash_before(unsigned byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_format(const struct uuid *u, char out[UUID_TEXT])
{
    for (unsigned i = 0; i < 16; i++) {
        if (dash_before(i))
            *out++ = '-';
        *out++ = hex[u->b[i] >> 4];
        *out++ = hex[u->b[i] & 15];
    }
    *out = 0;
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool uuid_parse(struct str s, struct uuid *out)
{
    struct uuid u;
    const char *p = s.p;
    if (s.n != UUID_TEXT - 1)
        return false;
    for (unsigned i = 0; i < 16; i++) {
        if (dash_before(i) && *p++ != '-')
            return false;
        int hi = nibble(p[0]), lo = nibble(p[1]);
        if (hi < 0 || lo < 0)
            return false;
        u.b[i] = (uint8_t)(hi << 4 | lo);
        p += 2;
    }
    *out = u;
    return true;
}
