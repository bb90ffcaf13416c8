/* Limits of a tenant and of the process.  SPDX-License-Identifier: Apache-2.0
 *
 * What waits for clients is charged to budgets (tenant, then process): queued messages by the
 * session minds, buffers of connections by their streams.  limit.c says what is done as they fill
 * up. */
#pragma once

#include "broker/conn_priv.h"

/* How full a budget is, in what is done about it. */
enum broker_pressure broker_limit_pressure(const struct budget *b);

/* One more connection, at the moment `now`: NULL, or why a limit says no.  Counted in either way.
 */
const char *broker_limit_connect(struct broker_conn *c, usec_t now);

/* n bytes came from c, with a publish among them or not: slows its reading when its tenant is over
 * its rate, or when it publishes and memory is short. */
void broker_limit_bytes(struct broker_conn *c, size_t n, bool has_published);

/* A turn of this loop begins to write: looks at the process's memory. */
void broker_limit_turn(struct broker_loop *l);

/* The loop's timer while memory is short. */
void broker_limit_shed(struct broker_loop *l);

/* Bytes that may wait in this connection's buffer before deliveries to it stop. */
static inline size_t broker_limit_room(const struct broker_conn *c)
{
    return c->listener->out_bytes_max >> (2 * c->loop->pressure);
}
