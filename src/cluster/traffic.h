/* Which nodes serve which tenants: server groups and traffic rules.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Every node is one server of every service; its server id is its uuid.  A server without groups
 * is in the default group, whose name is empty; one with groups has left it.  A rule gives the
 * tenants whose ids begin with its prefix to groups, by weight: the longest prefix that matches
 * decides, a group's weight is its share of the work however many servers it has, and weight 0
 * gives it nothing.  A tenant without a rule is served by the default group.  When none of the
 * groups that a tenant is given to has a live server, all live servers serve it: a rule may move
 * work, it may not refuse it.
 *
 * Rules and groups are shared rows of the table: any node may write them, the last writer wins,
 * and they survive a restart of the whole cluster.  All functions: on the seat's loop. */
#pragma once

#include "cluster/cluster.h"

#define CLUSTER_TRAFFIC_GROUPS_MAX 16 /* of one rule, or of one server */
#define CLUSTER_TRAFFIC_NAME_MAX 64   /* bytes: service, group */
#define CLUSTER_TRAFFIC_PREFIX_MAX 180
#define CLUSTER_TRAFFIC_WEIGHT_MAX 1000

struct cluster_traffic_share {
    struct str group;
    uint32_t weight; /* 0..CLUSTER_TRAFFIC_WEIGHT_MAX */
};

struct cluster_traffic_rule {
    struct str prefix; /* of tenant ids; views, valid until the turn ends */
    struct cluster_traffic_share share[CLUSTER_TRAFFIC_GROUPS_MAX];
    size_t share_count;
};

/* The names of services that can be governed; NULL behind the last.  (session.dict: who keeps
 * track of a client's connection.) */
const char *cluster_traffic_service(size_t i);

/* Rules of a service, by prefix: *at = 0 to start; false behind the last. */
bool cluster_traffic_next(const struct cluster_seat *s, struct str service, size_t *at,
                          struct cluster_traffic_rule *out);

/* The rule that decides about this tenant.  false: none, the default group serves it. */
bool cluster_traffic_find(const struct cluster_seat *s, struct str service, struct str tenant,
                          struct cluster_traffic_rule *out);

/* Makes or replaces the rule of a prefix.  false: a name, the prefix or a weight is out of bounds,
 * or there are no groups or too many. */
must_use bool cluster_traffic_put(struct cluster_seat *s, struct str service,
                                  const struct cluster_traffic_rule *rule);
void cluster_traffic_del(struct cluster_seat *s, struct str service, struct str prefix);

/* The groups of a server, none: 0 and it is in the default group. */
size_t cluster_group_get(const struct cluster_seat *s, struct str service,
                         const struct uuid *server,
                         struct str out_group[CLUSTER_TRAFFIC_GROUPS_MAX]);

/* Replaces them; none: back to the default group.  false: a name is out of bounds, or too many. */
must_use bool cluster_group_put(struct cluster_seat *s, struct str service,
                                const struct uuid *server, const struct str *group, size_t count);

/* The live member that serves this tenant, for a key with this hash: every node with the same rules
 * and members answers the same.  usable may exclude members; NULL when it excludes all. */
const struct cluster_member *
cluster_traffic_pick(const struct cluster_seat *s, struct str service, struct str tenant,
                     uint64_t hash, bool (*usable)(void *arg, const struct cluster_member *m),
                     void *arg);
