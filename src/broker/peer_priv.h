/* Messages for live sessions on other nodes, one batch per node and turn.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/loop_priv.h"

struct dist_node;

/* To the live subscribers of the message's topic there (cookie 0), or to one session.  false: there
 * is no way; counted
 * by the caller. */
bool broker_peer_send(struct broker_loop *l, const struct dist_node *to,
                      const struct broker_cross_send *send);
