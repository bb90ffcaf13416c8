/* The log of the engine on a disk that fails, against a model.  SPDX-License-Identifier: Apache-2.0
 *
 * A seed draws a workload of batches for some groups.  The model keeps a fingerprint of the whole
 * content after each batch.  Whenever the log is opened again its fingerprint must be that after
 * some batch not before the last one that was acknowledged as durable and not after the last one
 * submitted: nothing lost, nothing half, nothing back from the dead.  Scenarios: power loss at
 * random and at every single operation, torn last frames at every byte, flipped bits, failing
 * writes and syncs, a full disk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crc.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/log_priv.h"

#define GROUPS 6
#define SHORT_COUNT 150

#define check(x) ((x) ? (void)0 : fail(__LINE__, #x))

static uint64_t the_seed;
static size_t spared_count; /* groups that a lost segment did not touch */

static void say(void *arg, enum log_level level, const char *event, struct str text,
                const struct log_field *field, size_t field_count)
{
    (void)arg, (void)level, (void)field, (void)field_count;
    printf("  %s: %.*s\n", event, STR_ARG(text));
}

static const struct log loud = {LOG_LEVEL_DEBUG, say, NULL}; /* with VERBOSE in the environment */
static bool is_loud;

static void fail(int line, const char *what)
{
    printf("seed %llu: tests/sim/engine.c:%d: %s\n0 passed, 1 failed\n",
           (unsigned long long)the_seed, line, what);
    exit(1);
}

/* -- The model */

struct model_entry {
    uint64_t term, hash;
    uint8_t kind;
};

struct model_group {
    bool is_there;
    uint64_t term, commit, vote, floor, floor_term, last, meta, config;
    struct model_entry *entry; /* [i] is floor + 1 + i */
    size_t cap;
};

struct world {
    struct engine_fs_mem *disk;
    struct engine_log *log;
    struct engine_log_conf conf;
    struct rng rng;
    struct model_group g[GROUPS];
    uint64_t *print; /* fingerprint after batch i; [0] of the empty log */
    size_t print_cap, submitted, durable, done;
    struct model_group **history; /* the model after batch i, to go back to */
    size_t history_cap;
    int error;
    bool is_all_synced;
    bool is_growing; /* nothing is ever removed */
    bool is_uniform; /* all batches have one size, so that a new frame can end where an old one did
                      */
    uint32_t sync_per_million;
};

static uint64_t mix(uint64_t h, uint64_t v)
{
    return hash_u64(h * 0x9e3779b97f4a7c15u + v);
}

static uint64_t group_print(uint64_t id, const struct model_group *g)
{
    uint64_t h = mix(id, g->term);
    h = mix(mix(mix(h, g->commit), g->vote), g->floor);
    h = mix(mix(mix(mix(h, g->floor_term), g->last), g->meta), g->config);
    for (uint64_t i = g->floor + 1; i <= g->last; i++) {
        const struct model_entry *e = &g->entry[i - g->floor - 1];
        h = mix(mix(mix(h, e->term), e->hash), e->kind);
    }
    return h;
}

static uint64_t model_print(const struct model_group *g)
{
    uint64_t h = 1;
    for (uint64_t i = 0; i < GROUPS; i++)
        h += g[i].is_there ? group_print(i + 1, &g[i]) : 0;
    return h;
}

static void model_copy(struct model_group *to, const struct model_group *from)
{
    for (int i = 0; i < GROUPS; i++) {
        to[i] = from[i];
        size_t n = (size_t)(from[i].last - from[i].floor);
        to[i].cap = n;
        to[i].entry = mem_dup(from[i].entry, n * sizeof *from[i].entry);
    }
}

static void model_deinit(struct model_group *g)
{
    for (int i = 0; i < GROUPS; i++)
        mem_free(g[i].entry);
}

/* All entries of a group, read in small pieces. */
static void log_entries(struct engine_log *log, uint64_t id, uint64_t floor, size_t n,
                        struct model_entry *out)
{
    struct engine_log_entry *e = mem_alloc((n + 1) * sizeof *e);
    for (size_t got = 0; got < n;) {
        struct buf bytes = {0};
        struct engine_log_want w = {id, floor + 1 + got, n - got, 700, true};
        size_t k = 0;
        check(engine_log_read(log, &w, &bytes, e, &k) == 0);
        check(k > 0);
        for (size_t i = 0; i < k; i++, got++) {
            uint64_t term = 0;
            out[got] = (struct model_entry){e[i].term, hash_str(e[i].data, 0), e[i].kind};
            check(engine_log_term(log, id, w.from + i, &term) == 0 && term == e[i].term);
        }
        buf_deinit(&bytes);
    }
    mem_free(e);
}

