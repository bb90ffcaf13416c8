/* Rows of a range into its machine, while the loop goes on.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. The machine sees every row of one view, in key order, between reset and loaded; it is not
 *    ready meanwhile, and
 *    entries that are to be applied are kept.
 * 2. When a row cannot be read the replica ends: the others of the node go on.
 * 3. The rows of what was applied before are in the view: it is taken after they were written. */
#include "kv/kv_priv.h"

#define PART_BYTES (512u << 10)
#define PART_ROWS 4096

struct load_job {
    struct kv_state_job view;
    struct net_worker_job job;
    struct kv_replica *replica;
    void (*fn)(struct kv_replica *r);
    struct buf part; /* varint length, key, varint length, value, ... */
    struct kv_spans spans;
    size_t at; /* of them */
    bool is_end;
    int result;
};

static void load_end(struct load_job *j)
{
    struct kv_replica *r = j->replica;
    if (j->view.view)
        engine_view_free(r->home->store->state, j->view.view);
    buf_deinit(&j->part);
    kv_spans_free(&j->spans);
    mem_free(j);
    r->pins--;
    if (r->is_closed)
        kv_replica_reap(r);
}

static bool part_row(void *arg, struct str key, struct str value)
{
    struct load_job *j = arg;
    buf_put_varint(&j->part, key.n);
    buf_put_str(&j->part, key);
    buf_put_varint(&j->part, value.n);
    buf_put_str(&j->part, value);
    struct buf *from = &j->spans.at[j->at].from;
    from->n = 0;
    buf_put_str(from, key);
    buf_put_u8(from, 0); /* right after this one */
    return true;
}

static void part_work(struct net_worker_job *job)
{
    struct load_job *j = container_of(job, struct load_job, job);
    struct engine_scan scan = {
        .row_max = PART_ROWS, .byte_max = PART_BYTES, .row = part_row, .arg = j};
    j->part.n = 0;
    j->result = kv_span_scan(j->replica->home->store, j->view.view, &j->spans.at[j->at], &scan);
    j->is_end = j->result == 0 && ++j->at == j->spans.count;
}

static void part_done(struct net_worker_job *job);

static void part_ask(struct load_job *j)
{
    struct kv_loop *l = j->replica->loop;
    if (net_worker_push(l->kv->conf.worker, l->loop, &j->job, part_work, part_done) == 0)
        return;
    part_work(&j->job);
    part_done(&j->job);
}

void kv_load_none(struct kv_replica *r, void (*fn)(struct kv_replica *r))
{
    r->is_paused = false;
    kv_replica_ready(r, true);
    r->pins++;
    kv_apply_resume(r);
    kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_APPLIED, .index = r->applied});
    if (fn)
        fn(r);
    r->pins--;
}

static void loaded(struct load_job *j)
{
    struct kv_replica *r = j->replica;
    void (*fn)(struct kv_replica *) = j->fn;
    r->home->store->conf.ops->loaded(r->machine);
    r->pins++;
    load_end(j);
    r->pins--;
    kv_load_none(r, fn);
}

static void part_done(struct net_worker_job *job)
{
    struct load_job *j = container_of(job, struct load_job, job);
    struct kv_replica *r = j->replica;
    struct codec_cursor c = codec_cursor_of(buf_str(&j->part));
    if (r->is_closed || job->is_cancelled) {
        load_end(j);
        return;
    }
    if (j->result < 0) {
        kv_meta_unreadable(r, j->result);
        load_end(j);
        return;
    }
    while (codec_cursor_left(&c) > 0) {
        struct str key = codec_cursor_bytes(&c, codec_cursor_varint(&c));
        struct str value = codec_cursor_bytes(&c, codec_cursor_varint(&c));
        must(!c.bad);
        r->home->store->conf.ops->load(r->machine, key, value);
    }
    if (j->is_end)
        loaded(j);
    else
        part_ask(j);
}

static void on_view(struct kv_state_job *view)
{
    struct load_job *j = container_of(view, struct load_job, view);
    if (j->replica->is_closed)
        load_end(j);
    else
        part_ask(j);
}

static void load_drop(struct kv_state_job *view)
{
    load_end(container_of(view, struct load_job, view));
}

void kv_load_view_soon(struct kv_replica *r, struct kv_state_job *job)
{
    struct kv_client *c = r->home;
    (void)kv_client_rows(c); /* so that the turn ends with a flush of this store */
    job->next = c->views;
    c->views = job;
}

void kv_load_begin(struct kv_replica *r, void (*fn)(struct kv_replica *r))
{
    struct load_job *j = mem_new(sizeof *j);
    const struct range_bounds *b = &r->range.bounds;
    kv_replica_ready(r, false);
    r->is_paused = true;
    r->pins++;
    r->home->store->conf.ops->reset(r->machine, b);
    j->replica = r;
    j->fn = fn;
    j->spans = kv_spans_all(&r->parts, b);
    j->view.loop = r->loop;
    j->view.fn = on_view;
    j->view.drop = load_drop;
    kv_load_view_soon(r, &j->view);
}
