/* The WebSocket handshake of a stream.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. In stage WS nothing of the owner's is written; the handshake's own lines are, directly.
 * 2. What the peer sent behind its head reaches the decoder before anything else.
 *
 * Never: looks into payloads. */
#include "net/stream_priv.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "net/tls_priv.h"
#include "net/ws_priv.h"

/* Some hundred bytes into an empty socket: taken whole, or the peer is not worth waiting for. */
static bool send_now(struct net_stream *s, const struct buf *b)
{
    ssize_t r =
        s->tls ? net_tls_link_write(s->tls, b->p, b->n) : send(s->fd, b->p, b->n, MSG_NOSIGNAL);
    return r == (ssize_t)b->n;
}

void net_stream_ws_begin(struct net_stream *s)
{
    struct net_stream_extra *x = s->extra;
    if (s->is_accepted) {
        if (s->tls && net_tls_link_has_pending(s->tls))
            net_stream_ws_step(s);
        return;
    }
    struct buf ask = {0};
    char host[NET_ADDRESS_TEXT], key[32];
    (void)net_address_format(&s->peer, host);
    net_ws_request(&ask, x->tls_name ? x->tls_name : host, x->ws_path, x->ws_protocol, key);
    mem_free(x->ws_protocol); /* from here on: the key the answer must match */
    x->ws_protocol = mem_dup(key, strlen(key));
    if (!send_now(s, &ask))
        net_stream_end(s, NET_STREAM_END_ERROR, -EPIPE);
    buf_deinit(&ask);
}

static int head_step(struct net_stream *s, size_t *out_used)
{
    struct net_stream_extra *x = s->extra;
    struct str head = buf_str(&x->head);
    if (!s->is_accepted)
        return net_ws_confirm(head, x->ws_protocol, out_used);
    struct buf answer = {0};
    int r = net_ws_accept(head, x->ws_path, x->ws_protocol, &answer, out_used);
    if (answer.n && !send_now(s, &answer))
        r = -EPIPE;
    buf_deinit(&answer);
    return r;
}

void net_stream_ws_step(struct net_stream *s)
{
    struct net_stream_extra *x = s->extra;
    uint8_t *at = buf_reserve(&x->head, NET_WS_HEAD_MAX);
    ssize_t n = s->tls ? net_tls_link_read(s->tls, at, NET_WS_HEAD_MAX)
                       : recv(s->fd, at, NET_WS_HEAD_MAX, 0);
    if (n < 0 && (s->tls ? n == -EAGAIN : errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        net_stream_end(s, n == 0 ? NET_STREAM_END_PEER : NET_STREAM_END_ERROR, (int)n);
        return;
    }
    x->head.n += (size_t)n;
    size_t used = 0;
    int r = head_step(s, &used);
    if (r == NET_WS_E_MORE && x->head.n < NET_WS_HEAD_MAX)
        return;
    if (r) {
        net_stream_end(s, NET_STREAM_END_ERROR, r < 0 ? r : -EPROTO);
        return;
    }
    s->ws = net_ws_new(s->is_accepted);
    struct buf rest = x->head;
    x->head = (struct buf){0};
    net_stream_advance(s);
    if (rest.n > used && s->stage == NET_STREAM_OPEN)
        net_stream_arrived(s, rest.p + used, rest.n - used);
    buf_deinit(&rest);
}
