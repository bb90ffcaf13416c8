/* Scratch memory of one turn.  SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include "base/mem.h"

#define ARENA_BLOCK 16384 /* matters a little: a usual turn fits in one */

struct arena_block {
    struct arena_block *older;
    size_t cap;
    _Alignas(16) unsigned char bytes[];
};

void *arena_alloc(struct arena *a, size_t n)
{
    must(n < SIZE_MAX / 2);
    n = (n + 15) & ~(size_t)15;
    if (a->block == NULL || a->block->cap - a->used < n) {
        size_t cap = n > ARENA_BLOCK ? n : ARENA_BLOCK;
        struct arena_block *b = mem_alloc(sizeof *b + cap);
        b->older = a->block;
        b->cap = cap;
        a->block = b;
        a->used = 0;
    }
    void *p = a->block->bytes + a->used;
    a->used += n;
    return p;
}

struct str arena_str(struct arena *a, struct str s)
{
    char *p = arena_alloc(a, s.n + 1);
    if (s.n > 0)
        memcpy(p, s.p, s.n);
    p[s.n] = 0;
    return str_view(p, s.n);
}

void arena_reset(struct arena *a)
{
    struct arena_block *keep = a->block;
    if (keep == NULL)
        return;
    for (struct arena_block *b = keep->older, *next; b != NULL; b = next) {
        next = b->older;
        mem_free(b);
    }
    keep->older = NULL;
    if (keep->cap > ARENA_BLOCK)
        a->block = mem_free(keep);
    a->used = 0;
}

void arena_deinit(struct arena *a)
{
    arena_reset(a);
    a->block = mem_free(a->block);
}
