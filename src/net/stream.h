/* One connected byte stream: TCP, unix, TLS or WebSocket behind one door.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Input.  All bytes that are there are read with one system call into the loop's shared buffer and
 * offered to read(); it says how many it has used up.  What it leaves is kept and offered again
 * with what follows.  An idle stream holds no buffer. Output.  net_stream_out gives a buffer to
 * append to; the loop writes it at the end of the turn, with one system call however much was
 * appended.  Large immutable payloads are attached by reference instead of copied. WebSocket:
 * read() sees the payload of binary messages without their frames; each turn's output becomes one
 * binary message.
 *
 * Thread: the loop it belongs to.  Callbacks may call anything here, net_stream_close and
 * net_stream_abort included. */
#pragma once

#include "base/budget.h"
#include "base/buf.h"
#include "net/address.h"
#include "net/loop.h"
#include "net/tls.h"

struct net_stream;

enum net_stream_end {
    NET_STREAM_END_CLOSED = 1, /* we closed it and all output was written */
    NET_STREAM_END_PEER,       /* the peer closed it */
    NET_STREAM_END_ERROR,   /* reset, broken pipe, TLS or WebSocket protocol error: net_stream_error
                             */
    NET_STREAM_END_ABORTED, /* net_stream_abort */
    NET_STREAM_END_TIMEOUT, /* the handshake or the closing took too long */
};

struct net_stream_ops {
    /* n > 0 bytes in order; returns how many of them are used up (<= n).  p is valid during the
     * call. */
    size_t (*read)(void *arg, struct net_stream *s, const uint8_t *p, size_t n);
    /* Output has fallen to the low water mark after it was above the high one.  May be NULL. */
    void (*drained)(void *arg, struct net_stream *s);
    /* The last call for this stream, exactly once, never from within another call of ours on its
     * stack: s is freed when it returns. */
    void (*closed)(void *arg, struct net_stream *s, enum net_stream_end why);
    /* A stream of ours is connected and its handshakes are done (not called for accepted ones,
     * which are open when their owner gets them).  May be NULL. */
    void (*opened)(void *arg, struct net_stream *s);
};

/* Shared settings of many streams (one per listener); outlives them. */
struct net_stream_limits {
    size_t out_high_bytes; /* above it net_stream_is_high; 0: 1 MiB */
    size_t out_low_bytes;  /* at or below it drained() is called; 0: a quarter of high */
    size_t keep_bytes_max; /* what read() may leave unused; beyond it the stream ends in error.  0:
                              64 KiB */
    uint64_t read_bytes_per_sec; /* readers are slowed to this; 0: no limit */
    usec_t handshake_usec_max;   /* TLS and WebSocket; 0: 10 s */
    struct budget
        *budget; /* counts buffers that outlive a turn: output the kernel did not take, input left
                    over; NULL: nobody.  Outlives the owner (net_stream_forget is an end of it) */
};

/* Who takes over; set once by whoever accepted or connected it, before the turn ends. */
void net_stream_set(struct net_stream *s, const struct net_stream_ops *ops, void *arg);

/* Connects: bytes may be appended at once and leave when it is connected; failure comes as
 * closed(). */
struct net_stream_conf {
    const struct net_stream_ops *ops;
    void *arg;
    const struct net_stream_limits *limits; /* may be NULL */
    struct net_tls *tls;                    /* NULL: plain; ref is taken */
    const char *tls_name;                   /* the name the server's certificate must have */
    const char *ws_path;                    /* NULL: no WebSocket */
    const char *ws_protocol;                /* the subprotocol */
    usec_t connect_usec_max;                /* 0: 10 s */
    const struct net_address *bind;         /* source address, may be NULL */
};

/* 0 or -errno (then closed is not called). */
must_use int net_stream_connect(struct net_loop *l, const struct net_address *to,
                                const struct net_stream_conf *conf, struct net_stream **out_stream);
must_use int net_stream_connect_unix(struct net_loop *l, const char *path,
                                     const struct net_stream_conf *conf,
                                     struct net_stream **out_stream);

