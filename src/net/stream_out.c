/* Output of a stream: appended during the turn, written once at its end.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * 1. A stream in loop->flush has an owner and bytes that nobody tried to write in this turn.
 * 2. block->done <= block->buf.n; chunks are ordered by `at`, and those before chunk_first are
 * written.
 * 3. A block in the pool is empty and small.
 *
 * Never: writes twice in a turn while the kernel takes everything. */
#include "net/stream_priv.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/mem.h"
#include "net/tls_priv.h"
#include "net/ws_priv.h"

#define IOV_COUNT 64
#define POOL_COUNT_MAX 512         /* blocks a loop keeps */
#define POOL_BYTES_MAX (16 * 1024) /* larger buffers are given back */
#define TLS_RECORD 16384

struct net_stream_out_block *net_stream_block_new(struct net_loop *l)
{
    struct net_stream_out_block *b = l->out_free;
    if (!b)
        return mem_new(sizeof *b);
    l->out_free = b->next;
    l->out_free_count--;
    b->next = NULL;
    return b;
}

static void chunk_release(struct net_stream_chunk *c)
{
    if (c->release)
        c->release(c->owner);
    c->release = NULL;
}

static void block_drop(struct net_stream_out_block *b)
{
    buf_deinit(&b->buf);
    mem_free(b->chunk);
    mem_free(b);
}

void net_stream_block_free(struct net_loop *l, struct net_stream_out_block *b)
{
    if (!b)
        return;
    for (size_t i = b->chunk_first; i < b->chunk_count; i++)
        chunk_release(&b->chunk[i]);
    if (b->buf.cap > POOL_BYTES_MAX || l->out_free_count >= POOL_COUNT_MAX) {
        block_drop(b);
        return;
    }
    b->buf.n = b->done = b->framed = b->shared = b->shared_unframed = 0;
    b->chunk_first = b->chunk_count = 0;
    if (b->chunk_cap > 64) {
        b->chunk = mem_free(b->chunk);
        b->chunk_cap = 0;
    }
    b->next = l->out_free;
    l->out_free = b;
    l->out_free_count++;
}

void net_loop_out_free(struct net_loop *l)
{
    while (l->out_free) {
        struct net_stream_out_block *b = l->out_free;
        l->out_free = b->next;
        block_drop(b);
    }
}

struct buf *net_stream_out(struct net_stream *s)
{
    if (unlikely(s->stage > NET_STREAM_OPEN))
        return &s->loop->swallow;
    if (!s->out)
        s->out = net_stream_block_new(s->loop);
    if (list_empty(&s->flush))
        list_push_back(&s->loop->flush, &s->flush);
    return &s->out->buf;
}

static struct net_stream_chunk *chunk_add(struct net_stream_out_block *b)
{
    if (b->chunk_first == b->chunk_count)
        b->chunk_first = b->chunk_count = 0;
    b->chunk = mem_grow(b->chunk, &b->chunk_cap, b->chunk_count + 1, sizeof *b->chunk);
    struct net_stream_chunk *c = &b->chunk[b->chunk_count++];
    memset(c, 0, sizeof *c);
    return c;
}

void net_stream_out_shared(struct net_stream *s, const void *p, size_t n,
                           void (*release)(void *owner), void *owner)
{
    struct buf *out = net_stream_out(s);
    bool is_masked = s->ws && !s->is_accepted; /* a client must change every byte */
    if (out == &s->loop->swallow || n == 0 || is_masked) {
        if (is_masked)
            buf_put(out, p, n);
        release(owner);
        return;
    }
    struct net_stream_out_block *b = s->out;
    struct net_stream_chunk *c = chunk_add(b);
    *c =
        (struct net_stream_chunk){.at = out->n, .n = n, .p = p, .release = release, .owner = owner};
    b->shared += n;
    b->shared_unframed += n;
}

size_t net_stream_out_len(const struct net_stream *s)
{
    return s->out ? s->out->buf.n - s->out->done + s->out->shared : 0;
}

void net_stream_owe_drained(struct net_stream *s, size_t n)
{
    if (unlikely(s->out && s->out->buf.n >= n))
        s->is_high = true;
}

