/* Messages between loops.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: 1 what one loop sends another comes in the order it was put;  2 pending bytes of a
 * pair are those of its
 * batches between flush and receipt plus the open one.  It never matches a topic: the receiving
 * loop does. */
#include "broker/cross_priv.h"

#include "base/mem.h"
#include "broker/deliver_priv.h"
#include "broker/loop_priv.h"
#include "broker/slow_priv.h"

#define COPY_MAX 4096 /* does not matter much: from here on a reference costs less than a copy */
#define SPARE_MAX 16  /* does not matter: batches kept for reuse */
#define BATCH_KEEP_MAX ((size_t)256 << 10) /* a larger one is freed instead of kept */
#define INBOX_SHARE 4 /* matters: fewer messages under way than a receiver's queue may hold */
#define ROOM_BYTES_MIN ((size_t)64 << 10)
#define ROOM_BYTES_MAX                                                                             \
    ((size_t)1 << 20) /* matters: as much as the loop's own publishers bring in a turn */
#define GO_BYTES (ROOM_BYTES_MIN / 2)
#define MAILBOX_MAX 65536 /* does not matter: bytes are what bounds it */

struct broker_batch {
    struct net_mailbox_item item;
    struct broker_batch *next;
    struct broker_loop *from, *to;
    struct buf bytes; /* records, each 8-aligned */
};

/* A record is this and then, unless kept, the bytes of the message's views. */
struct record {
    struct broker_cross_send send;
    struct codec_msg *kept;
    uint32_t len;         /* of all of it */
    struct codec_msg msg; /* when not kept: its views point to what follows once it is received */
};

static void receive(void *arg, struct net_mailbox_item *item);

void broker_cross_init(struct broker_loop *l)
{
    unsigned n = l->broker->loop_count;
    l->cross.open = mem_new(n * sizeof(struct broker_batch *));
    l->cross.pending = mem_new(n * sizeof(*l->cross.pending));
    l->cross.in = net_mailbox_new(l->net, MAILBOX_MAX, receive, l);
}

static struct broker_batch *batch_free(struct broker_batch *b)
{
    if (b)
        buf_deinit(&b->bytes);
    return mem_free(b);
}

void broker_cross_deinit(struct broker_loop *l)
{
    if (!l->cross.open)
        return;
    for (unsigned i = 0; i < l->broker->loop_count; i++)
        batch_free(l->cross.open[i]);
    while (l->cross.spare) {
        struct broker_batch *b = l->cross.spare;
        l->cross.spare = b->next;
        batch_free(b);
    }
    l->cross.open = mem_free(l->cross.open);
    l->cross.pending = mem_free(l->cross.pending);
    l->cross.in = net_mailbox_free(l->cross.in);
}

static struct broker_batch *batch_get(struct broker_loop *l, unsigned to)
{
    struct broker_batch *b = l->cross.open[to];
    if (b)
        return b;
    b = l->cross.spare;
    if (b) {
        l->cross.spare = b->next;
        l->cross.spare_count--;
    } else {
        b = mem_new(sizeof(*b));
    }
    b->from = l;
    b->to = &l->broker->loop[to];
    l->cross.open[to] = b;
    net_loop_defer(l->net, &l->turn_end);
    return b;
}

static size_t views_len(const struct codec_msg *m)
{
    return m->topic.n + m->payload.n + m->props.n + m->publisher.n;
}

static uint8_t *put_view(uint8_t *at, struct str s)
{
    if (s.n)
        memcpy(at, s.p, s.n);
    return at + s.n;
}

int broker_cross_put(struct broker_loop *l, unsigned to, const struct broker_cross_send *send)
{
    const struct codec_msg *m = send->msg;
    _Atomic uint64_t *pending = &l->broker->loop[to].cross.pending[l->index];
    size_t n = views_len(m);
    bool is_kept = n > COPY_MAX;
    size_t len = (sizeof(struct record) + (is_kept ? 0 : n) + 7) & ~(size_t)7;
    if (atomic_load_explicit(pending, memory_order_relaxed) + len + (is_kept ? n : 0) >
        BROKER_CROSS_BYTES_MAX)
        return BROKER_CROSS_E_FULL;
    atomic_fetch_add_explicit(pending, len + (is_kept ? n : 0), memory_order_relaxed);
    struct broker_batch *b = batch_get(l, to);
    struct record *r = (struct record *)(void *)buf_reserve(&b->bytes, len);
    b->bytes.n += len;
    r->send = *send;
    r->len = (uint32_t)len;
    r->kept = is_kept ? codec_msg_keep(m) : NULL;
    memcpy(&r->msg, m, sizeof(*m));
    if (!is_kept) {
        uint8_t *at = put_view((uint8_t *)(r + 1), m->topic);
        at = put_view(at, m->payload);
        at = put_view(at, m->props);
        put_view(at, m->publisher);
    }
    return 0;
}

