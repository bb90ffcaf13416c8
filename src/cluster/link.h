/* Node-to-node calls: request and reply by id, one-way casts, streams with credit.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each loop has a link of its own; a link and everything it hands out belong to that loop, and all
 * callbacks come on it, never from inside the function that caused them.  Towards each loop of a
 * peer a link keeps up to two connections, one per lane, opened on demand, so that bulk cannot
 * delay control and no request changes threads.  What is sent during a loop turn leaves in one
 * write per connection, at the end of the turn.
 *
 * Order: requests, casts and stream data of one (link, peer, shard, lane) arrive in the order they
 * were sent, as long as the connection lives.  Delivery: at most once.  Every call ends with
 * exactly one callback, by its deadline. */
#pragma once

#include "base/buf.h"
#include "base/usec.h"
#include "base/uuid.h"

struct cluster_link;
struct cluster_request;
struct cluster_stream;

#define CLUSTER_PAYLOAD_MAX                                                                        \
    ((size_t)16 << 20) /* bytes of one request, cast, reply or stream piece */

enum cluster_lane {
    CLUSTER_LANE_CONTROL, /* votes, heartbeats, acks, small requests that others wait for */
    CLUSTER_LANE_BULK,    /* appends with payload, snapshots, deliveries */
    CLUSTER_LANE_COUNT,
};

/* Whom a request is for on the other side.  One handler per service and loop. */
enum cluster_service {
    CLUSTER_SERVICE_KV = 1,   /* requests to ranges */
    CLUSTER_SERVICE_RAFT = 2, /* messages between replicas */
    CLUSTER_SERVICE_SNAPSHOT = 3,
    CLUSTER_SERVICE_STORES = 4,
    CLUSTER_SERVICE_DELIVER = 5, /* messages for sessions of that node */
    CLUSTER_SERVICE_SESSION = 6, /* session dict: takeover, kill, exist */
    CLUSTER_SERVICE_API = 7,
    CLUSTER_SERVICE_ECHO = 8,    /* the link itself: answers what it got */
    CLUSTER_SERVICE_KEYRING = 9, /* the cluster itself: orders about keys */
    CLUSTER_SERVICE_MAX = 16,
};

enum cluster_link_outcome {
    CLUSTER_LINK_E_UNKNOWN = 1, /* no live member of that name; nothing was sent */
    CLUSTER_LINK_E_OVERLOADED,  /* a queue is full; nothing was sent */
    CLUSTER_LINK_E_UNREACHABLE, /* the connection did not open or broke: carried out or not, nobody
                                   knows */
    CLUSTER_LINK_E_TIMEOUT,     /* the deadline passed: carried out or not, nobody knows */
    CLUSTER_LINK_E_NO_SERVICE,  /* the peer answered: no handler, or its loop is too busy; not
                                   carried out */
    CLUSTER_LINK_E_CANCELLED,   /* streams only: the other side aborted */
};

#define CLUSTER_SHARD_ANY UINT32_MAX

/* One request, cast or stream to open.  The payload is copied (or written) before the function
 * returns. */
struct cluster_call {
    struct uuid peer; /* ourselves: handed over directly, the same callbacks */
    uint16_t service;
    enum cluster_lane lane;
    uint32_t shard; /* the handler runs on the peer's loop number shard % its loops; ANY: any */
    usec_t timeout; /* from now; mandatory for calls, at most 60 s */
    struct str payload;
};

/* outcome 0: reply is the answer, a view valid during the callback; else a cluster_link_outcome and
 * it is empty. */
typedef void cluster_link_reply_cb(void *arg, int outcome, struct str reply);

/* 0: cb will be called once, later.  Else UNKNOWN or OVERLOADED and cb will not be called.  out_id
 * may be NULL. */
must_use int cluster_link_call(struct cluster_link *l, const struct cluster_call *c,
                               cluster_link_reply_cb *cb, void *arg, uint64_t *out_id);

/* The callback of this call will not come any more.  Fine when it has come. */
void cluster_link_cancel(struct cluster_link *l, uint64_t id);

