/* A broker with two loops over tables in memory, turned by hand.  SPDX-License-Identifier:
 * Apache-2.0 */
#pragma once

#include "broker/broker.h"
#include "net/clock.h"
#include "unit/unit.h"

#define TWO_WAIT_USEC TEST_PATIENCE(30 * USEC_SEC)
#define TWO_UNTIL(cond)                                                                            \
    for (usec_t two_end = net_clock_now() + TWO_WAIT_USEC; !(cond); two_turn())                    \
    ck_assert_msg(net_clock_now() < two_end, "never: " #cond)

extern struct net_loop *two_loop[2];
extern struct broker *two_broker;
extern struct stores *two_stores;

/* A tenant "default"; inbox_size: SessionInboxSize, 0: as it is by default. */
void two_setup(unsigned inbox_size);
void two_teardown(void);
void two_turn(void);
