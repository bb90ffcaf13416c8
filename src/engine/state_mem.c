/* Rows in memory, with every version that a view or a crash may still ask for.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A skip list of keys; each has its versions, the newest first, numbered by the batch that wrote
 * them.  A version is kept as long as a view, or going back to the last sync, may need it.
 *
 * M1 keys ascend; versions of a key descend.  M2 no row is without versions.  Cursors keep a copy
 * of where they are and search again, so that rows may come and go beneath them. */
#include <errno.h>
#include <pthread.h>

#include "base/list.h"
#include "base/mem.h"
#include "base/rng.h"
#include "engine/state_priv.h"

#define HEIGHT_MAX 20 /* does not matter: enough for a million rows */

struct version {
    struct version *older;
    uint64_t seq;
    bool is_del;
    size_t n;
    char data[];
};

struct row {
    struct str key;
    struct version *newest;
    int height;
    struct row *next[];
};

struct snap {
    struct list link;
    uint64_t seq;
};

struct engine_mem {
    pthread_mutex_t mutex;
    struct row *head; /* of height HEIGHT_MAX, without a key */
    struct list snaps;
    uint64_t seq;    /* writes */
    uint64_t synced; /* of them, on the imagined disk */
    struct rng rng;
    int spoil; /* what reading rows answers */
};

struct table {
    struct engine_table head;
    struct engine_mem *mem;
    bool is_own;
};

struct engine_cursor {
    struct table *t;
    uint64_t seq;
    struct buf key, value;
};

static struct row *row_new(struct str key, int height)
{
    struct row *r = mem_new(sizeof *r + (size_t)height * sizeof(struct row *));
    r->key = str_dup(key);
    r->height = height;
    return r;
}

static void row_free(struct row *r)
{
    for (struct version *v = r->newest, *older; v != NULL; v = older) {
        older = v->older;
        mem_free(v);
    }
    mem_free((void *)(uintptr_t)r->key.p);
    mem_free(r);
}

struct engine_mem *engine_mem_new(void)
{
    struct engine_mem *m = mem_new(sizeof *m);
    pthread_mutex_init(&m->mutex, NULL);
    m->head = row_new(STR(""), HEIGHT_MAX);
    list_init(&m->snaps);
    rng_init(&m->rng, 1);
    return m;
}

struct engine_mem *engine_mem_free(struct engine_mem *m)
{
    if (m == NULL)
        return NULL;
    for (struct row *r = m->head, *next; r != NULL; r = next) {
        next = r->next[0];
        row_free(r);
    }
    pthread_mutex_destroy(&m->mutex);
    return mem_free(m);
}

/* The last row before key on every height; an empty key means behind all. */
static void search(const struct engine_mem *m, struct str key, struct row *before[HEIGHT_MAX])
{
    struct row *r = m->head;
    for (int h = HEIGHT_MAX - 1; h >= 0; h--) {
        while (r->next[h] != NULL && (key.n == 0 || str_cmp(r->next[h]->key, key) < 0))
            r = r->next[h];
        before[h] = r;
    }
}

static struct row *row_find(const struct engine_mem *m, struct str key)
{
    struct row *before[HEIGHT_MAX];
    search(m, key, before);
    struct row *r = before[0]->next[0];
    return r != NULL && str_eq(r->key, key) ? r : NULL;
}

static struct row *row_make(struct engine_mem *m, struct str key)
{
    struct row *before[HEIGHT_MAX];
    search(m, key, before);
    struct row *r = before[0]->next[0];
    if (r != NULL && str_eq(r->key, key))
        return r;
    int height = 1;
    while (height < HEIGHT_MAX && rng_below(&m->rng, 4) == 0)
        height++;
    r = row_new(key, height);
    for (int h = 0; h < height; h++) {
        r->next[h] = before[h]->next[h];
        before[h]->next[h] = r;
    }
    return r;
}

static void row_unlink(struct engine_mem *m, struct row *r)
{
    struct row *before[HEIGHT_MAX];
    search(m, r->key, before);
    for (int h = 0; h < r->height; h++)
        before[h]->next[h] = r->next[h];
    row_free(r);
}

