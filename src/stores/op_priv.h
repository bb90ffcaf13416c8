/* One command or query on its way to a table.  SPDX-License-Identifier: Apache-2.0
 *
 * Embedded as the first member in what waits for it.  Repeats what may have been lost until the
 * deadline, where that is harmless; end() is called exactly once and frees it. */
#pragma once

#include "kv/kv.h"
#include "net/loop.h"
#include "stores/port_priv.h"
#include "stores/stores.h"

struct stores_op {
    struct stores_client *client;
    enum stores_table table;
    bool is_query;
    bool is_stale;    /* queries: any replica will do */
    bool is_once;     /* commands: not to be repeated when it may have been carried out */
    usec_t deadline;  /* 0: the room's timeout from now */
    uint64_t lane;    /* commands: kv_proposal.lane */
    struct buf key;   /* routed by */
    struct buf bytes; /* the command or request */
    struct net_timer again;
    void (*end)(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *reply);
};

/* size bytes whose first member is a stores_op. */
void *stores_op_new(struct stores_client *c, enum stores_table table, size_t size,
                    void (*end)(struct stores_op *op, enum stores_outcome outcome,
                                const struct kv_reply *reply)) must_use;

/* Sends it (again).  Key and bytes are filled. */
void stores_op_send(struct stores_op *op);

/* Sends it once more, a moment later (never in the same turn: a leader that is gone answers at
 * once); ends it with E_UNAVAILABLE when its deadline has passed. */
void stores_op_send_again(struct stores_op *op);

/* Makes the key that of the range behind the one that answered; false: that one reaches to `to`. */
bool stores_op_next_range(struct stores_op *op, const struct kv_reply *kv, const struct buf *to);

/* Frees the op and what it embeds. */
void stores_op_free(struct stores_op *op);
