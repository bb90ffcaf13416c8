/* Publishes that wait for who wants them.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/road_priv.h"

#define BROKER_HOLD_USEC                                                                           \
    (3 *                                                                                           \
     USEC_SEC) /* matters: an election is over by then; a cluster without a quorum goes on     \
                          serving clean sessions with what the index had */

/* Must this one wait?  Asked after the index was looked at: had it been incomplete, its state says so. */
bool broker_hold_is_needed(const struct broker_road *p);

/* The rest of the road comes later. */
void broker_hold_put(struct broker_road *p);

/* Those go on that can: a lookup is done. */
void broker_hold_look(struct broker_loop *l);

/* A message of this publisher was refused: what waits behind it is, too, as its client brings both anew, in order. */
void broker_hold_refuse(struct broker_conn *c);

void broker_hold_init(struct broker_loop *l);
/* The loop ends: nobody is told any more. */
void broker_hold_deinit(struct broker_loop *l);
