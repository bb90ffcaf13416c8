/* What is in a log entry of a range.  SPDX-License-Identifier: Apache-2.0
 *
 * A record (codec/record.h) of one of the kinds below.  A write batch carries commands of the
 * machine, in order, with
 * one time for all of them; the machine tells them apart by (index, sub). */
#pragma once

#include "range/bounds.h"

enum range_command_kind {
    RANGE_CMD_WRITE = 1, /* commands for the machine */
    RANGE_CMD_SPLIT = 2, /* cut at key; the right part becomes range new_id */
    /* A merge, of the left range (the merger) with its right neighbour (the mergee); range/merge.h
     */
    RANGE_CMD_MERGE_BEGIN = 3,  /* merger: it will be tried; other is the mergee */
    RANGE_CMD_MERGE_FREEZE = 4, /* mergee: nothing changes from now on; other is the merger */
    RANGE_CMD_MERGE_COMMIT = 5, /* merger: the mergee is ours */
    RANGE_CMD_MERGE_CANCEL = 6, /* merger: it will not happen */
    RANGE_CMD_MERGE_THAW = 7,   /* mergee: life goes on */
    RANGE_CMD_MERGE_END = 8,    /* merger: the mergee has been thawed */
};
#define RANGE_CMD_VERSION 1

#define RANGE_KEY_MAX 65535

struct range_command {
    enum range_command_kind kind;
    struct range_version
        version;    /* at which the proposer saw the range; a write checks the boundary alone */
    uint64_t hlc;   /* the leader's clock */
    struct str key; /* SPLIT */
    struct range_id new_id;     /* SPLIT */
    struct codec_cursor writes; /* WRITE: for range_command_next */
    /* MERGE_ */
    uint64_t serial;                    /* of the merge: the merger's clock when it began */
    struct range_id other;              /* BEGIN, COMMIT: the mergee; FREEZE: the merger */
    struct range_version other_version; /* BEGIN, THAW: of the mergee, unfrozen; COMMIT: frozen */
    struct range_bounds bounds;         /* COMMIT: of the mergee */
    uint64_t other_index,
        other_term;     /* COMMIT: every member of the mergee has its log up to here */
    uint64_t other_hlc; /* COMMIT: the mergee's time */
};

/* Starts a write batch at the end of out; then range_command_add each command. */
void range_command_begin(struct buf *out, uint32_t boundary, uint64_t hlc);
void range_command_add(struct buf *out, struct str command);

/* Appends a SPLIT. */
void range_command_split(struct buf *out, const struct range_command *c);
/* Appends one of MERGE_, as c->kind says. */
void range_command_merge(struct buf *out, const struct range_command *c);

enum range_command_outcome {
    RANGE_COMMAND_E_BAD = 1, /* not a command that this version knows; *out untouched */
};

/* Views into entry. */
must_use int range_command_decode(struct str entry, struct range_command *out);

/* The next command of a WRITE; false at the end. */
bool range_command_next(struct range_command *c, struct str *out_command);
