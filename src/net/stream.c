/* A connected byte stream.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. stage only grows.  libevent watches s->armed, which net_stream_interest derives from the
 * stage, the pauses and the block.
 * 2. Input reaches read() only in stage OPEN, while pause_count is 0, and never from within another
 *    callback of the same stream.
 * 3. closed() comes from net_loop_later alone, after which nobody owns the stream; it is freed
 * there unless it lingers.
 * 4. s->in holds bytes exactly while read() has left some.
 * 5. While an accepted stream has no owner it is in loop->homeless, so that the loop can end it;
 * and from CLOSING on in loop->closing, as its owner may go before its last bytes have left.
 *
 * Never: blocks, reads twice in a turn (TLS may have to ask again for what OpenSSL holds). */
#include "net/stream_priv.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "net/listener_priv.h"
#include "net/proxy_priv.h"
#include "net/tls_priv.h"
#include "net/ws_priv.h"

#define CLOSE_USEC_MAX (10 * USEC_SEC)
#define LINGER_USEC_MAX                                                                            \
    (2 * USEC_SEC) /* matters: how long a peer may take to see our last bytes                      \
                    */
#define HANDSHAKE_USEC_MAX (10 * USEC_SEC)
#define KEEP_BYTES_MAX ((size_t)64 * 1024)
#define RATE_BURST_USEC (250 * USEC_MSEC)
#define DIRECT_BYTES ((size_t)64 * 1024) /* one read into a stream's own buffer */

static void on_event(evutil_socket_t fd, short what, void *arg);

struct net_stream_extra *net_stream_extra(struct net_stream *s)
{
    if (!s->extra) {
        s->extra = mem_new(sizeof *s->extra);
        s->extra->stream = s;
        list_init(&s->extra->closing);
    }
    return s->extra;
}

struct net_stream *net_stream_new(struct net_loop *l, int fd)
{
    struct net_stream *s = mem_new(sizeof *s);
    s->loop = l;
    s->fd = fd;
    s->stage = NET_STREAM_OPEN;
    list_init(&s->flush);
    list_init(&s->later);
    must(event_assign(&s->ev, l->base, fd, EV_READ | EV_PERSIST, on_event, s) == 0);
    l->stream_count++;
    return s;
}

static void extra_free(struct net_stream *s)
{
    struct net_stream_extra *x = s->extra;
    if (!x)
        return;
    net_timer_del(s->loop, &x->timer);
    list_del(&x->closing);
    net_tls_unref(x->tls);
    mem_free(x->tls_name);
    mem_free(x->ws_path);
    mem_free(x->ws_protocol);
    buf_deinit(&x->head);
    s->extra = mem_free(x);
}

static void stream_free(struct net_stream *s)
{
    struct net_loop *l = s->loop;
    if (s->armed)
        event_del(&s->ev);
    list_del(&s->flush);
    list_del(&s->later);
    extra_free(s);
    net_stream_block_free(l, s->out);
    net_stream_block_free(l, s->in);
    s->tls = net_tls_link_free(s->tls);
    s->ws = net_ws_free(s->ws);
    if (s->fd >= 0)
        close(s->fd);
    if (s->listener) {
        net_listener_gone(s);
        net_listener_unref(s->listener);
    }
    l->stream_count--;
    mem_free(s);
}

void net_loop_homeless_free(struct net_loop *l)
{
    for (struct list *x; (x = list_pop_front(&l->homeless)) != NULL;)
        stream_free(container_of(x, struct net_stream, flush));
    for (struct list *x; (x = list_pop_front(&l->later)) != NULL;) {
        struct net_stream *s = container_of(x, struct net_stream, later);
        must(!s->ops);
        stream_free(s);
    }
    for (struct list *x; (x = list_pop_front(&l->closing)) != NULL;) {
        struct net_stream *s = container_of(x, struct net_stream_extra, closing)->stream;
        must(!s->ops);
        stream_free(s);
    }
}

