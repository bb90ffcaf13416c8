/* What an operator wants of a node, kept by the whole cluster.  SPDX-License-Identifier: Apache-2.0
 *
 * Shared rows of CLUSTER_SPACE_SETTING, "drain/<node>" and "revoked/<node>": any node writes them,
 * the last writer wins, they are kept across restarts.  On the seat's loop. */
#pragma once

#include "base/str.h"
#include "base/uuid.h"

struct cluster_seat;

enum cluster_mark {
    CLUSTER_MARK_NONE,
    CLUSTER_MARK_DRAIN,  /* lead nothing, serve no clients; keep your replicas */
    CLUSTER_MARK_REMOVE, /* and keep no replicas: it goes for good, or is gone already */
};
const char *cluster_mark_name(enum cluster_mark m);

enum cluster_mark cluster_mark_get(const struct cluster_seat *s, const struct uuid *node);
void cluster_mark_put(struct cluster_seat *s, const struct uuid *node, enum cluster_mark m);

/* A node whose certificate is not taken any more: no link is opened to it or by it, and those that
 * are open end.  What it says in gossip ends with the next change of keys. */
bool cluster_is_revoked(const struct cluster_seat *s, const struct uuid *node);
void cluster_revoked_put(struct cluster_seat *s, const struct uuid *node, bool is_revoked);

/* Is this the key of such a row?  Whose? */
bool cluster_revoked_key(struct str key, struct uuid *out_node);
