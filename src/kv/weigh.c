/* How large a range is, where its middle lies, and what in it has the most receivers.
 * SPDX-License-Identifier: Apache-2.0
 *
 * 1. Only a leader weighs, off the loop, in parts, one range of a loop at a time: the first time it
 *    leads and whenever enough was written since.  Between two weighings the size stands still.
 * 2. What was weighed in other bounds or another space than the replica has by then does not count.
 * 3. The middle is a key of the rows: about half of the bytes lie before it.
 * 4. The crowd is where the range can be split beside the rows of what has the most receivers.
 * Rows are read as they are meanwhile, not in one view: sizes are about right and only steer. */
#include "kv/kv_priv.h"

#define PART_BYTES (2u << 20)
#define PART_ROWS 16384
#define SAMPLE_MAX 64                /* of keys: the middle is right to 1/32 of the bytes */
#define STRIDE_BYTES 64              /* between samples, at first */
#define SLACK_BYTES (1u << 20)       /* written to a small range before it is weighed again */
#define PAUSE_USEC (5 * USEC_SEC)    /* between two weighings of a range */
#define REPEAT_USEC (600 * USEC_SEC) /* anything written at all is seen by then */

struct sample {
    uint64_t at; /* bytes of the rows before the key */
    struct buf key;
};

struct weigh {
    struct net_worker_job job;
    struct kv_replica *replica;
    uint32_t boundary;
    struct kv_spans spans;
    size_t at; /* of them */
    bool is_end;
    int result;
    uint64_t bytes, stride, next;
    struct sample sample[SAMPLE_MAX];
    unsigned sample_count;
    struct buf name, crowd; /* of the rows that are counted; and of those that were the most */
    uint64_t count, fanout;
    bool is_crowd; /* both are the same */
};

/* Every second sample goes, and from now on they are twice as far apart. */
static void thin(struct weigh *w)
{
    for (unsigned i = 0; i < SAMPLE_MAX / 2; i++) {
        struct sample gone = w->sample[i];
        w->sample[i] = w->sample[2 * i + 1];
        w->sample[2 * i + 1] = gone;
    }
    w->sample_count = SAMPLE_MAX / 2;
    w->stride *= 2;
}

static void count_receiver(struct weigh *w, struct str key)
{
    size_t (*receiver)(struct str) = w->replica->home->store->conf.ops->receiver;
    size_t n = receiver ? receiver(key) : 0;
    if (n == 0)
        return;
    if (!str_eq(str_view(key.p, n), buf_str(&w->name))) {
        w->name.n = 0;
        buf_put(&w->name, key.p, n);
        w->count = 0;
        w->is_crowd = false;
    }
    if (++w->count <= w->fanout)
        return;
    w->fanout = w->count;
    if (!w->is_crowd) {
        w->crowd.n = 0;
        buf_put(&w->crowd, key.p, n);
        w->is_crowd = true;
    }
}

static bool weigh_row(void *arg, struct str key, struct str value)
{
    struct weigh *w = arg;
    count_receiver(w, key);
    if (w->bytes >= w->next) {
        if (w->sample_count == SAMPLE_MAX)
            thin(w);
        struct sample *s = &w->sample[w->sample_count++];
        s->at = w->bytes;
        s->key.n = 0;
        buf_put_str(&s->key, key);
        w->next = w->bytes + w->stride;
    }
    w->bytes += key.n + value.n;
    struct buf *from = &w->spans.at[w->at].from;
    from->n = 0;
    buf_put_str(from, key);
    buf_put_u8(from, 0); /* the next part begins right after it */
    return true;
}

static void weigh_work(struct net_worker_job *job)
{
    struct weigh *w = container_of(job, struct weigh, job);
    struct engine_scan scan = {
        .row_max = PART_ROWS, .byte_max = PART_BYTES, .row = weigh_row, .arg = w};
    w->result = kv_span_scan(w->replica->home->store, NULL, &w->spans.at[w->at], &scan);
    w->is_end = w->result == 0 && ++w->at == w->spans.count;
}

