/* What a caller wants written, encoded as it is put.  SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/mem.h"
#include "engine/log_priv.h"

struct engine_log_batch *engine_log_batch_new(void)
{
    return mem_new(sizeof(struct engine_log_batch));
}

struct engine_log_batch *engine_log_batch_free(struct engine_log_batch *b)
{
    if (b == NULL)
        return NULL;
    buf_deinit(&b->body);
    mem_free(b->rec);
    return mem_free(b);
}

size_t engine_log_batch_bytes(const struct engine_log_batch *b)
{
    return b->body.n + b->rec_count * FRAME_RECORD;
}

/* What was put since `begin` is one record. */
static void close_record(struct engine_log_batch *b, uint64_t group, size_t begin)
{
    must(b->body.n - begin <= UINT32_MAX / 2);
    must(group != GROUP_OWN || b->is_silent);
    b->rec = mem_grow(b->rec, &b->rec_cap, b->rec_count + 1, sizeof *b->rec);
    b->rec[b->rec_count++] =
        (struct engine_frame_record){group, (uint32_t)(b->body.n - begin), NULL};
}

static void put_group(struct engine_log_batch *b, uint64_t group, const struct engine_record *r)
{
    size_t begin = b->body.n;
    engine_record_group(&b->body, r);
    close_record(b, group, begin);
}

void engine_log_put_create(struct engine_log_batch *b, uint64_t group, struct str meta)
{
    put_group(b, group, &(struct engine_record){.kind = RECORD_CREATE, .meta = meta});
}

void engine_log_put_destroy(struct engine_log_batch *b, uint64_t group)
{
    put_group(b, group, &(struct engine_record){.kind = RECORD_DESTROY});
}

void engine_log_put_meta(struct engine_log_batch *b, uint64_t group, struct str meta)
{
    put_group(b, group, &(struct engine_record){.kind = RECORD_META, .meta = meta});
}

void engine_log_put_hard(struct engine_log_batch *b, uint64_t group,
                         const struct engine_log_hard *hard)
{
    must(hard->vote_n <= sizeof hard->vote);
    put_group(b, group, &(struct engine_record){.kind = RECORD_HARD, .hard = *hard});
}

void engine_log_put_truncate(struct engine_log_batch *b, uint64_t group, uint64_t from)
{
    must(from > 0);
    put_group(b, group, &(struct engine_record){.kind = RECORD_TRUNCATE, .index = from});
}

void engine_log_put_compact(struct engine_log_batch *b, uint64_t group, uint64_t index,
                            uint64_t term, struct str config)
{
    put_group(b, group,
              &(struct engine_record){
                  .kind = RECORD_COMPACT, .index = index, .term = term, .config = config});
}

void engine_log_put_entries(struct engine_log_batch *b, uint64_t group, uint64_t first,
                            const struct engine_log_entry *entry, size_t count)
{
    must(first > 0);
    if (count == 0)
        return;
    size_t begin = b->body.n;
    engine_record_entries(&b->body, RECORD_ENTRIES, first, entry, count);
    close_record(b, group, begin);
}

void engine_batch_record(struct engine_log_batch *b, uint64_t group, const struct engine_record *r)
{
    put_group(b, group, r);
}

static int rolled_cmp(const void *a, const void *b)
{
    const struct engine_rolled *x = a, *y = b;
    return x->group < y->group ? -1 : x->group > y->group;
}

void engine_batch_roll(struct engine_log_batch *b, const struct engine_log *log)
{
    size_t begin = b->body.n, at = 0, n = 0;
    struct engine_rolled *r = mem_alloc((log->group.count + 1) * sizeof *r);
    for (const struct engine_group *g; (g = map_next(&log->group, &at)) != NULL; n++) {
        r[n] = (struct engine_rolled){.group = g->id,
                                      .frame = g->frame,
                                      .has = g->is_damaged ? ROLLED_DAMAGED : 0,
                                      .floor = g->floor_index,
                                      .last = g->last};
        for (unsigned i = 0; i < PIECES && !g->is_damaged; i++)
            r[n].has |= g->piece[i].segment > 0 ? 1u << i : 0;
    }
    qsort(r, n, sizeof *r, rolled_cmp);
    codec_record_begin(&b->body, RECORD_ROLL, 1);
    for (size_t i = 0; i < n; i++)
        engine_record_roll(&b->body, &r[i]);
    mem_free(r);
    close_record(b, GROUP_OWN, begin);
}

void engine_batch_moved(struct engine_log_batch *b, uint64_t group, uint64_t first,
                        const struct engine_log_entry *entry, size_t count)
{
    size_t begin = b->body.n;
    engine_record_entries(&b->body, RECORD_MOVED, first, entry, count);
    close_record(b, group, begin);
}
