/* The back room of the link.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "cluster/link.h"
#include "net/loop.h"
#include "net/mailbox.h"
#include "net/stream.h"

#define LINK_HEAD_LEN 24
#define LINK_PREFACE_LEN 8
#define LINK_VERSION 1
#define LINK_OPEN_CALLS_MAX 16384 /* calls of one link that wait for a reply */
#define LINK_CALLS_MAX 4096       /* of one connection */
#define LINK_QUEUE_BYTES_MAX                                                                       \
    ((size_t)32 << 20)          /* written and not taken by the kernel, per connection */
#define LINK_REQUESTS_MAX 16384 /* requests of one connection that wait for our reply */
#define LINK_STREAMS_MAX 64     /* of one connection */
#define LINK_TIMEOUT_MAX (60 * USEC_SEC)

enum link_frame {
    LINK_FRAME_HELLO = 1,
    LINK_FRAME_WELCOME,
    LINK_FRAME_BYE, /* payload: why, for a person */
    LINK_FRAME_PING,
    LINK_FRAME_PONG,
    LINK_FRAME_CALL,
    LINK_FRAME_CAST,
    LINK_FRAME_REPLY,
    LINK_FRAME_REFUSE,
    LINK_FRAME_OPEN, /* streams */
    LINK_FRAME_ACCEPT,
    LINK_FRAME_DATA,
    LINK_FRAME_CREDIT,
    LINK_FRAME_END,
    LINK_FRAME_FINISH,
    LINK_FRAME_ABORT,
};

/* Before the payload: length of the payload u32, type u8, 0 u8, service u16, id u64, shard u32,
 * timeout ms u32. */
struct link_head {
    uint32_t len;
    uint8_t type;
    uint16_t service;
    uint64_t id;
    uint32_t shard;
    uint32_t timeout_ms;
};

struct link_peer { /* what the cluster knows of one */
    struct net_address addr;
    uint64_t epoch;
    uint32_t loops;
};

struct link_conf {
    struct net_loop *loop;
    uint32_t index, count; /* of the loops */
    struct uuid self;
    uint64_t epoch;
    uint64_t label;      /* hash of env */
    struct net_tls *tls; /* client side; NULL: plain */
    const struct log *log;
    /* false: not a live member */
    bool (*find)(void *arg, const struct uuid *peer, struct link_peer *out);
    /* true: its certificate was revoked; NULL: of nobody */
    bool (*refuses)(void *arg, const struct uuid *peer);
    /* a connection to it broke, or did not open; this loop */
    void (*lost)(void *arg, const struct uuid *peer);
    void *arg;
};

enum link_state { LINK_ST_DOWN, LINK_ST_CONNECTING, LINK_ST_UP };

struct link_conn {
    struct cluster_link *l;
    struct net_stream *s;   /* NULL: DOWN, or the socket is being connected */
    struct net_watch *dial; /* the socket being connected */
    int fd;                 /* while dial */
    enum link_state state;
    bool is_dialer;
    bool is_paused;
    bool is_ending; /* no more input; closed() is on its way */
    enum cluster_lane lane;
    uint32_t loop; /* of the peer (dialer); our own index (accepted) */
    struct uuid peer;
    uint64_t epoch;
    struct buf pending; /* frames that wait for UP */
    struct list calls;  /* dialer: of ours */
    size_t call_count;
    struct list requests; /* accepted: of theirs */
    size_t request_count;
    struct map streams;
    usec_t heard_at, retry_at, backoff;
    struct net_timer timer; /* keepalive */
    struct list link;       /* accepted: in l->accepted */
};

struct link_call {
    uint64_t id;
    struct heap_node deadline;
    struct list link; /* in its connection's calls; unlinked: to ourselves */
    struct link_conn *conn;
    cluster_link_reply_cb *cb;
    void *arg;
};

struct cluster_request {
    struct list link;
    struct link_conn *conn;    /* NULL: gone, or from ourselves */
    struct cluster_link *l;    /* the link it came in on */
    struct cluster_link *from; /* from ourselves: whose call */
    uint64_t id;
};

