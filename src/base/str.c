/* Views of bytes.  SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include "base/mem.h"

int str_cmp(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n > 0 ? memcmp(a.p, b.p, n) : 0;
    if (c != 0)
        return c;
    return a.n < b.n ? -1 : a.n > b.n;
}

bool str_has_prefix(struct str s, struct str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

struct str str_dup(struct str s)
{
    return (struct str){mem_dup(s.p, s.n), s.n};
}

bool str_to_u64(struct str s, uint64_t *out)
{
    uint64_t v = 0;
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned d = (unsigned)(unsigned char)s.p[i] - '0';
        if (d > 9 || v > (UINT64_MAX - d) / 10)
            return false;
        v = v * 10 + d;
    }
    *out = v;
    return true;
}

size_t str_copy(char *dst, size_t cap, struct str s)
{
    must(cap > 0);
    size_t n = s.n < cap - 1 ? s.n : cap - 1;
    if (n > 0)
        memcpy(dst, s.p, n);
    dst[n] = 0;
    return n;
}

bool str_next(struct str *s, char sep, struct str *out_part)
{
    if (s->p == NULL)
        return false;
    const char *at = s->n > 0 ? memchr(s->p, sep, s->n) : NULL;
    if (at == NULL) {
        *out_part = *s;
        *s = (struct str){NULL, 0};
        return true;
    }
    size_t n = (size_t)(at - s->p);
    *out_part = str_view(s->p, n);
    *s = str_view(at + 1, s->n - n - 1);
    return true;
}

/* How many continuation bytes follow lead, and the smallest code point that needs them; -1 is no lead byte. */
static int utf8_tail(unsigned char lead, uint32_t *out_min, uint32_t *out_bits)
{
    if (lead >= 0xC2 && lead <= 0xDF) {
        *out_min = 0x80;
        *out_bits = lead & 0x1Fu;
        return 1;
    }
    if ((lead & 0xF0) == 0xE0) {
        *out_min = 0x800;
        *out_bits = lead & 0x0Fu;
        return 2;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        *out_min = 0x10000;
        *out_bits = lead & 0x07u;
        return 3;
    }
    return -1;
}

/* Skips ASCII eight bytes at a time; stops at a byte that needs a look (high bit, or NUL). */
static size_t skip_ascii(const char *p, size_t i, size_t n)
{
    const uint64_t high = 0x8080808080808080u, ones = 0x0101010101010101u;
    for (uint64_t v; n - i >= sizeof v; i += sizeof v) {
        memcpy(&v, p + i, sizeof v);
        if ((v & high) != 0 || ((v - ones) & ~v & high) != 0)
            break;
    }
    return i;
}

static bool is_utf8(struct str s, bool has_nul)
{
    size_t i = skip_ascii(s.p, 0, s.n);
    while (i < s.n) {
        unsigned char c = (unsigned char)s.p[i++];
        if (likely(c < 0x80)) {
            if (c == 0 && !has_nul)
                return false;
            continue;
        }
        uint32_t min = 0, cp = 0;
        int tail = utf8_tail(c, &min, &cp);
        if (tail < 0 || s.n - i < (size_t)tail)
            return false;
        for (int k = 0; k < tail; k++, i++) {
            unsigned char t = (unsigned char)s.p[i];
            if ((t & 0xC0) != 0x80)
                return false;
            cp = cp << 6 | (t & 0x3Fu);
        }
        if (cp < min || cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
            return false;
        i = skip_ascii(s.p, i, s.n);
    }
    return true;
}

bool str_is_utf8(struct str s)
{
    return is_utf8(s, false);
}

bool str_is_utf8_text(struct str s)
{
    return is_utf8(s, true);
}
