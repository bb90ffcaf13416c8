/* How an operation on a store ended.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

enum stores_outcome {
    STORES_OK = 0,
    STORES_E_UNAVAILABLE =
        1,            /* no quorum, no leader, overloaded: definitely not done; try again later */
    STORES_E_UNKNOWN, /* it may be done or not */
    STORES_E_FULL,    /* too much under way here: slow down; not done */
    STORES_E_NO_SESSION, /* there is no such session, or of another incarnation */
    STORES_E_CONFLICT,   /* the session has another owner now */
    STORES_E_LIMIT,      /* a limit of the tenant: not done */
    STORES_E_EXISTS,     /* it was there already */
    STORES_E_NO_SUB,     /* it was not there */
    STORES_E_INVALID,    /* cannot be stored: too large */
};
