/* Starting and stopping this node's part of the cluster; for the one who assembles a node.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cluster/cluster.h"
#include "cluster/identity.h"
#include "cluster/keyring.h"

struct net_tls;
struct net_worker;

#define CLUSTER_HOST_ERROR_MAX 320

struct cluster_host_key {
    uint8_t bytes[CLUSTER_KEY_LEN];
};

struct cluster_host_conf {
    struct net_loop *const *loop; /* of this node; [0] is where membership lives; copied */
    unsigned loop_count;
    struct net_worker *worker; /* for small files; NULL: written on loop 0 (tests) */
    const char *data_path;     /* a directory that is there; NULL: nothing is kept (tests) */
    const struct cluster_identity
        *identity;    /* opened by the caller, who closes it; NULL: from data_path */
    const char *env;  /* the cluster's name, 1..63 bytes */
    const char *host; /* numeric address; gossip listens there, UDP and TCP, and is reached there */
    uint16_t port;    /* 0: any */
    const char *advertise_host; /* numeric, when others reach us at another address; NULL: host */
    uint16_t advertise_port;    /* 0: port */
    /* Its A and AAAA are seeds, with our port; or, when it begins with '_', the targets of its SRV
     * records (that needs worker), with theirs.  May be NULL. */
    const char *domain_name;
    const char *const *seed;    /* "host:port" */
    size_t seed_count;
    const char *rpc_host;                    /* numeric; NULL: host */
    uint16_t rpc_port;                       /* 0: any */
    struct net_tls *tls_server, *tls_client; /* of the link; both or none; refs are taken */
    const struct cluster_host_key *key;      /* first: seals; the others open too */
    size_t key_count;                        /* 0: packets are not protected */
    bool is_insecure;    /* an unprotected address that is not loopback was asked for, in writing */
    const char *api;     /* told to the others: "host:port" of the admin API, may be NULL */
    const char *release; /* program version */
    const struct log *log;
    /* Cannot go on: our identity runs elsewhere.  On loop 0. */
    void (*fatal)(void *arg, const char *why);
    void *arg;
};

/* Takes the data directory, binds the sockets.  Joining begins with the first turn of loop 0.  Call
 * before the loops run.  0, or -errno with one plain sentence (-EBUSY the directory is in use,
 * -EADDRINUSE, -EINVAL, -EACCES). */
must_use int cluster_new(const struct cluster_host_conf *conf, char error[CLUSTER_HOST_ERROR_MAX],
                         struct cluster **out);

/* The loops have stopped: nothing goes out or comes in any more, open calls end with UNREACHABLE,
 * no handler is called again.  Seats and links may still be read and let go by those who use them.
 */
void cluster_stop(struct cluster *c);

/* The loops have stopped, and nobody uses seats or links. */
struct cluster *cluster_free(struct cluster *c);

/* Says good-bye to the others, then calls done, within 2 s.  On loop 0.  Set DRAINING first and
 * give work away. */
void cluster_leave(struct cluster *c, void (*done)(void *arg), void *arg);

struct cluster_seat *cluster_seat(struct cluster *c, unsigned loop);
const struct uuid *cluster_uuid(const struct cluster *c);

/* What others are told: where gossip and link really listen (port 0 was chosen). */
uint16_t cluster_port(const struct cluster *c);
uint16_t cluster_rpc_port(const struct cluster *c);

/* The configured keys were read again.  When they are the ones of before, what was changed by order
 * since then (keyring.h) stays; else these are the ring.  On loop 0. */
void cluster_keys_set(struct cluster *c, const struct cluster_host_key *key, size_t key_count);
