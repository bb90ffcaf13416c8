/* Connections: preface, hello, frames, keepalive, backing off.  SPDX-License-Identifier: Apache-2.0
 *
 * The side that dials sends an 8 byte preface in the clear ("BLNK", version, lane, loop u16) so
 * that the other side can hand the socket to the right loop before anything else is read; then TLS
 * if configured; then a HELLO, answered by WELCOME or BYE.  Requests go from the dialler to the
 * acceptor only: each side dials its own.
 *
 * States of a dialled one: DOWN -> CONNECTING (dial) -> UP (WELCOME) -> DOWN (any end; waits
 * backoff).  An accepted one lives from its HELLO to its end.  In CONNECTING frames wait in
 * pending. Never: keeps a frame for a later connection. */
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "cluster/link_priv.h"
#include "cluster/record_priv.h"

#define PING_EVERY (2 * USEC_SEC)
#define SILENCE_MAX (6 * USEC_SEC)
#define DIAL_MAX (3 * USEC_SEC)
#define BACKOFF_MIN (100 * USEC_MSEC)
#define BACKOFF_MAX (5 * USEC_SEC)
#define WARN_EVERY (1 * USEC_SEC)

struct conn_key {
    struct uuid peer;
    uint32_t lane, loop;
};

static bool conn_eq(const void *item, const void *key)
{
    const struct link_conn *c = item;
    const struct conn_key *k = key;
    return uuid_eq(&c->peer, &k->peer) && c->lane == k->lane && c->loop == k->loop;
}

static uint64_t conn_hash(const struct uuid *peer, uint32_t lane, uint32_t loop)
{
    return hash_bytes(peer->b, sizeof peer->b, (uint64_t)lane << 32 | loop);
}

struct link_conn *cluster_conn_find(struct cluster_link *l, const struct uuid *peer,
                                    enum cluster_lane lane, uint32_t loop)
{
    struct conn_key k = {*peer, lane, loop};
    return map_find(&l->conns, conn_hash(peer, lane, loop), conn_eq, &k);
}

bool cluster_conn_is_full(const struct link_conn *c, size_t more)
{
    size_t waiting = c->pending.n + (c->s != NULL ? net_stream_out_len(c->s) : 0);
    return waiting > 0 && waiting + more > LINK_QUEUE_BYTES_MAX;
}

/* --- frames --- */

void cluster_conn_put(struct link_conn *c, const struct link_head *h, struct str payload)
{
    bool is_hello = h->type <= LINK_FRAME_BYE;
    if (c->state == LINK_ST_DOWN)
        return;
    struct buf *b = c->state == LINK_ST_UP || is_hello ? net_stream_out(c->s) : &c->pending;
    cluster_record_head_put(b, h, payload);
    c->l->stats.frames_out++;
    c->l->stats.bytes_out += LINK_HEAD_LEN + payload.n;
    if (!c->is_dialer && !c->is_paused && net_stream_is_high(c->s)) {
        c->is_paused = true; /* it does not take our replies: take no more requests */
        net_stream_pause(c->s);
    }
}

static void put_hello(struct link_conn *c, uint8_t type)
{
    struct buf b = {0};
    struct link_head h = {.type = type};
    struct cluster_hello hello = {.uuid = c->l->conf.self,
                                  .target = c->peer,
                                  .epoch = c->l->conf.epoch,
                                  .label = c->l->conf.label,
                                  .version_min = LINK_VERSION,
                                  .version_max = LINK_VERSION};
    cluster_record_hello_put(&b, type, &hello);
    cluster_conn_put(c, &h, buf_str(&b));
    buf_deinit(&b);
}

/* The certificate, if there is TLS, must be the one of that node. */
static bool certified(const struct link_conn *c, const struct uuid *uuid)
{
    struct net_stream_identity id;
    char want[16 + UUID_TEXT] = "node:";
    if (c->l->tls == NULL)
        return true;
    uuid_format(uuid, want + 5);
    return net_stream_identity(c->s, &id) && str_eq(id.san_uri, str_of(want));
}

/* NULL: welcome; else why not, for a person on either side. */
static const char *judge(const struct link_conn *c, const struct cluster_hello *h)
{
    if (h->version_min > LINK_VERSION || h->version_max < LINK_VERSION)
        return "the protocol versions do not overlap";
    if (h->label != c->l->conf.label)
        return "clusterConfig.env differs";
    if (!uuid_eq(&h->target, &c->l->conf.self))
        return "another node lives at this address";
    if (c->is_dialer && !uuid_eq(&h->uuid, &c->peer))
        return "another node answered";
    if (!certified(c, &h->uuid))
        return "the certificate is not that of this node";
    if (c->l->conf.refuses != NULL && c->l->conf.refuses(c->l->conf.arg, &h->uuid))
        return "this node was revoked: bilrost-setup leave, then join anew";
    return NULL;
}

