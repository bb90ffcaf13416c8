/* From an inbox to its connected session.  SPDX-License-Identifier: Apache-2.0
 *
 * The inbox pushes new messages in order of seq; what was not pushed, or got lost on the way, is
 * fetched.  Progress is
 * committed once per turn. */
#pragma once

#include "broker/conn_priv.h"

/* stores_host.deliver and .backlog. */
void broker_inflow_deliver(struct broker_conn *c, const struct stores_delivery *d, size_t count);
void broker_inflow_backlog(struct broker_conn *c, uint64_t next_seq);

/* Fetches what is known and not yet given to the mind, if it has room. */
void broker_inflow_pump(struct broker_conn *c);

/* Commits the mind's progress, unless a commit is under way. */
void broker_inflow_commit(struct broker_conn *c);

/* All that the client was sent, on this connection or before, lies below this seq. */
static inline uint64_t broker_inflow_sent(const struct broker_inflow *f)
{
    return f->next_seq > f->dup_seq ? f->next_seq : f->dup_seq;
}
