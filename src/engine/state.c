/* The applied state of a store: a queue, a thread, and a table behind it.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Jobs are done in the order they came: batches (those that wait as one write, state_merge.c),
 * syncs, views.  Batches that nobody waits for are held back for a moment.
 * Between jobs rows of dropped spans are removed, a few at a time and not faster than allowed.
 *
 * S1 batches are applied in order.  S3 a space number is given once: numbers are reserved by a row
 * that is written before any batch that could use them.  S4 a drop is a row until all its rows are
 * gone, so it goes on after a restart.  After an error of the table nothing is written any more. */
#include "engine/state.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/usec.h"
#include "codec/cursor.h"
#include "engine/state_priv.h"

#define HOLD_BYTES_MAX (16u << 20) /* of batches that wait: what a restart replays, and memory */
#define DROP_ROWS 512u             /* does not matter: rows removed by one write */
#define DROP_BYTES (256u << 10)
#define FULL_RETRY (100 * USEC_MSEC) /* does not matter: how often a full disk is asked again */
#define SPACE_STEP 1024u             /* does not matter: numbers reserved at a time */
#define SPACE_KEY "\x73space"        /* TAG_STORE */

struct engine_batch {
    struct buf ops; /* per change: is_del, varint key length, key, varint value length, value */
};

enum job_kind { JOB_WRITE, JOB_SYNC, JOB_VIEW };

struct job {
    struct job *next;
    enum job_kind kind;
    struct engine_batch *batch;
    void *owner;
    uint64_t tag;
    bool is_silent;
    struct engine_view *view;
};

struct engine_view {
    const void *snap;
};

struct engine_state {
    char *dir; /* conf.dir is this copy: the thread looks at it for life */
    struct engine_state_conf conf;
    struct engine_table *table;
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t mutex; /* of the queue and the space numbers */
    pthread_cond_t cond;
    struct job *first, **last;
    atomic_bool is_stopping;
    uint64_t space_next, space_end;
    _Atomic uint64_t queue_bytes;
    _Atomic uint32_t pressing; /* jobs that somebody waits for */
    atomic_int pressure, error;
    atomic_bool is_full;

    struct job *waiting; /* the thread's own from here */
    usec_t held_until;   /* when what waits is written at the latest */
    bool has_drops;
    bool is_drop_stuck; /* rows to be removed cannot be read: they stay, until the next start */
    usec_t drop_at;
    struct engine_state_done *done;
    size_t done_cap;
};

/* -- Batches */

struct engine_batch *engine_batch_new(void)
{
    return mem_new(sizeof(struct engine_batch));
}

struct engine_batch *engine_batch_free(struct engine_batch *b)
{
    if (b == NULL)
        return NULL;
    buf_deinit(&b->ops);
    return mem_free(b);
}

size_t engine_batch_bytes(const struct engine_batch *b)
{
    return b->ops.n;
}

static void key_put(struct buf *b, char tag, uint64_t space, struct str key)
{
    buf_put_u8(b, (uint8_t)tag);
    if (tag == TAG_DATA || tag == TAG_DROP)
        buf_put_u64(b, space);
    buf_put_str(b, key);
}

static size_t key_len(char tag, struct str key)
{
    return key.n + (tag == TAG_DATA || tag == TAG_DROP ? 9 : 1);
}

static void batch_put(struct engine_batch *b, char tag, uint64_t space, struct str key,
                      struct str value)
{
    buf_put_u8(&b->ops, 0);
    buf_put_varint(&b->ops, key_len(tag, key));
    key_put(&b->ops, tag, space, key);
    buf_put_varint(&b->ops, value.n);
    buf_put_str(&b->ops, value);
}

static void batch_del_raw(struct engine_batch *b, struct str key)
{
    buf_put_u8(&b->ops, 1);
    buf_put_varint(&b->ops, key.n);
    buf_put_str(&b->ops, key);
}

static void batch_del(struct engine_batch *b, char tag, uint64_t space, struct str key)
{
    buf_put_u8(&b->ops, 1);
    buf_put_varint(&b->ops, key_len(tag, key));
    key_put(&b->ops, tag, space, key);
}

