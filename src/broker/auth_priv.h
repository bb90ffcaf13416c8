/* Methods of enhanced authentication, and what they may know of the files. SPDX-License-Identifier:
 * Apache-2.0 */
#pragma once

#include "broker/auth.h"

/* One method.  step: ask->data is what the client said; ends in ask->done, now or on this loop
 * later, with E_MORE when the client is to say more.  The first step finds ask->exchange NULL.  A
 * method that waits copies data first. */
struct broker_auth_enhanced {
    const char *name; /* Authentication Method; NULL: any, plugins know which */
    unsigned method;  /* enum broker_auth_method */
    void (*step)(struct broker_auth_ask *ask, struct net_worker *worker, struct net_loop *here);
    void (*end)(struct broker_auth_ask *ask); /* frees ask->exchange */
};

extern const struct broker_auth_enhanced broker_scram;

/* What is stored for this name; p == NULL: nothing. */
struct str broker_auth_hash_find(const struct broker_auth_files *f, struct str user);
/* 32 bytes that nobody else knows. */
const uint64_t *broker_auth_secret(const struct broker_auth_files *f);