/* A payload that is shared is paid for by whoever made it. */
void net_stream_charge(struct net_stream *s)
{
    struct budget *b = s->limits ? s->limits->budget : NULL;
    uint64_t held = (s->out ? s->out->buf.cap : 0) + (s->in ? s->in->buf.cap : 0);
    if (s->stage > NET_STREAM_CLOSING)
        held = 0;
    if (likely(!b || held == s->charged))
        return;
    if (held > s->charged)
        budget_take(b, held - s->charged);
    else
        budget_return(b, s->charged - held);
    s->charged = held;
}

bool net_stream_is_high(const struct net_stream *s)
{
    if (net_stream_out_len(s) <= net_stream_high_bytes(s))
        return false;
    ((struct net_stream *)s)->is_high = true; /* somebody was told: drained() is owed */
    return true;
}

/* A WebSocket frame around all that was appended since the last one. */
static void frame(struct net_stream *s)
{
    struct net_stream_out_block *b = s->out;
    size_t n = b->buf.n - b->framed + b->shared_unframed;
    if (n == 0)
        return;
    /* The head goes before the first piece that is not framed yet. */
    (void)chunk_add(b);
    size_t i = b->chunk_count - 1;
    while (i > b->chunk_first && b->chunk[i - 1].at >= b->framed && b->chunk[i - 1].p &&
           b->shared_unframed > 0) {
        b->shared_unframed -= b->chunk[i - 1].n;
        b->chunk[i] = b->chunk[i - 1];
        i--;
    }
    struct net_stream_chunk *c = &b->chunk[i];
    memset(c, 0, sizeof *c);
    c->at = b->framed;
    c->n = net_ws_frame_head(s->ws, n, b->buf.p + b->framed, c->head);
    b->shared += c->n;
    b->framed = b->buf.n;
    b->shared_unframed = 0;
}

void net_stream_out_raw(struct net_stream *s, const void *p, size_t n)
{
    struct buf *out = net_stream_out(s);
    if (out == &s->loop->swallow)
        return;
    if (s->ws)
        frame(s);
    buf_put(out, p, n);
    s->out->framed = out->n;
}

static const uint8_t *chunk_bytes(const struct net_stream_chunk *c)
{
    return c->p ? c->p : c->head;
}

/* The next pieces to write; returns how many, and their sum. */
static int gather(const struct net_stream_out_block *b, struct iovec iov[IOV_COUNT],
                  size_t *out_sum)
{
    int count = 0;
    size_t at = b->done, sum = 0;
    for (size_t i = b->chunk_first; i <= b->chunk_count && count < IOV_COUNT - 1; i++) {
        size_t until = i < b->chunk_count ? b->chunk[i].at : b->buf.n;
        if (until > at) {
            iov[count++] = (struct iovec){b->buf.p + at, until - at};
            sum += until - at;
            at = until;
        }
        if (i < b->chunk_count) {
            const struct net_stream_chunk *c = &b->chunk[i];
            iov[count++] = (struct iovec){(void *)(uintptr_t)chunk_bytes(c), c->n};
            sum += c->n;
        }
    }
    *out_sum = sum;
    return count;
}

static void advance(struct net_stream_out_block *b, size_t n)
{
    while (n > 0) {
        struct net_stream_chunk *c =
            b->chunk_first < b->chunk_count ? &b->chunk[b->chunk_first] : NULL;
        size_t plain = (c ? c->at : b->buf.n) - b->done;
        size_t step = plain < n ? plain : n;
        b->done += step;
        n -= step;
        if (!c || n == 0)
            break;
        step = c->n < n ? c->n : n;
        if (!c->p)
            memmove(c->head, c->head + step, sizeof c->head - step);
        else
            c->p += step;
        c->n -= step;
        b->shared -= step;
        n -= step;
        if (c->n == 0) {
            chunk_release(c);
            b->chunk_first++;
        }
    }
    must(n == 0);
}

/* A blocked stream keeps what is left at the front, without moving it for each byte, and little
 * more room than it takes. */
static void compact(struct net_stream_out_block *b)
{
    size_t off = b->done, left = b->buf.n - off;
    bool is_wide = b->buf.cap > POOL_BYTES_MAX && left < b->buf.cap / 4;
    if (!is_wide && (off < 64 * 1024 || off < b->buf.n / 2))
        return;
    if (is_wide) {
        struct buf narrow = {0};
        buf_put(&narrow, b->buf.p + off, left);
        buf_deinit(&b->buf);
        b->buf = narrow;
    } else {
        buf_drop(&b->buf, off);
    }
    b->done = 0;
    b->framed -= off < b->framed ? off : b->framed;
    for (size_t i = b->chunk_first; i < b->chunk_count; i++)
        b->chunk[i].at -= off;
}

