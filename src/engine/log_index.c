/* Where everything that lives in the log lies: per group its state, and 24 bytes for each entry.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The same function takes in a record when it was just written and when it is found at start.  At
 * start the oldest segments are gone and what lived in them comes later, as GROUP and MOVED
 * records; until all was read a group may therefore have holes, and engine_index_settle looks
 * whether they were filled.
 *
 * L1 entries of a group are consecutive from floor + 1 (base == floor + 1, no hole).  L2 a
 * segment's live bytes are the sum over the groups.  A damaged group holds no entries and ignores
 * all but its end, its meta and a new beginning. It reads and writes no file. */
#include <errno.h>

#include "base/crc.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/log_priv.h"

#define ENTRY_COST 8u /* does not matter: about what an entry takes beside its data */
#define HOLE_MAX                                                                                   \
    (UINT64_C(1) << 23)   /* matters: bounds the memory that a hostile file can ask for */
#define SLOT_SHRINK 1024u /* does not matter */

static bool group_eq(const void *item, const void *key)
{
    return ((const struct engine_group *)item)->id == *(const uint64_t *)key;
}

struct engine_group *engine_index_find(const struct engine_log *log, uint64_t group)
{
    return map_find(&log->group, hash_u64(group), group_eq, &group);
}

struct engine_segment *engine_index_segment(const struct engine_log *log, uint32_t number)
{
    if (log->segment_count == 0 || number < log->segment[0].number ||
        number - log->segment[0].number >= log->segment_count)
        return NULL;
    return &log->segment[number - log->segment[0].number];
}

static void live_add(struct engine_log *log, uint32_t segment, uint64_t bytes)
{
    struct engine_segment *s = engine_index_segment(log, segment);
    must(s != NULL);
    s->live += bytes;
}

static void live_sub(struct engine_log *log, uint32_t segment, uint64_t bytes)
{
    if (segment == 0)
        return;
    struct engine_segment *s = engine_index_segment(log, segment);
    must(s != NULL);
    must(s->live >= bytes);
    s->live -= bytes;
}

/* -- Slots */

static struct engine_slot *slot_at(const struct engine_group *g, uint64_t index)
{
    if (g->count == 0 || index < g->base || index - g->base >= g->count)
        return NULL;
    return &g->slot[g->head + (index - g->base)];
}

const struct engine_slot *engine_group_slot(const struct engine_group *g, uint64_t index)
{
    const struct engine_slot *s = slot_at(g, index);
    return s != NULL && s->segment > 0 ? s : NULL;
}

static void slot_clear(struct engine_log *log, struct engine_group *g, struct engine_slot *s)
{
    if (s->segment == 0)
        return;
    live_sub(log, s->segment, engine_slot_len(s) + ENTRY_COST);
    g->bytes -= engine_slot_len(s);
    log->slot_count--;
    s->segment = 0;
}

static void slot_set(struct engine_log *log, struct engine_group *g, struct engine_slot *s,
                     const struct engine_slot *to)
{
    slot_clear(log, g, s);
    *s = *to;
    live_add(log, s->segment, engine_slot_len(s) + ENTRY_COST);
    g->bytes += engine_slot_len(s);
    log->slot_count++;
}

/* Entries at and after `from` are gone. */
static void slots_cut(struct engine_log *log, struct engine_group *g, uint64_t from)
{
    while (g->count > 0 && g->base + g->count > from) {
        slot_clear(log, g, &g->slot[g->head + g->count - 1]);
        g->count--;
    }
    if (g->count == 0)
        g->head = 0;
}

/* Entries up to and including `to` are gone. */
static void slots_drop(struct engine_log *log, struct engine_group *g, uint64_t to)
{
    while (g->count > 0 && g->base <= to) {
        slot_clear(log, g, &g->slot[g->head]);
        g->head++;
        g->base++;
        g->count--;
    }
    if (g->head > g->cap / 2) {
        memmove(g->slot, g->slot + g->head, g->count * sizeof *g->slot);
        g->head = 0;
        if (g->cap > SLOT_SHRINK && g->count < g->cap / 4) {
            g->cap /= 2;
            g->slot = mem_resize(g->slot, g->cap * sizeof *g->slot);
        }
    }
}

