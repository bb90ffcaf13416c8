/* How long to doubt a silent member (Lifeguard, "dynamic suspicion timeouts").
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/usec.h"
#include "base/uuid.h"

#define GOSSIP_ACCUSERS_MAX                                                                        \
    4 /* matters: more than the confirmations that can shorten a suspicion */

enum gossip_suspicion_outcome {
    GOSSIP_SUSPICION_E_KNOWN = 1, /* this accuser was already counted, or enough were */
};

struct gossip_suspicion {
    usec_t start, min, max, deadline;
    unsigned need;  /* confirmations that bring it down to min: 0 or 2 */
    unsigned count; /* accusers, the first too; at most need + 1 */
    struct uuid accuser[GOSSIP_ACCUSERS_MAX];
};

/* 1000 * log10(n) for n >= 1. */
unsigned gossip_log10_milli(uint64_t n);

/* The shortest suspicion in a cluster of live members: mult * interval * max(1, log10 live). */
usec_t gossip_suspicion_min(size_t live, unsigned mult, usec_t interval);

/* Begins with the first accuser.  max is 6 * min; it starts there, except among fewer than 4
 * members, where nobody could confirm: there it is min. */
void gossip_suspicion_begin(struct gossip_suspicion *s, usec_t now, usec_t min, size_t live,
                            const struct uuid *accuser);

/* Counts one more accuser: 0, and the deadline moved earlier; or KNOWN. */
must_use int gossip_suspicion_accuse(struct gossip_suspicion *s, const struct uuid *accuser);

/* Our own fault: gives the suspect this much more. */
void gossip_suspicion_extend(struct gossip_suspicion *s, usec_t by);

/* We may be the isolated one: back to the longest. */
void gossip_suspicion_stretch(struct gossip_suspicion *s);

/* We were not: back to what the accusers say. */
void gossip_suspicion_relax(struct gossip_suspicion *s);

void gossip_suspicion_check(const struct gossip_suspicion *s);
