/* The publish road: from a session's PUBLISH to its acknowledgement.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/conn_priv.h"

enum broker_publish_outcome {
    BROKER_PUBLISH_E_PENDING = 1, /* broker_conn_published will be called */
};

/* Routes what a client published.  0: done, *out_reason is for its acknowledgement. */
must_use int broker_publish(struct broker_conn *c, const struct session_publish *p,
                            uint8_t *out_reason);

/* Routes what no connected client published: a will, $SYS, the API.  done (may be NULL) comes now
 * or later. */
struct broker_publish_done {
    void (*fn)(void *arg, uint8_t reason);
    void *arg;
};
void broker_publish_message(struct broker_loop *l, struct broker_tenant *tenant,
                            const struct codec_msg *msg, const struct broker_publish_done *done);

/* Another node sent it for our live subscribers: all loops, no stores. */
void broker_publish_live(struct broker_loop *l, struct broker_tenant *tenant,
                         const struct codec_msg *msg);