void engine_batch_put(struct engine_batch *b, uint64_t space, struct str key, struct str value)
{
    batch_put(b, TAG_DATA, space, key, value);
}

void engine_batch_del(struct engine_batch *b, uint64_t space, struct str key)
{
    batch_del(b, TAG_DATA, space, key);
}

void engine_batch_put_meta(struct engine_batch *b, struct str key, struct str value)
{
    batch_put(b, TAG_META, 0, key, value);
}

void engine_batch_del_meta(struct engine_batch *b, struct str key)
{
    batch_del(b, TAG_META, 0, key);
}

void engine_batch_drop(struct engine_batch *b, uint64_t space, struct str from, struct str to)
{
    struct buf span = {0};
    buf_put_varint(&span, from.n);
    buf_put_str(&span, from);
    buf_put_str(&span, to);
    batch_put(b, TAG_DROP, space, buf_str(&span), STR(""));
    buf_deinit(&span);
}

bool engine_batch_next(const struct engine_batch *b, size_t *at, struct engine_change *out)
{
    struct codec_cursor c = {b->ops.p + *at, b->ops.p + b->ops.n, false};
    if (codec_cursor_left(&c) == 0)
        return false;
    out->is_del = codec_cursor_u8(&c) != 0;
    out->key = codec_cursor_bytes(&c, codec_cursor_varint(&c));
    out->value = out->is_del ? (struct str){0} : codec_cursor_bytes(&c, codec_cursor_varint(&c));
    must(!c.bad);
    *at = (size_t)(c.p - b->ops.p);
    return true;
}

/* -- The queue */

static bool is_pressing(const struct job *j)
{
    return j->kind != JOB_WRITE || j->owner != NULL;
}

static bool may_hold(const struct engine_state *s)
{
    return s->conf.hold_usec > 0 && atomic_load(&s->pressing) == 0 &&
           atomic_load_explicit(&s->queue_bytes, memory_order_relaxed) < s->conf.hold_bytes_max;
}

/* The thread is woken for the first job (it then waits until held_until) and when it must not wait
 * any longer. */
static void push_locked(struct engine_state *s, struct job *j)
{
    bool was_empty = s->first == NULL, might_hold = may_hold(s);
    uint64_t bytes = j->batch != NULL ? j->batch->ops.n : 0;
    atomic_fetch_add_explicit(&s->queue_bytes, bytes, memory_order_relaxed);
    if (is_pressing(j))
        atomic_fetch_add(&s->pressing, 1);
    *s->last = j;
    s->last = &j->next;
    if ((was_empty || (might_hold && !may_hold(s))) && s->has_thread)
        pthread_cond_signal(&s->cond);
}

static struct job *job_new(enum job_kind kind, struct engine_batch *b, void *owner, uint64_t tag)
{
    struct job *j = mem_new(sizeof *j);
    *j = (struct job){.kind = kind, .batch = b, .owner = owner, .tag = tag};
    return j;
}

static void push(struct engine_state *s, struct job *j)
{
    pthread_mutex_lock(&s->mutex);
    push_locked(s, j);
    pthread_mutex_unlock(&s->mutex);
}

void engine_state_write(struct engine_state *s, struct engine_batch *b, void *owner, uint64_t tag)
{
    push(s, job_new(JOB_WRITE, b, owner, tag));
}

void engine_state_sync(struct engine_state *s, void *owner, uint64_t tag)
{
    push(s, job_new(JOB_SYNC, NULL, owner, tag));
}

void engine_state_view(struct engine_state *s, void *owner, uint64_t tag)
{
    push(s, job_new(JOB_VIEW, NULL, owner, tag));
}

uint64_t engine_state_space(struct engine_state *s)
{
    pthread_mutex_lock(&s->mutex);
    if (s->space_next == s->space_end) {
        s->space_end += SPACE_STEP;
        struct buf v = {0};
        buf_put_u64(&v, s->space_end);
        struct job *j = job_new(JOB_WRITE, engine_batch_new(), NULL, 0);
        j->is_silent = true;
        buf_put_u8(&j->batch->ops, 0);
        buf_put_varint(&j->batch->ops, sizeof SPACE_KEY - 1);
        buf_put_str(&j->batch->ops, STR(SPACE_KEY));
        buf_put_varint(&j->batch->ops, v.n);
        buf_put_str(&j->batch->ops, buf_str(&v));
        push_locked(s, j);
        buf_deinit(&v);
    }
    uint64_t space = s->space_next++;
    pthread_mutex_unlock(&s->mutex);
    return space;
}

