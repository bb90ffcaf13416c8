/* A small state machine for tests: registers, counters and append-lists.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * command = op u8, u16 key length, key, value:   's' set   'a' append (u64, kept as a list)   'c'
 * add (u64) to a counter
 *           'e' effect of value   'k' set value, only if absent (reply 1 or 0)
 * reply   = the new value of the key
 * query   = 'g' key: the value;   'r' from NUL to: rows, read by the host
 * Each row is one key.  The state's hash is a sum over the rows, so that it does not depend on
 * order. */
#pragma once

#include "base/hash.h"
#include "base/mem.h"
#include "base/skip.h"
#include "codec/cursor.h"
#include "range/machine.h"

struct test_cell {
    struct buf value;
    uint64_t hash;         /* its part of the machine's */
    struct skip_node node; /* last: its pointers and its key follow */
};

struct test_machine {
    struct skip cell;
    uint64_t hash;
    bool is_cut; /* the hash is to be summed up again */
    uint64_t applied_count;
    uint64_t last_index;
    struct buf start, end;
};

/* Its value has changed. */
static inline void test_cell_rehash(struct test_machine *m, struct test_cell *c)
{
    m->hash -= c->hash;
    c->hash = hash_u64(hash_str(c->node.key, 1) * 3 + hash_bytes(c->value.p, c->value.n, 2));
    m->hash += c->hash;
}

static inline struct test_cell *test_cell_find(const struct test_machine *m, struct str key)
{
    struct skip_node *n = skip_find(&m->cell, key);
    return n ? container_of(n, struct test_cell, node) : NULL;
}

static inline struct test_cell *test_cell_get(struct test_machine *m, struct str key)
{
    struct test_cell *c = test_cell_find(m, key);
    if (c)
        return c;
    unsigned height = skip_height(&m->cell);
    c = mem_new(sizeof *c + height * sizeof c->node.next[0] + key.n);
    c->node.height = height;
    char *text = (char *)&c->node.next[height];
    if (key.n > 0)
        memcpy(text, key.p, key.n);
    c->node.key = str_view(text, key.n);
    skip_put(&m->cell, &c->node);
    test_cell_rehash(m, c);
    return c;
}

static inline void test_machine_clear(struct test_machine *m)
{
    for (struct skip_node *n = skip_first(&m->cell), *next; n; n = next) {
        struct test_cell *c = container_of(n, struct test_cell, node);
        next = n->next[0];
        buf_deinit(&c->value);
        mem_free(c);
    }
    skip_init(&m->cell, 1);
    m->hash = 0;
    m->is_cut = false;
}

static inline void *test_machine_new(void *conf)
{
    struct test_machine *m = mem_new(sizeof *m);
    (void)conf;
    skip_init(&m->cell, 1);
    return m;
}

static inline void test_machine_free(void *arg)
{
    struct test_machine *m = arg;
    test_machine_clear(m);
    buf_deinit(&m->start);
    buf_deinit(&m->end);
    mem_free(m);
}

static inline void test_machine_bound(struct test_machine *m, const struct range_bounds *b)
{
    m->start.n = m->end.n = 0;
    buf_put_str(&m->start, b->start);
    if (!b->is_open)
        buf_put_str(&m->end, b->end);
}

static inline void test_machine_reset(void *arg, const struct range_bounds *b)
{
    struct test_machine *m = arg;
    test_machine_clear(m);
    test_machine_bound(m, b);
}

static inline void *test_machine_split(void *arg, const struct range_bounds *left,
                                       const struct range_bounds *right)
{
    struct test_machine *m = arg, *out = test_machine_new(NULL);
    test_machine_bound(m, left);
    test_machine_bound(out, right);
    skip_cut(&m->cell, right->start, &out->cell);
    m->is_cut = out->is_cut = true;
    return out;
}

static inline void test_machine_load(void *arg, struct str key, struct str value)
{
    struct test_machine *m = arg;
    struct test_cell *c = test_cell_get(m, key);
    buf_put_str(&c->value, value);
    test_cell_rehash(m, c);
}

static inline void test_machine_loaded(void *arg)
{
    (void)arg;
}