static const struct version *seen(const struct row *r, uint64_t seq)
{
    const struct version *v = r->newest;
    while (v != NULL && v->seq > seq)
        v = v->older;
    return v != NULL && !v->is_del ? v : NULL;
}

/* Frees the versions that nobody can ask for any more; the row too when nothing is left of it. */
static void prune(struct engine_mem *m, struct row *r)
{
    uint64_t floor = m->synced;
    list_each(&m->snaps, l)
    {
        const struct snap *s = container_of(l, struct snap, link);
        floor = s->seq < floor ? s->seq : floor;
    }
    struct version **p = &r->newest;
    while (*p != NULL && (*p)->seq > floor)
        p = &(*p)->older;
    if (*p != NULL && !(*p)->is_del)
        p = &(*p)->older; /* what is seen at the floor stays */
    for (struct version *v = *p, *older; v != NULL; v = older) {
        older = v->older;
        mem_free(v);
    }
    *p = NULL;
    if (r->newest == NULL)
        row_unlink(m, r);
}

static void change(struct engine_mem *m, const struct engine_change *c)
{
    struct row *r = row_make(m, c->key);
    struct version *v = mem_alloc(sizeof *v + c->value.n);
    *v = (struct version){r->newest, m->seq, c->is_del, c->value.n};
    if (c->value.n > 0)
        memcpy(v->data, c->value.p, c->value.n);
    r->newest = v;
    prune(m, r);
}

static int table_write(struct engine_table *t, const struct engine_change *list, size_t count,
                       bool is_synced)
{
    struct engine_mem *m = ((struct table *)t)->mem;
    pthread_mutex_lock(&m->mutex);
    m->seq += count > 0;
    for (size_t i = 0; i < count; i++)
        change(m, &list[i]);
    if (is_synced)
        m->synced = m->seq;
    pthread_mutex_unlock(&m->mutex);
    return 0;
}

static uint64_t snap_seq(const struct engine_mem *m, const void *snap)
{
    return snap != NULL ? ((const struct snap *)snap)->seq : m->seq;
}

static int table_get(struct engine_table *t, const void *snap, struct str key, struct buf *out)
{
    struct engine_mem *m = ((struct table *)t)->mem;
    pthread_mutex_lock(&m->mutex);
    const struct row *r = row_find(m, key);
    const struct version *v = r != NULL ? seen(r, snap_seq(m, snap)) : NULL;
    if (v != NULL)
        buf_put(out, v->data, v->n);
    pthread_mutex_unlock(&m->mutex);
    return v != NULL ? 0 : ENGINE_STATE_E_NONE;
}

static const void *table_snap(struct engine_table *t)
{
    struct engine_mem *m = ((struct table *)t)->mem;
    struct snap *s = mem_new(sizeof *s);
    pthread_mutex_lock(&m->mutex);
    s->seq = m->seq;
    list_push_back(&m->snaps, &s->link);
    pthread_mutex_unlock(&m->mutex);
    return s;
}

static void table_release(struct engine_table *t, const void *snap)
{
    struct engine_mem *m = ((struct table *)t)->mem;
    struct snap *s = (struct snap *)(uintptr_t)snap;
    pthread_mutex_lock(&m->mutex);
    list_del(&s->link);
    pthread_mutex_unlock(&m->mutex);
    mem_free(s);
}

static struct engine_cursor *table_cursor(struct engine_table *t, const void *snap)
{
    struct engine_cursor *c = mem_new(sizeof *c);
    c->t = (struct table *)t;
    pthread_mutex_lock(&c->t->mem->mutex);
    c->seq = snap_seq(c->t->mem, snap);
    pthread_mutex_unlock(&c->t->mem->mutex);
    return c;
}

static void cursor_free(struct engine_cursor *c)
{
    buf_deinit(&c->key);
    buf_deinit(&c->value);
    mem_free(c);
}