/* The slot of an index, made with holes beside it when there is none. */
static struct engine_slot *slot_make(struct engine_group *g, uint64_t index)
{
    if (g->count == 0)
        g->base = index;
    uint64_t before = index < g->base ? g->base - index : 0;
    uint64_t after = index >= g->base + g->count ? index + 1 - (g->base + g->count) : 0;
    if (before > HOLE_MAX || after > HOLE_MAX)
        return NULL;
    g->slot = mem_grow(g->slot, &g->cap, g->head + g->count + before + after, sizeof *g->slot);
    struct engine_slot *first = g->slot + g->head;
    if (before > 0) {
        memmove(first + before, first, g->count * sizeof *first);
        memset(first, 0, before * sizeof *first);
        g->base = index;
        g->count += before;
    }
    if (after > 0)
        memset(first + g->count, 0, after * sizeof *first);
    g->count += after;
    return slot_at(g, index);
}

/* -- Pieces */

static void piece_set(struct engine_log *log, struct engine_group *g, int which, uint32_t segment,
                      size_t bytes)
{
    live_sub(log, g->piece[which].segment, g->piece[which].bytes);
    g->piece[which] = (struct engine_piece){segment, (uint32_t)bytes + ENTRY_COST};
    live_add(log, segment, g->piece[which].bytes);
}

static void pieces_clear(struct engine_log *log, struct engine_group *g)
{
    for (int i = 0; i < PIECES; i++) {
        live_sub(log, g->piece[i].segment, g->piece[i].bytes);
        g->piece[i] = (struct engine_piece){0, 0};
    }
}

static void str_set(struct str *s, struct str to)
{
    mem_free((void *)(uintptr_t)s->p);
    *s = to.n > 0 ? str_dup(to) : (struct str){0};
}

/* -- Groups */

static struct engine_group *group_new(struct engine_log *log, uint64_t id)
{
    struct engine_group *g = mem_new(sizeof *g);
    g->id = id;
    g->base = 1;
    map_put(&log->group, hash_u64(id), g);
    return g;
}

static void group_free(struct engine_log *log, struct engine_group *g)
{
    slots_cut(log, g, 0);
    pieces_clear(log, g);
    map_del(&log->group, hash_u64(g->id), g);
    mem_free((void *)(uintptr_t)g->meta.p);
    mem_free((void *)(uintptr_t)g->config.p);
    mem_free(g->slot);
    mem_free(g);
}

void engine_index_damage(struct engine_log *log, uint64_t group)
{
    struct engine_group *g = engine_index_find(log, group);
    if (g == NULL)
        g = group_new(log, group);
    g->is_damaged = true;
    slots_cut(log, g, 0);
    g->base = g->floor_index + 1;
    g->last = g->floor_index;
}

void engine_index_deinit(struct engine_log *log)
{
    size_t at = 0;
    for (struct engine_group *g; (g = map_next(&log->group, &at)) != NULL;) {
        mem_free((void *)(uintptr_t)g->meta.p);
        mem_free((void *)(uintptr_t)g->config.p);
        mem_free(g->slot);
        mem_free(g);
    }
    map_deinit(&log->group);
}

static void floor_set(struct engine_log *log, struct engine_group *g, const struct engine_record *r)
{
    slots_drop(log, g, r->index);
    g->floor_index = r->index;
    g->floor_term = r->term;
    str_set(&g->config, r->config);
    if (g->last <= r->index) {
        slots_cut(log, g, 0);
        g->last = r->index;
    }
    if (g->count == 0)
        g->base = g->floor_index + 1;
}

static int apply_entries(struct engine_log *log, struct engine_group *g,
                         const struct engine_place *where, const struct engine_record *r,
                         const char *begin)
{
    bool is_moved = r->kind == RECORD_MOVED;
    uint64_t first = r->index;
    if (!is_moved) {
        if (first <= g->floor_index || (!where->is_recovery && first > g->last + 1))
            return -EBADMSG;
        slots_cut(log, g, first);
    }
    struct engine_record_walk w = engine_record_walk(r);
    uint64_t index = first;
    for (struct engine_log_entry e; engine_record_entry(&w, &e); index++) {
        if (is_moved && index <= g->floor_index)
            continue;
        if (is_moved && !where->is_recovery && slot_at(g, index) == NULL)
            return -EBADMSG;
        struct engine_slot to = {where->segment, where->at + (uint32_t)(e.data.p - begin),
                                 (uint32_t)e.kind << 28 | (uint32_t)e.data.n,
                                 crc_update(0, e.data.p, e.data.n), e.term};
        struct engine_slot *s = slot_make(g, index);
        if (s == NULL)
            return -EBADMSG;
        slot_set(log, g, s, &to);
    }
    if (!is_moved || index - 1 > g->last)
        g->last = index - 1;
    return 0;
}

