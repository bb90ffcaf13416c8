/* Snapshots coming in.  SPDX-License-Identifier: Apache-2.0
 *
 * ship.c says what the stream is.
 *
 * 1. Rows are written into a space of their own, and only when the mark behind them has shown that
 *    they are what was sent; the switch to it is one batch, durable before raft hears of it.
 * 2. Nothing is switched unless count and checksum of all rows agree.
 * 3. A broken stream leaves what was written for KEEP_USEC; the same snapshot (index and term: the
 *    same rows) goes on from there, of any other it is dropped.  Raft knows that it failed.
 * 4. What is damaged, of another range or outside its bounds ends it, and all of it is dropped.
 * Never more than the stream's window and one row in memory. */
#include "kv/kv_priv.h"

#define ROW_BYTES_MAX (64u << 20)
#define KEEP_USEC (90 * USEC_SEC) /* longer than ship.c keeps its view */

struct kv_landing {
    struct kv_replica *replica;
    struct cluster_stream *stream;
    struct raft_config *config;
    uint64_t index, term, space;
    struct range range;
    bool has_range;
    struct buf part; /* not yet a whole row */
    struct kv_wire_rows rows;
    struct buf key;              /* of the last of them */
    struct engine_batch *batch;  /* those since the last that were written */
    struct kv_wire_rows written; /* with the batches that were given to the disk */
    struct buf written_key;
    struct kv_state_job done, switched;
    size_t unused, writing; /* bytes not given back to the window; of those, in the batch that is
                               being written */
    struct net_timer forget;
    bool is_marked; /* the batch may be written */
    bool is_writing, is_switching, is_over, is_ended, is_kept;
};

static void landing_free(struct kv_landing *s, bool is_dropped)
{
    struct kv_replica *r = s->replica;
    if (r->landing == s)
        r->landing = NULL;
    net_timer_del(r->loop->loop, &s->forget);
    if (is_dropped) {
        s->batch = engine_batch_free(s->batch);
        s->batch = engine_batch_new();
        engine_batch_drop(s->batch, s->space, STR(""), STR(""));
        engine_state_write(r->home->store->state, s->batch, NULL, 0);
        s->batch = NULL;
    }
    s->is_over = true;
    if (s->is_writing)
        return;
    s->batch = engine_batch_free(s->batch);
    buf_deinit(&s->part);
    buf_deinit(&s->key);
    buf_deinit(&s->written_key);
    mem_free(s->config);
    if (s->has_range)
        range_deinit(&s->range);
    mem_free(s);
    r->pins--;
    if (r->is_closed)
        kv_replica_reap(r);
}

static void landing_hush(struct kv_landing *s)
{
    if (s->stream)
        cluster_stream_abort(s->stream);
    s->stream = NULL;
    if (!s->replica->is_closed && !s->is_kept)
        kv_replica_step(s->replica, &(struct raft_event){.kind = RAFT_EV_SNAPSHOT_FAILED});
}

static void landing_fail(struct kv_landing *s)
{
    landing_hush(s);
    landing_free(s, true);
}

static void on_forget(void *arg, usec_t now)
{
    (void)now;
    landing_free(arg, true);
}

