/* 128 bits that name one node, store or replica.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/str.h"

#define UUID_TEXT 37 /* 36 characters and NUL */

struct uuid {
    uint8_t b[16];
};

static inline bool uuid_eq(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->b, b->b, 16) == 0;
}

static inline int uuid_cmp(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->b, b->b, 16);
}

/* From its 16 bytes in a record; false and *out untouched when s is not 16 bytes long. */
static inline bool uuid_of_bytes(struct str s, struct uuid *out)
{
    if (s.n != sizeof out->b)
        return false;
    memcpy(out->b, s.p, sizeof out->b);
    return true;
}

bool uuid_is_zero(const struct uuid *u);

/* Version 4 from 128 random bits that the caller brings. */
struct uuid uuid_from_random(const uint8_t random[16]);

/* The usual lower-case text, ended by NUL. */
void uuid_format(const struct uuid *u, char out[UUID_TEXT]);

/* Upper or lower case, with dashes.  false and *out untouched when it is none. */
bool uuid_parse(struct str s, struct uuid *out);
