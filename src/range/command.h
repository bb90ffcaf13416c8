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
};

/* Starts a write batch at the end of out; then range_command_add each command. */
void range_command_begin(struct buf *out, uint32_t boundary, uint64_t hlc);
void range_command_add(struct buf *out, struct str command);

/* Appends a SPLIT. */
void range_command_split(struct buf *out, const struct range_command *c);

enum range_command_outcome {
    RANGE_COMMAND_E_BAD = 1, /* not a command that this version knows; *out untouched */
};

/* Views into entry. */
must_use int range_command_decode(struct str entry, struct range_command *out);

/* The next command of a WRITE; false at the end. */
bool range_command_next(struct range_command *c, struct str *out_command);