int engine_state_stall(const struct engine_state *s)
{
    int error = atomic_load_explicit(&s->error, memory_order_relaxed);
    if (error < 0)
        return error;
    if (atomic_load_explicit(&s->is_full, memory_order_relaxed))
        return 100;
    uint64_t n = atomic_load_explicit(&s->queue_bytes, memory_order_relaxed);
    uint64_t held = s->conf.hold_usec > 0 ? s->conf.hold_bytes_max : 0;
    uint64_t queue = (n > held ? n - held : 0) * 100 / s->conf.queue_bytes_max;
    int pressure = atomic_load_explicit(&s->pressure, memory_order_relaxed);
    uint64_t files = pressure <= 4 ? 0 : (uint64_t)(pressure - 4) * 100 / 8;
    uint64_t worst = queue > files ? queue : files;
    return worst > 100 ? 100 : (int)worst;
}

/* -- The work */

static usec_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (usec_t)t.tv_sec * USEC_SEC + (usec_t)t.tv_nsec / 1000;
}

static void poison(struct engine_state *s, int error)
{
    if (atomic_exchange(&s->error, error) < 0)
        return;
    s->has_drops = false; /* nothing is removed any more */
    log_line(s->conf.log, LOG_LEVEL_ERROR, "engine.state.poisoned",
             "the state in %s failed (errno %d); this node must not go on",
             s->conf.dir != NULL ? s->conf.dir : "memory", -error);
}

/* Takes the first n jobs off and posts them. */
static void complete(struct engine_state *s, size_t n, int result)
{
    s->done = mem_grow(s->done, &s->done_cap, n + 1, sizeof *s->done);
    size_t told = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        struct job *j = s->waiting;
        s->waiting = j->next;
        if (!j->is_silent)
            s->done[told++] = (struct engine_state_done){j->owner, j->tag, result, j->view};
        bytes += j->batch != NULL ? j->batch->ops.n : 0;
        if (is_pressing(j))
            atomic_fetch_sub(&s->pressing, 1);
        engine_batch_free(j->batch);
        mem_free(j);
    }
    atomic_fetch_sub_explicit(&s->queue_bytes, bytes, memory_order_relaxed);
    if (told > 0 && s->conf.done != NULL)
        s->conf.done(s->conf.arg, s->done, told);
}

/* The first job and the writes that follow it, as one write.  Without a thread each batch is a
 * write of its own: a simulated crash may then fall between any two. */
static int write_first(struct engine_state *s, size_t *out_count)
{
    struct engine_merge m = {0};
    uint64_t bytes = 0;
    size_t n = 0;
    for (struct job *j = s->waiting; j != NULL && j->kind == JOB_WRITE; j = j->next) {
        if (n > 0 && (s->conf.is_inline || bytes + j->batch->ops.n > s->conf.hold_bytes_max))
            break;
        bytes += j->batch->ops.n;
        engine_merge_add(&m, j->batch);
        n++;
    }
    *out_count = n;
    int r = s->table->ops->write(s->table, m.change, m.count, false);
    engine_merge_deinit(&m);
    atomic_store_explicit(&s->pressure, s->table->ops->pressure(s->table), memory_order_relaxed);
    s->has_drops = true; /* perhaps; the next look will tell */
    return err_trace(r);
}

/* Is there space for what LevelDB may have to write?  It does not survive running out of it. */
static bool has_space(struct engine_state *s)
{
    if (s->conf.dir == NULL || s->is_stopping)
        return true;
    int64_t n = s->conf.fs.ops->space(s->conf.fs.arg, s->conf.dir);
    bool is_full = n >= 0 && (uint64_t)n < s->conf.space_min_bytes;
    if (atomic_exchange(&s->is_full, is_full) != is_full)
        log_line(s->conf.log, is_full ? LOG_LEVEL_ERROR : LOG_LEVEL_NOTICE,
                 is_full ? "engine.state.full" : "engine.state.space",
                 is_full ? "no space left for the state in %s; writes wait until there is"
                         : "there is space again for the state in %s",
                 s->conf.dir);
    return !is_full;
}

