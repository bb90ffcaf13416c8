/* The back room of the overlay table.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "gossip/gossip.h"
#include "gossip/table.h"

struct table_owner {
    struct uuid uuid;
    uint64_t epoch;
    uint64_t upto;      /* we have every row of it up to here, or what replaced it */
    uint64_t ahead;     /* bit i: row upto + 1 + i has come already */
    uint64_t floor;     /* tombstones up to here may be forgotten */
    struct list by_seq; /* rows, oldest first */
    size_t count;
    bool is_visible;
};

struct table_row {
    struct gossip_row pub;
    struct list by_seq;        /* in its owner's list; shared rows: unlinked */
    struct table_owner *owner; /* NULL: shared */
    usec_t since;              /* when we wrote it down, for tombstones */
    uint32_t mark;             /* the delta that last named it */
    char bytes[];
};

struct gossip_table {
    struct uuid self;
    struct map owners;
    struct table_row **row; /* by space, key, owner */
    size_t count, cap;
    size_t shared_count;
    size_t bytes;
    uint64_t hash;
    uint32_t mark;     /* counts deltas */
    struct list trash; /* rows that effects of this step still look at */
};

void gossip_table_init(struct gossip_table *t, const struct uuid *self, uint64_t epoch);
void gossip_table_deinit(struct gossip_table *t);

/* Frees what the effects of the last step looked at. */
void gossip_table_sweep(struct gossip_table *t);

/* A row of ours, or a shared one: fills *out_row.  0 (out_row NULL: nothing changed), FULL or
 * TOO_LONG. */
must_use int gossip_table_write(struct gossip_table *t, const struct gossip_row *r, usec_t now,
                                struct gossip_out *out, const struct gossip_row **out_row);

/* A row from elsewhere: 0 it is news, STALE, FULL or TOO_LONG. */
must_use int gossip_table_apply(struct gossip_table *t, const struct gossip_row *r, usec_t now,
                                struct gossip_out *out);

/* The rows of (uuid, epoch) are to be seen, or not. */
void gossip_table_show(struct gossip_table *t, const struct uuid *uuid, uint64_t epoch,
                       bool visible, struct gossip_out *out);

/* Everything about this owner is forgotten. */
void gossip_table_forget(struct gossip_table *t, const struct uuid *uuid, struct gossip_out *out);

/* The owner with this identity, NULL when unknown; and walking all. */
struct table_owner *gossip_table_owner(const struct gossip_table *t, const struct uuid *uuid);
struct table_owner *gossip_table_owner_next(const struct gossip_table *t, size_t *at);

/* A delta begins: rows after `after` up to `upto` follow.  False: not of use (a gap, an old epoch,
 * ourselves). */
bool gossip_table_delta_begin(struct gossip_table *t, const struct uuid *uuid, uint64_t epoch,
                              uint64_t after, struct gossip_out *out) must_use;

struct table_delta {
    const struct uuid *uuid;
    uint64_t after, upto;
    uint64_t floor; /* the sender forgot tombstones up to here */
    bool reset;     /* what we have in the span and it did not name is gone */
};

/* It has ended. */
void gossip_table_delta_end(struct gossip_table *t, const struct table_delta *d,
                            struct gossip_out *out);

/* Drops tombstones that are old enough. */
void gossip_table_expire(struct gossip_table *t, usec_t now, usec_t wall);

/* What names a shared row in a digest. */
uint64_t gossip_table_key_hash(uint8_t space, struct str key);

void gossip_table_check(const struct gossip_table *t);
