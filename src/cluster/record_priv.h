/* What the cluster room writes for other nodes and into its own files.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Pure: bytes in, structs out.  Every reader takes hostile bytes; what it gives are views into
 * them. */
#pragma once

#include "cluster/link_priv.h"
#include "cluster/traffic.h"
#include "codec/cursor.h"
#include "gossip/gossip.h"

/* ---- the link ---- */

void cluster_record_head_put(struct buf *b, const struct link_head *h, struct str payload);
/* LINK_HEAD_LEN bytes; .len is not judged. */
void cluster_record_head_get(const uint8_t *p, struct link_head *out);

/* Payload of HELLO and WELCOME. */
struct cluster_hello {
    struct uuid uuid, target;
    uint64_t epoch, label, version_min, version_max;
};
void cluster_record_hello_put(struct buf *b, uint8_t kind, const struct cluster_hello *h);
must_use bool cluster_record_hello_get(struct str payload, struct cluster_hello *out);

/* ---- shared.rows: begin, a row each, end ---- */

void cluster_record_rows_begin(struct buf *b);
void cluster_record_row_put(struct buf *b, const struct gossip_row *r);
void cluster_record_rows_end(struct buf *b);
/* false: damaged, nothing of it is used. */
must_use bool cluster_record_rows_open(struct str file, struct codec_cursor *out);
/* The next row that makes sense, as an event for the mind; false: no more. */
must_use bool cluster_record_row_next(struct codec_cursor *c, struct gossip_event *out);

/* ---- orders about the keyring ---- */

struct cluster_order {
    uint32_t what;    /* enum cluster_keyring_order */
    struct str key;   /* ADD: 32 bytes */
    struct str print; /* USE, REMOVE */
    struct uuid target;
    uint64_t epoch; /* of the target's life */
};
void cluster_record_order_put(struct buf *b, const struct cluster_order *o);
must_use bool cluster_record_order_get(struct str s, struct cluster_order *out);

/* ---- rows about traffic ---- */

/* The prefix stands in the row's key and is left alone. */
void cluster_record_rule_put(struct buf *b, const struct cluster_traffic_rule *r);
must_use bool cluster_record_rule_get(struct str value, struct cluster_traffic_rule *out);
void cluster_record_groups_put(struct buf *b, const struct str *group, size_t count);
/* How many; 0 when it is damaged. */
size_t cluster_record_groups_get(struct str value, struct str out[CLUSTER_TRAFFIC_GROUPS_MAX]);
