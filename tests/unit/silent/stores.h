/* A stores door whose every operation ends as the test wants.  SPDX-License-Identifier: Apache-2.0
 *
 * It stands in the place of the room stores: this program is linked without that.  Operations end a
 * turn later.  One loop. */
#pragma once

#include "stores/stores.h"

enum silent_op {
    SILENT_CLAIM,
    SILENT_CLEAR,
    SILENT_ATTACH,
    SILENT_SUB,
    SILENT_UNSUB,
    SILENT_ROUTE_ADD,
    SILENT_INSERT,
    SILENT_RETAIN_PUT,
    SILENT_RETAIN_MATCH,
    SILENT_RECEIVE,
    SILENT_MATCH,
    SILENT_OP_COUNT,
};

struct stores *silent_new(struct net_loop *l);
void silent_stop(struct stores *s); /* no operation ends any more: the broker goes */
struct stores *silent_free(struct stores *s);
void silent_set(struct stores *s, enum silent_op op, enum stores_outcome outcome);

/* A session that is not connected subscribes to filter. */
void silent_subscriber(struct stores *s, const char *tenant, const char *filter);

/* From now on these wait; the last one that waits ends.  false: none waits. */
void silent_hold(struct stores *s, enum silent_op op);
bool silent_end_last(struct stores *s);
unsigned silent_waiting(const struct stores *s);

/* What stores_index_state_get says. */
void silent_index(struct stores *s, enum stores_index_state state);

/* The first byte of each message that was inserted, in their order. */
struct str silent_inserted(const struct stores *s);

/* How many messages came to be retained, and how many of them with this topic in a row, at last. */
unsigned silent_retain_puts(const struct stores *s);
unsigned silent_retain_row(const struct stores *s, const char *topic);

/* How often the broker said that a will was published. */
unsigned silent_wills_done(const struct stores *s);