void net_stream_later(struct net_stream *s, unsigned todo)
{
    s->todo |= (uint8_t)todo;
    if (list_empty(&s->later))
        list_push_back(&s->loop->later, &s->later);
}

/* What libevent has to watch for now. */
static short wanted(const struct net_stream *s)
{
    short w = 0;
    switch ((enum net_stream_stage)s->stage) {
    case NET_STREAM_CONNECT:
        return EV_WRITE | EV_PERSIST;
    case NET_STREAM_PROXY:
    case NET_STREAM_WS:
        return EV_READ | EV_PERSIST;
    case NET_STREAM_TLS:
        return (short)((s->is_wanting_write ? EV_WRITE : EV_READ) | EV_PERSIST);
    case NET_STREAM_OPEN:
        if (s->pause_count == 0 && !(s->extra && s->extra->is_rate_paused))
            w |= EV_READ;
        break;
    case NET_STREAM_CLOSING:
    case NET_STREAM_LINGER:
        if (!s->is_eof)
            w |= EV_READ;
        break;
    case NET_STREAM_ENDED:
        return 0;
    }
    if (s->is_blocked && !(s->extra && s->extra->is_write_paused && s->stage == NET_STREAM_OPEN))
        w |= EV_WRITE;
    return w ? (short)(w | EV_PERSIST) : 0;
}

void net_stream_interest(struct net_stream *s)
{
    short w = wanted(s);
    if (likely(w == s->armed))
        return;
    if (s->armed)
        event_del(&s->ev);
    s->armed = w;
    if (w) {
        must(event_assign(&s->ev, s->loop->base, s->fd, w, on_event, s) == 0);
        must(event_add(&s->ev, NULL) == 0);
    }
}

void net_stream_end(struct net_stream *s, enum net_stream_end why, int err)
{
    if (s->stage >= NET_STREAM_LINGER)
        return;
    if (s->listener)
        net_listener_gone(s);
    s->stage = NET_STREAM_ENDED;
    s->why = (uint8_t)why;
    s->err = err;
    s->is_blocked = false;
    net_stream_charge(s);
    net_stream_interest(s);
    if (s->extra)
        net_timer_del(s->loop, &s->extra->timer);
    list_del(&s->flush);
    net_stream_later(s, NET_STREAM_TODO_CLOSED);
}

/* The peer has seen the end, or has had its time. */
static void linger_end(struct net_stream *s)
{
    s->is_eof = true;
    if (s->todo & NET_STREAM_TODO_CLOSED)
        net_stream_interest(s); /* the owner has to hear of it first */
    else
        stream_free(s);
}

/* Timers. */

static void rate_arm(struct net_stream *s)
{
    const struct net_stream_extra *x = s->extra;
    usec_t at = x->is_rate_paused ? s->rate_clock : USEC_NEVER;
    if (x->is_write_paused && x->write_clock < at)
        at = x->write_clock;
    if (at != USEC_NEVER)
        net_stream_arm(s, at);
}

/* A rate allows reading or writing again. */
static void rate_over(struct net_stream *s, usec_t now)
{
    struct net_stream_extra *x = s->extra;
    if (x->is_rate_paused && s->rate_clock <= now) {
        x->is_rate_paused = false;
        if (s->in || (s->tls && net_tls_link_has_pending(s->tls)))
            net_stream_later(s, NET_STREAM_TODO_OFFER);
    }
    if (x->is_write_paused && x->write_clock <= now) {
        x->is_write_paused = false;
        net_stream_write(s);
    }
    if (s->stage != NET_STREAM_OPEN)
        return;
    rate_arm(s);
    net_stream_interest(s);
}

