/* The overlay table: small facts that every node knows of every other.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Two kinds of rows, told apart by their space:
 *   owner rows (space < 128): written by one node about itself, numbered densely per (owner,
 * epoch); visible only while that very epoch of the owner is alive or suspect.  A death hides them
 * at once, with no traffic. shared rows (space >= 128): any node writes, the last writer wins by
 * (version, writer); versions are hybrid logical clock times.  The host keeps them on disk. One
 * mind per node holds one table; it is read in place by the loop that runs the mind. */
#pragma once

#include "base/hlc.h"
#include "base/str.h"
#include "base/usec.h"
#include "base/uuid.h"

#define GOSSIP_SPACE_SHARED 128          /* first space of shared rows */
#define GOSSIP_KEY_MAX 256               /* bytes */
#define GOSSIP_VALUE_MAX ((size_t)65536) /* bytes */
#define GOSSIP_OWNER_ROWS_MAX 8192       /* rows of one owner, tombstones too */
#define GOSSIP_SHARED_ROWS_MAX 8192      /* shared rows, tombstones too */

struct gossip_table;

enum gossip_table_outcome {
    GOSSIP_TABLE_E_FULL = 1, /* too many rows of this owner, or shared rows */
    GOSSIP_TABLE_E_TOO_LONG, /* key or value over its limit, or an empty key */
    GOSSIP_TABLE_E_STALE,    /* we have this or newer */
};

/* One row.  Views are valid until the table changes. */
struct gossip_row {
    struct uuid owner; /* of a shared row: who wrote it last */
    uint64_t epoch;    /* of the owner; of a shared row 0 */
    uint8_t space;
    bool is_tombstone;
    uint64_t seq;      /* owner rows: dense per (owner, epoch), from 1; shared rows 0 */
    uint64_t replaces; /* owner rows: seq of the row with this key before it, 0 none */
    uint64_t version;  /* hybrid logical clock */
    struct str key;
    struct str value; /* empty for a tombstone */
};

/* The visible row with this key, or NULL.  owner NULL: a shared row, or the first owner's in uuid
 * order. */
const struct gossip_row *gossip_table_find(const struct gossip_table *t, uint8_t space,
                                           struct str key, const struct uuid *owner) must_use;

/* Walks the visible rows of a space whose key starts with prefix, by key, then by owner.  Start
 * with *at = 0; NULL at the end.  The table must not change meanwhile. */
const struct gossip_row *gossip_table_next(const struct gossip_table *t, uint8_t space,
                                           struct str prefix, size_t *at);

/* Walks all shared rows, deleted ones too: what must survive a restart. */
const struct gossip_row *gossip_table_next_shared(const struct gossip_table *t, size_t *at);

/* Sum over all rows of live owners and shared rows; equal on two nodes that know the same. */
uint64_t gossip_table_hash(const struct gossip_table *t);

/* Rows kept: visible, hidden and tombstones; and the bytes of their keys and values. */
size_t gossip_table_count(const struct gossip_table *t);
size_t gossip_table_bytes(const struct gossip_table *t);