static void say_bye(struct link_conn *c, const char *why)
{
    struct link_head h = {.type = LINK_FRAME_BYE};
    cluster_conn_put(c, &h, str_of(why));
    cluster_conn_end(c, why);
}

static void set_up(struct link_conn *c, const struct cluster_hello *h)
{
    c->peer = h->uuid;
    c->epoch = h->epoch;
    c->state = LINK_ST_UP;
    c->backoff = 0;
    if (c->pending.n > 0)
        buf_put_str(net_stream_out(c->s), buf_str(&c->pending));
    buf_deinit(&c->pending);
}

static void on_hello(struct link_conn *c, const struct link_head *head, struct str payload)
{
    struct cluster_hello h;
    uint8_t want = c->is_dialer ? LINK_FRAME_WELCOME : LINK_FRAME_HELLO;
    if (head->type == LINK_FRAME_BYE) {
        char why[128];
        str_copy(why, sizeof why, payload);
        log_line(c->l->conf.log, LOG_LEVEL_WARN, "cluster.link.refused",
                 "the other side refused us: %s", why);
        cluster_conn_end(c, NULL);
        return;
    }
    if (head->type != want || !cluster_record_hello_get(payload, &h)) {
        cluster_conn_end(c, "not the link protocol");
        return;
    }
    const char *why = judge(c, &h);
    if (why != NULL) {
        say_bye(c, why);
        return;
    }
    if (!c->is_dialer) {
        c->peer = h.uuid;
        put_hello(c, LINK_FRAME_WELCOME);
    }
    set_up(c, &h);
}

static size_t on_read(void *arg, struct net_stream *s, const uint8_t *p, size_t n)
{
    struct link_conn *c = arg;
    size_t done = 0;
    c->heard_at = net_loop_now(c->l->conf.loop);
    while (c->s == s && !c->is_ending && n - done >= LINK_HEAD_LEN) {
        struct link_head h;
        cluster_record_head_get(p + done, &h);
        if (h.len > CLUSTER_PAYLOAD_MAX) {
            cluster_conn_end(c, "a frame is too long");
            return n;
        }
        if (n - done < LINK_HEAD_LEN + (size_t)h.len) {
            net_stream_want(s, LINK_HEAD_LEN + (size_t)h.len);
            break;
        }
        struct str payload = str_view(p + done + LINK_HEAD_LEN, h.len);
        done += LINK_HEAD_LEN + (size_t)h.len;
        c->l->stats.frames_in++;
        c->l->stats.bytes_in += LINK_HEAD_LEN + (size_t)h.len;
        if (c->state == LINK_ST_UP)
            cluster_link_on_frame(c, &h, payload);
        else
            on_hello(c, &h, payload);
    }
    return c->s == s && !c->is_ending ? done : n;
}

static void on_drained(void *arg, struct net_stream *s)
{
    struct link_conn *c = arg;
    if (c->is_paused) {
        c->is_paused = false;
        net_stream_resume(s);
    }
}

/* --- the end of one --- */

