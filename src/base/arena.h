/* Scratch memory of one turn: many small pieces, freed at once.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/str.h"

struct arena_block;

struct arena {
    struct arena_block *block; /* the one in use, older ones behind it */
    size_t used;
};

/* n bytes, aligned for anything, not zeroed; valid until arena_reset. */
void *arena_alloc(struct arena *a, size_t n) must_use;

/* A copy of s. */
struct str arena_str(struct arena *a, struct str s) must_use;

/* All pieces are gone; one block is kept for the next turn. */
void arena_reset(struct arena *a);

void arena_deinit(struct arena *a);
