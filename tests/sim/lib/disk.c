/* The simulated log: what is durable, what was handed over, and what a crash leaves.  SPDX-
 * License-Identifier: Apache-2.0
 *
 * Batches become durable in the order they were handed over, each whole or not at all (a torn
 * one fails its checksum). */
#include "base/mem.h"
#include "sim/lib/group.h"

static struct str payload_dup(struct str s)
{
    return str_view(mem_dup(s.p, s.n), s.n);
}

static void entries_free(struct group_entry *e, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mem_free((void *)(uintptr_t)e[i].payload.p);
}

void group_disk_init(struct group_disk *d)
{
    *d = (struct group_disk){0};
    list_init(&d->queue);
}

static void write_free(struct group_write *w)
{
    entries_free(w->entry, w->count);
    mem_free(w->entry);
    mem_free(w);
}

void group_disk_deinit(struct group_disk *d)
{
    for (struct list *l; (l = list_pop_front(&d->queue)) != NULL;)
        write_free(container_of(l, struct group_write, link));
    entries_free(d->entry, d->count);
    mem_free(d->entry);
    mem_free(d->app.config);
}

uint64_t group_disk_term(const struct group_disk *d, uint64_t index)
{
    if (index == d->base)
        return d->base_term;
    if (index < d->base || index > d->base + d->count)
        return 0;
    return d->entry[index - d->base - 1].term;
}

static void cut_tail(struct group_disk *d, size_t count)
{
    must(count <= d->count);
    entries_free(d->entry + count, d->count - count);
    d->count = count;
}

/* Makes one batch durable. */
static void carry_out(struct group_disk *d, struct group_write *w)
{
    if (w->reset != 0) {
        cut_tail(d, 0);
        d->base = w->reset;
        d->base_term = w->reset_term;
    }
    if (w->compact > d->base) {
        size_t drop = (size_t)(w->compact - d->base);
        must(drop <= d->count && group_disk_term(d, w->compact) == w->compact_term);
        entries_free(d->entry, drop);
        d->count -= drop;
        memmove(d->entry, d->entry + drop, d->count * sizeof *d->entry);
        d->base = w->compact;
        d->base_term = w->compact_term;
    }
    if (w->truncate != 0)
        cut_tail(d, (size_t)(w->truncate - d->base - 1));
    for (size_t i = 0; i < w->count; i++) {
        d->entry = mem_grow(d->entry, &d->cap, d->count + 1, sizeof *d->entry);
        d->entry[d->count++] = w->entry[i];
        w->entry[i].payload.p = NULL;
    }
    if (w->has_hard)
        d->hard = w->hard;
    d->hard.commit = w->hard.commit;
}

struct flush {
    struct world_event ev;
    struct group_node *n;
    uint32_t life;
    uint64_t seq;
};

static void flush_start(struct group_node *n);

static void flush_done(void *arg, struct world_event *ev)
{
    struct flush *f = container_of(ev, struct flush, ev);
    struct group_node *n = f->n;
    struct group_disk *d = &n->disk;
    (void)arg;
    if (f->life == n->life) {
        for (struct list *l; !list_empty(&d->queue);) {
            struct group_write *w = container_of(d->queue.next, struct group_write, link);
            if (w->seq > f->seq)
                break;
            l = list_pop_front(&d->queue);
            must(l == &w->link);
            carry_out(d, w);
            write_free(w);
        }
        d->flushing = 0;
        flush_start(n);
        if (!n->g->has_lying_disk)
            group_step(n, (struct raft_event){.kind = RAFT_EV_PERSISTED, .seq = f->seq});
    }
    mem_free(f);
}

/* All that waits becomes one batch. */
static void flush_start(struct group_node *n)
{
    struct group_disk *d = &n->disk;
    if (d->flushing != 0 || list_empty(&d->queue))
        return;
    d->flushing = container_of(d->queue.prev, struct group_write, link)->seq;
    struct flush *f = mem_new(sizeof *f);
    f->n = n;
    f->life = n->life;
    f->seq = d->flushing;
    usec_t in = rng_between(&n->g->w.rng, n->g->o.disk_min, n->g->o.disk_max);
    world_plan(&n->g->w, &f->ev, in, flush_done);
}

void group_disk_submit(struct group_node *n, const struct raft_persist *p)
{
    struct group_write *w = mem_new(sizeof *w);
    w->seq = p->seq;
    w->reset = p->reset;
    w->reset_term = p->reset_term;
    w->compact = p->compact;
    w->compact_term = p->compact_term;
    w->truncate = p->truncate;
    w->has_hard = p->has_hard;
    w->hard = p->hard;
    w->count = p->entry_count;
    w->entry = mem_new((p->entry_count + 1) * sizeof *w->entry);
    for (size_t i = 0; i < p->entry_count; i++)
        w->entry[i] = (struct group_entry){p->entry[i].term, p->entry[i].type,
                                           payload_dup(p->entry[i].payload)};
    list_push_back(&n->disk.queue, &w->link);
    flush_start(n);
}

void group_disk_crash(struct group_node *n)
{
    struct group_disk *d = &n->disk;
    /* any number of whole batches may have reached the platter without anybody being told */
    bool reached = rng_chance(&n->g->w.rng, 300000);
    for (struct list *l; (l = list_pop_front(&d->queue)) != NULL;) {
        struct group_write *w = container_of(l, struct group_write, link);
        if (reached)
            carry_out(d, w);
        write_free(w);
        reached = reached && rng_chance(&n->g->w.rng, 700000);
    }
    d->flushing = 0;
}

void group_app_copy(struct group_app *to, const struct group_app *from)
{
    struct raft_config *old = to->config;
    *to = *from;
    to->config = from->config != NULL ? raft_config_dup(from->config) : NULL;
    mem_free(old);
}

void group_disk_boot(struct group_node *n, struct raft_boot *b, struct buf *runs, struct buf *later)
{
    struct group_disk *d = &n->disk;
    /* a snapshot was installed, and the log's word of it was lost */
    if (d->app.applied > 0 && group_disk_term(d, d->app.applied) != d->app.term) {
        cut_tail(d, 0);
        d->base = d->app.applied;
        d->base_term = d->app.term;
    }
    b->hard = d->hard;
    b->base = d->base;
    b->base_term = d->base_term;
    b->last = d->base + d->count;
    b->applied = d->app.applied;
    b->config = d->app.config;
    uint64_t term = 0;
    for (size_t i = 0; i < d->count; i++) {
        uint64_t index = d->base + 1 + i;
        if (i == 0 || d->entry[i].term != term)
            buf_put(runs, &(struct raft_run){index, d->entry[i].term}, sizeof(struct raft_run));
        term = d->entry[i].term;
        struct raft_entry e = {index, term, d->entry[i].payload, d->entry[i].type};
        if (e.type == RAFT_ENTRY_CONFIG && index > d->app.applied)
            buf_put(later, &e, sizeof e);
    }
    b->run = (const struct raft_run *)(const void *)runs->p;
    b->run_count = runs->n / sizeof(struct raft_run);
    b->later = (const struct raft_entry *)(const void *)later->p;
    b->later_count = later->n / sizeof(struct raft_entry);
}
