/* Shared by the tests of net.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "net/clock.h"
#include "net/loop.h"
#include "unit/unit.h"

Suite *loop_suite(void);
Suite *mailbox_suite(void);
Suite *stream_suite(void);
Suite *address_suite(void);
Suite *wrap_suite(void);
Suite *http_suite(void);
Suite *scram_suite(void);
Suite *resolve_suite(void);

static inline struct net_loop *loop_new(unsigned index, struct net_grace *grace)
{
    struct net_loop_conf conf = {.index = index, .seed = 1, .grace = grace};
    struct net_loop *l = NULL;
    ck_assert_int_eq(net_loop_new(&conf, &l), 0);
    return l;
}

/* Turns until cond holds; fails after 5 s. */
#define turn_until(l, cond)                                                                        \
    do {                                                                                           \
        usec_t until_ = net_clock_now() + 5 * USEC_SEC;                                            \
        while (!(cond)) {                                                                          \
            ck_assert_msg(net_clock_now() < until_, "never happened: %s", #cond);                  \
            net_loop_turn(l, 100 * USEC_MSEC);                                                     \
        }                                                                                          \
    } while (0)
