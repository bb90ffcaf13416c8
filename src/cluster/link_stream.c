/* Streams with credit: bulk that must not run ahead of its reader.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * OPEN -> ACCEPT (the first credit) or ABORT; DATA against CREDIT; END by the writer, FINISH with a
 * last word by the reader. The side that opened writes.  A stream lives inside one connection and
 * dies with it.
 *
 * Invariants:
 *   R1  the writer has never more than CLUSTER_STREAM_WINDOW bytes out that the reader has not
 * consumed. R2  closed() is the last call and comes once, never below cluster_stream_open. */
#include "base/hash.h"
#include "base/mem.h"
#include "cluster/link_priv.h"

#define CREDIT_STEP (CLUSTER_STREAM_WINDOW / 4) /* given back in lumps */

static bool stream_eq(const void *item, const void *key)
{
    return ((const struct cluster_stream *)item)->id == *(const uint64_t *)key;
}

static struct cluster_stream *find(const struct link_conn *c, uint64_t id)
{
    return map_find(&c->streams, hash_u64(id), stream_eq, &id);
}

static void send_frame(struct cluster_stream *s, uint8_t type, uint32_t n, struct str payload)
{
    if (s->conn == NULL)
        return; /* an ended one whose connection is gone */
    struct link_head h = {.type = type, .id = s->id, .shard = n};
    cluster_conn_put(s->conn, &h, payload);
}

/* Out of its connection. */
static void detach(struct cluster_stream *s)
{
    if (s->conn == NULL)
        return;
    must(map_del(&s->conn->streams, hash_u64(s->id), s));
    net_timer_del(s->l->conf.loop, &s->timer);
    s->conn = NULL;
}

static void drop(struct cluster_stream *s)
{
    detach(s);
    mem_free(s);
}

static void end(struct cluster_stream *s, int outcome, struct str word)
{
    const struct cluster_stream_ops *ops = s->ops;
    void *arg = s->arg;
    detach(s);
    if (!s->is_writer && s->is_ended && !s->is_dead)
        return; /* the reader still has it, until it finishes or aborts */
    if (ops != NULL)
        ops->closed(arg, s, outcome, word);
    mem_free(s);
}

static void on_silence(void *arg, usec_t now)
{
    struct cluster_stream *s = arg;
    if (now - s->heard_at >= s->silence_max) {
        send_frame(s, LINK_FRAME_ABORT, 0, STR(""));
        end(s, CLUSTER_LINK_E_TIMEOUT, STR(""));
        return;
    }
    net_timer_set(s->l->conf.loop, &s->timer, s->heard_at + s->silence_max);
}

static struct cluster_stream *stream_new(struct link_conn *c, uint64_t id, bool is_writer,
                                         usec_t silence_max)
{
    struct cluster_stream *s = mem_new(sizeof *s);
    usec_t now = net_loop_now(c->l->conf.loop);
    s->conn = c;
    s->l = c->l;
    s->id = id;
    s->is_writer = is_writer;
    s->silence_max = silence_max > 0 ? usec_min(silence_max, LINK_TIMEOUT_MAX) : LINK_TIMEOUT_MAX;
    s->heard_at = now;
    map_put(&c->streams, hash_u64(id), s);
    net_timer_init(&s->timer, on_silence, s);
    net_timer_set(c->l->conf.loop, &s->timer, now + s->silence_max);
    return s;
}

struct cluster_stream *cluster_stream_open(struct cluster_link *l, const struct cluster_call *c,
                                           const struct cluster_stream_ops *ops, void *arg,
                                           int *out_outcome)
{
    struct link_peer p;
    *out_outcome = CLUSTER_LINK_E_UNKNOWN;
    if (l->is_closing || uuid_eq(&c->peer, &l->conf.self) ||
        !l->conf.find(l->conf.arg, &c->peer, &p))
        return NULL;
    uint32_t shard = c->shard == CLUSTER_SHARD_ANY ? l->conf.index : c->shard;
    uint32_t loop = p.loops == 0 ? 0 : shard % p.loops;
    struct link_conn *conn = cluster_conn_find(l, &c->peer, c->lane, loop);
    if (conn == NULL || conn->state == LINK_ST_DOWN)
        conn = cluster_conn_dial(l, &c->peer, &p, c->lane, loop);
    *out_outcome = CLUSTER_LINK_E_UNREACHABLE;
    if (conn == NULL)
        return NULL;
    *out_outcome = CLUSTER_LINK_E_OVERLOADED;
    if (conn->streams.count >= LINK_STREAMS_MAX || cluster_conn_is_full(conn, c->payload.n))
        return NULL;
    struct cluster_stream *s = stream_new(conn, ++l->ids, true, c->timeout);
    s->ops = ops;
    s->arg = arg;
    struct link_head h = {
        .type = LINK_FRAME_OPEN,
        .service = c->service,
        .id = s->id,
        .shard = shard,
        .timeout_ms = (uint32_t)(s->silence_max / USEC_MSEC),
    };
    cluster_conn_put(conn, &h, c->payload);
    *out_outcome = 0;
    return s;
}

int cluster_stream_write(struct cluster_stream *s, struct str piece)
{
    must(s->is_writer && !s->is_ended);
    if (piece.n > s->credit)
        return CLUSTER_LINK_E_OVERLOADED;
    s->credit -= piece.n;
    send_frame(s, LINK_FRAME_DATA, 0, piece);
    return 0;
}

size_t cluster_stream_credit(const struct cluster_stream *s)
{
    return s->credit;
}

