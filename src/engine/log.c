/* The door of the log: open, close, read.  SPDX-License-Identifier: Apache-2.0
 *
 * Readers look into the index under its mutex, take references to what they found, and copy after
 * they have let go of it.  They never wait for the writer's disk. */
#include "engine/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/crc.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/log_priv.h"

#define READ_COUNT_MAX 4096u /* does not matter: entries given by one read */

static void conf_defaults(struct engine_log_conf *c)
{
    c->segment_bytes = c->segment_bytes > 0 ? c->segment_bytes : 64u << 20;
    c->segment_bytes = c->segment_bytes > SEGMENT_BYTES_MIN ? c->segment_bytes : SEGMENT_BYTES_MIN;
    c->cache_bytes = c->cache_bytes > 0 ? c->cache_bytes : 64u << 20;
    c->queue_bytes_max = c->queue_bytes_max > 0 ? c->queue_bytes_max : 64u << 20;
    c->segment_spare_max = c->segment_spare_max > 0 ? c->segment_spare_max : 2;
    c->segment_spare_max = c->segment_spare_max < SPARE_MAX ? c->segment_spare_max : SPARE_MAX;
    c->segment_soft_max = c->segment_soft_max > 0 ? c->segment_soft_max : 32;
    while (c->seed == 0)
        if (getrandom(&c->seed, sizeof c->seed, 0) < 0)
            c->seed =
                (uint64_t)(uintptr_t)c; /* only without a kernel's randomness, at early boot */
}

static int log_new(const struct engine_log_conf *conf, struct engine_log **out)
{
    if (strlen(conf->dir) > PATH_BYTES - 64)
        return -ENAMETOOLONG;
    struct engine_log *log = mem_new(sizeof *log);
    log->conf = *conf;
    conf_defaults(&log->conf);
    log->conf.dir = mem_dup(conf->dir, strlen(conf->dir));
    rng_init(&log->rng, log->conf.seed);
    log->queue_last = &log->queue_first;
    pthread_mutex_init(&log->queue_mutex, NULL);
    pthread_mutex_init(&log->index_mutex, NULL);
    pthread_condattr_t a;
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&log->queue_cond, &a);
    pthread_condattr_destroy(&a);
    *out = log;
    return 0;
}

static void log_free(struct engine_log *log)
{
    engine_index_deinit(log);
    engine_cache_deinit(log);
    engine_segment_deinit(log);
    pthread_mutex_destroy(&log->queue_mutex);
    pthread_mutex_destroy(&log->index_mutex);
    pthread_cond_destroy(&log->queue_cond);
    buf_deinit(&log->scratch);
    mem_free(log->done);
    mem_free(log->iov);
    mem_free(log->rec);
    mem_free((void *)(uintptr_t)log->conf.dir);
    mem_free(log);
}

int engine_log_open(const struct engine_log_conf *conf, struct engine_log **out)
{
    struct engine_log *log;
    int r = log_new(conf, &log);
    if (r < 0)
        return err_trace(r);
    size_t damaged = 0;
    r = conf->fs.ops->mkdir(conf->fs.arg, log->conf.dir);
    if (r == 0)
        r = engine_log_recover(log, NULL, NULL, &damaged);
    if (r == 0)
        r = engine_writer_start(log);
    if (r != 0) {
        log_free(log);
        return r;
    }
    *out = log;
    return 0;
}

struct engine_log *engine_log_close(struct engine_log *log)
{
    if (log == NULL)
        return NULL;
    engine_writer_stop(log);
    log_free(log);
    return NULL;
}

int engine_log_verify(const struct engine_log_conf *conf,
                      void (*found)(void *arg, const struct engine_log_damage *d), void *arg,
                      size_t *out_count)
{
    struct engine_log *log;
    must(found != NULL);
    int r = log_new(conf, &log);
    if (r < 0)
        return err_trace(r);
    r = engine_log_recover(log, found, arg, out_count);
    log_free(log);
    return r;
}

int engine_log_admit(const struct engine_log *log)
{
    int state = atomic_load_explicit(&log->state, memory_order_relaxed);
    if (state != 0)
        return state;
    uint64_t n = atomic_load_explicit(&log->queue_bytes, memory_order_relaxed);
    return n > log->conf.queue_bytes_max ? ENGINE_LOG_E_BUSY : 0;
}

/* -- Reading */

