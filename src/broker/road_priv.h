/* The publish road behind its door: what a message carries along it.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/publish_priv.h"

struct broker_asked;
struct broker_lookup;

/* Legs that have not ended. */
struct broker_join {
    struct broker_conn *conn; /* NULL: nobody connected */
    struct broker_loop *loop;
    struct broker_tenant *tenant;
    uint64_t token;
    struct broker_publish_done done;
    uint32_t legs;
    uint32_t dropped; /* stored sessions whose queue was full */
    uint8_t reason;
    uint8_t qos;
    struct codec_msg *msg;           /* while the inbox receives its packet identifier */
    struct list link;                /* of inflow.receiving, meanwhile */
    struct stores_exchange exchange; /* its answer */
    bool is_answered;
};

/* One message on the road. */
struct broker_road {
    struct broker_loop *loop;
    struct broker_tenant *tenant;
    struct broker_conn *conn;
    uint64_t from_cookie;
    uint64_t token;
    uint64_t floor;
    const struct codec_msg *msg;
    const struct broker_publish_done *done;
    struct broker_join *join;
    size_t receivers;
    size_t stored;                    /* of them: persistent */
    const struct broker_asked *asked; /* who of the shared subscription at hand said it is away */
    struct broker_lookup *lookup;     /* another node matched it; NULL: this node's index */
    bool is_held;                     /* the rest of the road comes later */
    uint8_t reason;
};

/* Of this message's legs one more, which ends with broker_road_leg. */
struct broker_join *broker_road_leg_begin(struct broker_road *p);

/* The only join: one less, the worst reason kept; the last one tells the publisher. */
void broker_road_leg(struct broker_join *j, uint8_t reason);

/* To all of them, a leg for each that must be waited for. */
void broker_road_fan(struct broker_road *p, const struct broker_targets *t);

/* The road's own end.  0: done, *out_reason is for the acknowledgement; BROKER_PUBLISH_E_PENDING: legs are left. */
must_use int broker_road_end(struct broker_road *p, uint8_t *out_reason);
