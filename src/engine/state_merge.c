/* The changes of many batches as one: of each key only the last.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Most rows of a queue are removed shortly after they were written.  Merged before they reach the
 * table, such a row costs a deletion without its value there instead of both changes.
 *
 * G1 one change a key, the last one that was added.  G2 keys and values are views into the batches
 * that were added: these outlive the merge. */
#include "base/hash.h"
#include "base/mem.h"
#include "engine/state_priv.h"

struct key {
    const struct engine_merge *m;
    struct str s;
};

/* Items of the map are positions in `change`, counted from 1: the array moves when it grows. */
static bool has_key(const void *item, const void *key)
{
    const struct key *k = key;
    return str_eq(k->m->change[(uintptr_t)item - 1].key, k->s);
}

void engine_merge_add(struct engine_merge *m, const struct engine_batch *b)
{
    struct engine_change c;
    for (size_t at = 0; engine_batch_next(b, &at, &c);) {
        uint64_t hash = hash_str(c.key, 0);
        uintptr_t found = (uintptr_t)map_find(&m->map, hash, has_key, &(struct key){m, c.key});
        if (found > 0) {
            m->change[found - 1] = c;
            continue;
        }
        m->change = mem_grow(m->change, &m->cap, m->count + 1, sizeof *m->change);
        m->change[m->count++] = c;
        map_put(&m->map, hash, (void *)m->count);
    }
}

void engine_merge_deinit(struct engine_merge *m)
{
    map_deinit(&m->map);
    m->change = mem_free(m->change);
    m->count = m->cap = 0;
}