/* The first job, and writes that follow a write.  True when there was one. */
static bool work_some(struct engine_state *s)
{
    struct job *j = s->waiting;
    if (j == NULL || (may_hold(s) && !s->is_stopping && now() < s->held_until))
        return false;
    if (j->kind != JOB_VIEW && atomic_load(&s->error) == 0 && !has_space(s))
        return false;
    size_t n = 1;
    int r = atomic_load(&s->error);
    if (r == 0 && j->kind == JOB_WRITE)
        r = write_first(s, &n);
    else if (r == 0 && j->kind == JOB_SYNC)
        r = s->table->ops->write(s->table, NULL, 0, true);
    else if (r == 0) {
        j->view = mem_new(sizeof *j->view);
        j->view->snap = s->table->ops->snap(s->table);
    }
    if (r < 0)
        poison(s, r);
    complete(s, n, r);
    return true;
}

/* -- Removal of dropped rows */

/* Puts deletions of rows from `from` up to `to` (empty: the end of the space) into b; true when
 * that was all of them. */
static void drop_rows(struct engine_state *s, struct engine_batch *b, struct str from,
                      struct str to, bool *out_all)
{
    const struct engine_table_ops *ops = s->table->ops;
    struct engine_cursor *c = ops->cursor(s->table, NULL);
    struct engine_row row;
    size_t rows = 0, bytes = 0;
    int r = ops->seek(c, from, false, &row);
    while (r == 0 && rows < DROP_ROWS && bytes < DROP_BYTES && str_cmp(row.key, to) < 0) {
        batch_del_raw(b, row.key);
        bytes += row.key.n + row.value.n;
        rows++;
        r = ops->step(c, false, &row);
    }
    *out_all = r == ENGINE_STATE_E_NONE || (r == 0 && str_cmp(row.key, to) >= 0);
    ops->cursor_free(c);
    if (!s->conf.is_inline)
        s->drop_at = now() + bytes * USEC_SEC / s->conf.drop_bytes_per_sec;
    if (r < 0) {
        s->is_drop_stuck = true;
        log_line(s->conf.log, LOG_LEVEL_ERROR, "engine.state.unreadable",
                 "rows in %s that nobody needs any more cannot be read (errno %d), so they stay; "
                 "bilrostd --verify-data names the damaged file",
                 s->conf.dir != NULL ? s->conf.dir : "memory", -r);
    }
}

/* The end of a span as a key that is above all of it. */
static void span_end(struct buf *b, uint64_t space, struct str to)
{
    if (to.n > 0)
        key_put(b, TAG_DATA, space, to);
    else if (space < UINT64_MAX)
        key_put(b, TAG_DATA, space + 1, STR(""));
    else
        buf_put_u8(b, TAG_DATA + 1);
}

static int write_batch(struct engine_state *s, const struct engine_batch *b)
{
    struct engine_merge m = {0};
    engine_merge_add(&m, b);
    int r = s->table->ops->write(s->table, m.change, m.count, false);
    engine_merge_deinit(&m);
    return err_trace(r);
}

static int drop_span(struct engine_state *s, struct str record)
{
    struct codec_cursor c = codec_cursor_of(record);
    (void)codec_cursor_u8(&c);
    uint64_t space = codec_cursor_u64(&c);
    struct str from = codec_cursor_bytes(&c, codec_cursor_varint(&c));
    struct str to = codec_cursor_bytes(&c, codec_cursor_left(&c));
    struct engine_batch *b = engine_batch_new();
    struct buf lo = {0}, hi = {0};
    bool is_all = c.bad; /* a record that makes no sense is removed */
    key_put(&lo, TAG_DATA, space, from);
    span_end(&hi, space, to);
    if (!c.bad)
        drop_rows(s, b, buf_str(&lo), buf_str(&hi), &is_all);
    if (is_all)
        batch_del_raw(b, record);
    int r = write_batch(s, b);
    engine_batch_free(b);
    buf_deinit(&lo);
    buf_deinit(&hi);
    return err_trace(r);
}