static int apply_group(struct engine_log *log, struct engine_group *g,
                       const struct engine_place *where, const struct engine_record *r)
{
    if (r->last < r->index || g->last > r->last || r->index < g->floor_index)
        return -EBADMSG;
    floor_set(log, g, r);
    g->last = r->last;
    g->hard = r->hard;
    str_set(&g->meta, r->meta);
    piece_set(log, g, PIECE_META, where->segment, r->meta.n);
    piece_set(log, g, PIECE_HARD, where->segment, sizeof r->hard);
    piece_set(log, g, PIECE_FLOOR, where->segment, r->config.n);
    g->is_stated = true;
    if (r->is_damaged)
        engine_index_damage(log, g->id);
    return 0;
}

static int apply_meta(struct engine_log *log, struct engine_group *g,
                      const struct engine_place *where, const struct engine_record *r)
{
    str_set(&g->meta, r->meta);
    piece_set(log, g, PIECE_META, where->segment, r->meta.n);
    g->is_stated = true;
    return 0;
}

static int apply_known(struct engine_log *log, struct engine_group *g,
                       const struct engine_place *where, const struct engine_record *r,
                       const char *begin)
{
    switch (r->kind) {
    case RECORD_META:
        return apply_meta(log, g, where, r);
    case RECORD_ENTRIES:
    case RECORD_MOVED:
        return apply_entries(log, g, where, r, begin);
    case RECORD_HARD:
        g->hard = r->hard;
        piece_set(log, g, PIECE_HARD, where->segment, sizeof r->hard);
        return 0;
    case RECORD_TRUNCATE:
        if (r->index <= g->floor_index)
            return -EBADMSG;
        slots_cut(log, g, r->index);
        g->last = g->last < r->index ? g->last : r->index - 1;
        return 0;
    case RECORD_COMPACT:
        if (r->index < g->floor_index)
            return 0;
        floor_set(log, g, r);
        piece_set(log, g, PIECE_FLOOR, where->segment, r->config.n);
        return 0;
    case RECORD_GROUP:
        return apply_group(log, g, where, r);
    case RECORD_CREATE:
    case RECORD_DESTROY:
    case RECORD_CLOSE:
    case RECORD_ROLL:
    case RECORD_KIND_END:
        break;
    }
    return -EBADMSG;
}

int engine_index_apply(struct engine_log *log, const struct engine_place *where, uint64_t group,
                       struct str payload)
{
    struct engine_record r;
    int bad = engine_record_decode(payload, &r);
    if (bad < 0)
        return bad;
    if (group == GROUP_OWN)
        return r.kind == RECORD_CLOSE || r.kind == RECORD_ROLL ? 0 : -EBADMSG;
    struct engine_group *g = engine_index_find(log, group);
    if (g == NULL && !where->is_recovery && r.kind != RECORD_CREATE)
        return -EBADMSG;
    if (r.kind == RECORD_CREATE || r.kind == RECORD_DESTROY) {
        if (g != NULL && r.kind == RECORD_CREATE && !where->is_recovery)
            return -EBADMSG;
        if (g != NULL)
            group_free(log, g);
        if (r.kind == RECORD_DESTROY)
            return 0;
        g = group_new(log, group);
        g->frame = where->frame;
        return apply_meta(log, g, where, &r);
    }
    if (g == NULL) {
        g = group_new(log, group);
        g->is_doubted = log->is_suspect;
        g->is_damaged = log->is_suspect && r.kind != RECORD_GROUP;
    }
    g->frame = where->frame;
    if (g->is_damaged && r.kind != RECORD_META && r.kind != RECORD_GROUP)
        return 0;
    return apply_known(log, g, where, &r, payload.p);
}

