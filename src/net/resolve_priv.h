/* The loop's side of name lookups.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "net/resolve.h"

/* Frees the loop's resolver; no query is under way. */
void net_resolve_loop_deinit(struct net_loop *l);