/* No more at once than a rate allows in a quarter of a second. */
static int ration(const struct net_stream *s, struct iovec iov[IOV_COUNT], int count, size_t *sum)
{
    size_t left = s->extra && s->stage == NET_STREAM_OPEN ? s->extra->write_rate / 4 : 0;
    if (likely(left == 0) || *sum <= left)
        return count;
    *sum = left;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len >= left) {
            iov[i].iov_len = left;
            return i + 1;
        }
        left -= iov[i].iov_len;
    }
    return count;
}

/* Writes some: bytes taken, or -errno; *out_asked is what was offered. */
static ssize_t write_some(struct net_stream *s, size_t *out_asked)
{
    struct iovec iov[IOV_COUNT];
    iov[0] = (struct iovec){0};
    int count = ration(s, iov, gather(s->out, iov, out_asked), out_asked);
    if (s->tls) {
        if (count == 1 || iov[0].iov_len >= TLS_RECORD) {
            *out_asked = iov[0].iov_len;
            return net_tls_link_write(s->tls, iov[0].iov_base, iov[0].iov_len);
        }
        uint8_t record[TLS_RECORD];
        size_t n = 0;
        for (int i = 0; i < count && n < sizeof record; i++) {
            size_t step = sizeof record - n < iov[i].iov_len ? sizeof record - n : iov[i].iov_len;
            memcpy(record + n, iov[i].iov_base, step);
            n += step;
        }
        *out_asked = n;
        return net_tls_link_write(s->tls, record, n);
    }
    ssize_t r;
    do {
        if (count == 1) {
            r = send(s->fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL);
        } else {
            struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)count};
            r = sendmsg(s->fd, &m, MSG_NOSIGNAL);
        }
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static void water(struct net_stream *s)
{
    size_t len = net_stream_out_len(s);
    if (len > net_stream_high_bytes(s)) {
        s->is_high = true;
    } else if (s->is_high && len <= net_stream_low_bytes(s)) {
        s->is_high = false;
        net_stream_later(s, NET_STREAM_TODO_DRAINED);
    }
}

static bool is_write_paused(const struct net_stream *s)
{
    return unlikely(s->extra && s->extra->is_write_paused) && s->stage == NET_STREAM_OPEN;
}

void net_stream_write(struct net_stream *s)
{
    if (s->stage < NET_STREAM_OPEN || s->stage > NET_STREAM_CLOSING || !s->out)
        return;
    if (s->ws)
        frame(s);
    s->is_blocked = false;
    while (net_stream_out_len(s) > 0 && !is_write_paused(s)) {
        size_t asked;
        ssize_t r = write_some(s, &asked);
        if (r == -EAGAIN || r == -EWOULDBLOCK) {
            s->is_blocked = true;
            break;
        }
        if (r < 0) {
            net_stream_end(s, NET_STREAM_END_ERROR, (int)r);
            net_stream_charge(s);
            return;
        }
        net_stream_wrote(s, (size_t)r);
        advance(s->out, (size_t)r);
        if ((size_t)r < asked && !s->tls) {
            s->is_blocked = true; /* the kernel's buffer is full: asking again would tell us so */
            break;
        }
    }
    if (net_stream_out_len(s) == 0) {
        net_stream_block_free(s->loop, s->out);
        s->out = NULL;
        if (s->stage == NET_STREAM_CLOSING)
            net_stream_written(s);
    } else {
        compact(s->out);
    }
    water(s);
    net_stream_charge(s);
    net_stream_interest(s);
}

void net_stream_flush(struct net_stream *s)
{
    if (s->stage <= NET_STREAM_CLOSING && !list_empty(&s->flush) && s->out) {
        list_del(&s->flush);
        if (!s->is_blocked)
            net_stream_write(s);
    }
}

void net_loop_flush(struct net_loop *l)
{
    for (struct list *x; (x = list_pop_front(&l->flush)) != NULL;) {
        struct net_stream *s = container_of(x, struct net_stream, flush);
        if (s->is_blocked) {
            water(s);
            net_stream_charge(s);
        } else {
            net_stream_write(s);
        }
    }
}