static bool is_whole(const struct engine_group *g)
{
    if (g->last < g->floor_index || g->count != g->last - g->floor_index)
        return false;
    if (g->count > 0 && g->base != g->floor_index + 1)
        return false;
    for (size_t i = 0; i < g->count; i++)
        if (g->slot[g->head + i].segment == 0)
            return false;
    return true;
}

/* Is everything there that a roll said was written? */
static bool has_pieces(const struct engine_group *g)
{
    for (unsigned i = 0; i < PIECES; i++)
        if ((g->has & (1u << i)) != 0 && g->piece[i].segment == 0)
            return false;
    return true;
}

void engine_index_doubt(struct engine_log *log)
{
    log->is_suspect = true;
    size_t at = 0;
    for (struct engine_group *g; (g = map_next(&log->group, &at)) != NULL;)
        g->is_doubted = true;
}

/* One group that the roll names; 1 when it is damaged. */
static size_t roll_one(struct engine_log *log, const struct engine_rolled *r, uint64_t from)
{
    struct engine_group *g = engine_index_find(log, r->group);
    /* What was damaged once must never again look as if nothing had happened to it. */
    bool is_hurt = (r->has & ROLLED_DAMAGED) != 0;
    is_hurt = is_hurt || ((g == NULL || g->is_doubted) && r->frame >= from);
    if (g == NULL) { /* what is said of it later must make it whole */
        g = group_new(log, r->group);
        g->floor_index = r->floor;
        g->last = r->last;
    }
    g->has |= (uint8_t)(r->has & ((1u << PIECES) - 1));
    g->frame = r->frame;
    g->is_doubted = false;
    if (is_hurt)
        engine_index_damage(log, r->group);
    return g->is_damaged;
}

size_t engine_index_roll(struct engine_log *log, const struct engine_record *roll, uint64_t from)
{
    struct engine_record_walk w = engine_record_walk(roll);
    size_t damaged = 0, gone = 0, at = 0;
    for (struct engine_rolled r; engine_record_rolled(&w, &r);)
        damaged += roll_one(log, &r, from);
    struct engine_group **g = mem_alloc((log->group.count + 1) * sizeof(*g)), *next;
    while ((next = map_next(&log->group, &at)) != NULL)
        if (next->is_doubted)
            g[gone++] = next;
    while (gone > 0)
        group_free(log, g[--gone]);
    mem_free(g);
    log->is_suspect = false;
    return damaged;
}

size_t engine_index_condemn(struct engine_log *log)
{
    size_t at = 0, damaged = 0;
    for (struct engine_group *g; (g = map_next(&log->group, &at)) != NULL;)
        if (g->is_doubted) {
            engine_index_damage(log, g->id);
            g->is_doubted = false;
            damaged++;
        }
    return damaged;
}

void engine_index_settle(struct engine_log *log)
{
    size_t at = 0;
    for (struct engine_group *g; (g = map_next(&log->group, &at)) != NULL;) {
        if (!g->is_stated || !has_pieces(g) || !is_whole(g))
            engine_index_damage(log, g->id);
        if (g->count == 0)
            g->base = g->floor_index + 1;
    }
}

void engine_log_check(struct engine_log *log)
{
    uint64_t *live = mem_new((log->segment_count + 1) * sizeof *live);
    size_t at = 0;
    for (struct engine_group *g; (g = map_next(&log->group, &at)) != NULL;) {
        must(g->is_damaged || is_whole(g)); /* L1 */
        for (size_t i = 0; i < g->count; i++) {
            const struct engine_slot *s = &g->slot[g->head + i];
            live[s->segment - log->segment[0].number] += engine_slot_len(s) + ENTRY_COST;
        }
        for (int i = 0; i < PIECES; i++)
            if (g->piece[i].segment > 0)
                live[g->piece[i].segment - log->segment[0].number] += g->piece[i].bytes;
    }
    for (size_t i = 0; i < log->segment_count; i++) {
        must(live[i] == log->segment[i].live);                      /* L2 */
        must(log->segment[i].number == log->segment[0].number + i); /* L4 */
    }
    mem_free(live);
}