static inline void test_machine_apply(void *arg, const struct range_apply *in,
                                      struct range_out *out)
{
    struct test_machine *m = arg;
    struct codec_cursor c = codec_cursor_of(in->command);
    uint8_t op = codec_cursor_u8(&c);
    struct str key = codec_cursor_bytes(&c, codec_cursor_u16(&c));
    struct str value = codec_cursor_bytes(&c, codec_cursor_left(&c));

    must(in->index >= m->last_index);
    m->last_index = in->index;
    m->applied_count++;
    if (c.bad)
        return;
    if (op == 'e') {
        range_out_effect(out, value);
        return;
    }
    struct test_cell *cell = test_cell_get(m, key);
    if (op == 's') {
        cell->value.n = 0;
        buf_put_str(&cell->value, value);
    } else if (op == 'a')
        buf_put_str(&cell->value, value);
    else if (op == 'k' && cell->value.n == 0)
        buf_put_str(&cell->value, value);
    else if (op == 'c') {
        struct codec_cursor old = codec_cursor_of(buf_str(&cell->value)),
                            more = codec_cursor_of(value);
        uint64_t sum = (cell->value.n == 8 ? codec_cursor_u64(&old) : 0) + codec_cursor_u64(&more);
        cell->value.n = 0;
        buf_put_u64(&cell->value, sum);
    }
    test_cell_rehash(m, cell);
    range_out_put(out, key, buf_str(&cell->value));
    buf_put_str(&out->reply, buf_str(&cell->value));
}

static inline int test_machine_query(void *arg, uint64_t hlc, struct str request, struct buf *reply,
                                     struct range_scan *scan)
{
    struct test_machine *m = arg;
    (void)hlc;
    if (request.n > 0 && request.p[0] == 'g') {
        struct str key = str_view(request.p + 1, request.n - 1);
        const struct test_cell *c = test_cell_find(m, key);
        if (c)
            buf_put_str(reply, buf_str(&c->value));
        return 0;
    }
    const char *nul = request.n > 1 ? memchr(request.p + 1, 0, request.n - 1) : NULL;
    if (!nul || request.p[0] != 'r')
        return RANGE_QUERY_E_INVALID;
    scan->from = str_view(request.p + 1, (size_t)(nul - request.p) - 1);
    scan->to = str_view(nul + 1, request.n - (size_t)(nul - request.p) - 1);
    scan->row_max = 1000;
    scan->byte_max = 1 << 20;
    return RANGE_QUERY_E_SCAN;
}

static inline void test_machine_split_key(void *arg, struct str wish, struct buf *out)
{
    (void)arg;
    buf_put_str(out, wish);
}

static inline uint64_t test_machine_tick(void *arg, uint64_t hlc, struct buf *out)
{
    (void)arg, (void)hlc, (void)out;
    return UINT64_MAX;
}

static inline void test_machine_fact(void *arg, struct buf *out)
{
    (void)arg, (void)out;
}

static inline uint64_t test_machine_hash(void *arg)
{
    struct test_machine *m = arg;
    if (m->is_cut) {
        m->hash = 0;
        for (struct skip_node *n = skip_first(&m->cell); n; n = n->next[0])
            m->hash += container_of(n, struct test_cell, node)->hash;
        m->is_cut = false;
    }
    return m->hash;
}

static inline const struct range_machine_ops *test_machine_ops(void)
{
    static const struct range_machine_ops ops = {
        .name = "test",
        .new = test_machine_new,
        .free = test_machine_free,
        .reset = test_machine_reset,
        .load = test_machine_load,
        .loaded = test_machine_loaded,
        .split = test_machine_split,
        .apply = test_machine_apply,
        .query = test_machine_query,
        .split_key = test_machine_split_key,
        .tick = test_machine_tick,
        .fact = test_machine_fact,
        .state_hash = test_machine_hash,
    };
    return &ops;
}

/* The same, but the halves of a split are loaded from their rows. */
static inline const struct range_machine_ops *test_machine_loading_ops(void)
{
    static struct range_machine_ops ops;
    ops = *test_machine_ops();
    ops.split = NULL;
    return &ops;
}

static inline void test_command(struct buf *out, char op, struct str key, struct str value)
{
    buf_put_u8(out, (uint8_t)op);
    buf_put_u16(out, (uint16_t)key.n);
    buf_put_str(out, key);
    buf_put_str(out, value);
}