/* Removes some rows.  True when it did something. */
static bool drop_some(struct engine_state *s)
{
    if (!s->has_drops || s->is_drop_stuck || atomic_load(&s->error) < 0)
        return false;
    if (!s->conf.is_inline && now() < s->drop_at)
        return false;
    const struct engine_table_ops *ops = s->table->ops;
    struct engine_cursor *c = ops->cursor(s->table, NULL);
    struct engine_row row;
    int r = ops->seek(c, STR("g"), false, &row);
    s->has_drops = r == 0 && row.key.p[0] == TAG_DROP;
    if (s->has_drops) {
        struct str record = str_dup(row.key);
        r = drop_span(s, record);
        mem_free((void *)(uintptr_t)record.p);
    }
    ops->cursor_free(c);
    if (r < 0)
        poison(s, r);
    return s->has_drops && !s->is_drop_stuck;
}

bool engine_state_step(struct engine_state *s)
{
    struct job **end = &s->waiting;
    while (*end != NULL)
        end = &(*end)->next;
    if (s->waiting == NULL && s->conf.hold_usec > 0)
        s->held_until = now() + s->conf.hold_usec;
    pthread_mutex_lock(&s->mutex);
    *end = s->first;
    s->first = NULL;
    s->last = &s->first;
    pthread_mutex_unlock(&s->mutex);
    return work_some(s) || drop_some(s);
}

/* When there is something to do; 0: now. */
static usec_t wake_at(const struct engine_state *s, usec_t retry_at)
{
    usec_t drop_at = s->has_drops && !s->is_drop_stuck ? s->drop_at : USEC_NEVER;
    if (s->waiting == NULL)
        return s->first != NULL ? 0 : drop_at;
    if (atomic_load(&s->is_full))
        return usec_min(retry_at, drop_at);
    return may_hold(s) ? usec_min(s->held_until, drop_at) : 0;
}

static bool wait(struct engine_state *s)
{
    usec_t retry_at = now() + FULL_RETRY;
    pthread_mutex_lock(&s->mutex);
    for (usec_t until; !s->is_stopping && (until = wake_at(s, retry_at)) > 0;) {
        struct timespec t = {(time_t)(until / USEC_SEC), (long)(until % USEC_SEC * 1000)};
        if (until == USEC_NEVER)
            pthread_cond_wait(&s->cond, &s->mutex);
        else if (pthread_cond_timedwait(&s->cond, &s->mutex, &t) == ETIMEDOUT)
            break;
    }
    bool go_on = !s->is_stopping || s->first != NULL;
    pthread_mutex_unlock(&s->mutex);
    return go_on;
}

static void *state_main(void *arg)
{
    struct engine_state *s = arg;
    pthread_setname_np(pthread_self(), "state");
    do
        while (engine_state_step(s))
            ;
    while (wait(s));
    return NULL;
}

/* -- Open and close */

static int read_space(struct engine_state *s)
{
    struct buf v = {0};
    s->space_next = 1;
    int r = s->table->ops->get(s->table, NULL, STR(SPACE_KEY), &v);
    if (r == 0) {
        struct codec_cursor c = codec_cursor_of(buf_str(&v));
        s->space_next = codec_cursor_u64(&c);
        r = c.bad ? -EBADMSG : 0;
    }
    s->space_end = s->space_next;
    buf_deinit(&v);
    return r == ENGINE_STATE_E_NONE ? 0 : err_trace(r);
}

static int table_open(const struct engine_state_conf *conf, struct engine_table **out)
{
    if (conf->dir == NULL)
        return engine_mem_open(conf->mem != NULL ? conf->mem : engine_mem_new(), conf->mem == NULL,
                               out);
    struct buf why = {0};
    int r = engine_level_open(conf, out, &why);
    if (r < 0)
        log_line(conf->log, LOG_LEVEL_ERROR, "engine.state.open", "%s: %.*s", conf->dir, (int)why.n,
                 (const char *)why.p);
    buf_deinit(&why);
    return err_trace(r);
}

