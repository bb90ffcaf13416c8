/* Local health.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariant: 0 <= score <= GOSSIP_SCORE_MAX. */
#include "gossip/awareness.h"

void gossip_awareness_add(struct gossip_awareness *a, int delta)
{
    int score = (int)a->score + delta;
    if (score < 0)
        score = 0;
    a->score = score > GOSSIP_SCORE_MAX ? GOSSIP_SCORE_MAX : (unsigned)score;
}