void cluster_stream_end(struct cluster_stream *s)
{
    must(s->is_writer && !s->is_ended);
    s->is_ended = true;
    send_frame(s, LINK_FRAME_END, 0, STR(""));
}

void cluster_stream_consume(struct cluster_stream *s, size_t n)
{
    must(!s->is_writer);
    s->consumed += n;
    if (s->consumed < CREDIT_STEP)
        return;
    send_frame(s, LINK_FRAME_CREDIT, (uint32_t)s->consumed, STR(""));
    s->credit += s->consumed;
    s->consumed = 0;
}

/* Out of reach, freed when the callback that may be running has returned. */
static void leave(struct cluster_stream *s, uint8_t type, struct str word)
{
    send_frame(s, type, 0, word);
    s->ops = NULL;
    s->is_dead = true;
    if (!s->in_callback)
        drop(s);
}

void cluster_stream_finish(struct cluster_stream *s, struct str word)
{
    must(!s->is_writer);
    leave(s, LINK_FRAME_FINISH, word);
}

void cluster_stream_abort(struct cluster_stream *s)
{
    leave(s, LINK_FRAME_ABORT, STR(""));
}

/* --- frames --- */

static void refuse(struct link_conn *c, uint64_t id)
{
    struct link_head h = {.type = LINK_FRAME_ABORT, .id = id, .shard = CLUSTER_LINK_E_NO_SERVICE};
    cluster_conn_put(c, &h, STR(""));
}

static void on_open(struct link_conn *c, const struct link_head *h, struct str first)
{
    const struct link_service *sv =
        h->service < CLUSTER_SERVICE_MAX ? &c->l->service[h->service] : NULL;
    if (c->is_dialer || sv == NULL || sv->accept == NULL || c->streams.count >= LINK_STREAMS_MAX ||
        find(c, h->id) != NULL) {
        refuse(c, h->id);
        return;
    }
    struct cluster_from from = {
        .peer = c->peer,
        .epoch = c->epoch,
        .lane = c->lane,
        .shard = h->shard,
        .deadline = USEC_NEVER,
    };
    struct cluster_stream *s = stream_new(c, h->id, false, h->timeout_ms * USEC_MSEC);
    s->in_callback = true;
    bool ok = sv->accept(sv->accept_arg, s, &from, first, &s->ops, &s->arg);
    s->in_callback = false;
    if (s->is_dead || !ok) {
        if (!s->is_dead)
            refuse(c, s->id);
        drop(s);
        return;
    }
    s->credit = CLUSTER_STREAM_WINDOW;
    send_frame(s, LINK_FRAME_ACCEPT, (uint32_t)CLUSTER_STREAM_WINDOW, STR(""));
}

/* More credit for the writer. */
static void on_credit(struct cluster_stream *s, uint32_t n)
{
    if (!s->is_writer || n > CLUSTER_STREAM_WINDOW - s->credit)
        return; /* not what we are owed: R1 */
    s->credit += n;
    if (s->ops->writable != NULL && !s->is_ended)
        s->ops->writable(s->arg, s);
}

static void on_data(struct cluster_stream *s, struct str piece)
{
    if (s->is_writer || piece.n > s->credit) {
        send_frame(s, LINK_FRAME_ABORT, 0, STR(""));
        end(s, CLUSTER_LINK_E_CANCELLED, STR(""));
        return;
    }
    s->credit -= piece.n;
    s->in_callback = true;
    s->ops->data(s->arg, s, piece);
    s->in_callback = false;
    if (s->is_dead)
        drop(s);
}

static void on_end(struct cluster_stream *s)
{
    if (s->is_writer || s->is_ended)
        return;
    s->is_ended = true;
    s->in_callback = true;
    s->ops->closed(s->arg, s, 0, STR(""));
    s->in_callback = false;
    s->ops = NULL; /* the reader now finishes or aborts, in its own time */
    net_timer_del(s->l->conf.loop, &s->timer);
    if (s->is_dead)
        drop(s);
}

void cluster_stream_on_frame(struct link_conn *c, const struct link_head *h, struct str payload)
{
    if (h->type == LINK_FRAME_OPEN) {
        on_open(c, h, payload);
        return;
    }
    struct cluster_stream *s = find(c, h->id);
    if (s == NULL)
        return;
    s->heard_at = net_loop_now(c->l->conf.loop);
    bool is_over = s->ops == NULL;
    if (h->type == LINK_FRAME_ABORT)
        end(s,
            h->shard == CLUSTER_LINK_E_NO_SERVICE ? CLUSTER_LINK_E_NO_SERVICE
                                                  : CLUSTER_LINK_E_CANCELLED,
            STR(""));
    else if (is_over)
        return;
    else if (h->type == LINK_FRAME_ACCEPT || h->type == LINK_FRAME_CREDIT) {
        s->in_callback = true;
        on_credit(s, h->shard);
        s->in_callback = false;
        if (s->is_dead)
            drop(s);
    } else if (h->type == LINK_FRAME_DATA)
        on_data(s, payload);
    else if (h->type == LINK_FRAME_END)
        on_end(s);
    else if (h->type == LINK_FRAME_FINISH && s->is_writer)
        end(s, s->is_ended ? 0 : CLUSTER_LINK_E_CANCELLED, payload);
}

void cluster_streams_break(struct link_conn *c, int outcome)
{
    while (c->streams.count > 0) {
        size_t at = 0;
        end(map_next(&c->streams, &at), outcome, STR(""));
    }
}