/* What the log says of a group, in the model's terms; false when it is damaged. */
static bool log_group(struct engine_log *log, uint64_t id, struct model_group *out)
{
    struct engine_log_group g;
    check(engine_log_group(log, id, &g) == 0);
    bool is_fine = !g.is_damaged;
    *out = (struct model_group){.is_there = true,
                                .term = g.hard.term,
                                .commit = g.hard.commit,
                                .vote = hash_bytes(g.hard.vote, g.hard.vote_n, 0),
                                .floor = g.floor_index,
                                .floor_term = g.floor_term,
                                .last = g.last_index,
                                .meta = hash_str(g.meta, 0),
                                .config = hash_str(g.config, 0)};
    size_t n = (size_t)(g.last_index - g.floor_index);
    out->entry = mem_alloc((n + 1) * sizeof *out->entry);
    if (is_fine)
        log_entries(log, id, g.floor_index, n, out->entry);
    engine_log_group_deinit(&g);
    return is_fine;
}

static uint64_t log_print(struct engine_log *log)
{
    size_t n;
    uint64_t *id = engine_log_groups(log, &n), h = 1;
    for (size_t i = 0; i < n; i++) {
        struct model_group g;
        check(log_group(log, id[i], &g));
        h += group_print(id[i], &g);
        mem_free(g.entry);
    }
    mem_free(id);
    return h;
}

/* -- The workload: each function puts one record and tells the model */

static struct str junk(struct rng *r, uint8_t *p, size_t max)
{
    size_t n = (size_t)rng_below(r, max + 1);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)rng_u64(r);
    return str_view(p, n);
}

static void put_entries(struct world *w, struct engine_log_batch *b, uint64_t id,
                        struct model_group *g)
{
    uint8_t data[8][300];
    struct engine_log_entry e[8];
    uint64_t first = g->last + 1;
    if (g->last > g->floor && rng_chance(&w->rng, 150000))
        first = rng_between(&w->rng, g->floor + 1, g->last);
    size_t n = (size_t)rng_between(&w->rng, 1, 8), max = rng_chance(&w->rng, 50000) ? 300 : 40;
    uint64_t term = first > g->floor + 1 ? g->entry[first - g->floor - 2].term : g->floor_term;
    g->last = first - 1 + n;
    g->entry = mem_grow(g->entry, &g->cap, (size_t)(g->last - g->floor) + 1, sizeof *g->entry);
    for (size_t i = 0; i < n; i++) {
        term += rng_below(&w->rng, 3);
        e[i] = (struct engine_log_entry){term, (uint8_t)rng_below(&w->rng, 4),
                                         junk(&w->rng, data[i], max)};
        g->entry[first - g->floor - 1 + i] =
            (struct model_entry){term, hash_str(e[i].data, 0), e[i].kind};
    }
    engine_log_put_entries(b, id, first, e, n);
}

static void put_hard(struct world *w, struct engine_log_batch *b, uint64_t id,
                     struct model_group *g)
{
    struct engine_log_hard h = {.term = rng_between(&w->rng, 1000, 9999),
                                .commit = rng_between(&w->rng, 1, 100)};
    h.vote_n = (uint8_t)junk(&w->rng, h.vote, sizeof h.vote).n;
    if (w->is_uniform)
        h.vote_n = 16;
    g->term = h.term;
    g->commit = h.commit;
    g->vote = hash_bytes(h.vote, h.vote_n, 0);
    engine_log_put_hard(b, id, &h);
}

static void put_compact(struct world *w, struct engine_log_batch *b, uint64_t id,
                        struct model_group *g)
{
    uint64_t to = rng_between(&w->rng, g->floor, g->last + (rng_chance(&w->rng, 100000) ? 20 : 0));
    uint8_t c[40];
    struct str config = junk(&w->rng, c, sizeof c);
    uint64_t term =
        to > g->floor && to <= g->last ? g->entry[to - g->floor - 1].term : g->floor_term;
    engine_log_put_compact(b, id, to, term, config);
    if (to < g->last)
        memmove(g->entry, g->entry + (to - g->floor), (size_t)(g->last - to) * sizeof *g->entry);
    g->last = to > g->last ? to : g->last;
    g->floor = to;
    g->floor_term = term;
    g->config = hash_str(config, 0);
}

