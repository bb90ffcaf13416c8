/* The admin API of one node.  SPDX-License-Identifier: Apache-2.0
 *
 * Thread: loop 0, whose stores client and broker it uses. */
#pragma once

#include "base/buf.h"
#include "base/log.h"
#include "base/uuid.h"

struct api;
struct broker;
struct cluster_seat;
struct kv;
struct net_loop;
struct net_tls;
struct stores;

#define API_ERROR_MAX 320

struct api_conf {
    struct net_loop *loop; /* loop 0 of the node */
    struct broker *broker;
    struct stores *stores;
    struct kv *kv;             /* NULL: tables in this process */
    struct cluster_seat *seat; /* of loop 0; NULL: alone */
    const char *env;           /* name of the cluster */
    const char *version;
    struct uuid node;       /* this one */
    const char *data_path;  /* where it keeps things; NULL: nowhere */
    const char *durability; /* what this node gives: quorum_fsync, quorum, memory; borrowed */
    uint64_t memory_max;    /* for queues and buffers; 0: no limit */
    uint64_t memory_limit;  /* what the system lets the process have; 0: no limit */
    const char *address;    /* "host:port"; NULL: not over TCP */
    const char *unix_path;  /* NULL: no unix socket */
    const char *unix_group; /* may be NULL */
    const char *token_file; /* "ROLE TOKEN" a line; NULL: none */
    struct net_tls *tls;    /* NULL: plain */
    size_t body_bytes_max;
    size_t connection_count_max; /* over TCP, and as many on the unix socket; 0: 256 */
    bool is_metrics_open;        /* /metrics, /healthz, /readyz without a token */
    const struct log *log;
    /* Appends why the node does not serve, one reason a line; nothing when it does. */
    void (*not_ready)(void *arg, struct buf *why);
    void *arg;
};

/* 0, or -errno with one plain sentence. */
must_use int api_new(const struct api_conf *conf, char out_error[API_ERROR_MAX],
                     struct api **out_api);

/* Requests under way are answered with 503.  The loops have stopped.  NULL is fine; returns NULL.
 */
struct api *api_free(struct api *a);

/* Would this token file be taken?  0, or -errno with one plain sentence. */
must_use int api_tokens_check(const char *file, char out_error[API_ERROR_MAX]);

/* Reads the token file again; on an error the old tokens stay.  0, or -errno with one plain
 * sentence. */
must_use int api_tokens_reload(struct api *a, char out_error[API_ERROR_MAX]);