struct cluster_stream {
    struct link_conn *conn;
    struct cluster_link *l;
    uint64_t id;
    bool is_writer, is_accepted, is_ended, in_callback, is_dead;
    const struct cluster_stream_ops *ops;
    void *arg;
    size_t credit;   /* writer: may send; reader: the writer may still send */
    size_t consumed; /* reader: not yet given back */
    usec_t silence_max, heard_at;
    struct net_timer timer;
};

/* Something handed over inside this node. */
struct link_hop {
    struct net_mailbox_item item; /* between loops */
    struct list link;             /* inside one */
    struct cluster_link *to, *from;
    bool is_reply, is_cast;
    int outcome;
    uint64_t id;
    uint16_t service;
    enum cluster_lane lane;
    uint32_t shard;
    usec_t deadline;
    size_t n;
    char bytes[];
};

struct link_service {
    cluster_link_handler *handler;
    cluster_link_accept *accept;
    void *arg, *accept_arg;
};

struct cluster_link {
    struct link_conf conf;
    struct net_tls *tls;
    struct net_stream_limits limits;
    struct cluster_link **sibling; /* of all loops, ours too; set by link_siblings */
    struct net_mailbox *box;       /* hops from other loops */
    struct link_service service[CLUSTER_SERVICE_MAX];
    struct map conns; /* dialled, by (peer, lane, loop) */
    struct list accepted;
    struct map calls; /* by id */
    struct heap deadlines;
    struct net_timer deadline_timer;
    struct list hops; /* to ourselves, in order */
    size_t hop_count;
    struct list failed; /* calls that failed before they left: told in the next turn */
    struct net_defer hop_defer;
    struct net_timer hop_timer; /* hops made while deferred work runs come in the next turn */
    uint64_t ids;
    bool is_closing;
    usec_t warn_at; /* not before: a line about a connection that did not open */
    struct cluster_link_stats stats;
};

struct cluster_link *cluster_link_new(const struct link_conf *c) must_use;
struct cluster_link *cluster_link_free(struct cluster_link *l);

/* Ends all connections and calls; no handler is called again. */
void cluster_link_stop(struct cluster_link *l);

/* All links of this node, by loop; before any of them is used.  The array outlives them. */
void cluster_link_siblings(struct cluster_link *l, struct cluster_link **all);

/* A connection that came in with this preface; takes fd. */
void cluster_link_adopt(struct cluster_link *l, int fd, enum cluster_lane lane,
                        struct net_tls *server_tls);

/* The peer is dead, or in a newer epoch: its connections end, calls fail at once. */
void cluster_link_down(struct cluster_link *l, const struct uuid *peer);

/* link_conn.c */
struct link_conn *cluster_conn_find(struct cluster_link *l, const struct uuid *peer,
                                    enum cluster_lane lane, uint32_t loop);
/* Makes one and dials; NULL: it has just failed, wait. */
struct link_conn *cluster_conn_dial(struct cluster_link *l, const struct uuid *peer,
                                    const struct link_peer *p, enum cluster_lane lane,
                                    uint32_t loop);
bool cluster_conn_is_full(const struct link_conn *c, size_t more);
void cluster_conn_put(struct link_conn *c, const struct link_head *h, struct str payload);
void cluster_conn_free(struct link_conn *c);
void cluster_conn_end(struct link_conn *c, const char *why);

/* link.c */
void cluster_link_on_frame(struct link_conn *c, const struct link_head *h, struct str payload);
void cluster_call_end(struct cluster_link *l, struct link_call *k, int outcome, struct str reply);
void cluster_requests_forget(struct link_conn *c);
/* Ends after this turn's callbacks, with an outcome. */
void cluster_call_fail_later(struct cluster_link *l, struct link_call *k);

/* link_local.c */
int cluster_local_send(struct cluster_link *l, const struct cluster_call *c, struct link_call *k);
void cluster_local_reply(struct cluster_request *rq, int outcome, struct str payload);
void cluster_local_init(struct cluster_link *l);
void cluster_local_deinit(struct cluster_link *l);

/* link_stream.c */
void cluster_stream_on_frame(struct link_conn *c, const struct link_head *h, struct str payload);
void cluster_streams_break(struct link_conn *c, int outcome);
