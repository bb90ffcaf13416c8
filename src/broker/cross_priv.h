/* What goes from one loop to the others: batches of messages.  SPDX-License-Identifier: Apache-2.0
 *
 * During a turn records are appended to one batch per target loop; the batch is handed over when
 * the turn ends.  A message of ordinary size is copied into the batch (one copy, no allocation); a
 * large one goes by reference. */
#pragma once

#include "base/buf.h"
#include "net/mailbox.h"

struct broker_conn;
struct broker_loop;
struct broker_tenant;
struct codec_msg;

#define BROKER_CROSS_BYTES_MAX                                                                     \
    ((size_t)8 << 20) /* matters: under way to one loop; beyond it QoS 0 is dropped */

struct broker_batch;

struct broker_cross {
    struct broker_batch **open; /* [loop_count]: being filled, or NULL */
    struct broker_batch *spare; /* to be used again */
    unsigned spare_count;
    struct net_mailbox *in;    /* where others put batches for this loop */
    _Atomic uint64_t *pending; /* [loop_count]: bytes under way from loop i to this one */
    _Atomic uint64_t waiting;  /* loops with publishers that wait for us, a bit each */
};

void broker_cross_init(struct broker_loop *l);
void broker_cross_deinit(struct broker_loop *l);

enum broker_cross_outcome {
    BROKER_CROSS_E_FULL = 1, /* too much under way: not sent; QoS 0 is dropped, others slow down */
};

/* msg goes to the live subscribers of its topic on loop `to` (cookie 0), or to one session there.
 * from_cookie: its publisher.  qos and options: of the one session. */
struct broker_cross_send {
    struct broker_tenant *tenant;
    const struct codec_msg *msg;
    uint64_t from_cookie;
    uint64_t cookie;
    uint32_t sub_id;
    uint8_t qos;
    uint8_t flags; /* enum broker_target_flag */
    bool is_retained;
};
must_use int broker_cross_put(struct broker_loop *l, unsigned to,
                              const struct broker_cross_send *send);

/* c has published m with QoS 1 or 2 to loop `to`: waits when as much is under way to it as may be
 * before a queue over there says so itself, until most of that has been taken. */
void broker_cross_wait(struct broker_conn *c, unsigned to, const struct codec_msg *m);

/* Hands the batches over; at the end of the turn. */
void broker_cross_flush(struct broker_loop *l);
