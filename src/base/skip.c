/* An intrusive skip list.  SPDX-License-Identifier: Apache-2.0
 *
 * Pugh, "Skip Lists: A Probabilistic Alternative to Balanced Trees".  Invariant: on every level the
 * keys grow. */
#include "base/skip.h"

void skip_init(struct skip *s, uint64_t seed)
{
    memset(s, 0, sizeof *s);
    rng_init(&s->rng, seed);
}

unsigned skip_height(struct skip *s)
{
    unsigned height = 1;
    while (height < SKIP_HEIGHT_MAX && rng_below(&s->rng, 4) == 0)
        height++;
    return height;
}

/* The pointers that lead to the first node not before key, one for each level; returns that node.
 */
static struct skip_node *descend(struct skip_node *const *level, struct str key,
                                 struct skip_node *const *out_before[])
{
    for (unsigned h = SKIP_HEIGHT_MAX; h-- > 0;) {
        while (level[h] != NULL && str_cmp(level[h]->key, key) < 0)
            level = level[h]->next;
        if (out_before != NULL)
            out_before[h] = level;
    }
    return level[0];
}

struct skip_node *skip_seek(const struct skip *s, struct str key)
{
    return descend(s->head, key, NULL);
}

struct skip_node *skip_find(const struct skip *s, struct str key)
{
    struct skip_node *x = skip_seek(s, key);
    return x != NULL && str_eq(x->key, key) ? x : NULL;
}

void skip_put(struct skip *s, struct skip_node *x)
{
    struct skip_node *const *before[SKIP_HEIGHT_MAX];
    struct skip_node *at = descend(s->head, x->key, before);
    must(x->height >= 1 && x->height <= SKIP_HEIGHT_MAX);
    must(at == NULL || !str_eq(at->key, x->key));
    for (unsigned h = 0; h < x->height; h++) {
        struct skip_node **from = (struct skip_node **)(uintptr_t)before[h];
        x->next[h] = from[h];
        from[h] = x;
    }
}

void skip_del(struct skip *s, struct skip_node *x)
{
    struct skip_node *const *before[SKIP_HEIGHT_MAX];
    must(descend(s->head, x->key, before) == x);
    for (unsigned h = 0; h < x->height; h++) {
        struct skip_node **from = (struct skip_node **)(uintptr_t)before[h];
        must(from[h] == x);
        from[h] = x->next[h];
    }
}

void skip_cut(struct skip *s, struct str key, struct skip *out)
{
    struct skip_node *const *before[SKIP_HEIGHT_MAX];
    must(out->head[0] == NULL);
    (void)descend(s->head, key, before);
    for (unsigned h = 0; h < SKIP_HEIGHT_MAX; h++) {
        struct skip_node **from = (struct skip_node **)(uintptr_t)before[h];
        out->head[h] = from[h];
        from[h] = NULL;
    }
}