void engine_log_group_deinit(struct engine_log_group *g)
{
    g->meta.p = mem_free((void *)(uintptr_t)g->meta.p);
    g->config.p = mem_free((void *)(uintptr_t)g->config.p);
}

static uint64_t last_term(const struct engine_group *g)
{
    const struct engine_slot *s = engine_group_slot(g, g->last);
    return s != NULL ? s->term : g->floor_term;
}

int engine_log_group(struct engine_log *log, uint64_t group, struct engine_log_group *out)
{
    pthread_mutex_lock(&log->index_mutex);
    const struct engine_group *g = engine_index_find(log, group);
    if (g != NULL)
        *out = (struct engine_log_group){.group = group,
                                         .hard = g->hard,
                                         .floor_index = g->floor_index,
                                         .floor_term = g->floor_term,
                                         .last_index = g->last,
                                         .last_term = last_term(g),
                                         .bytes = g->bytes,
                                         .is_damaged = g->is_damaged,
                                         .meta = str_dup(g->meta),
                                         .config = str_dup(g->config)};
    pthread_mutex_unlock(&log->index_mutex);
    return g != NULL ? 0 : ENGINE_LOG_E_NONE;
}

static int id_cmp(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

uint64_t *engine_log_groups(struct engine_log *log, size_t *out_count)
{
    pthread_mutex_lock(&log->index_mutex);
    uint64_t *id = mem_alloc((log->group.count + 1) * sizeof *id);
    size_t at = 0, n = 0;
    for (const struct engine_group *g; (g = map_next(&log->group, &at)) != NULL;)
        id[n++] = g->id;
    pthread_mutex_unlock(&log->index_mutex);
    qsort(id, n, sizeof *id, id_cmp);
    *out_count = n;
    return id;
}

/* Is `index` an entry of the group?  0 or why not. */
static int locate(const struct engine_group *g, uint64_t index)
{
    if (g == NULL)
        return ENGINE_LOG_E_NONE;
    if (g->is_damaged)
        return ENGINE_LOG_E_DAMAGED;
    if (index <= g->floor_index)
        return ENGINE_LOG_E_GONE;
    return index > g->last ? ENGINE_LOG_E_BEYOND : 0;
}

int engine_log_term(struct engine_log *log, uint64_t group, uint64_t index, uint64_t *out)
{
    pthread_mutex_lock(&log->index_mutex);
    const struct engine_group *g = engine_index_find(log, group);
    int r = locate(g, index);
    if (r == 0) {
        *out = engine_group_slot(g, index)->term;
    } else if (r == ENGINE_LOG_E_GONE && index == g->floor_index) {
        *out = g->floor_term;
        r = 0;
    }
    pthread_mutex_unlock(&log->index_mutex);
    return r;
}

/* One entry that a reader is about to copy: from a chunk, or else from a pinned segment. */
struct pick {
    struct engine_slot slot;
    struct engine_chunk *chunk;
    struct engine_file *f;
};

static int pick_all(struct engine_log *log, const struct engine_log_want *want, struct pick *pick,
                    size_t *out_count)
{
    const struct engine_group *g = engine_index_find(log, want->group);
    int r = locate(g, want->from);
    size_t n = 0, bytes = 0;
    for (uint64_t i = want->from;
         r == 0 && i <= g->last && n < want->count_max && n < READ_COUNT_MAX; i++) {
        const struct engine_slot *s = engine_group_slot(g, i);
        bytes += engine_slot_len(s);
        if (n > 0 && bytes > want->bytes_max)
            break;
        struct engine_chunk *c = engine_cache_find(log, s->segment, s->at);
        if (c == NULL && !want->may_wait) {
            r = n == 0 ? ENGINE_LOG_E_DISK : 0;
            break;
        }
        pick[n++] =
            (struct pick){*s, c, c == NULL ? engine_index_segment(log, s->segment)->f : NULL};
        if (c != NULL)
            atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
        else
            engine_index_segment(log, s->segment)->pins++;
    }
    *out_count = n;
    return r;
}

static int copy(struct engine_log *log, const struct pick *p, uint8_t *to)
{
    uint32_t len = engine_slot_len(&p->slot);
    if (p->chunk != NULL) {
        memcpy(to, p->chunk->body.p + (p->slot.at - p->chunk->at), len);
        return 0;
    }
    int r = engine_segment_read(log, p->f, to, len, p->slot.at);
    if (r < 0)
        return err_trace(r);
    return crc_update(0, to, len) == p->slot.crc ? 0 : ENGINE_LOG_E_DAMAGED;
}

static void unpick(struct engine_log *log, const struct pick *pick, size_t n)
{
    pthread_mutex_lock(&log->index_mutex);
    for (size_t i = 0; i < n; i++)
        if (pick[i].chunk == NULL)
            engine_index_segment(log, pick[i].slot.segment)->pins--;
    pthread_mutex_unlock(&log->index_mutex);
    for (size_t i = 0; i < n; i++)
        engine_chunk_unref(pick[i].chunk);
}

int engine_log_read(struct engine_log *log, const struct engine_log_want *want, struct buf *bytes,
                    struct engine_log_entry *entry, size_t *out_count)
{
    size_t n = want->count_max < READ_COUNT_MAX ? want->count_max : READ_COUNT_MAX;
    struct pick *pick = mem_alloc((n + 1) * sizeof *pick);
    pthread_mutex_lock(&log->index_mutex);
    int r = pick_all(log, want, pick, &n);
    pthread_mutex_unlock(&log->index_mutex);
    size_t total = 0, begin = bytes->n;
    for (size_t i = 0; i < n; i++)
        total += engine_slot_len(&pick[i].slot);
    (void)buf_reserve(bytes, total + 1); /* so that the views below stay where they are */
    for (size_t i = 0; r == 0 && i < n; i++) {
        uint8_t *to = bytes->p + bytes->n;
        r = copy(log, &pick[i], to);
        entry[i] =
            (struct engine_log_entry){pick[i].slot.term, (uint8_t)(pick[i].slot.kind_len >> 28),
                                      str_view(to, engine_slot_len(&pick[i].slot))};
        bytes->n += engine_slot_len(&pick[i].slot);
    }
    unpick(log, pick, n);
    mem_free(pick);
    *out_count = r == 0 ? n : 0;
    bytes->n = r == 0 ? bytes->n : begin;
    return r;
}

/* -- Looking after it */

void engine_log_stats(struct engine_log *log, struct engine_log_stats *out)
{
    pthread_mutex_lock(&log->index_mutex);
    *out = log->stats;
    out->segments = log->segment_count;
    for (size_t i = 0; i < log->segment_count; i++) {
        out->live_bytes += log->segment[i].live;
        out->disk_bytes += log->segment[i].size;
    }
    out->index_bytes = log->slot_count * sizeof(struct engine_slot);
    out->cache_bytes = log->cache_bytes;
    out->groups = log->group.count;
    size_t at = 0;
    for (const struct engine_group *g; (g = map_next(&log->group, &at)) != NULL;)
        out->groups_damaged += g->is_damaged;
    pthread_mutex_unlock(&log->index_mutex);
    out->queue_bytes = atomic_load_explicit(&log->queue_bytes, memory_order_relaxed);
}

struct pin {
    uint64_t group, index, bytes;
};

static int pin_cmp(const void *a, const void *b)
{
    const struct pin *x = a, *y = b;
    return x->bytes > y->bytes ? -1 : x->bytes < y->bytes;
}

static struct pin pin_of(const struct engine_group *g, uint32_t segment)
{
    struct pin p = {.group = g->id};
    for (size_t i = 0; i < g->count; i++)
        if (g->slot[g->head + i].segment == segment) {
            p.bytes += engine_slot_len(&g->slot[g->head + i]) + 1;
            p.index = g->base + i;
        }
    return p;
}

size_t engine_log_pins(struct engine_log *log, uint64_t *group, uint64_t *index, size_t max)
{
    pthread_mutex_lock(&log->index_mutex);
    struct pin *pin = mem_alloc((log->group.count + 1) * sizeof *pin);
    size_t n = 0, at = 0;
    for (const struct engine_group *g;
         log->segment_count > 1 && (g = map_next(&log->group, &at)) != NULL;) {
        pin[n] = pin_of(g, log->segment[0].number);
        n += pin[n].bytes > 0;
    }
    pthread_mutex_unlock(&log->index_mutex);
    qsort(pin, n, sizeof *pin, pin_cmp);
    n = n < max ? n : max;
    for (size_t i = 0; i < n; i++) {
        group[i] = pin[i].group;
        index[i] = pin[i].index;
    }
    mem_free(pin);
    return n;
}