static void conf_defaults(struct engine_state_conf *c)
{
    c->write_buffer_bytes = c->write_buffer_bytes > 0 ? c->write_buffer_bytes : 32u << 20;
    c->cache_bytes = c->cache_bytes > 0 ? c->cache_bytes : 64u << 20;
    c->space_min_bytes = c->space_min_bytes > 0 ? c->space_min_bytes : 4 * c->write_buffer_bytes;
    c->hold_bytes_max = c->hold_bytes_max > 0 ? c->hold_bytes_max : HOLD_BYTES_MAX;
    c->queue_bytes_max = c->queue_bytes_max > 0 ? c->queue_bytes_max : 64u << 20;
    c->drop_bytes_per_sec = c->drop_bytes_per_sec > 0 ? c->drop_bytes_per_sec : 16u << 20;
}

static void state_free(struct engine_state *s)
{
    if (s->table != NULL)
        s->table->ops->close(s->table);
    pthread_mutex_destroy(&s->mutex);
    pthread_cond_destroy(&s->cond);
    mem_free(s->done);
    mem_free(s->dir);
    mem_free(s);
}

int engine_state_open(const struct engine_state_conf *conf, struct engine_state **out)
{
    must(!conf->is_inline || (conf->dir == NULL && conf->hold_usec == 0));
    struct engine_state *s = mem_new(sizeof *s);
    s->conf = *conf;
    if (conf->dir != NULL)
        s->conf.dir = s->dir = mem_dup(conf->dir, strlen(conf->dir));
    conf_defaults(&s->conf);
    s->last = &s->first;
    s->has_drops = true;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_condattr_t a;
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&s->cond, &a);
    pthread_condattr_destroy(&a);
    int r = table_open(&s->conf, &s->table);
    if (r == 0)
        r = read_space(s);
    if (r == 0 && !conf->is_inline) {
        s->has_thread = true;
        r = -pthread_create(&s->thread, NULL, state_main, s);
    }
    if (r < 0) {
        state_free(s);
        return err_trace(r);
    }
    *out = s;
    return 0;
}

struct engine_state *engine_state_close(struct engine_state *s)
{
    if (s == NULL)
        return NULL;
    if (s->has_thread) {
        pthread_mutex_lock(&s->mutex);
        s->is_stopping = true;
        pthread_cond_signal(&s->cond);
        pthread_mutex_unlock(&s->mutex);
        pthread_join(s->thread, NULL);
    }
    s->has_drops = false;
    while (engine_state_step(s))
        s->has_drops = false;
    state_free(s);
    return NULL;
}

int engine_state_verify(const struct engine_state_conf *conf, struct buf *out_what)
{
    struct engine_table *t;
    int r = engine_level_open(conf, &t, out_what);
    if (r < 0)
        return err_trace(r);
    struct engine_cursor *c = t->ops->cursor(t, NULL);
    struct engine_row row;
    for (r = t->ops->seek(c, STR("\0"), false, &row); r == 0;)
        r = t->ops->step(c, false, &row);
    t->ops->cursor_free(c);
    t->ops->close(t);
    if (r < 0)
        buf_printf(out_what, "a row cannot be read (errno %d)", -r);
    return r < 0 ? err_trace(r) : 0;
}

/* -- Reading */

static int get(struct engine_state *s, const void *snap, struct str key, struct buf *out)
{
    int r = atomic_load_explicit(&s->error, memory_order_relaxed);
    return r < 0 ? err_trace(r) : s->table->ops->get(s->table, snap, key, out);
}

int engine_state_get(struct engine_state *s, const struct engine_view *view, uint64_t space,
                     struct str key, struct buf *out)
{
    struct buf k = {0};
    key_put(&k, TAG_DATA, space, key);
    int r = get(s, view != NULL ? view->snap : NULL, buf_str(&k), out);
    buf_deinit(&k);
    return r;
}

int engine_state_get_meta(struct engine_state *s, struct str key, struct buf *out)
{
    struct buf k = {0};
    key_put(&k, TAG_META, 0, key);
    int r = get(s, NULL, buf_str(&k), out);
    buf_deinit(&k);
    return r;
}

