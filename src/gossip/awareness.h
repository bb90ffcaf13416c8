/* How well we ourselves seem to be (Lifeguard, "local health multiplier"). SPDX-License-Identifier:
 * Apache-2.0 */
#pragma once

#include "base/must.h"
#include "base/usec.h"

#define GOSSIP_SCORE_MAX 7 /* matters: timeouts grow at most eightfold */

struct gossip_awareness {
    unsigned score; /* 0 healthy .. GOSSIP_SCORE_MAX */
};

/* Adds delta, staying inside 0..GOSSIP_SCORE_MAX. */
void gossip_awareness_add(struct gossip_awareness *a, int delta);

/* A timeout as long as our health asks for. */
static inline usec_t gossip_awareness_scale(const struct gossip_awareness *a, usec_t t)
{
    return t * (a->score + 1);
}
