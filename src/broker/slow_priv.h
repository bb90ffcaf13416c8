/* Publishers that wait: reading of a connection is paused until what it waits for has room again,
 * or for a time. SPDX-License-Identifier: Apache-2.0
 *
 * What is waited for has a key: a receiver's is its cookie, a loop's (for what is under way to it)
 * is broker_slow_key_of_loop.  Who says "go" for a key says it to each loop that may have somebody
 * who waits for it. */
#pragma once

#include "broker/conn_priv.h"

void broker_slow_init(struct broker_loop *l);
void broker_slow_deinit(struct broker_loop *l);

/* No cookie has such a loop. */
static inline uint64_t broker_slow_key_of_loop(unsigned index)
{
    return (uint64_t)UINT8_MAX << 56 | index;
}

/* Until broker_slow_go(key), but no longer than SLOW_USEC_MAX: two clients that wait for each other
 * crawl, but go on. */
void broker_slow(struct broker_conn *c, uint64_t key);

/* For so long. */
void broker_slow_for(struct broker_conn *c, usec_t wait);

/* It ends: waits for nothing any more. */
void broker_slow_drop(struct broker_conn *c);

/* Those who wait for key go on, each on its own loop; loops: a bit for each that may have such.  On
 * l's thread. */
void broker_slow_go(struct broker_loop *l, uint64_t key, uint64_t loops);