static void put_some(struct world *w, struct engine_log_batch *b)
{
    uint64_t id = rng_between(&w->rng, 1, GROUPS);
    struct model_group *g = &w->g[id - 1];
    uint8_t m[60];
    uint64_t what = rng_below(&w->rng, 100);
    if (!g->is_there) {
        struct str meta = junk(&w->rng, m, sizeof m);
        engine_log_put_create(b, id, meta);
        mem_free(g->entry);
        *g = (struct model_group){.is_there = true, .meta = hash_str(meta, 0)};
        g->vote = hash_bytes("", 0, 0);
        g->config = hash_str(STR(""), 0);
    } else if (id == 1 && what < 90 && g->last > 5) {
        put_hard(w, b, id, g); /* a cold group: its entries are old and must be moved */
    } else if (what < 55 || (w->is_growing && id > 1)) {
        put_entries(w, b, id, g);
    } else if (what < 75) {
        put_hard(w, b, id, g);
    } else if (what < 88) {
        put_compact(w, b, id, g);
    } else if (what < 92 && g->last > g->floor) {
        g->last = rng_between(&w->rng, g->floor + 1, g->last) - 1;
        engine_log_put_truncate(b, id, g->last + 1);
    } else if (what < 98) {
        struct str meta = junk(&w->rng, m, sizeof m);
        engine_log_put_meta(b, id, meta);
        g->meta = hash_str(meta, 0);
    } else {
        engine_log_put_destroy(b, id);
        g->is_there = false;
    }
}

static void on_done(void *arg, const struct engine_log_done *d, size_t count)
{
    struct world *w = arg;
    for (size_t i = 0; i < count; i++) {
        uint64_t number = d[i].tag >> 1;
        check(number == w->done + 1); /* in order */
        w->done = number;
        if (d[i].result < 0)
            w->error = d[i].result;
        else if (d[i].tag & 1)
            w->durable = number;
    }
}

static void remember(struct world *w)
{
    w->print = mem_grow(w->print, &w->print_cap, w->submitted + 1, sizeof *w->print);
    w->history = mem_grow(w->history, &w->history_cap, w->submitted + 1, sizeof *w->history);
    w->print[w->submitted] = model_print(w->g);
    w->history[w->submitted] = mem_new(GROUPS * sizeof **w->history);
    model_copy(w->history[w->submitted], w->g);
}

static void submit(struct world *w)
{
    struct engine_log_batch *b = engine_log_batch_new();
    if (w->is_uniform && w->g[1].is_there)
        put_hard(w, b, 2, &w->g[1]);
    else
        for (uint64_t n = rng_between(&w->rng, 1, 5); n > 0; n--)
            put_some(w, b);
    bool is_synced = w->is_all_synced || rng_chance(&w->rng, w->sync_per_million);
    w->submitted++;
    remember(w);
    engine_log_submit(w->log, b, is_synced, w, (uint64_t)w->submitted << 1 | is_synced);
}

static void world_init(struct world *w, uint64_t seed)
{
    *w = (struct world){.disk = engine_fs_mem_new(seed)};
    rng_init(&w->rng, seed);
    w->conf = (struct engine_log_conf){.dir = "/log",
                                       .fs = engine_fs_mem_fs(w->disk),
                                       .node = {{1, 2, 3}},
                                       .segment_bytes = SEGMENT_BYTES_MIN,
                                       .cache_bytes = rng_between(&w->rng, 1, 30000),
                                       .segment_soft_max = 4,
                                       .seed = seed + 1,
                                       .is_inline = true,
                                       .log = is_loud ? &loud : NULL,
                                       .done = on_done,
                                       .arg = w};
    w->sync_per_million = 800000;
    remember(w);
}

static void forget_after(struct world *w, size_t keep)
{
    for (; w->submitted > keep; w->submitted--) {
        model_deinit(w->history[w->submitted]);
        mem_free(w->history[w->submitted]);
    }
}

