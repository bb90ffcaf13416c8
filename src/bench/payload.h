/* What a message of the tool carries: when, whose, who, which.  SPDX-License-Identifier: Apache-2.0
 */
#pragma once

#include <string.h>

#include "base/usec.h"

#define BENCH_PAYLOAD_MIN 24

struct bench_payload {
    usec_t sent;        /* monotonic clock of this machine */
    uint32_t run;       /* the same in all messages of one run, and in no other run by all odds */
    uint32_t publisher; /* index */
    uint64_t seq;       /* from 0, per publisher */
};

static inline void bench_payload_put(uint8_t *at, const struct bench_payload *p)
{
    memcpy(at, &p->sent, 8);
    memcpy(at + 8, &p->run, 4);
    memcpy(at + 12, &p->publisher, 4);
    memcpy(at + 16, &p->seq, 8);
}

/* at has at least BENCH_PAYLOAD_MIN bytes. */
static inline struct bench_payload bench_payload_get(const char *at)
{
    struct bench_payload p;
    memcpy(&p.sent, at, 8);
    memcpy(&p.run, at + 8, 4);
    memcpy(&p.publisher, at + 12, 4);
    memcpy(&p.seq, at + 16, 8);
    return p;
}
