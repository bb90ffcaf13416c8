/* Limits of a tenant and of the process.  SPDX-License-Identifier: Apache-2.0
 *
 * What memory can hold is charged to budgets (tenant, then process) by the session minds.  Before the budget is spent,
 * publishers are slowed; when it is nearly spent, newcomers are refused; what does not fit any more is dropped by the
 * minds and counted. */
#pragma once

#include "broker/conn_priv.h"

/* One more connection, at the moment `now`: false when a limit says no.  Counted in either way. */
bool broker_limit_connect(struct broker_conn *c, usec_t now);

/* n bytes came from c: slows its reading when its tenant is over its rate, or memory is short. */
void broker_limit_bytes(struct broker_conn *c, size_t n);
