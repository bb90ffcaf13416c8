/* A suspicion starts at its longest and shrinks with every independent accuser, so that one slow
 * observer alone cannot kill a member quickly.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants (gossip_suspicion_check):
 *   S1  start + min <= deadline <= start + max.
 *   S2  accusers are distinct and at most need + 1.
 * It never reads a clock: extend() moves start, so S1 holds after a stall too. */
#include "gossip/suspicion.h"

#define MAX_OVER_MIN 6 /* matters: memberlist's SuspicionMaxTimeoutMult */
#define CONFIRM_NEED 2 /* matters: Lifeguard's K */

unsigned gossip_log10_milli(uint64_t n)
{
    /* log2 by squaring a 1.31 fixed point mantissa, then times log10(2) */
    unsigned whole = 0;
    must(n > 0);
    while (n >> whole > 1)
        whole++;
    uint64_t x = whole >= 31 ? n >> (whole - 31) : n << (31 - whole);
    uint64_t log2 = whole;
    for (unsigned i = 0; i < 16; i++) {
        x = x * x >> 31;
        log2 = log2 << 1 | (x >> 32);
        x >>= x >> 32;
    }
    return (unsigned)((log2 * 30103 + (50u << 16)) / (100u << 16));
}

usec_t gossip_suspicion_min(size_t live, unsigned mult, usec_t interval)
{
    unsigned log = gossip_log10_milli(live > 0 ? live : 1);
    return mult * interval * (log < 1000 ? 1000 : log) / 1000;
}

void gossip_suspicion_begin(struct gossip_suspicion *s, usec_t now, usec_t min, size_t live,
                            const struct uuid *accuser)
{
    *s = (struct gossip_suspicion){.start = now, .min = min, .max = MAX_OVER_MIN * min, .count = 1};
    s->need = live < CONFIRM_NEED + 2 ? 0 : CONFIRM_NEED;
    s->accuser[0] = *accuser;
    s->deadline = now + (s->need == 0 ? s->min : s->max);
}

static usec_t span(const struct gossip_suspicion *s)
{
    /* log(c + 1) / log(need + 1) for c confirmations, in thousandths */
    static const unsigned weight[CONFIRM_NEED + 1] = {0, 631, 1000};
    return s->max - (s->max - s->min) * weight[s->count - 1] / 1000;
}

int gossip_suspicion_accuse(struct gossip_suspicion *s, const struct uuid *accuser)
{
    if (s->count > s->need)
        return GOSSIP_SUSPICION_E_KNOWN;
    for (unsigned i = 0; i < s->count; i++)
        if (uuid_eq(&s->accuser[i], accuser))
            return GOSSIP_SUSPICION_E_KNOWN;
    s->accuser[s->count++] = *accuser;
    s->deadline = usec_min(s->deadline, s->start + span(s));
    return 0;
}

void gossip_suspicion_extend(struct gossip_suspicion *s, usec_t by)
{
    s->start += by;
    s->deadline += by;
}

void gossip_suspicion_stretch(struct gossip_suspicion *s)
{
    s->deadline = s->start + s->max;
}

void gossip_suspicion_relax(struct gossip_suspicion *s)
{
    s->deadline = s->need == 0 ? s->start + s->min : s->start + span(s);
}

void gossip_suspicion_check(const struct gossip_suspicion *s)
{
    must(s->deadline >= s->start + s->min); /* S1 */
    must(s->deadline <= s->start + s->max); /* S1 */
    must(s->count >= 1);                    /* S2 */
    must(s->count <= s->need + 1);          /* S2 */
    for (unsigned i = 0; i < s->count; i++)
        for (unsigned j = 0; j < i; j++)
            must(!uuid_eq(&s->accuser[i], &s->accuser[j])); /* S2 */
}
