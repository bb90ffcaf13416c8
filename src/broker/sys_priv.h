/* $SYS topics: what the broker tells about itself.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/loop_priv.h"

struct broker_sys;

/* On loop 0: publishes into this tenant every interval, retained. */
struct broker_sys *broker_sys_new(struct broker *b, struct broker_tenant *tenant,
                                  usec_t interval) must_use;
struct broker_sys *broker_sys_free(struct broker_sys *s);
