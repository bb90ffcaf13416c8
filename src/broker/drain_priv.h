/* Draining, for the other files of this room.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/conn_priv.h"
#include "broker/refer_priv.h"

/* How a client of a draining node is sent away; reference is where the text lies. */
struct session_refused broker_drain_words(struct broker_conn *c,
                                          char reference[BROKER_REFERENCE_MAX]);

/* Its CONNECT has come: true, and how it is refused, unless it may come in. */
bool broker_drain_refuses(struct broker_conn *c, struct session_refused *out,
                          char reference[BROKER_REFERENCE_MAX]);

void broker_drain_tick(void *arg, usec_t now);