/* The link broke: back to the last mark, and wait. */
static void landing_keep(struct kv_landing *s)
{
    struct kv_replica *r = s->replica;
    landing_hush(s);
    if (r->is_closed || s->written.count == 0) {
        landing_free(s, true);
        return;
    }
    s->is_kept = true;
    s->batch = engine_batch_free(s->batch);
    s->part.n = s->unused = s->writing = 0;
    s->is_marked = s->is_ended = false;
    s->rows = s->written;
    net_timer_set(r->loop->loop, &s->forget, usec_add(kv_loop_now(r->loop), KEEP_USEC));
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void landing_read(struct kv_landing *s);

static void on_written(struct kv_state_job *job)
{
    struct kv_landing *s = container_of(job, struct kv_landing, done);
    s->is_writing = false;
    if (s->is_over) {
        landing_free(s, false);
        return;
    }
    s->unused -= s->writing;
    if (s->stream && s->writing > 0)
        cluster_stream_consume(s->stream, s->writing);
    s->writing = 0;
    if (!s->is_kept)
        landing_read(s);
}

static void on_dropped(struct kv_state_job *job)
{
    struct kv_landing *s = container_of(job, struct kv_landing, done);
    s->is_writing = false;
    landing_free(s, false);
}

static void landing_write(struct kv_landing *s)
{
    s->is_marked = false;
    s->is_writing = true;
    s->writing = s->unused > s->part.n ? s->unused - s->part.n : 0;
    s->written = s->rows;
    s->written_key.n = 0;
    buf_put_str(&s->written_key, buf_str(&s->key));
    s->done.loop = s->replica->loop;
    s->done.fn = on_written;
    s->done.drop = on_dropped;
    if (!s->batch)
        s->batch = engine_batch_new();
    kv_state_write(s->replica->home->store, s->batch, &s->done);
    s->batch = NULL;
}

/* Rows off the front of part, up to a mark; false: damaged. */
static bool take(struct kv_landing *s)
{
    struct codec_cursor c = codec_cursor_of(buf_str(&s->part));
    enum kv_wire_piece piece = KV_WIRE_PIECE_ROW;
    while (codec_cursor_left(&c) > 0 && !s->is_marked && piece != KV_WIRE_PIECE_SHORT) {
        struct str key, value;
        piece = kv_wire_row_next(&s->rows, &c, &key, &value);
        if (piece == KV_WIRE_PIECE_BAD)
            return false;
        s->is_marked = piece == KV_WIRE_PIECE_MARK;
        if (piece != KV_WIRE_PIECE_ROW)
            continue;
        if (!range_bounds_has(&s->range.bounds, key))
            return false;
        if (!s->batch)
            s->batch = engine_batch_new();
        engine_batch_put(s->batch, s->space, key, value);
        s->key.n = 0;
        buf_put_str(&s->key, key);
    }
    buf_drop(&s->part, (size_t)(c.p - s->part.p));
    return s->part.n <= ROW_BYTES_MAX;
}

static void landing_switch(struct kv_landing *s);

static void landing_read(struct kv_landing *s)
{
    for (;;) {
        if (!take(s)) {
            landing_fail(s);
            return;
        }
        if (!s->is_marked || s->is_writing)
            break;
        landing_write(s);
    }
    if (s->is_writing)
        return;
    if (s->is_ended && s->rows.is_end)
        landing_switch(s);
    else if (s->is_ended)
        landing_fail(s);
    else if (s->unused >= CLUSTER_STREAM_WINDOW / 4) { /* of a long row */
        cluster_stream_consume(s->stream, s->unused);
        s->unused = 0;
    }
}

static void on_data(void *arg, struct cluster_stream *stream, struct str piece)
{
    struct kv_landing *s = arg;
    (void)stream;
    kv_count(&s->replica->loop->count.snapshot_bytes_in, piece.n);
    buf_put_str(&s->part, piece);
    s->unused += piece.n;
    landing_read(s);
}

/* ---- the switch ------------------------------------------------------------------------------ */

static void on_switched(struct kv_state_job *job)
{
    struct kv_landing *s = container_of(job, struct kv_landing, switched);
    struct kv_replica *r = s->replica;
    s->is_writing = false;
    if (r->is_closed || s->is_over) {
        landing_free(s, false);
        return;
    }
    struct raft_event ev = {.kind = RAFT_EV_SNAPSHOT_INSTALLED,
                            .snapshot = {0, s->index, s->term, s->config}};
    kv_count(&r->loop->count.snapshot_in, 1);
    r->durable = s->index;
    kv_load_begin(r, NULL);
    kv_replica_step(r, &ev);
    if (s->stream)
        cluster_stream_finish(s->stream, STR("ok"));
    s->stream = NULL;
    landing_free(s, false);
}

static void on_switch_dropped(struct kv_state_job *job)
{
    struct kv_landing *s = container_of(job, struct kv_landing, switched);
    s->is_writing = false;
    landing_free(s, false);
}

/* All is there: the new space becomes ours. */
static void landing_switch(struct kv_landing *s)
{
    struct kv_replica *r = s->replica;
    struct engine_batch *b = s->batch ? s->batch : engine_batch_new();
    s->batch = NULL;
    kv_client_rows_flush(r->home);
    kv_apply_lost(r, s->index, KV_WIRE_UNKNOWN);
    if (r->has_range) {
        kv_replica_ready(r, false);
        kv_spans_drop(&r->parts, &r->range.bounds, b);
        range_deinit(&r->range);
    } else
        r->machine = r->home->store->conf.ops->new (r->home->store->conf.machine_conf);
    r->is_paused = true;
    r->range = s->range;
    s->has_range = false;
    r->has_range = true;
    kv_parts_free(&r->parts);
    r->parts.space = s->space;
    kv_apply_drop(r); /* older than the snapshot */
    mem_free(r->config);
    r->config = raft_config_dup(s->config);
    r->applied = r->snapshot_index = s->index;
    r->applied_term = s->term;
    r->is_routed_dirty = true;
    kv_meta_put(r, b);
    kv_meta_put_applied(r, b);
    engine_state_write(r->home->store->state, b, NULL, 0);
    s->is_switching = s->is_writing = true;
    s->switched.loop = r->loop;
    s->switched.fn = on_switched;
    s->switched.drop = on_switch_dropped;
    kv_state_sync(r->home->store, &s->switched);
}

static void on_closed(void *arg, struct cluster_stream *stream, int outcome, struct str word)
{
    struct kv_landing *s = arg;
    (void)stream;
    (void)word;
    if (outcome != 0)
        s->stream = NULL; /* gone already */
    if (s->is_switching)
        return;
    if (outcome != 0) {
        landing_keep(s);
        return;
    }
    s->is_ended = true;
    landing_read(s);
}

static const struct cluster_stream_ops landing_ops = {.data = on_data, .closed = on_closed};

/* ---- who asks what is there ------------------------------------------------------------------ */

struct question {
    struct kv_loop *loop;
    uint64_t tag;
};

static void question_data(void *arg, struct cluster_stream *stream, struct str piece)
{
    (void)arg;
    (void)stream;
    (void)piece; /* a question has none: what comes fills its window and no more */
}

/* He who asks sends no more: a stream that has not broken here yet has broken there. */
static void question_closed(void *arg, struct cluster_stream *stream, int outcome, struct str word)
{
    struct question q = *(struct question *)arg;
    struct buf held = {0};
    (void)word;
    mem_free(arg);
    if (outcome != 0)
        return;
    struct kv_replica *r = kv_replica_find(q.loop, q.tag);
    if (r && r->landing && !r->landing->is_switching && !r->landing->is_kept)
        landing_keep(r->landing);
    r = kv_replica_find(q.loop, q.tag); /* raft has heard */
    if (r && r->landing && r->landing->is_kept)
        kv_wire_held_encode(&(struct kv_wire_held){.index = r->landing->index,
                                                   .term = r->landing->term,
                                                   .count = r->landing->written.count,
                                                   .crc = r->landing->written.crc,
                                                   .key = buf_str(&r->landing->written_key)},
                            &held);
    cluster_stream_finish(stream, buf_str(&held));
    buf_deinit(&held);
}

static const struct cluster_stream_ops question_ops = {.data = question_data,
                                                       .closed = question_closed};

static bool question_accept(struct kv_loop *l, uint64_t tag,
                            const struct cluster_stream_ops **out_ops, void **out_arg)
{
    struct question *q = mem_new(sizeof *q);
    *q = (struct question){l, tag};
    *out_ops = &question_ops;
    *out_arg = q;
    return true;
}

/* ---- a stream opens -------------------------------------------------------------------------- */

/* What is kept is what the sender goes on from, or nothing. */
static bool is_rest_of(const struct kv_landing *s, const struct kv_wire_held *held,
                       const struct raft_message *m)
{
    return s && s->is_kept && s->index == m->index && s->term == m->log_term &&
           held->index == s->index && held->term == s->term && held->count == s->written.count &&
           held->crc == s->written.crc && str_eq(held->key, buf_str(&s->written_key));
}

static struct kv_landing *landing_new(struct kv_replica *r, const struct raft_message *m)
{
    struct kv_landing *s = mem_new(sizeof *s);
    s->replica = r;
    s->index = m->index;
    s->term = m->log_term;
    s->space = engine_state_space(r->home->store->state);
    net_timer_init(&s->forget, on_forget, s);
    r->landing = s;
    r->pins++;
    return s;
}

/* Raft wants it, or not; its answer goes to the sender. */
static bool is_wanted(struct kv_replica *r, const struct uuid *from, const struct raft_message *m)
{
    struct uuid peer = *from;
    r->loop->receiving = &peer;
    r->wants_install = false;
    kv_replica_step(r, &(struct raft_event){.kind = RAFT_EV_RECV, .message = m});
    r->loop->receiving = NULL;
    return r->wants_install;
}

/* False: no rows come.  Takes range and config when true. */
static bool landing_begin(struct kv_replica *r, struct cluster_stream *stream,
                          const struct kv_wire_held *held, const struct raft_message *m,
                          const struct range *range, struct raft_config *config)
{
    struct kv_landing *s = r->landing;
    bool is_rest = is_rest_of(s, held, m);
    if (held->count > 0 && !is_rest)
        return false;
    if (s && !is_rest) {
        landing_free(s, true);
        s = NULL;
    }
    if (!s)
        s = landing_new(r, m);
    net_timer_del(r->loop->loop, &s->forget);
    s->is_kept = false;
    s->stream = stream;
    mem_free(s->config);
    s->config = config;
    if (s->has_range)
        range_deinit(&s->range);
    s->range = *range;
    s->has_range = true;
    return true;
}

static bool on_stream(void *arg, struct cluster_stream *stream, const struct cluster_from *from,
                      struct str first, const struct cluster_stream_ops **out_ops, void **out_arg)
{
    struct kv_loop *l = arg;
    struct kv_wire_ship head;
    struct kv_wire_held held = {.key = STR("")};
    struct raft_message m;
    struct range range;
    struct kv_store *store;

    if (kv_wire_ship_decode(first, &head) != 0 || !(store = kv_store_of_hash(l->kv, head.store)))
        return false;
    if (head.is_question)
        return question_accept(l, kv_tag(store, head.id), out_ops, out_arg);
    if ((head.held.n > 0 && kv_wire_held_decode(head.held, &held) != 0) ||
        raft_message_decode(head.message, &l->messages, &m) != 0 || m.type != RAFT_MSG_SNAPSHOT)
        return false;
    struct kv_replica *r = kv_replica_find(l, kv_tag(store, head.id));
    if (!r || r->is_closed || (r->landing && !r->landing->is_kept) || r->is_paused || r->id != m.to)
        return false;
    struct raft_config *config = raft_config_decode(m.config);
    if (!config)
        return false;
    if (range_decode(head.range, &range) != 0) {
        mem_free(config);
        return false;
    }
    if (range_id_eq(range.id, head.id) && is_wanted(r, &from->peer, &m) && !r->is_closed &&
        landing_begin(r, stream, &held, &m, &range, config)) {
        *out_ops = &landing_ops;
        *out_arg = r->landing;
        return true;
    }
    mem_free(config);
    range_deinit(&range);
    return false;
}

void kv_landing_serve(struct kv_loop *l)
{
    if (l->link)
        cluster_link_serve_stream(l->link, CLUSTER_SERVICE_SNAPSHOT, on_stream, l);
}

void kv_landing_stop(struct kv_replica *r)
{
    if (r->landing && !r->landing->is_switching)
        landing_fail(r->landing);
}