/* One way; no timeout.  0 says that it was queued, not that it arrives. */
must_use int cluster_link_cast(struct cluster_link *l, const struct cluster_call *c);

/* Where a request came from. */
struct cluster_from {
    struct uuid peer;
    uint64_t epoch; /* of the peer when it connected */
    enum cluster_lane lane;
    uint32_t shard;
    usec_t deadline; /* our clock; after it nobody waits for the reply; USEC_NEVER for a cast */
};

/* rq: answer it with cluster_request_reply, now or later; NULL for a cast.  payload: a view valid
 * during the call. */
typedef void cluster_link_handler(void *arg, struct cluster_request *rq,
                                  const struct cluster_from *from, struct str payload);

/* Registers the handler of a service on this loop; NULL takes it away (open requests of it may
 * still be answered). */
void cluster_link_serve(struct cluster_link *l, uint16_t service, cluster_link_handler *handler,
                        void *arg);

/* Takes rq.  A reply to a caller that is gone vanishes. */
void cluster_request_reply(struct cluster_request *rq, struct str payload);

/* Takes rq: the caller gets NO_SERVICE (nothing was carried out; it may try again elsewhere). */
void cluster_request_refuse(struct cluster_request *rq);

/* The loop's number (0..count-1) and how many loops this node has: a range lives on loop shard %
 * count. */
uint32_t cluster_link_loop(const struct cluster_link *l);
uint32_t cluster_link_loop_count(const struct cluster_link *l);

/* Streams: the side that opens writes, the other reads; for snapshots.  Not to ourselves. */
struct cluster_stream_ops {
    /* Writer: the reader has accepted, or there is credit again. */
    void (*writable)(void *arg, struct cluster_stream *s);
    /* Reader: in order. */
    void (*data)(void *arg, struct cluster_stream *s, struct str piece);
    /* The last call.
     * Writer: 0, the reader has finished with this last word; or an outcome; s is gone.
     * Reader: 0, the writer has ended: s is the reader's until it calls cluster_stream_finish or
     * _abort, now or later; or an outcome, and s is gone. */
    void (*closed)(void *arg, struct cluster_stream *s, int outcome, struct str word);
};

#define CLUSTER_STREAM_WINDOW ((size_t)256 << 10) /* bytes a writer may be ahead of the reader */

/* Opens a stream whose first word is c->payload; c->timeout is the longest silence of the other
 * side. NULL and *out_outcome when it cannot be. */
struct cluster_stream *cluster_stream_open(struct cluster_link *l, const struct cluster_call *c,
                                           const struct cluster_stream_ops *ops, void *arg,
                                           int *out_outcome) must_use;

/* Writer: one piece, copied; OVERLOADED when it exceeds the credit: wait for writable. */
must_use int cluster_stream_write(struct cluster_stream *s, struct str piece);
size_t cluster_stream_credit(const struct cluster_stream *s);

/* Writer: nothing more comes; wait for closed. */
void cluster_stream_end(struct cluster_stream *s);

/* Reader: these bytes are used up, the writer may send as many more. */
void cluster_stream_consume(struct cluster_stream *s, size_t n);

/* Reader, after the writer ended: the last word, s is gone. */
void cluster_stream_finish(struct cluster_stream *s, struct str word);

/* Either side: s is gone at once, no closed comes here; the other side sees CANCELLED. */
void cluster_stream_abort(struct cluster_stream *s);

/* Somebody opens a stream to us: set *ops and *arg_out and return true, or false to refuse. */
typedef bool cluster_link_accept(void *arg, struct cluster_stream *s,
                                 const struct cluster_from *from, struct str first,
                                 const struct cluster_stream_ops **out_ops, void **out_arg);
void cluster_link_serve_stream(struct cluster_link *l, uint16_t service,
                               cluster_link_accept *accept, void *arg);

/* The link to a peer, as this loop sees it. */
struct cluster_link_stats {
    uint64_t calls, casts, replies, timeouts, rejected, broken;
    uint64_t bytes_in, bytes_out, frames_in, frames_out, writes;
    uint64_t connects, connects_failed;
};
void cluster_link_stats_get(const struct cluster_link *l, struct cluster_link_stats *out);