/* The nearest row that is seen, from r on. */
static int settle(struct engine_cursor *c, const struct row *r, bool is_back,
                  struct engine_row *out)
{
    const struct engine_mem *m = c->t->mem;
    const struct version *v = NULL;
    while (r != NULL && r != m->head && (v = seen(r, c->seq)) == NULL) {
        struct row *before[HEIGHT_MAX];
        if (is_back)
            search(m, r->key, before);
        r = is_back ? before[0] : r->next[0];
    }
    if (v == NULL)
        return ENGINE_STATE_E_NONE;
    if (m->spoil < 0 && r->key.p[0] == TAG_DATA)
        return m->spoil;
    c->key.n = c->value.n = 0;
    buf_put_str(&c->key, r->key);
    buf_put(&c->value, v->data, v->n);
    *out = (struct engine_row){buf_str(&c->key), buf_str(&c->value)};
    return 0;
}

static int cursor_seek(struct engine_cursor *c, struct str key, bool is_before,
                       struct engine_row *out)
{
    struct row *before[HEIGHT_MAX];
    pthread_mutex_lock(&c->t->mem->mutex);
    search(c->t->mem, key, before);
    int r = settle(c, is_before ? before[0] : before[0]->next[0], is_before, out);
    pthread_mutex_unlock(&c->t->mem->mutex);
    return r;
}

static int cursor_step(struct engine_cursor *c, bool is_back, struct engine_row *out)
{
    struct row *before[HEIGHT_MAX];
    if (c->key.n == 0)
        return ENGINE_STATE_E_NONE;
    if (!is_back)
        buf_put_u8(&c->key, 0); /* the next possible key */
    pthread_mutex_lock(&c->t->mem->mutex);
    search(c->t->mem, buf_str(&c->key), before);
    int r = settle(c, is_back ? before[0] : before[0]->next[0], is_back, out);
    pthread_mutex_unlock(&c->t->mem->mutex);
    return r;
}

static uint64_t table_size(struct engine_table *t, struct str from, struct str to)
{
    const struct engine_mem *m = ((struct table *)t)->mem;
    struct row *before[HEIGHT_MAX];
    uint64_t sum = 0;
    pthread_mutex_lock(&((struct table *)t)->mem->mutex);
    search(m, from, before);
    for (const struct row *r = before[0]->next[0]; r != NULL && str_cmp(r->key, to) < 0;
         r = r->next[0]) {
        const struct version *v = seen(r, m->seq);
        sum += v != NULL ? r->key.n + v->n : 0;
    }
    pthread_mutex_unlock(&((struct table *)t)->mem->mutex);
    return sum;
}

static int table_pressure(struct engine_table *t)
{
    (void)t;
    return 0;
}

static void table_close(struct engine_table *t)
{
    struct table *x = (struct table *)t;
    must(list_empty(&x->mem->snaps));
    if (x->is_own)
        engine_mem_free(x->mem);
    mem_free(x);
}

static const struct engine_table_ops mem_ops = {
    .write = table_write,
    .get = table_get,
    .snap = table_snap,
    .release = table_release,
    .cursor = table_cursor,
    .seek = cursor_seek,
    .step = cursor_step,
    .cursor_free = cursor_free,
    .size = table_size,
    .pressure = table_pressure,
    .close = table_close,
};

int engine_mem_open(struct engine_mem *mem, bool is_own, struct engine_table **out)
{
    struct table *t = mem_new(sizeof *t);
    *t = (struct table){{&mem_ops}, mem, is_own};
    *out = &t->head;
    return 0;
}

uint64_t engine_mem_unsynced(const struct engine_mem *m)
{
    return m->seq - m->synced;
}

void engine_mem_spoil(struct engine_mem *m, int error)
{
    pthread_mutex_lock(&m->mutex);
    m->spoil = error;
    pthread_mutex_unlock(&m->mutex);
}

void engine_mem_crash(struct engine_mem *m, uint64_t keep)
{
    must(list_empty(&m->snaps));
    uint64_t last = keep < m->seq - m->synced ? m->synced + keep : m->seq;
    for (struct row *r = m->head->next[0], *next; r != NULL; r = next) {
        next = r->next[0];
        for (struct version *v; (v = r->newest) != NULL && v->seq > last;) {
            r->newest = v->older;
            mem_free(v);
        }
        if (r->newest == NULL)
            row_unlink(m, r);
    }
    m->seq = m->synced = last;
}
