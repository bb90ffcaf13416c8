/* The inside of a stream, for this room.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>

#include "net/loop_priv.h"
#include "net/stream.h"

struct net_tls_link;
struct net_ws;
struct net_listener;

enum net_stream_stage {                     /* in the order they are passed */
                        NET_STREAM_PROXY,   /* accepted: the PROXY header comes */
                        NET_STREAM_CONNECT, /* ours: the kernel connects */
                        NET_STREAM_TLS,     /* handshake */
                        NET_STREAM_WS,      /* handshake */
                        NET_STREAM_OPEN,
                        NET_STREAM_CLOSING, /* output leaves, input is dropped */
                        NET_STREAM_LINGER,  /* all is written; waits a little for the peer's end, so
                                               that no reset eats it */
                        NET_STREAM_ENDED,   /* waits for closed() */
};

enum net_stream_todo { /* bits: what the stream gets from the loop at top level */
                       NET_STREAM_TODO_OFFER = 1,
                       NET_STREAM_TODO_DRAINED = 2,
                       NET_STREAM_TODO_CLOSED = 4,
};

/* One shared piece, before byte `at` of the buffer. */
struct net_stream_chunk {
    size_t at, n;
    const uint8_t *p;             /* NULL: head */
    void (*release)(void *owner); /* NULL: nothing to release */
    void *owner;
    uint8_t head[16];
};

/* Output (or kept input) of one stream while there is any; from the loop's pool. */
struct net_stream_out_block {
    struct buf buf;
    size_t done;   /* bytes of buf the kernel has */
    size_t framed; /* bytes of buf that are within WebSocket frames already */
    size_t shared; /* bytes in chunks, not yet written */
    size_t shared_unframed;
    struct net_stream_chunk *chunk;
    size_t chunk_first, chunk_count, chunk_cap;
    struct net_stream_out_block *next;
};

/* What only some streams have, or only for a while. */
struct net_stream_extra {
    struct net_timer timer; /* its meaning follows from the stage */
    struct list closing;    /* in loop->closing from CLOSING on */
    struct net_stream *stream;
    usec_t close_at;     /* CLOSING: not before */
    struct net_tls *tls; /* for the handshake that is still to come */
    char *tls_name, *ws_path, *ws_protocol;
    bool is_rate_paused, is_write_paused;
    uint64_t write_rate; /* bytes a second, 0: none */
    usec_t write_clock;  /* until when the bytes written are paid for */
    bool is_close_later;
    struct buf head; /* PROXY and WebSocket handshakes */
};

struct net_stream {
    struct event ev;
    const struct net_stream_ops *ops; /* NULL: nobody owns it */
    void *arg;
    struct net_loop *loop;
    const struct net_stream_limits *limits;
    struct net_stream_out_block *out; /* NULL: nothing to write */
    struct net_stream_out_block *in;  /* NULL: nothing was left unused */
    struct net_tls_link *tls;
    struct net_ws *ws;
    struct net_stream_extra *extra;
    struct net_listener *listener; /* NULL: ours, or the listener is gone */
    struct list flush;             /* in loop->flush; in loop->homeless while nobody owns it */
    struct list later;
    uint64_t read_total, written_total;
    uint64_t rate;     /* bytes a second, 0: none */
    usec_t rate_clock; /* until when the bytes read are paid for */
    struct net_address peer;
    int fd, err;
    uint32_t want, listener_at;
    uint64_t charged; /* to limits->budget */
    uint16_t pause_count;
    short armed; /* the events libevent watches for */
    uint8_t stage, todo, why;
    bool is_accepted : 1, is_blocked : 1, is_high : 1, is_reading : 1, is_eof : 1,
        is_wanting_write : 1;
    bool is_gone : 1; /* no longer counted by its listener */
};

/* stream.c */
struct net_stream *net_stream_new(struct net_loop *l, int fd);
struct net_stream_extra *net_stream_extra(struct net_stream *s);
void net_stream_advance(struct net_stream *s); /* enters the stage that follows, up to OPEN */
void net_stream_end(struct net_stream *s, enum net_stream_end why, int err);
void net_stream_interest(struct net_stream *s);
void net_stream_later(struct net_stream *s, unsigned todo);
void net_stream_written(struct net_stream *s); /* output has become empty */
/* Raw bytes that were read together with a handshake. */
void net_stream_arrived(struct net_stream *s, uint8_t *p, size_t n);
void net_stream_arm(struct net_stream *s, usec_t at);

void net_stream_wrote(struct net_stream *s,
                      size_t n); /* to the kernel: counts it, and against the rate */

/* stream_out.c */
/* Makes what is charged what is held. */
void net_stream_charge(struct net_stream *s);
struct net_stream_out_block *net_stream_block_new(struct net_loop *l) must_use;
void net_stream_block_free(struct net_loop *l, struct net_stream_out_block *b);
void net_stream_write(struct net_stream *s);

/* Bytes that are no payload (WebSocket control frames): after all that is appended so far. */
void net_stream_out_raw(struct net_stream *s, const void *p, size_t n);

/* stream_ws.c */
void net_stream_ws_begin(struct net_stream *s);
void net_stream_ws_step(struct net_stream *s);

static inline size_t net_stream_high_bytes(const struct net_stream *s)
{
    return s->limits && s->limits->out_high_bytes ? s->limits->out_high_bytes : 1024 * 1024;
}

static inline size_t net_stream_low_bytes(const struct net_stream *s)
{
    return s->limits && s->limits->out_low_bytes ? s->limits->out_low_bytes
                                                 : net_stream_high_bytes(s) / 4;
}
