/* Where links come in: reads the preface, hands the socket to the loop it asks for.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cluster/link_priv.h"

struct cluster_acceptor;

struct acceptor_conf {
    struct net_loop *loop;
    struct net_address bind;
    struct net_tls *tls;        /* server side; NULL: plain */
    struct cluster_link **link; /* by loop */
    uint32_t link_count;
    const struct log *log;
};

/* 0 or -errno. */
must_use int cluster_acceptor_new(const struct acceptor_conf *c, struct cluster_acceptor **out);
struct cluster_acceptor *cluster_acceptor_free(struct cluster_acceptor *a);

/* Where it listens really. */
const struct net_address *cluster_acceptor_address(const struct cluster_acceptor *a);
