/* The port that a state machine fills (dist, inbox, retain, the test machine).  SPDX-License-Identifier: Apache-2.0
 *
 * A machine is replayed on every replica of a range, so it is deterministic: its state is a function
 * of the commands applied, in order.  It decides from memory alone and never reads the engine while
 * applying: what it must remember it keeps in memory and writes as rows, and after a restart, a
 * snapshot or a merge the host feeds the rows back by load().  Big values may live in rows only: a
 * query names the rows it wants and the host reads them, off the loop.
 *
 * Time is the leader's hybrid logical clock inside the command (base/hlc.h), so every replica
 * expires the same thing. */
#pragma once

#include "base/buf.h"
#include "base/usec.h"

/* [start, end) in bytewise order; end of length 0 with is_open means no upper bound. */
struct range_bounds {
    struct str start;
    struct str end;
    bool is_open;
};

/* One row to write.  Keys are the machine's own, inside the bounds; the host puts them into
 * the range's space. */
struct range_write {
    struct str key;
    struct str value; /* ignored when is_del */
    bool is_del;
};

/* What one command did.  Rows and effects live in `bytes`, addressed by offset so that it may grow;
 * views taken from it are good until the next range_out_* call. */
struct range_out {
    struct buf bytes;          /* backing of keys, values and effects */
    struct range_row {
        uint32_t key_at, key_n, value_at, value_n;
        bool is_del;
    } *row;
    size_t row_count, row_cap;
    struct buf reply;          /* to the proposer, in the machine's own encoding; may stay empty */
    struct range_effect {
        uint32_t at, n;
    } *effect;                 /* for the host of the leader (deliver this, announce that); never changes state */
    size_t effect_count, effect_cap;
};

void range_out_put(struct range_out *out, struct str key, struct str value);
void range_out_del(struct range_out *out, struct str key);
void range_out_effect(struct range_out *out, struct str effect);
struct range_write range_out_row(const struct range_out *out, size_t i);
struct str range_out_effect_get(const struct range_out *out, size_t i);
void range_out_reset(struct range_out *out);
void range_out_deinit(struct range_out *out);

struct range_apply {
    uint64_t index;      /* of the log entry: strictly increasing */
    uint32_t sub;        /* several commands may share an entry: (index, sub) is unique */
    uint64_t hlc;        /* the leader's clock when it proposed */
    struct str command;  /* view: gone when apply returns */
    bool has_host;       /* the host wants effects (it leads); must not change state, rows or reply */
};

/* What a query wants read from rows; the host appends each row to the reply as
 * varint key length, key, varint value length, value, until one limit is met. */
struct range_scan {
    struct str from, to;   /* views into the query's own reply buffer or the request */
    uint32_t row_max;
    uint32_t byte_max;
};

enum range_query_outcome {
    RANGE_QUERY_E_SCAN = 1,  /* *scan is filled: read these rows and append them to the reply */
    RANGE_QUERY_E_INVALID,   /* not a request of this machine */
};

struct range_machine_ops {
    const char *name;

    /* A machine for one replica.  conf is what the store's owner gave at registration
     * (limits, the shared index). */
    void *(*new)(void *conf);
    void (*free)(void *m);

    /* Forget all; the bounds are these.  Then load() for every row in key order, then loaded().  Also
     * called after a merge (larger bounds) and a split that is not made in memory (smaller ones). */
    void (*reset)(void *m, const struct range_bounds *b);
    void (*load)(void *m, struct str key, struct str value);
    void (*loaded)(void *m);

    /* A split without reading a row.  What lies from right->start on leaves m, whose bounds become
     * `left`, and is in the machine that is returned, whose bounds are `right`: both are then as if
     * they had been loaded from their rows, but nothing stops meanwhile.  Quick, since it runs on the
     * loop.  NULL, as an answer or as the door: m is unchanged and both are loaded. */
    void *(*split)(void *m, const struct range_bounds *left, const struct range_bounds *right);

    /* Applies one committed command.  A malformed or refused command is an outcome in the
     * reply, the same everywhere. */
    void (*apply)(void *m, const struct range_apply *in, struct range_out *out);

    /* Reads: 0 and reply is complete, or an outcome above. */
    int (*query)(void *m, uint64_t hlc, struct str request, struct buf *reply, struct range_scan *scan);

    /* The key nearest to wish at which this machine can be split (never inside what belongs
     * together); empty: nowhere. */
    void (*split_key)(void *m, struct str wish, struct buf *out_key);

    /* How much of a row's key names what a message is matched by, when the row is one receiver of it;
     * 0: it is something else.  Rows of one name lie together.  NULL, as a door: none is.  Needs no
     * machine and runs on any thread. */
    size_t (*receiver)(struct str key);

    /* Asked of the leader only, about once a second and after each apply: a command it wants proposed
     * (expiry, things that fell due, collection), appended to out_command.  Returns when to ask again
     * (hlc milliseconds), UINT64_MAX never. */
    uint64_t (*tick)(void *m, uint64_t hlc, struct buf *out_command);

    /* A short fact for the range's descriptor (what a router may prune by); may stay empty. */
    void (*fact)(void *m, struct buf *out);

    /* A hash of the whole state, the same on every replica at the same index; for checkers. */
    uint64_t (*state_hash)(void *m);
};
