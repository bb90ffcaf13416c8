/* Messages for live sessions on other nodes, one batch per node and turn.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A batch with a message of QoS 1 or 2 is a call whose reply says that the other node has handed it
 * to its sessions; until then the publish is not acknowledged.  A batch of QoS 0 alone is a cast.
 */
#pragma once

#include "broker/loop_priv.h"
#include "codec/cursor.h"

struct dist_node;

/* How the sending of one message ended: 0, or a reason code. */
typedef void broker_peer_done(void *arg, uint8_t reason);

/* To the live subscribers of the message's topic there (cookie 0), or to one session.  done is for
 * QoS 1 and 2 (else NULL) and comes in a later turn.  false: there is no way or too much is
 * waiting; done will not come. */
bool broker_peer_send(struct broker_loop *l, const struct dist_node *to,
                      const struct broker_cross_send *send, broker_peer_done *done, void *arg);

/* Hands the batches to the link; at the end of the turn. */
void broker_peer_flush(struct broker_loop *l);

/* Begins to listen to other nodes; when there is a cluster. */
void broker_peer_init(struct broker_loop *l);
void broker_peer_deinit(struct broker_loop *l);

/* ---- a batch: records one after the other ---- */

struct broker_peer_record {
    struct str tenant;
    uint64_t cookie; /* 0: for the live subscribers of its topic */
    uint32_t sub_id;
    uint8_t qos, flags; /* of the one session */
    const struct codec_msg *msg;
};
void broker_peer_record_put(struct buf *b, const struct broker_peer_record *r);
/* The next one: views into the batch; out->msg is out_msg.  false: damaged, as all that follows. */
must_use bool broker_peer_record_next(struct codec_cursor *c, struct broker_peer_record *out,
                                      struct codec_msg *out_msg);