static void world_deinit(struct world *w)
{
    w->log = engine_log_close(w->log);
    forget_after(w, 0);
    model_deinit(w->history[0]);
    mem_free(w->history[0]);
    mem_free(w->history);
    mem_free(w->print);
    model_deinit(w->g);
    engine_fs_mem_free(w->disk);
}

static void world_open(struct world *w)
{
    int r = engine_log_open(&w->conf, &w->log);
    check(r == 0);
    engine_log_check(w->log);
}

/* Opens after a crash: the content is that after a batch in [durable, submitted]; goes on from
 * there. */
static void world_reopen(struct world *w)
{
    world_open(w);
    uint64_t print = log_print(w->log);
    size_t k = w->submitted;
    while (k > w->durable && w->print[k] != print)
        k--;
    check(w->print[k] == print);
    forget_after(w, k);
    w->done = w->durable = k;
    w->error = 0;
    model_deinit(w->g);
    model_copy(w->g, w->history[k]);
}

static void world_crash(struct world *w, uint32_t keep_per_million)
{
    engine_fs_mem_off(w->disk);
    w->log = engine_log_close(w->log);
    engine_fs_mem_crash(w->disk, keep_per_million);
}

static void steps(struct world *w)
{
    for (int i = 0; i < 1000 && engine_log_step(w->log); i++)
        engine_log_check(w->log);
}

/* -- Scenarios */

static void life(struct world *w)
{
    struct engine_fs_mem_fault f = {.power_off_at = rng_between(&w->rng, 1, 150)};
    if (rng_chance(&w->rng, 200000))
        f.sync_error_per_million = 20000;
    if (rng_chance(&w->rng, 200000))
        f.write_error_per_million = 20000;
    if (rng_chance(&w->rng, 150000))
        f = (struct engine_fs_mem_fault){0};
    engine_fs_mem_set(w->disk, &f);
    static const uint32_t sync[] = {20000, 300000, 800000, 1000000};
    w->sync_per_million = sync[rng_below(&w->rng, countof(sync))];
    w->is_uniform = rng_chance(&w->rng, 400000);
    for (int i = 0; i < 120 && engine_log_admit(w->log) >= 0; i++) {
        for (uint64_t n = w->is_uniform ? 1 : rng_between(&w->rng, 1, 3); n > 0; n--)
            submit(w);
        steps(w);
        check(engine_log_admit(w->log) < 0 || log_print(w->log) == w->print[w->done]);
    }
}

static void power_loss(uint64_t seed)
{
    static const uint32_t keep[] = {0, 100000, 500000, 900000, 1000000};
    struct world w;
    world_init(&w, seed);
    world_open(&w);
    for (int i = 0; i < 12; i++) {
        life(&w);
        if (rng_chance(&w.rng, 300000))
            w.log = engine_log_close(w.log);
        world_crash(&w, keep[rng_below(&w.rng, countof(keep))]);
        world_reopen(&w);
    }
    world_deinit(&w);
}

/* The same short workload again and again, the power lost one operation later each time, and once
 * more while it recovers. */
static void every_point(uint64_t seed)
{
    bool is_over = false;
    for (uint64_t at = 1; at < 400 && !is_over; at++) {
        struct world w;
        world_init(&w, seed);
        w.conf.segment_spare_max = 1 + (uint32_t)(seed / 10 % 2);
        engine_fs_mem_set(w.disk, &(struct engine_fs_mem_fault){.power_off_at = at});
        bool is_open = engine_log_open(&w.conf, &w.log) == 0;
        for (int i = 0; i < 60 && is_open && engine_log_admit(w.log) >= 0; i++) {
            submit(&w);
            submit(&w);
            steps(&w);
        }
        is_over = is_open && engine_log_admit(w.log) >= 0;
        world_crash(&w, 500000);
        engine_fs_mem_set(w.disk, &(struct engine_fs_mem_fault){.power_off_at = at % 7 + 1});
        w.error = 0;
        w.done = w.submitted;
        if (engine_log_open(&w.conf, &w.log) == 0)
            steps(&w);
        world_crash(&w, 500000);
        world_reopen(&w);
        submit(&w);
        steps(&w);
        check(w.done == w.submitted && log_print(w.log) == w.print[w.done]);
        world_deinit(&w);
    }
    check(is_over);
}