static void weigh_free(struct weigh *w)
{
    struct kv_replica *r = w->replica;
    r->loop->is_weighing = false;
    for (unsigned i = 0; i < SAMPLE_MAX; i++)
        buf_deinit(&w->sample[i].key);
    buf_deinit(&w->name);
    buf_deinit(&w->crowd);
    kv_spans_free(&w->spans);
    mem_free(w);
    r->pins--;
    if (r->is_closed)
        kv_replica_reap(r);
}

static uint64_t from_half(const struct weigh *w, const struct sample *s)
{
    uint64_t half = w->bytes / 2;
    return s->at > half ? s->at - half : half - s->at;
}

/* Where the machine can be split next to wish, in the range; empty: nowhere. */
static void find_cut(struct kv_replica *r, const struct buf *wish, struct buf *out)
{
    const struct range_machine_ops *ops = r->home->store->conf.ops;
    out->n = 0;
    if (wish->n > 0 && ops->split_key)
        ops->split_key(r->machine, buf_str(wish), out);
    if (!range_bounds_can_split(&r->range.bounds, buf_str(out)))
        out->n = 0;
}

static void weighed(struct weigh *w)
{
    struct kv_replica *r = w->replica;
    const struct sample *best = NULL;
    struct buf key = {0};
    for (unsigned i = 0; i < w->sample_count; i++)
        if (!best || from_half(w, &w->sample[i]) < from_half(w, best))
            best = &w->sample[i];
    r->middle.n = 0;
    if (best)
        buf_put_str(&r->middle, buf_str(&best->key));
    find_cut(r, &r->middle, &key);
    r->has_middle = key.n > 0;
    find_cut(r, &w->crowd, &r->crowd);
    r->fanout = w->fanout;
    r->bytes = w->bytes;
    r->is_weighed = true;
    buf_deinit(&key);
}

static void weigh_done(struct net_worker_job *job)
{
    struct weigh *w = container_of(job, struct weigh, job);
    struct kv_replica *r = w->replica;
    bool is_same = !r->is_closed && r->is_ready && r->parts.space == w->spans.at[0].space &&
                   r->range.version.boundary == w->boundary;
    if (!is_same || job->is_cancelled || w->result < 0)
        weigh_free(w);
    else if (w->is_end) {
        weighed(w);
        weigh_free(w);
    } else if (net_worker_push(r->loop->kv->conf.worker, r->loop->loop, &w->job, weigh_work,
                               weigh_done) != 0)
        weigh_free(w); /* the pool is full: another time */
}

static bool is_due(const struct kv_replica *r, usec_t now)
{
    uint64_t split = r->home->store->conf.split_bytes;
    if (!r->is_weighed)
        return true;
    if (now < r->weighed_at + PAUSE_USEC || r->written_bytes == 0)
        return false;
    if (now >= r->weighed_at + REPEAT_USEC || r->written_bytes > SLACK_BYTES + r->bytes / 4)
        return true;
    return split > 0 && r->bytes + r->written_bytes > split && r->written_bytes > split / 8;
}

void kv_weigh_soon(struct kv_replica *r, usec_t now)
{
    struct kv_loop *l = r->loop;
    const struct range_bounds *b = &r->range.bounds;
    if (l->is_weighing || r->is_closed || !r->is_ready || r->is_paused ||
        !kv_replica_is_leader(r) || !is_due(r, now))
        return;
    struct weigh *w = mem_new(sizeof *w);
    w->replica = r;
    w->boundary = r->range.version.boundary;
    w->stride = w->next = STRIDE_BYTES;
    w->spans = kv_spans_all(&r->parts, b);
    r->pins++;
    r->weighed_at = now;
    r->written_bytes = 0;
    l->is_weighing = true;
    if (net_worker_push(l->kv->conf.worker, l->loop, &w->job, weigh_work, weigh_done) != 0)
        weigh_free(w);
}

uint64_t kv_weigh_bytes(const struct kv_replica *r)
{
    uint64_t split = r->home->store->conf.split_bytes;
    return split > 0 && !r->has_middle && r->bytes > split ? split : r->bytes;
}