static void dial_stop(struct link_conn *c)
{
    if (c->dial == NULL)
        return;
    c->dial = net_watch_free(c->dial);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static void drop_everything(struct link_conn *c)
{
    struct cluster_link *l = c->l;
    net_timer_del(l->conf.loop, &c->timer);
    c->s = NULL;
    c->state = LINK_ST_DOWN;
    c->is_paused = c->is_ending = false;
    buf_deinit(&c->pending);
    cluster_requests_forget(c);
    cluster_streams_break(c, CLUSTER_LINK_E_UNREACHABLE);
    /* only what is there now: a callback may call again */
    struct list lost;
    list_init(&lost);
    for (struct list *it; (it = list_pop_front(&c->calls)) != NULL;)
        list_push_back(&lost, it);
    for (struct list *it; (it = lost.next) != &lost;)
        cluster_call_end(l, container_of(it, struct link_call, link), CLUSTER_LINK_E_UNREACHABLE,
                         STR(""));
}

static void back_off(struct link_conn *c)
{
    struct rng *r = net_loop_rng(c->l->conf.loop);
    c->backoff = c->backoff == 0 ? BACKOFF_MIN : usec_min(2 * c->backoff, BACKOFF_MAX);
    c->retry_at = net_loop_now(c->l->conf.loop) + rng_between(r, c->backoff / 2, c->backoff);
}

static void ended(struct link_conn *c)
{
    struct cluster_link *l = c->l;
    bool was_dialer = c->is_dialer;
    struct uuid peer = c->peer;
    if (was_dialer) {
        back_off(c);
        drop_everything(c);
        if (!l->is_closing)
            l->conf.lost(l->conf.arg, &peer);
    } else {
        cluster_conn_free(c);
    }
}

static void dial_failed(struct link_conn *c)
{
    dial_stop(c);
    c->l->stats.connects_failed++;
    ended(c);
}

/* It ended before it was up: an operator wants to know why, above all when it is a certificate. */
static void tell_refused(const struct link_conn *c, const struct net_stream *s,
                         enum net_stream_end why)
{
    struct cluster_link *l = c->l;
    usec_t now = net_loop_now(l->conf.loop);
    char at[NET_ADDRESS_TEXT];
    if (now < l->warn_at)
        return;
    l->warn_at = now + WARN_EVERY;
    (void)net_address_format(net_stream_peer(s), at);
    log_line(l->conf.log, LOG_LEVEL_WARN, "cluster.link.failed", "link %s %s did not open: %s",
             c->is_dialer ? "to" : "from", at,
             why == NET_STREAM_END_ERROR     ? net_stream_error_text(s)
             : why == NET_STREAM_END_TIMEOUT ? "it took too long"
                                             : "the other side closed it");
}

static void on_closed(void *arg, struct net_stream *s, enum net_stream_end why)
{
    struct link_conn *c = arg;
    if (c->state == LINK_ST_CONNECTING && !c->is_ending && !c->l->is_closing)
        tell_refused(c, s, why);
    c->s = NULL;
    ended(c);
}

/* Ours is forgotten at once, the bytes leave by themselves. */
void cluster_conn_end(struct link_conn *c, const char *why)
{
    char peer[UUID_TEXT];
    if (c->s == NULL)
        return;
    if (why != NULL) {
        uuid_format(&c->peer, peer);
        log_line(c->l->conf.log, LOG_LEVEL_WARN, "cluster.link.closed", "link %s %s closed: %s",
                 c->is_dialer ? "to" : "from", peer, why);
    }
    c->is_ending = true;
    net_stream_close(c->s); /* closed() follows in a later turn */
}

void cluster_conn_free(struct link_conn *c)
{
    struct cluster_link *l = c->l;
    if (c->is_dialer) /* before callbacks that call again: they must not find it and dial with it */
        (void)map_del(&l->conns, conn_hash(&c->peer, c->lane, c->loop), c);
    list_del(&c->link);
    if (c->s != NULL)
        net_stream_forget(c->s);
    dial_stop(c);
    drop_everything(c);
    must(c->s == NULL && c->dial == NULL);
    map_deinit(&c->streams);
    mem_free(c);
}

void cluster_link_down(struct cluster_link *l, const struct uuid *peer)
{
    struct list gone; /* only what is there now: callbacks may dial anew */
    list_init(&gone);
    size_t at = 0;
    for (struct link_conn *c; (c = map_next(&l->conns, &at)) != NULL;)
        if (uuid_eq(&c->peer, peer))
            list_push_back(&gone, &c->link);
    list_each(&gone, it)
    {
        struct link_conn *c = container_of(it, struct link_conn, link);
        (void)map_del(&l->conns, conn_hash(&c->peer, c->lane, c->loop), c);
    }
    while (!list_empty(&gone))
        cluster_conn_free(container_of(gone.next, struct link_conn, link));
    list_each(&l->accepted, it)
    {
        struct link_conn *c = container_of(it, struct link_conn, link);
        if (uuid_eq(&c->peer, peer))
            cluster_conn_end(c, NULL);
    }
}

/* --- keepalive --- */

static void on_timer(void *arg, usec_t now)
{
    struct link_conn *c = arg;
    if (c->dial != NULL) { /* a connect that takes too long */
        dial_failed(c);
        return;
    }
    if (now - c->heard_at > SILENCE_MAX && !c->is_paused) {
        log_line(c->l->conf.log, LOG_LEVEL_WARN, "cluster.link.silent",
                 "a link is silent for %u s: closed", (unsigned)(SILENCE_MAX / USEC_SEC));
        net_stream_abort(c->s); /* closed() follows in this turn */
        return;
    }
    if (c->is_dialer && c->state == LINK_ST_UP) {
        struct link_head h = {.type = LINK_FRAME_PING};
        cluster_conn_put(c, &h, STR(""));
    }
    net_timer_set(c->l->conf.loop, &c->timer, now + PING_EVERY);
}

static const struct net_stream_ops conn_ops = {
    .read = on_read, .drained = on_drained, .closed = on_closed};

static struct link_conn *conn_new(struct cluster_link *l, enum cluster_lane lane, bool is_dialer)
{
    struct link_conn *c = mem_new(sizeof *c);
    c->l = l;
    c->lane = lane;
    c->is_dialer = is_dialer;
    list_init(&c->calls);
    list_init(&c->requests);
    list_init(&c->link);
    net_timer_init(&c->timer, on_timer, c);
    return c;
}

static void begin(struct link_conn *c, usec_t first)
{
    usec_t now = net_loop_now(c->l->conf.loop);
    c->state = LINK_ST_CONNECTING;
    c->heard_at = now;
    net_timer_set(c->l->conf.loop, &c->timer, now + first);
}

static struct net_stream_conf stream_conf(struct link_conn *c, struct net_tls *tls,
                                          const char *tls_name)
{
    return (struct net_stream_conf){
        .ops = &conn_ops,
        .arg = c,
        .limits = &c->l->limits,
        .tls = tls,
        .tls_name = tls_name,
        .connect_usec_max = DIAL_MAX,
    };
}

/* The socket is connected, or has failed: the preface goes in the clear, what follows is the
 * stream's. */
static void on_dialled(void *arg, unsigned events)
{
    struct link_conn *c = arg;
    char name[UUID_TEXT];
    int fd = c->fd, err = 0;
    socklen_t len = sizeof err;
    (void)events;
    uint8_t p[LINK_PREFACE_LEN] = {'B',
                                   'L',
                                   'N',
                                   'K',
                                   LINK_VERSION,
                                   (uint8_t)c->lane,
                                   (uint8_t)(c->loop >> 8),
                                   (uint8_t)c->loop};
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 || err != 0 ||
        send(fd, p, sizeof p, MSG_NOSIGNAL) != (ssize_t)sizeof p) {
        dial_failed(c);
        return;
    }
    c->fd = -1; /* the stream takes it */
    dial_stop(c);
    uuid_format(&c->peer, name);
    struct net_stream_conf conf = stream_conf(c, c->l->tls, name);
    if (net_stream_adopt(c->l->conf.loop, fd, &conf, &c->s) != 0) {
        c->s = NULL;
        ended(c);
        return;
    }
    begin(c, PING_EVERY);
    put_hello(c, LINK_FRAME_HELLO);
}

