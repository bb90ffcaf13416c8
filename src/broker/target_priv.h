/* Who gets a topic: the match resolved to receivers, remembered per loop.
 * SPDX-License-Identifier: Apache-2.0
 *
 * An entry is good while nothing changed that it was made from: the index's version, which loops want a filter
 * (broker.hub_version) and this loop's own members.  Then a publish costs one lookup by topic instead of a match.
 * Pointers into the index are good until the end of the turn in which the entry was looked up. */
#pragma once

#include "base/map.h"
#include "base/str.h"

struct broker_conn;
struct broker_loop;
struct broker_tenant;
struct dist_index;
struct dist_match;
struct dist_node;
struct dist_receiver;
struct dist_group;
struct dist_filter;

#define BROKER_TARGETS_MAX                                                                         \
    65536 /* does not matter: topics remembered by one loop; then it starts over */

enum broker_target_flag {
    BROKER_TARGET_NO_LOCAL = 1,
    BROKER_TARGET_AS_PUBLISHED = 2,
};

/* One connected session of this loop: all its matching subscriptions in one. */
struct broker_target {
    struct broker_conn *conn;
    uint32_t sub_id_at; /* in targets.sub_id */
    uint16_t sub_id_count;
    uint8_t qos; /* the largest of its subscriptions [MQTT-3.3.4-2] */
    uint8_t flags;
};

/* One shared subscription. */
struct broker_target_group {
    const struct dist_group *group;
    const struct dist_filter *filter;
};

struct broker_targets {
    uint64_t hash;
    struct broker_tenant *tenant;
    struct str topic;
    uint64_t index_version, hub_version, member_version;
    uint64_t loops; /* other loops of this node with live subscribers */
    struct broker_target *local;
    size_t local_count, local_cap;
    uint32_t *sub_id;
    size_t sub_id_count, sub_id_cap;
    const struct dist_node **node; /* other nodes with live subscribers */
    size_t node_count, node_cap;
    const struct dist_receiver **inbox; /* persistent receivers, one client's in a row */
    size_t inbox_count, inbox_cap;
    struct broker_target_group *group;
    size_t group_count, group_cap;
    char text[];
};

struct broker_target_cache {
    struct map by_topic;
    struct dist_match *match;         /* of one resolve */
    struct broker_targets *elsewhere; /* of broker_targets_of */
};

void broker_targets_init(struct broker_loop *l);
void broker_targets_deinit(struct broker_loop *l);

/* Never NULL; good until the end of the turn and until something of this loop's hub changes. */
const struct broker_targets *broker_targets_get(struct broker_loop *l, struct broker_tenant *tenant,
                                                struct str topic);

/* The same of what another node's index matched (struct broker_lookup.index), and of the live subscribers here; good
 * until the next call. */
const struct broker_targets *broker_targets_of(struct broker_loop *l, struct broker_tenant *tenant,
                                               struct str topic, const struct dist_index *index);