static size_t room(const struct broker_conn *c, const struct codec_msg *m)
{
    size_t n = (size_t)c->settings->value.session_inbox_size / INBOX_SHARE;
    n *= sizeof(struct record) + views_len(m);
    return n < ROOM_BYTES_MIN ? ROOM_BYTES_MIN : n > ROOM_BYTES_MAX ? ROOM_BYTES_MAX : n;
}

void broker_cross_wait(struct broker_conn *c, unsigned to, const struct codec_msg *m)
{
    struct broker_loop *l = c->loop;
    struct broker_cross *cross = &l->broker->loop[to].cross;
    size_t max = room(c, m);
    if (likely(atomic_load_explicit(&cross->pending[l->index], memory_order_relaxed) <= max))
        return;
    atomic_fetch_or(&cross->waiting, (uint64_t)1 << l->index);
    if (atomic_load(&cross->pending[l->index]) > max) /* else it has taken all before it saw us */
        broker_slow(c, broker_slow_key_of_loop(to));
}

/* Their publishers go on. */
static void let_go(struct broker_loop *l, const struct broker_loop *from, uint64_t pending)
{
    uint64_t bit = (uint64_t)1 << from->index;
    if (pending > GO_BYTES || !(atomic_load(&l->cross.waiting) & bit))
        return;
    atomic_fetch_and(&l->cross.waiting, ~bit);
    broker_slow_go(l, broker_slow_key_of_loop(l->index), bit);
}

void broker_cross_flush(struct broker_loop *l)
{
    for (unsigned i = 0; i < l->broker->loop_count; i++) {
        struct broker_batch *b = l->cross.open[i];
        if (!b)
            continue;
        if (net_mailbox_push(l->broker->loop[i].cross.in, l->net, &b->item))
            continue; /* stays open: goes with the next turn; put refuses when it grows too long */
        l->cross.open[i] = NULL;
    }
}

static struct str take_view(const char **at, struct str s)
{
    struct str v = {*at, s.n};
    *at += s.n;
    return v;
}

static void receive_record(struct broker_loop *l, struct record *r)
{
    if (r->kept) {
        r->send.msg = r->kept;
        broker_deliver_cross(l, &r->send);
        codec_msg_unref(r->kept);
        return;
    }
    struct codec_msg *m = &r->msg;
    const char *at = (const char *)(r + 1);
    m->topic = take_view(&at, m->topic);
    m->payload = take_view(&at, m->payload);
    m->props = take_view(&at, m->props);
    m->publisher = take_view(&at, m->publisher);
    atomic_init(&m->refs, 0);
    r->send.msg = m;
    broker_deliver_cross(l, &r->send);
}

static void receive(void *arg, struct net_mailbox_item *item)
{
    struct broker_loop *l = arg;
    struct broker_batch *b = container_of(item, struct broker_batch, item);
    uint64_t bytes = 0;
    for (size_t at = 0; at < b->bytes.n;) {
        struct record *r = (struct record *)(void *)(b->bytes.p + at);
        at += r->len;
        bytes += r->len + (r->kept ? views_len(r->kept) : 0);
        receive_record(l, r);
    }
    let_go(l, b->from, atomic_fetch_sub(&l->cross.pending[b->from->index], bytes) - bytes);
    b->bytes.n = 0;
    if (l->cross.spare_count >= SPARE_MAX || b->bytes.cap > BATCH_KEEP_MAX) {
        batch_free(b);
        return;
    }
    b->next = l->cross.spare;
    l->cross.spare = b;
    l->cross.spare_count++;
}
