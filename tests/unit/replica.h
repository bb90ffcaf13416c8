/* One replica of a machine for unit tests: the machine and the rows it wrote, in a sorted array.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/mem.h"
#include "range/machine.h"
#include "unit/unit.h"

struct replica_row {
    struct str key, value;
};

struct replica {
    const struct range_machine_ops *ops;
    void *m;
    struct replica_row *row;
    size_t row_count, row_cap;
    struct range_out out; /* of the last command */
    struct buf start, end;
    bool is_open;
    uint64_t index;
};

static inline size_t replica_place(const struct replica *r, struct str key, bool *out_is_there)
{
    size_t lo = 0, hi = r->row_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (str_cmp(r->row[mid].key, key) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *out_is_there = lo < r->row_count && str_eq(r->row[lo].key, key);
    return lo;
}

static inline void replica_free_row(struct replica_row *row)
{
    mem_free((void *)(uintptr_t)row->key.p);
    mem_free((void *)(uintptr_t)row->value.p);
}

static inline void replica_write(struct replica *r, const struct range_write *w)
{
    bool is_there;
    size_t i = replica_place(r, w->key, &is_there);
    if (is_there) {
        replica_free_row(&r->row[i]);
        memmove(r->row + i, r->row + i + 1, (r->row_count - i - 1) * sizeof *r->row);
        r->row_count--;
    }
    if (w->is_del)
        return;
    r->row = mem_grow(r->row, &r->row_cap, r->row_count + 1, sizeof *r->row);
    memmove(r->row + i + 1, r->row + i, (r->row_count - i) * sizeof *r->row);
    r->row[i] = (struct replica_row){str_dup(w->key), str_dup(w->value)};
    r->row_count++;
}

/* Feeds the rows inside the bounds back. */
static inline void replica_reload(struct replica *r)
{
    struct range_bounds b = {buf_str(&r->start), buf_str(&r->end), r->is_open};
    r->ops->reset(r->m, &b);
    for (size_t i = 0; i < r->row_count; i++) {
        if (str_cmp(b.start, r->row[i].key) <= 0 &&
            (b.is_open || str_cmp(r->row[i].key, b.end) < 0))
            r->ops->load(r->m, r->row[i].key, r->row[i].value);
    }
    r->ops->loaded(r->m);
}

static inline void replica_open(struct replica *r, const struct range_machine_ops *ops, void *conf)
{
    *r = (struct replica){.ops = ops, .is_open = true};
    r->m = ops->new (conf);
    replica_reload(r);
}

/* The same rows in a new machine. */
static inline void replica_copy(struct replica *to, const struct replica *from, void *conf)
{
    *to = (struct replica){.ops = from->ops, .is_open = from->is_open, .index = from->index};
    buf_put_str(&to->start, buf_str(&from->start));
    buf_put_str(&to->end, buf_str(&from->end));
    to->m = to->ops->new (conf);
    for (size_t i = 0; i < from->row_count; i++)
        replica_write(to, &(struct range_write){from->row[i].key, from->row[i].value, false});
    replica_reload(to);
}

/* Cuts it at key without a reload; `right`, which is new, has the rows from there on. */
static inline void replica_split(struct replica *r, struct replica *right, struct str key)
{
    *right = (struct replica){.ops = r->ops, .is_open = r->is_open, .index = r->index};
    buf_put_str(&right->start, key);
    buf_put_str(&right->end, buf_str(&r->end));
    r->end.n = 0;
    buf_put_str(&r->end, key);
    r->is_open = false;
    size_t keep = 0;
    for (size_t i = 0; i < r->row_count; i++)
        if (str_cmp(r->row[i].key, key) < 0) {
            r->row[keep++] = r->row[i];
        } else {
            replica_write(right, &(struct range_write){r->row[i].key, r->row[i].value, false});
            replica_free_row(&r->row[i]);
        }
    r->row_count = keep;
    struct range_bounds left_b = {buf_str(&r->start), buf_str(&r->end), false},
                        right_b = {buf_str(&right->start), buf_str(&right->end), right->is_open};
    right->m = r->ops->split(r->m, &left_b, &right_b);
    ck_assert_ptr_nonnull(right->m);
}

static inline void replica_close(struct replica *r)
{
    r->ops->free(r->m);
    for (size_t i = 0; i < r->row_count; i++)
        replica_free_row(&r->row[i]);
    mem_free(r->row);
    range_out_deinit(&r->out);
    buf_deinit(&r->start);
    buf_deinit(&r->end);
}

/* Applies and writes; r->out is what it did. */
static inline struct str replica_apply(struct replica *r, uint64_t hlc, struct str command,
                                       bool has_host)
{
    range_out_reset(&r->out);
    struct range_apply in = {
        .index = ++r->index, .hlc = hlc, .command = command, .has_host = has_host};
    r->ops->apply(r->m, &in, &r->out);
    for (size_t i = 0; i < r->out.row_count; i++) {
        struct range_write w = range_out_row(&r->out, i);
        replica_write(r, &w);
    }
    ck_assert(has_host || r->out.effect_count == 0);
    return buf_str(&r->out.reply);
}

/* A query as a host does it: a scan's rows are appended to the reply. */
static inline int replica_query(struct replica *r, uint64_t hlc, struct str request,
                                struct buf *reply)
{
    struct range_scan scan = {.row_max = 0};
    int got = r->ops->query(r->m, hlc, request, reply, &scan);
    if (got != RANGE_QUERY_E_SCAN)
        return got;
    struct buf rows = {0};
    bool is_there;
    uint32_t count = 0;
    for (size_t i = replica_place(r, scan.from, &is_there);
         i < r->row_count && count < scan.row_max && rows.n < scan.byte_max; i++, count++) {
        if (str_cmp(r->row[i].key, scan.to) >= 0)
            break;
        buf_put_varint(&rows, r->row[i].key.n);
        buf_put_str(&rows, r->row[i].key);
        buf_put_varint(&rows, r->row[i].value.n);
        buf_put_str(&rows, r->row[i].value);
    }
    buf_put_str(reply, buf_str(&rows));
    buf_deinit(&rows);
    return 0;
}
