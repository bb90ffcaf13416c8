/* Empties the oldest segment, so that it can be freed.  SPDX-License-Identifier: Apache-2.0
 *
 * A segment is worth it when little in it lives, or when there are many segments and most of what
 * they hold is dead.  What lives is written again at the tail, a bounded piece a time and only
 * while no batch waits: of a group everything but entries as one GROUP record, entries as MOVED.  A
 * crash in between does no harm: both copies say the same, and the old one is freed only after the
 * new one is synced.
 *
 * It never frees anything but the oldest: a younger record may be what keeps an older one dead. */
#include <errno.h>

#include "base/crc.h"
#include "base/err.h"
#include "base/mem.h"
#include "engine/log_priv.h"

#define PIECE_BYTES                                                                                \
    (256u << 10)      /* does not matter: how much is moved between two looks at the queue */
#define RUN_MAX 1024u /* does not matter: entries in one MOVED record */

struct collect {
    struct engine_log *log;
    struct engine_log_batch *batch;
    struct buf bytes;
    struct engine_log_entry *entry;
    size_t *at; /* of each entry's data in bytes */
    uint32_t segment;
};

static bool is_worth_it(const struct engine_log *log)
{
    const struct engine_segment *s = &log->segment[0];
    if (log->segment_count < 2)
        return false;
    if (s->live * 4 <= s->used)
        return true;
    if (log->segment_count <= log->conf.segment_soft_max)
        return false;
    uint64_t live = 0, used = 0;
    for (size_t i = 0; i < log->segment_count; i++) {
        live += log->segment[i].live;
        used += log->segment[i].used;
    }
    return live * 2 <= used;
}

static bool has_piece(const struct engine_group *g, uint32_t segment)
{
    for (int i = 0; i < PIECES; i++)
        if (g->piece[i].segment == segment)
            return true;
    return false;
}

static void damage(struct collect *c, uint64_t group)
{
    log_line(c->log->conf.log, LOG_LEVEL_ERROR, "engine.log.damaged",
             "segment %016llx: an entry of group %llu cannot be read back",
             (unsigned long long)c->segment, (unsigned long long)group);
    pthread_mutex_lock(&c->log->index_mutex);
    engine_index_damage(c->log, group);
    pthread_mutex_unlock(&c->log->index_mutex);
}

static void put_state(struct collect *c, const struct engine_group *g)
{
    struct engine_record r = {.kind = RECORD_GROUP,
                              .hard = g->hard,
                              .meta = g->meta,
                              .config = g->config,
                              .index = g->floor_index,
                              .term = g->floor_term,
                              .last = g->last,
                              .is_damaged = g->is_damaged};
    engine_batch_record(c->batch, g->id, &r);
}

/* Reads the run of entries from slot i on that lie in the segment; returns how many, -EBADMSG or
 * -errno. */
static int64_t read_run(struct collect *c, const struct engine_group *g, size_t i)
{
    size_t n = 0;
    c->bytes.n = 0;
    const struct engine_segment *s = &c->log->segment[0];
    for (; i + n < g->count && n < RUN_MAX && c->bytes.n < PIECE_BYTES; n++) {
        const struct engine_slot *slot = &g->slot[g->head + i + n];
        uint32_t len = engine_slot_len(slot);
        if (slot->segment != c->segment)
            break;
        uint8_t *to = buf_reserve(&c->bytes, len + 1u);
        int r = engine_segment_read(c->log, s->f, to, len, slot->at);
        if (r < 0)
            return err_trace(r);
        if (crc_update(0, to, len) != slot->crc)
            return -EBADMSG;
        c->at[n] = c->bytes.n;
        c->entry[n] =
            (struct engine_log_entry){slot->term, (uint8_t)(slot->kind_len >> 28), {NULL, len}};
        c->bytes.n += len;
    }
    for (size_t k = 0; k < n; k++)
        c->entry[k].data.p = (const char *)c->bytes.p + c->at[k];
    return (int64_t)n;
}

/* Entries of g that lie in the segment, until enough was gathered. */
static int put_entries(struct collect *c, const struct engine_group *g)
{
    for (size_t i = 0; i < g->count && engine_log_batch_bytes(c->batch) < PIECE_BYTES;) {
        if (g->slot[g->head + i].segment != c->segment) {
            i++;
            continue;
        }
        int64_t n = read_run(c, g, i);
        if (n < 0)
            return (int)n;
        engine_batch_moved(c->batch, g->id, g->base + i, c->entry, (size_t)n);
        i += (size_t)n;
    }
    return 0;
}

static int gather(struct collect *c)
{
    size_t at = 0;
    for (struct engine_group *g; (g = map_next(&c->log->group, &at)) != NULL;) {
        if (engine_log_batch_bytes(c->batch) >= PIECE_BYTES)
            break;
        if (has_piece(g, c->segment))
            put_state(c,
                      g); /* before its entries: who meets these first would not know the group */
        int r = put_entries(c, g);
        if (r == -EBADMSG) {
            damage(c, g->id);
            put_state(c, g);
        } else if (r < 0) {
            return err_trace(r);
        }
    }
    return 0;
}

int engine_log_collect(struct engine_log *log)
{
    int freed = engine_segment_free_dead(log);
    if (freed != 0 || log->segment_count == 0 || !is_worth_it(log) || log->segment[0].live == 0)
        return freed < 0 ? err_trace(freed) : freed > 0;
    struct collect c = {.log = log,
                        .batch = engine_log_batch_new(),
                        .entry = mem_alloc(RUN_MAX * sizeof *c.entry),
                        .at = mem_alloc(RUN_MAX * sizeof *c.at),
                        .segment = log->segment[0].number};
    c.batch->is_silent = true;
    int r = gather(&c);
    if (r == 0 && engine_log_batch_bytes(c.batch) > 0)
        r = engine_writer_write(log, c.batch, 1, false);
    engine_log_batch_free(c.batch);
    buf_deinit(&c.bytes);
    mem_free(c.entry);
    mem_free(c.at);
    return r < 0 ? err_trace(r) : 1;
}
