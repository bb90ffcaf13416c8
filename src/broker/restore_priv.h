/* Routes of live sessions that were taken from us.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/loop_priv.h"
#include "stores/stores.h"

/* stores_host.route_lost; arg is the broker. */
void broker_restore_lost(void *arg, unsigned loop, const struct stores_route *r);

/* The loop ends: nothing of it comes back any more. */
void broker_restore_drop(struct broker_loop *l);