static void on_timer(void *arg, usec_t now)
{
    struct net_stream *s = ((struct net_stream_extra *)arg)->stream;
    switch ((enum net_stream_stage)s->stage) {
    case NET_STREAM_OPEN:
        rate_over(s, now);
        break;
    case NET_STREAM_CLOSING:
        if (s->extra->is_close_later) {
            s->extra->is_close_later = false;
            net_stream_arm(s, usec_add(s->loop->now, CLOSE_USEC_MAX));
            if (net_stream_out_len(s) == 0)
                net_stream_written(s);
            break;
        }
        net_stream_end(s, NET_STREAM_END_TIMEOUT, -ETIMEDOUT);
        break;
    case NET_STREAM_LINGER:
        linger_end(s);
        break;
    case NET_STREAM_PROXY:
    case NET_STREAM_CONNECT:
    case NET_STREAM_TLS:
    case NET_STREAM_WS:
    case NET_STREAM_ENDED:
        net_stream_end(s, NET_STREAM_END_TIMEOUT, -ETIMEDOUT);
        break;
    }
}

void net_stream_arm(struct net_stream *s, usec_t at)
{
    struct net_stream_extra *x = net_stream_extra(s);
    if (!x->timer.fn)
        net_timer_init(&x->timer, on_timer, x);
    net_timer_set(s->loop, &x->timer, at);
}

/* Input. */

/* Counts n bytes against a rate; true: for a while it is used up. */
static bool rate_take(usec_t *clock, usec_t now, size_t n, uint64_t rate)
{
    usec_t from = now > RATE_BURST_USEC ? now - RATE_BURST_USEC : 0;
    if (*clock < from)
        *clock = from;
    *clock += n * USEC_SEC / rate;
    return *clock > now;
}

void net_stream_wrote(struct net_stream *s, size_t n)
{
    struct net_stream_extra *x = s->extra;
    s->written_total += n;
    if (likely(!x || !x->write_rate) || s->stage != NET_STREAM_OPEN ||
        !rate_take(&x->write_clock, s->loop->now, n, x->write_rate))
        return;
    x->is_write_paused = true;
    rate_arm(s);
}

static size_t keep_max(const struct net_stream *s)
{
    return s->limits && s->limits->keep_bytes_max ? s->limits->keep_bytes_max : KEEP_BYTES_MAX;
}

/* Offers total bytes at base (s->in's own bytes when is_kept) and keeps what is left. */
static void offer(struct net_stream *s, uint8_t *base, size_t total, bool is_kept)
{
    size_t used = 0;
    bool may = s->pause_count == 0 && total >= s->want;
    if (may && s->ops) {
        s->want = 0;
        s->is_reading = true;
        used = s->ops->read(s->arg, s, base, total);
        s->is_reading = false;
        must(used <= total);
    }
    if (s->stage != NET_STREAM_OPEN)
        return;
    size_t left = total - used;
    if (left == 0) {
        net_stream_block_free(s->loop, s->in);
        s->in = NULL;
        net_stream_charge(s);
        return;
    }
    if (left > keep_max(s)) {
        net_stream_end(s, NET_STREAM_END_ERROR, -EMSGSIZE);
        return;
    }
    if (is_kept) {
        s->in->buf.n = total;
        if (used)
            buf_drop(&s->in->buf, used);
    } else {
        if (!s->in)
            s->in = net_stream_block_new(s->loop);
        s->in->buf.n = 0;
        buf_put(&s->in->buf, base + used, left);
    }
    net_stream_charge(s);
}

/* n raw bytes stand at base + kept, behind `kept` bytes of before. */
static void arrived(struct net_stream *s, uint8_t *base, size_t kept, size_t n, bool is_kept)
{
    s->read_total += n;
    int r = 0;
    if (s->ws) {
        struct buf answer = {0};
        size_t m = 0;
        r = net_ws_decode(s->ws, base + kept, n, &m, &answer);
        n = m;
        if (answer.n)
            net_stream_out_raw(s, answer.p, answer.n);
        buf_deinit(&answer);
    }
    if (n > 0)
        offer(s, base, kept + n, is_kept);
    if (r < 0 && s->stage == NET_STREAM_OPEN && !s->is_blocked)
        net_stream_write(s); /* the answer says why it is closed */
    if (r && s->stage == NET_STREAM_OPEN)
        net_stream_end(s, r < 0 ? NET_STREAM_END_ERROR : NET_STREAM_END_PEER, r < 0 ? r : 0);
    if (s->rate && s->stage == NET_STREAM_OPEN &&
        rate_take(&s->rate_clock, s->loop->now, n, s->rate)) {
        net_stream_extra(s)->is_rate_paused = true;
        rate_arm(s);
        net_stream_interest(s);
    }
}