static int dial_socket(const struct net_address *to)
{
    int one = 1;
    int fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    socklen_t len = to->sa.sa_family == AF_INET6 ? sizeof to->v6 : sizeof to->v4;
    if (connect(fd, &to->sa, len) < 0 && errno != EINPROGRESS) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

struct link_conn *cluster_conn_dial(struct cluster_link *l, const struct uuid *peer,
                                    const struct link_peer *p, enum cluster_lane lane,
                                    uint32_t loop)
{
    struct link_conn *c = cluster_conn_find(l, peer, lane, loop);
    if (c == NULL) {
        c = conn_new(l, lane, true);
        c->peer = *peer;
        c->loop = loop;
        map_put(&l->conns, conn_hash(peer, lane, loop), c);
    }
    must(c->state == LINK_ST_DOWN);
    if (net_loop_now(l->conf.loop) < c->retry_at)
        return NULL;
    l->stats.connects++;
    c->fd = dial_socket(&p->addr);
    if (c->fd < 0) {
        l->stats.connects_failed++;
        back_off(c);
        return NULL;
    }
    c->dial = net_watch_new(l->conf.loop, c->fd, NET_WATCH_WRITE, on_dialled, c);
    begin(c, DIAL_MAX);
    return c;
}

void cluster_link_adopt(struct cluster_link *l, int fd, enum cluster_lane lane,
                        struct net_tls *server_tls)
{
    struct link_conn *c = conn_new(l, lane, false);
    struct net_stream_conf conf = stream_conf(c, server_tls, NULL);
    c->loop = l->conf.index;
    if (net_stream_adopt(l->conf.loop, fd, &conf, &c->s) != 0) {
        mem_free(c);
        return;
    }
    list_push_back(&l->accepted, &c->link);
    begin(c, PING_EVERY);
}
