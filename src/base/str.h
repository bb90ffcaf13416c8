/* A view of bytes that somebody else owns.  SPDX-License-Identifier: Apache-2.0
 *
 * Valid until the event-loop turn ends unless its origin says otherwise; to keep it, str_dup. */
#pragma once

#include <string.h>

#include "base/must.h"

struct str {
    const char *p;
    size_t n;
};

#define STR(lit) ((struct str){(lit), sizeof(lit) - 1})
#define STR_ARG(s) (int)(s).n, (s).p /* for "%.*s" */

static inline struct str str_of(const char *z)
{
    return (struct str){z, z ? strlen(z) : 0};
}

static inline struct str str_view(const void *p, size_t n)
{
    return (struct str){(const char *)p, n};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* Bytewise order, shorter first on a tie: <0, 0, >0. */
int str_cmp(struct str a, struct str b);

bool str_has_prefix(struct str s, struct str prefix);

/* A heap copy that ends in NUL (not counted).  Yours: mem_free((void *)s.p). */
struct str str_dup(struct str s) must_use;

/* Decimal.  false on empty, junk, sign or overflow; then *out is untouched. */
bool str_to_u64(struct str s, uint64_t *out);

/* Copies at most cap - 1 bytes and ends in NUL; returns the bytes copied. */
size_t str_copy(char *dst, size_t cap, struct str s);

/* Cuts the part before the first sep off *s; false when *s is at its end (p == NULL). */
bool str_next(struct str *s, char sep, struct str *out_part);

/* Well-formed UTF-8 without surrogates and U+0000 (MQTT-1.5.4-1, MQTT-1.5.4-2). */
bool str_is_utf8(struct str s);

/* Well-formed UTF-8 without surrogates; U+0000 is fine: a payload that says it is text (MQTT5 3.3.2.3.2). */
bool str_is_utf8_text(struct str s);
