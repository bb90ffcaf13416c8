/* The last step: a message into the sessions of this loop.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/conn_priv.h"

/* To all live subscribers of this loop.  from: the publisher if it is on this loop, else NULL;
 * from_cookie: its name. */
void broker_deliver_local(struct broker_loop *l, const struct broker_targets *t,
                          const struct codec_msg *msg, struct broker_conn *from,
                          uint64_t from_cookie);

/* To one session of this loop (a member of a shared group, a retained message); the subscription is in *send.
 * false: it has gone. */
bool broker_deliver_one(struct broker_loop *l, const struct broker_cross_send *send);

/* A record from another loop. */
void broker_deliver_cross(struct broker_loop *l, const struct broker_cross_send *send);

/* After a delivery that did not leave at once: is the receiver stalled, must the publisher wait? */
void broker_deliver_held(struct broker_conn *to, uint8_t qos, struct broker_conn *from,
                         uint64_t from_cookie);

/* Moves what a session mind counted into its tenant's metrics. */
void broker_deliver_count(struct broker_conn *to, struct session_out *out);

/* Its output is taken again: no longer stalled. */
void broker_deliver_resumed(struct broker_conn *to);

/* The mark by which other loops and nodes see that a session does not read. */
bool broker_deliver_is_stalled(const struct broker *b, uint64_t cookie);