/* Puts zeros or garbage over the last frame from `cut` on; true when it was already so. */
static bool tear(struct world *w, const struct engine_segment *s, uint64_t begin, uint64_t cut,
                 bool is_garbage)
{
    uint8_t tail[8192] = {0}, was[8192];
    for (size_t i = 0; is_garbage && i < sizeof tail; i++)
        tail[i] = (uint8_t)rng_u64(&w->rng);
    size_t n = s->size - begin - cut < sizeof tail ? s->size - begin - cut : sizeof tail;
    size_t frame =
        s->used - begin - cut; /* of it, still in the frame; its padding does not count */
    check(frame < n);
    check(w->conf.fs.ops->pread(s->f, was, n, begin + cut) == (int64_t)n);
    bool is_same = true;
    for (size_t i = 0; i + 7 < frame; i++)
        is_same = is_same && was[i] == tail[i];
    struct iovec v = {tail, n};
    check(w->conf.fs.ops->pwritev(s->f, &v, 1, begin + cut) == 0);
    check(w->conf.fs.ops->fdatasync(s->f) == 0);
    return is_same;
}

/* Frames that were never synced are lost in the middle, those behind them not; then new frames of
 * the same size and number take the place of the lost ones.  The old ones behind must stay dead. */
static void stale(uint64_t seed)
{
    for (int fresh = 1; fresh < 12; fresh++) {
        struct world w;
        world_init(&w, seed * 100 + (uint64_t)fresh);
        world_open(&w);
        w.is_all_synced = true;
        while (!w.g[1].is_there)
            submit(&w);
        steps(&w);
        w.is_all_synced = false;
        w.is_uniform = true;
        w.sync_per_million = 0;
        for (int i = 0; i < 40; i++) {
            submit(&w);
            steps(&w);
        }
        world_crash(&w, 700000);
        world_reopen(&w);
        for (int i = 0; i < fresh; i++) {
            w.is_all_synced = i + 1 == fresh;
            submit(&w);
            steps(&w);
        }
        world_crash(&w, 0);
        size_t all = w.submitted;
        world_reopen(&w);
        check(w.submitted == all);
        world_deinit(&w);
    }
}

/* The last frame is cut at a byte and what follows is zero or garbage: the state before it, always.
 */
static void torn(uint64_t seed)
{
    for (uint64_t cut = 0, len = 1; cut < len; cut++) {
        struct world w;
        world_init(&w, seed);
        w.is_all_synced = true;
        world_open(&w);
        for (int i = 0; i < 12; i++) {
            submit(&w);
            steps(&w);
        }
        uint64_t begin = w.log->segment[w.log->segment_count - 1].used;
        size_t before = w.log->segment_count;
        submit(&w);
        check(engine_log_step(w.log));
        const struct engine_segment *s = &w.log->segment[w.log->segment_count - 1];
        begin = w.log->segment_count == before ? begin : SEGMENT_HEAD;
        len = s->used - begin;
        bool is_same = tear(&w, s, begin, cut, seed % 2 == 1);
        world_crash(&w, 0);
        size_t all = w.submitted;
        w.durable = all - 1;
        world_reopen(&w);
        check(w.submitted == all - 1 || is_same);
        submit(&w); /* what is written now must not bring the torn one back */
        steps(&w);
        world_crash(&w, 0);
        world_reopen(&w);
        world_deinit(&w);
    }
}

static void on_damage(void *arg, const struct engine_log_damage *d)
{
    uint64_t *last = arg;
    check((d->file == NULL) == (d->what == NULL));
    if (d->file != NULL)
        *last = d->group;
}

/* Healthy groups are exact; how many are marked. */
static size_t count_damaged(struct world *w)
{
    size_t n, damaged = 0, there = 0;
    uint64_t *id = engine_log_groups(w->log, &n);
    for (size_t i = 0; i < n; i++) {
        struct model_group g, *m = &w->g[id[i] - 1];
        bool is_fine = log_group(w->log, id[i], &g);
        check(!is_fine || (m->is_there && group_print(id[i], &g) == group_print(id[i], m)));
        damaged += !is_fine;
        mem_free(g.entry);
    }
    for (size_t i = 0; i < GROUPS; i++) {
        bool is_listed = false;
        for (size_t k = 0; k < n; k++)
            is_listed = is_listed || id[k] == i + 1;
        there += w->g[i].is_there && !is_listed;
    }
    mem_free(id);
    return damaged + there;
}

