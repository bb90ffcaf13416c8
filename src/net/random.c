/* Secrets from the kernel.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: falls back to anything weaker; a kernel that cannot give random bytes ends the process. */
#include "net/random.h"

#include <sys/random.h>

void net_random_bytes(void *out, size_t n)
{
    uint8_t *p = out;
    while (n > 0) {
        size_t ask = n < 256 ? n : 256; /* up to 256 the kernel never gives less */
        must(getrandom(p, ask, 0) == (ssize_t)ask);
        p += ask;
        n -= ask;
    }
}

uint64_t net_random_u64(void)
{
    uint64_t v;
    net_random_bytes(&v, sizeof v);
    return v;
}

struct uuid net_random_uuid(void)
{
    uint8_t b[16];
    net_random_bytes(b, sizeof b);
    return uuid_from_random(b);
}
