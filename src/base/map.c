/* Hash table of pointers.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariant: between an item's home slot and its place no slot is free. */
#include "base/map.h"

#include "base/mem.h"

#define MAP_MIN 8 /* does not matter */
#define AHEAD 16  /* slots whose items are fetched before they are asked about */
#define CUT ((uintptr_t)1)

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

/* Marks in the slots themselves what goes; how many. */
static size_t cut_mark(struct map *m, bool (*is_cut)(void *arg, void *item), void *arg)
{
    size_t count = 0;
    for (size_t i = 0; i < m->cap; i++) {
        if (i + AHEAD < m->cap && m->slot[i + AHEAD].item != NULL)
            __builtin_prefetch(m->slot[i + AHEAD].item);
        void *item = m->slot[i].item;
        if (item == NULL || !is_cut(arg, item))
            continue;
        must(((uintptr_t)item & CUT) == 0);
        m->slot[i].item = (void *)((uintptr_t)item | CUT);
        count++;
    }
    return count;
}

void map_cut(struct map *m, struct map *out, bool (*is_cut)(void *arg, void *item), void *arg)
{
    size_t count = cut_mark(m, is_cut, arg), cap = MAP_MIN, from = 0;
    must(out->count == 0);
    if (count == 0)
        return;
    while ((count + 1) * 4 > cap * 3)
        cap *= 2;
    map_deinit(out);
    *out = (struct map){mem_new(cap * sizeof *out->slot), count, cap};
    while (m->slot[from].item != NULL) /* what is placed anew from here on finds its place again */
        from++;
    for (size_t k = 0; k < m->cap; k++) {
        struct map_slot *s = &m->slot[(from + k) & (m->cap - 1)], was = *s;
        *s = (struct map_slot){0, NULL};
        if ((uintptr_t)was.item & CUT)
            place(out, was.hash, (void *)((uintptr_t)was.item & ~CUT));
        else if (was.item != NULL)
            place(m, was.hash, was.item);
    }
    m->count -= count;
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