/* The owners give up the damaged groups and begin new ones: all is exact again, also after the next
 * crash, although the damaged segment may still be there. */
static void heal(struct world *w)
{
    struct engine_log_batch *b = engine_log_batch_new();
    for (uint64_t id = 1; id <= GROUPS; id++) {
        struct engine_log_group g;
        if (engine_log_group(w->log, id, &g) != 0) {
            w->g[id - 1].is_there = false;
            continue;
        }
        if (g.is_damaged) {
            engine_log_put_destroy(b, id);
            w->g[id - 1].is_there = false;
        }
        engine_log_group_deinit(&g);
    }
    w->submitted++;
    remember(w);
    engine_log_submit(w->log, b, true, w, (uint64_t)w->submitted << 1 | 1);
    steps(w);
    for (int i = 0; i < 100; i++) {
        submit(w);
        steps(w);
    }
    check(log_print(w->log) == w->print[w->done]);
    world_crash(w, 500000);
    world_reopen(w);
}

/* One bit of a closed log is wrong: verify names it, healthy groups are exact, hurt ones are
 * marked. */
static void flip(uint64_t seed)
{
    struct world w;
    world_init(&w, seed);
    world_open(&w);
    for (int i = 0; i < 150; i++) {
        submit(&w);
        steps(&w);
    }
    const struct engine_segment *s = &w.log->segment[rng_below(&w.rng, w.log->segment_count)];
    uint64_t bit = rng_below(&w.rng, s->used * 8);
    char path[PATH_BYTES];
    engine_segment_path(w.log, s->number, path);
    w.log = engine_log_close(w.log);
    check(engine_fs_mem_flip(w.disk, path, bit) == 0);
    size_t found = 0;
    uint64_t last = 0;
    check(engine_log_verify(&w.conf, on_damage, &last, &found) == 0);
    world_open(&w);
    size_t damaged = count_damaged(&w);
    check(found > 0 || damaged == 0);
    check(found != 1 || last == UINT64_MAX || damaged <= 1);
    heal(&w);
    world_deinit(&w);
}

static bool is_there(struct world *w, uint64_t number)
{
    char path[PATH_BYTES];
    struct engine_file *f;
    snprintf(path, sizeof path, "/log/%016llx.rlog", (unsigned long long)number);
    if (w->conf.fs.ops->open(w->disk, path, ENGINE_FS_READ, &f) < 0)
        return false;
    w->conf.fs.ops->close(f);
    return true;
}

/* Both copies of the head; twice is never. */
static void flip_head(struct world *w, uint64_t number)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "/log/%016llx.rlog", (unsigned long long)number);
    check(engine_fs_mem_flip(w->disk, path, number % 64 * 8) == 0);
    check(engine_fs_mem_flip(w->disk, path, SEGMENT_HEAD_COPY * 8 + 77) == 0);
}

/* A segment is lost; is that only a flipped bit?  That the last one is gone without a trace only
 * the peers can know. */
static bool lose(struct world *w, uint64_t number)
{
    const struct engine_fs_ops *ops = w->conf.fs.ops;
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "/log/%016llx.rlog", (unsigned long long)number);
    switch (rng_between(&w->rng, is_there(w, number + 1) ? 0 : 1, 2)) {
    case 0:
        check(ops->unlink(w->disk, path) == 0 && ops->dirsync(w->disk, "/log") == 0);
        break;
    case 1: /* both copies of the head */
        flip_head(w, number);
        return true;
    default:
        check(engine_fs_mem_spoil(w->disk, path, rng_below(&w->rng, SEGMENT_HEAD + 64)) == 0);
    }
    return false;
}

/* A whole segment is missing or cannot be read: the log opens all the same, whoever is said to be
 * healthy is, and who was last spoken of before the segment is healthy. */
