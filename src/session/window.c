/* How many messages of QoS 1 and 2 are on their way to one client at once. SPDX-License-Identifier:
 * Apache-2.0
 *
 * The client's Receive Maximum is what it can hold, not what it can take in a reasonable time: a
 * slow client with a large one would get hundreds of messages that then lie in its buffers, where
 * they neither expire nor go to another member of its group.  So one message at a time is watched
 * from its bytes to its acknowledgement, and what that takes longer than it once took is the queue
 * on the other side: if it is above WAIT_MAX the window shrinks in proportion, if it is well below
 * and the window was used up it grows.  The idea is that of TCP Vegas (Brakmo and Peterson, 1995).
 *
 * 1. floor <= size <= ceiling, where the ceiling is the client's Receive Maximum and the floor is
 * MinSendPerSec, or the ceiling where that is less.  (At the floor a client that needs a second for
 * each round gets MinSendPerSec a second, whence the name.)
 * 2. At most one message is watched, and it lies in [head, next) while it is.
 *
 * It begins at the ceiling: a client that keeps up never notices.  It reads no clock and sends
 * nothing. */
#include "session/session_priv.h"

#define WAIT_MAX_USEC                                                                              \
    (USEC_SEC / 2) /* acknowledgements may take this much longer than the quickest */
#define BASE_AGE_USEC                                                                              \
    (60 * USEC_SEC) /* the quickest of this and the last such period counts: networks change */

static uint32_t ceiling(const struct session *s)
{
    return s->receive_max < SESSION_WINDOW_MAX ? s->receive_max : SESSION_WINDOW_MAX;
}

static uint32_t floor_of(const struct session *s)
{
    uint32_t max = ceiling(s);
    return s->settings->min_send_per_sec < max ? (uint32_t)s->settings->min_send_per_sec : max;
}

uint32_t session_window_size(const struct session *s)
{
    uint32_t max = ceiling(s), size = s->flow != NULL ? s->flow->window.size : 0;
    return size == 0 || size > max ? max : size;
}

void session_window_sent(struct session *s, uint64_t seq, usec_t now)
{
    struct session_window *w = &s->flow->window;
    w->was_full |= s->flow->inflight >= session_window_size(s);
    if (w->is_watching)
        return;
    w->is_watching = true;
    w->seq = seq;
    w->sent_at = now;
    w->ahead = (uint16_t)s->flow->inflight;
}

/* The quickest there was lately. */
static void base_learn(struct session_window *w, usec_t took, usec_t now)
{
    if (w->base == 0 || now - w->base_at >= BASE_AGE_USEC) {
        w->base = w->base == 0 || took < w->base_next ? took : w->base_next;
        w->base_next = took;
        w->base_at = now;
    }
    if (took < w->base_next)
        w->base_next = took;
    if (took < w->base)
        w->base = took;
}

void session_window_acked(struct session *s, uint64_t seq, usec_t now)
{
    struct session_window *w = &s->flow->window;
    if (!w->is_watching || seq != w->seq)
        return;
    usec_t took = now > w->sent_at ? now - w->sent_at : 1;
    uint32_t size = session_window_size(s), least = floor_of(s);
    base_learn(w, took, now);
    usec_t wait = took - w->base;
    if (wait > WAIT_MAX_USEC && size > least &&
        w->ahead > least) { /* few ahead make no queue: it slept */
        uint64_t fit = w->ahead * (w->base + WAIT_MAX_USEC) / took;
        fit = fit < size / 2 ? size / 2 : fit; /* one bad moment is not the end */
        w->size = (uint16_t)(fit > least ? fit : least);
    } else if (wait < WAIT_MAX_USEC / 2 && w->was_full && size < ceiling(s)) {
        w->size = (uint16_t)(size + 1 + size / 8);
    }
    if (w->size != 0 && w->size < least) /* the setting changed */
        w->size = (uint16_t)least;
    w->was_full = w->is_watching = false;
}

void session_window_check(const struct session *s)
{
    const struct session_flow *f = s->flow;
    uint32_t size = session_window_size(s);
    must(size > 0 && size <= ceiling(s));
    must(!f->window.is_watching || f->window.seq < f->next);
    must(f->window.base <= f->window.base_next);
}
