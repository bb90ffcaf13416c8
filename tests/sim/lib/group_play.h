/* The life of one simulated Raft group, from a seed.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "sim/lib/group.h"

/* In world.arg; NULL: none. */
struct group_play_options {
    bool has_lying_disk;
};

/* A world_play: chaos, healing, and the checks of both. */
void group_play(struct world *w, uint64_t seed);
