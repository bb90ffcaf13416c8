/* One range of a store as its own replicas know it.  SPDX-License-Identifier: Apache-2.0
 *
 * Part of the replicated state: the same on every replica at the same index.  Kept beside the
 * applied index, carried
 * in snapshots. */
#pragma once

#include "range/command.h"

struct range {
    struct range_id id;
    struct range_version version;
    struct range_bounds bounds; /* owned */
    uint64_t hlc;               /* the latest time applied: a command never goes back behind it */
};

/* The whole key space, version 1|0. */
void range_init(struct range *r, struct range_id id);
void range_deinit(struct range *r);

enum range_verdict {
    RANGE_OK = 0,
    RANGE_E_VERSION =
        1,       /* another version: nothing happened, the proposer may look anew and repeat */
    RANGE_E_KEY, /* SPLIT: the key is not inside */
};

/* Decides one committed command, in the order of the log.  WRITE: RANGE_OK tells the host to give the commands to the
 * machine, at c->hlc, which is never before the one of the command before (it is raised if it was).
 * SPLIT: r keeps [start, key), *out_right (yours: range_deinit) is [key, end) at the same, raised
 * boundary version. */
must_use int range_apply(struct range *r, struct range_command *c, struct range *out_right);

/* Every row that a command wrote is inside: one that is not (a damaged or forged command, a fault of the
 * machine) is to be refused whole, the same on every replica. */
bool range_has_rows(const struct range *r, const struct range_out *out);

/* A committed configuration took effect. */
void range_config_changed(struct range *r);

/* Asserts: bounds are valid, versions are not 0. */
void range_check(const struct range *r);

void range_encode(const struct range *r, struct buf *out);
enum range_decode_outcome {
    RANGE_DECODE_E_BAD = 1,
};
/* *out is yours on 0. */
must_use int range_decode(struct str record, struct range *out);