static void lost(uint64_t seed)
{
    struct world w;
    world_init(&w, seed);
    w.conf.segment_soft_max = 30;
    world_open(&w);
    for (int i = 0; i < 250; i++) {
        w.is_growing = i > 20 && i % 30 > 3;
        submit(&w);
        steps(&w);
    }
    if (seed % 2 == 0)
        w.log = engine_log_close(w.log);
    else
        world_crash(&w, 1000000);
    world_open(&w);
    size_t count = w.log->segment_count, k = (size_t)rng_below(&w.rng, count);
    uint64_t first = w.log->segment[k].first_frame, number = w.log->segment[k].number;
    uint64_t frame[GROUPS + 1] = {0};
    for (uint64_t id = 1; id <= GROUPS; id++) {
        const struct engine_group *g = engine_index_find(w.log, id);
        frame[id] = g != NULL ? g->frame : UINT64_MAX;
    }
    if (seed % 3 > 0)
        w.log = engine_log_close(w.log);
    else
        world_crash(&w, 1000000);
    bool has_next = is_there(&w, number + 1);
    bool is_flipped = lose(&w, number);
    size_t found = 0;
    uint64_t last = 0;
    check(engine_log_verify(&w.conf, on_damage, &last, &found) == 0);
    world_open(&w);
    (void)count_damaged(&w);
    check(found > 0 || k == 0);
    for (uint64_t id = 1; id <= GROUPS && has_next && k > 0; id++) {
        const struct engine_group *g = engine_index_find(w.log, id);
        check(frame[id] >= first || (g != NULL && !g->is_damaged));
        spared_count += frame[id] < first;
    }
    w.log = engine_log_close(w.log);
    if (is_flipped && rng_chance(&w.rng, 500000)) { /* it is right again: so is everything */
        flip_head(&w, number);
        world_open(&w);
        check(log_print(w.log) == w.print[w.done]);
        world_deinit(&w);
        return;
    }
    world_open(&w); /* what is damaged stays so, also behind new rolls */
    struct engine_log_batch *b = engine_log_batch_new();
    w.submitted++;
    remember(&w);
    engine_log_submit(w.log, b, true, &w, (uint64_t)w.submitted << 1 | 1);
    check(engine_log_step(w.log));
    for (int i = 0; i < 2; i++) {
        w.log = engine_log_close(w.log);
        world_open(&w);
        (void)count_damaged(&w);
    }
    heal(&w);
    world_deinit(&w);
}

/* The disk is full for a while: nothing is lost, nothing fails, all goes on. */
static void full(uint64_t seed)
{
    struct world w;
    world_init(&w, seed);
    world_open(&w);
    bool was_full = false;
    w.is_growing = true;
    for (int i = 0; i < 400; i++) {
        if (i == 50)
            engine_fs_mem_set(w.disk, &(struct engine_fs_mem_fault){.space_max = 1});
        if (i == 300)
            engine_fs_mem_set(w.disk, &(struct engine_fs_mem_fault){0});
        for (int k = 0; k < 3; k++)
            if (engine_log_admit(w.log) == 0 || i % 10 == 0)
                submit(&w);
        was_full = was_full || engine_log_admit(w.log) == ENGINE_LOG_E_FULL;
        steps(&w);
    }
    check(was_full);
    check(w.error == 0);
    check(engine_log_admit(w.log) == 0);
    check(w.done == w.submitted);
    world_crash(&w, 0);
    world_reopen(&w);
    world_deinit(&w);
}

static void play(uint64_t seed)
{
    the_seed = seed;
    power_loss(seed);
    flip(seed);
    lost(seed);
    full(seed);
    stale(seed);
    if (seed % 10 == 0)
        every_point(seed);
    if (seed % 10 < 2)
        torn(seed);
}

int main(int argc, char **argv)
{
    uint64_t from = 1, count = SHORT_COUNT;
    if (argc == 2 && strcmp(argv[1], "--short-count") == 0) {
        printf("%d\n", SHORT_COUNT);
        return 0;
    }
    is_loud = getenv("VERBOSE") != NULL;
    if (argc == 3 && strcmp(argv[1], "--seed") == 0) {
        from = strtoull(argv[2], NULL, 10);
        count = 1;
    } else if (argc == 4 && strcmp(argv[1], "--seeds") == 0) {
        from = strtoull(argv[2], NULL, 10);
        count = strtoull(argv[3], NULL, 10);
    }
    for (uint64_t i = 0; i < count; i++)
        play(from + i);
    check(count < SHORT_COUNT || spared_count > 0);
    printf("%llu passed, 0 failed\n", (unsigned long long)count);
    return 0;
}