struct span {
    struct buf lo, hi;
    size_t prefix; /* bytes of a key that the caller does not see */
};

static struct span span_of(const struct engine_scan *scan)
{
    struct span s = {.prefix = scan->is_meta ? 1 : 9};
    key_put(&s.lo, scan->is_meta ? TAG_META : TAG_DATA, scan->space, scan->from);
    if (!scan->is_meta)
        span_end(&s.hi, scan->space, scan->to);
    else if (scan->to.n > 0)
        key_put(&s.hi, TAG_META, 0, scan->to);
    else
        buf_put_u8(&s.hi, TAG_META + 1);
    return s;
}

static void span_deinit(struct span *s)
{
    buf_deinit(&s->lo);
    buf_deinit(&s->hi);
}

static bool in_span(const struct span *s, struct str key)
{
    return str_cmp(key, buf_str(&s->lo)) >= 0 && str_cmp(key, buf_str(&s->hi)) < 0;
}

int engine_state_scan(struct engine_state *s, const struct engine_view *view,
                      const struct engine_scan *scan)
{
    const struct engine_table_ops *ops = s->table->ops;
    struct span span = span_of(scan);
    struct engine_cursor *c = ops->cursor(s->table, view != NULL ? view->snap : NULL);
    struct engine_row row;
    size_t rows = 0, bytes = 0;
    int r = ops->seek(c, buf_str(scan->is_reverse ? &span.hi : &span.lo), scan->is_reverse, &row);
    while (r == 0 && in_span(&span, row.key)) {
        bytes += row.key.n + row.value.n;
        bool is_over = (scan->row_max > 0 && rows >= scan->row_max) ||
                       (scan->byte_max > 0 && rows > 0 && bytes > scan->byte_max);
        struct str key = {row.key.p + span.prefix, row.key.n - span.prefix};
        if (is_over || !scan->row(scan->arg, key, row.value)) {
            r = ENGINE_STATE_E_MORE;
            break;
        }
        rows++;
        r = ops->step(c, scan->is_reverse, &row);
    }
    ops->cursor_free(c);
    span_deinit(&span);
    return r == ENGINE_STATE_E_NONE ? 0 : r;
}

struct engine_view *engine_view_free(struct engine_state *s, struct engine_view *v)
{
    if (v == NULL)
        return NULL;
    s->table->ops->release(s->table, v->snap);
    return mem_free(v);
}

struct engine_iter {
    struct engine_state *s;
    struct engine_cursor *c;
    struct span span;
    bool is_begun;
};

struct engine_iter *engine_iter_new(struct engine_state *s, const struct engine_view *view,
                                    uint64_t space, struct str from, struct str to)
{
    struct engine_iter *it = mem_new(sizeof *it);
    it->s = s;
    it->c = s->table->ops->cursor(s->table, view != NULL ? view->snap : NULL);
    it->span = span_of(&(struct engine_scan){.space = space, .from = from, .to = to});
    return it;
}

int engine_iter_next(struct engine_iter *it, struct str *out_key, struct str *out_value)
{
    const struct engine_table_ops *ops = it->s->table->ops;
    struct engine_row row;
    int r = it->is_begun ? ops->step(it->c, false, &row)
                         : ops->seek(it->c, buf_str(&it->span.lo), false, &row);
    it->is_begun = true;
    if (r != 0)
        return r;
    if (!in_span(&it->span, row.key))
        return ENGINE_STATE_E_NONE;
    *out_key = (struct str){row.key.p + it->span.prefix, row.key.n - it->span.prefix};
    *out_value = row.value;
    return 0;
}

struct engine_iter *engine_iter_free(struct engine_iter *it)
{
    if (it == NULL)
        return NULL;
    it->s->table->ops->cursor_free(it->c);
    span_deinit(&it->span);
    return mem_free(it);
}

uint64_t engine_state_size(struct engine_state *s, uint64_t space, struct str from, struct str to)
{
    struct span span = span_of(&(struct engine_scan){.space = space, .from = from, .to = to});
    uint64_t n = s->table->ops->size(s->table, buf_str(&span.lo), buf_str(&span.hi));
    span_deinit(&span);
    return n;
}
