/* Hash of bytes, fast, not for secrets and not for the disk.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/str.h"

/* XXH3, 64 bit.  The seed keeps strangers from choosing collisions: take it from a random source at start. */
uint64_t hash_bytes(const void *p, size_t n, uint64_t seed);

static inline uint64_t hash_str(struct str s, uint64_t seed)
{
    return hash_bytes(s.p, s.n, seed);
}

/* Mixes one number (splitmix64's finaliser). */
static inline uint64_t hash_u64(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