void net_stream_arrived(struct net_stream *s, uint8_t *p, size_t n)
{
    arrived(s, p, 0, n, false);
}

static ssize_t raw_read(struct net_stream *s, void *p, size_t cap)
{
    if (s->tls)
        return net_tls_link_read(s->tls, p, cap);
    ssize_t n;
    do
        n = recv(s->fd, p, cap, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static void input(struct net_stream *s)
{
    struct net_loop *l = s->loop;
    size_t kept = s->in ? s->in->buf.n : 0, cap = l->read_buffer_bytes;
    uint8_t *base = l->read_buffer;
    bool is_direct = kept > cap / 4;
    if (is_direct) { /* a large packet gathers in its own buffer instead of being copied each time
                      */
        size_t more = s->want > kept + DIRECT_BYTES ? s->want - kept : DIRECT_BYTES;
        if (more > 16 * DIRECT_BYTES)
            more = 16 * DIRECT_BYTES;
        (void)buf_reserve(&s->in->buf, more);
        base = s->in->buf.p;
        cap = kept + more;
    } else if (kept) {
        memcpy(base, s->in->buf.p, kept);
    }
    ssize_t n = raw_read(s, base + kept, cap - kept);
    if (n == -EAGAIN || n == -EWOULDBLOCK)
        return;
    if (n <= 0) {
        net_stream_end(s, n == 0 ? NET_STREAM_END_PEER : NET_STREAM_END_ERROR, (int)n);
        return;
    }
    arrived(s, base, kept, (size_t)n, is_direct);
    if (s->stage == NET_STREAM_OPEN && s->tls && net_tls_link_has_pending(s->tls) &&
        wanted(s) & EV_READ)
        net_stream_later(s, NET_STREAM_TODO_OFFER);
}

/* Input while we only wait for the end. */
static void discard(struct net_stream *s)
{
    ssize_t n = recv(s->fd, s->loop->read_buffer, s->loop->read_buffer_bytes, 0);
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    s->is_eof = true;
    if (s->stage == NET_STREAM_LINGER)
        linger_end(s);
    else if (n < 0)
        net_stream_end(s, NET_STREAM_END_ERROR, -errno);
    else
        net_stream_interest(s);
}

/* Stages. */

static void connect_end(struct net_stream *s)
{
    int err = 0;
    socklen_t len = sizeof err;
    must(getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0);
    if (err)
        net_stream_end(s, NET_STREAM_END_ERROR, -err);
    else
        net_stream_advance(s);
}

static void tls_step(struct net_stream *s)
{
    unsigned events = 0;
    int r = net_tls_link_handshake(s->tls, &events);
    if (r == 0) {
        net_stream_advance(s);
        return;
    }
    if (r != -EAGAIN) {
        net_stream_end(s, NET_STREAM_END_ERROR, r);
        return;
    }
    s->is_wanting_write = events == NET_WATCH_WRITE;
    net_stream_interest(s);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    struct net_stream *s = arg;
    net_loop_open(s->loop);
    switch ((enum net_stream_stage)s->stage) {
    case NET_STREAM_OPEN:
        if (what & EV_READ)
            input(s);
        if ((what & EV_WRITE) && s->stage == NET_STREAM_OPEN)
            net_stream_write(s);
        return;
    case NET_STREAM_PROXY:
        net_proxy_step(s);
        return;
    case NET_STREAM_CONNECT:
        connect_end(s);
        return;
    case NET_STREAM_TLS:
        tls_step(s);
        return;
    case NET_STREAM_WS:
        net_stream_ws_step(s);
        return;
    case NET_STREAM_CLOSING:
        if (what & EV_WRITE)
            net_stream_write(s);
        if ((what & EV_READ) && s->stage == NET_STREAM_CLOSING)
            discard(s);
        return;
    case NET_STREAM_LINGER:
        discard(s);
        return;
    case NET_STREAM_ENDED:
        return;
    }
}

static void open_now(struct net_stream *s)
{
    s->stage = NET_STREAM_OPEN;
    if (s->limits && !s->rate)
        s->rate = s->limits->read_bytes_per_sec;
    if (s->extra)
        net_timer_del(s->loop, &s->extra->timer);
    if (s->is_accepted) {
        list_del(&s->flush);
        net_listener_opened(s);
        if (!s->ops && s->stage == NET_STREAM_OPEN)
            net_stream_close(s);
    } else {
        if (s->out && list_empty(&s->flush))
            list_push_back(&s->loop->flush, &s->flush);
        if (s->ops && s->ops->opened)
            s->ops->opened(s->arg, s);
    }
    if (s->extra && s->stage == NET_STREAM_OPEN && !s->extra->is_rate_paused)
        extra_free(s);
    if (s->tls && net_tls_link_has_pending(s->tls))
        net_stream_later(s,
                         NET_STREAM_TODO_OFFER); /* came together with the end of the handshake */
    net_stream_interest(s);
}

void net_stream_advance(struct net_stream *s)
{
    struct net_stream_extra *x = s->extra;
    if (s->stage < NET_STREAM_TLS && x && x->tls) {
        s->stage = NET_STREAM_TLS;
        s->tls = net_tls_link_new(x->tls, s->fd, x->tls_name);
        tls_step(s);
    } else if (s->stage < NET_STREAM_WS && x && x->ws_path) {
        s->stage = NET_STREAM_WS;
        net_stream_interest(s);
        net_stream_ws_begin(s);
    } else {
        open_now(s);
    }
}

/* What the loop does for streams at top level. */

static void later_closed(struct net_stream *s)
{
    const struct net_stream_ops *ops = s->ops;
    s->ops = NULL;
    if (ops)
        ops->closed(s->arg, s, s->why);
    if (s->stage == NET_STREAM_LINGER && !s->is_eof) {
        list_del(&s->flush);
        list_push_back(&s->loop->homeless, &s->flush);
        return;
    }
    stream_free(s);
}

static void later_offer(struct net_stream *s)
{
    if (s->stage != NET_STREAM_OPEN || s->pause_count > 0 || (s->extra && s->extra->is_rate_paused))
        return;
    if (s->in)
        offer(s, s->in->buf.p, s->in->buf.n, true);
    if (s->stage == NET_STREAM_OPEN && s->pause_count == 0 && s->tls &&
        net_tls_link_has_pending(s->tls))
        input(s);
}

void net_loop_later(struct net_loop *l)
{
    for (struct list *x; (x = list_pop_front(&l->later)) != NULL;) {
        struct net_stream *s = container_of(x, struct net_stream, later);
        unsigned todo = s->todo;
        s->todo = 0;
        if (todo & NET_STREAM_TODO_CLOSED) {
            later_closed(s);
            continue;
        }
        if (todo & NET_STREAM_TODO_OFFER)
            later_offer(s);
        if ((todo & NET_STREAM_TODO_DRAINED) && s->stage == NET_STREAM_OPEN && s->ops &&
            s->ops->drained)
            s->ops->drained(s->arg, s);
    }
}

/* Closing. */

void net_stream_written(struct net_stream *s)
{
    if (s->extra && s->extra->is_close_later)
        return;
    if (s->tls)
        net_tls_link_shutdown(s->tls);
    net_stream_end(s, NET_STREAM_END_CLOSED, 0);
    if (s->is_eof || shutdown(s->fd, SHUT_WR) < 0)
        return;
    /* Closing now would answer bytes still on their way with a reset, and that reset may overtake
     * our last ones in the peer. */
    s->stage = NET_STREAM_LINGER;
    net_stream_arm(s, usec_add(s->loop->now, LINGER_USEC_MAX));
    net_stream_interest(s);
}

static void closing(struct net_stream *s, usec_t delay_usec)
{
    if (s->stage > NET_STREAM_OPEN)
        return;
    if (s->stage < NET_STREAM_OPEN) {
        net_stream_end(s, NET_STREAM_END_CLOSED, 0);
        return;
    }
    if (s->ws) {
        struct buf bye = {0};
        net_ws_close(s->ws, 1000, &bye);
        net_stream_out_raw(s, bye.p, bye.n);
        buf_deinit(&bye);
    }
    if (s->listener)
        net_listener_gone(s);
    s->stage = NET_STREAM_CLOSING;
    net_stream_extra(s)->is_close_later = delay_usec > 0;
    list_push_back(&s->loop->closing, &s->extra->closing);
    net_stream_arm(s, usec_add(s->loop->now, delay_usec ? delay_usec : CLOSE_USEC_MAX));
    if (s->out && list_empty(&s->flush))
        list_push_back(&s->loop->flush, &s->flush);
    if (net_stream_out_len(s) == 0 && delay_usec == 0)
        net_stream_written(s);
    else
        net_stream_interest(s);
}

void net_stream_close(struct net_stream *s)
{
    closing(s, 0);
}

void net_stream_close_later(struct net_stream *s, usec_t delay_usec)
{
    closing(s, delay_usec);
}

void net_stream_abort(struct net_stream *s)
{
    if (s->stage >= NET_STREAM_LINGER)
        return;
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    net_stream_end(s, NET_STREAM_END_ABORTED, -ECONNABORTED);
}

void net_stream_forget(struct net_stream *s)
{
    s->ops = NULL;
    net_stream_close(s);
    if (s->charged)
        budget_return(s->limits->budget, s->charged);
    s->charged = 0;
    s->limits = NULL;
}

/* Settings. */

void net_stream_set(struct net_stream *s, const struct net_stream_ops *ops, void *arg)
{
    s->ops = ops;
    s->arg = arg;
}

void net_stream_pause(struct net_stream *s)
{
    must(s->pause_count < UINT16_MAX);
    s->pause_count++;
    net_stream_interest(s);
}

void net_stream_resume(struct net_stream *s)
{
    must(s->pause_count > 0);
    s->pause_count--;
    if (s->pause_count > 0 || s->stage != NET_STREAM_OPEN)
        return;
    net_stream_interest(s);
    if (s->in || s->is_reading || (s->tls && net_tls_link_has_pending(s->tls)))
        net_stream_later(s, NET_STREAM_TODO_OFFER);
}

void net_stream_want(struct net_stream *s, size_t n)
{
    size_t max = keep_max(s);
    s->want = (uint32_t)(n < max ? n : max);
}

void net_stream_set_rate(struct net_stream *s, uint64_t read_bytes_per_sec)
{
    uint64_t was = s->rate;
    s->rate = read_bytes_per_sec ? read_bytes_per_sec
              : s->limits        ? s->limits->read_bytes_per_sec
                                 : 0;
    if (s->rate == was || !s->extra || !s->extra->is_rate_paused || s->stage != NET_STREAM_OPEN)
        return;
    s->rate_clock = s->loop->now;
    rate_arm(s);
}

void net_stream_set_write_rate(struct net_stream *s, uint64_t write_bytes_per_sec)
{
    struct net_stream_extra *x = s->extra;
    if ((x ? x->write_rate : 0) == write_bytes_per_sec)
        return;
    x = net_stream_extra(s);
    x->write_rate = write_bytes_per_sec;
    if (!x->is_write_paused || s->stage != NET_STREAM_OPEN)
        return;
    x->write_clock = s->loop->now;
    rate_arm(s);
}