/* Wraps a connected socket; takes the descriptor (also on failure). */
must_use int net_stream_adopt(struct net_loop *l, int fd, const struct net_stream_conf *conf,
                              struct net_stream **out_stream);

struct net_loop *net_stream_loop(const struct net_stream *s);

/* The buffer to append to; valid until control returns to the loop.  Never shrink it.  After close
 * or abort it swallows. */
struct buf *net_stream_out(struct net_stream *s);

/* Appends n bytes that somebody else owns; they must not change until release(owner) is called,
 * once, on this thread, when they are written or the stream ends.  Worth it from some KiB on. */
void net_stream_out_shared(struct net_stream *s, const void *p, size_t n,
                           void (*release)(void *owner), void *owner);

/* Bytes appended and not yet taken by the kernel; counts shared ones. */
size_t net_stream_out_len(const struct net_stream *s);

/* Above the high water mark: stop producing until drained(). */
bool net_stream_is_high(const struct net_stream *s);
/* If the buffer of net_stream_out holds so much, drained() is owed: it comes once what waits is at
 * or below the low mark. */
void net_stream_owe_drained(struct net_stream *s, size_t n);

/* Writes now instead of at the end of the turn.  What net_stream_out gave before is no longer
 * valid. */
void net_stream_flush(struct net_stream *s);

/* Counted, so that several reasons may pause at once; input stays in the kernel and slows the peer.
 * Bytes left unused by read() are offered again when it resumes. */
void net_stream_pause(struct net_stream *s);
void net_stream_resume(struct net_stream *s);

/* read() needs at least n bytes before another call makes sense (a large packet); a hint. */
void net_stream_want(struct net_stream *s, size_t n);

/* This stream's own read rate, instead of the limits'; 0: that of the limits.  What waits for the
 * old rate goes on. */
void net_stream_set_rate(struct net_stream *s, uint64_t read_bytes_per_sec);
/* The same for what is written, 0: none; what is appended faster waits. */
void net_stream_set_write_rate(struct net_stream *s, uint64_t write_bytes_per_sec);

/* No more input; writes what is appended, then ends, at the latest after 10 s.  closed() follows in
 * a later turn. */
void net_stream_close(struct net_stream *s);

/* The same, not before delay_usec have passed (against clients that come straight back). */
void net_stream_close_later(struct net_stream *s, usec_t delay_usec);

/* Ends without writing; the peer gets a reset.  closed() follows in this
 * turn, or in the next one when its output was being written. */
void net_stream_abort(struct net_stream *s);

/* No closed() any more: the owner forgets it, the stream ends by itself (close). */
void net_stream_forget(struct net_stream *s);

/* The client's address (from the PROXY header if there was one). */
const struct net_address *net_stream_peer(const struct net_stream *s);
must_use int net_stream_local(const struct net_stream *s, struct net_address *out);

/* Bytes read from and written to the peer, without TLS and WebSocket overhead. */
uint64_t net_stream_read_total(const struct net_stream *s);
uint64_t net_stream_written_total(const struct net_stream *s);

/* The error behind NET_STREAM_END_ERROR: -errno, or -EPROTO for TLS and WebSocket; text for a log
 * line, static. */
int net_stream_error(const struct net_stream *s);
const char *net_stream_error_text(const struct net_stream *s);

/* The peer's checked certificate; views valid while the stream lives.  False: none was shown, or no
 * TLS. */
struct net_stream_identity {
    struct str cn;      /* subject CN, UTF-8; empty: none */
    struct str san;     /* first DNS name, else first e-mail, URI; empty: none */
    struct str san_uri; /* first URI */
    struct str subject; /* RFC 2253 */
    uint8_t sha256[32]; /* of the certificate */
};
bool net_stream_identity(struct net_stream *s, struct net_stream_identity *out);

/* "TLSv1.3", or NULL without TLS. */
const char *net_stream_tls_version(const struct net_stream *s);

/* The name the client asked for (SNI); empty: none. */
struct str net_stream_tls_name(const struct net_stream *s);

/* AF_UNIX peers: who runs it.  False: not a unix socket. */
bool net_stream_peer_cred(const struct net_stream *s, uint32_t *out_uid, uint32_t *out_gid);
