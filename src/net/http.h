/* HTTP/1.1: a small server for the admin API.  SPDX-License-Identifier: Apache-2.0
 *
 * A request is answered exactly once, now or later; until then it lives.  Requests with bodies over
 * body_bytes_max, of unknown methods, bad syntax or too slow are answered by the server itself with
 * one sentence, and told of. */
#pragma once

#include "base/buf.h"
#include "net/address.h"
#include "net/loop.h"
#include "net/tls.h"

struct net_http;
struct net_http_request;

/* A request that never became one: the server has answered it and closes. */
struct net_http_refusal {
    int status;      /* 400, 408 or 413 */
    struct str what; /* the sentence of its answer */
    const char *who; /* the peer's address; "uid N" over a unix socket */
};

struct net_http_conf {
    const char *address;    /* "host:port"; NULL when unix_path is set */
    const char *unix_path;  /* NULL: none */
    unsigned unix_mode;     /* 0: 0660 */
    const char *unix_group; /* may be NULL */
    struct net_tls *tls;    /* NULL: plain */
    size_t body_bytes_max;  /* 0: 1 MiB */
    usec_t idle_usec_max;   /* for a whole request to arrive; 0: 30 s */
    usec_t leave_usec_max;  /* for an answer to be taken; 0: 60 s */
    size_t
        connection_count_max; /* one more ends the one that waits longest for its request; 0: 256 */
    void (*request)(void *arg, struct net_http_request *q);
    void (*refused)(void *arg, const struct net_http_refusal *r); /* may be NULL */
    void *arg;
};

/* 0, or -errno with one plain sentence in out_error (256 bytes). */
must_use int net_http_new(struct net_loop *l, const struct net_http_conf *conf, char out_error[256],
                          struct net_http **out_http);
struct net_http *net_http_free(struct net_http *h);

struct net_http_stat {
    size_t connection_count; /* now */
    uint64_t closed_full;    /* to make room for others */
    uint64_t closed_slow;    /* sent or took too slowly, or had nothing more to ask */
};
/* Thread: the loop's. */
struct net_http_stat net_http_stat(const struct net_http *h);
const struct net_address *net_http_address(const struct net_http *h);

/* Views, valid until the request is answered. */
struct str net_http_method(const struct net_http_request *q); /* "GET" */
struct str net_http_path(const struct net_http_request *q);   /* decoded, without the query */
struct str net_http_header(const struct net_http_request *q,
                           const char *name); /* p == NULL: absent */
/* The i-th header; false behind the last. */
bool net_http_header_at(const struct net_http_request *q, size_t i, struct str *out_name,
                        struct str *out_value);
struct str net_http_query(const struct net_http_request *q,
                          const char *key); /* decoded; p == NULL: absent */
struct str net_http_body(struct net_http_request *q);
bool net_http_peer(const struct net_http_request *q, struct net_address *out);

/* Over a unix socket: who asks.  False over TCP. */
bool net_http_peer_cred(const struct net_http_request *q, uint32_t *out_uid, uint32_t *out_gid);

void net_http_reply_header(struct net_http_request *q, const char *name, struct str value);

/* Answers and forgets q. */
void net_http_reply(struct net_http_request *q, int status, const char *content_type,
                    struct str body);

/* A blocking client for tools: one request, one answer.  target: "http://host:port",
 * "https://host:port" or "unix:/path". */
struct net_http_ask {
    const char *target;
    const char *method;
    const char *path;         /* with the query, encoded */
    const struct str *header; /* "Name: value" each */
    size_t header_count;
    struct str body;
    struct net_tls *tls;     /* https: whom we trust */
    usec_t timeout_usec;     /* 0: 10 s */
    size_t answer_bytes_max; /* 0: 64 MiB */
};

/* 0 and the status and body; or -errno (-ECONNREFUSED, -ENOENT, -EACCES, -ETIMEDOUT, -EPROTO;
 * -EKEYREJECTED: its certificate is not to be trusted).  The
 * buffer is yours. */
must_use int net_http_fetch(const struct net_http_ask *ask, int *out_status, struct buf *out_body);
