/* Hash table of pointers.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariant: between an item's home slot and its place no slot is free. */
#include "base/map.h"

#include "base/mem.h"

#define MAP_MIN 8 /* does not matter */

void map_deinit(struct map *m)
{
    m->slot = mem_free(m->slot);
    m->count = m->cap = 0;
}

void *map_find(const struct map *m, uint64_t hash, map_eq *eq, const void *key)
{
    if (m->count == 0)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        const struct map_slot *s = &m->slot[i];
        if (s->item == NULL)
            return NULL;
        if (s->hash == hash && eq(s->item, key))
            return s->item;
    }
}

static void place(struct map *m, uint64_t hash, void *item)
{
    size_t i = hash & (m->cap - 1);
    while (m->slot[i].item != NULL)
        i = (i + 1) & (m->cap - 1);
    m->slot[i] = (struct map_slot){hash, item};
}

static void resize(struct map *m, size_t cap)
{
    struct map_slot *old = m->slot;
    size_t old_cap = m->cap;
    m->slot = mem_new(cap * sizeof *m->slot);
    m->cap = cap;
    for (size_t i = 0; i < old_cap; i++)
        if (old[i].item != NULL)
            place(m, old[i].hash, old[i].item);
    mem_free(old);
}

void map_put(struct map *m, uint64_t hash, void *item)
{
    must(item != NULL);
    if ((m->count + 1) * 4 > m->cap * 3)
        resize(m, m->cap ? m->cap * 2 : MAP_MIN);
    place(m, hash, item);
    m->count++;
}

bool map_del(struct map *m, uint64_t hash, const void *item)
{
    if (m->count == 0)
        return false;
    size_t mask = m->cap - 1, i = hash & mask;
    while (m->slot[i].item != item) {
        if (m->slot[i].item == NULL)
            return false;
        i = (i + 1) & mask;
    }
    for (size_t j = (i + 1) & mask; m->slot[j].item != NULL; j = (j + 1) & mask) {
        size_t home = m->slot[j].hash & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
            m->slot[i] = m->slot[j];
            i = j;
        }
    }
    m->slot[i] = (struct map_slot){0, NULL};
    m->count--;
    if (m->cap > 64 && m->count * 8 < m->cap)
        resize(m, m->cap / 2);
    return true;
}

void *map_next(const struct map *m, size_t *at)
{
    while (*at < m->cap) {
        void *item = m->slot[(*at)++].item;
        if (item != NULL)
            return item;
    }
    return NULL;
}
