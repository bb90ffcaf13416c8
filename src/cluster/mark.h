/* What an operator wants of a node, kept by the whole cluster.  SPDX-License-Identifier: Apache-2.0
 *
 * A shared row of CLUSTER_SPACE_SETTING, "drain/<node>": any node writes it, the last writer wins,
 * it is kept across restarts.  On the seat's loop. */
#pragma once

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
