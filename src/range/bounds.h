/* The part of the key space that a range owns, and the two-part version that fences it.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "codec/record.h"
#include "range/machine.h"

struct range_id {
    uint64_t epoch; /* generation of the key space: the hlc of its founding */
    uint64_t id;    /* 0: the first range; else given by the split that made it, to no other */
};

/* boundary moves with split and merge, config with every change of members.  Writes name the boundary they were routed
 * by, commands of operators and balancers name both. */
struct range_version {
    uint32_t boundary;
    uint32_t config;
};

static inline bool range_id_eq(struct range_id a, struct range_id b)
{
    return a.epoch == b.epoch && a.id == b.id;
}

/* Order of epoch, then id. */
int range_id_cmp(struct range_id a, struct range_id b);

static inline uint64_t range_version_pack(struct range_version v)
{
    return (uint64_t)v.boundary << 32 | v.config;
}

static inline struct range_version range_version_unpack(uint64_t v)
{
    return (struct range_version){(uint32_t)(v >> 32), (uint32_t)v};
}

/* Views from here on: whoever stores bounds keeps the bytes. */
struct range_bounds range_bounds_all(void);
bool range_bounds_has(const struct range_bounds *b, struct str key);
bool range_bounds_eq(const struct range_bounds *a, const struct range_bounds *b);
bool range_bounds_overlap(const struct range_bounds *a, const struct range_bounds *b);

/* start < end, or open. */
bool range_bounds_is_valid(const struct range_bounds *b);

/* A key that cuts b into two parts that are not empty. */
bool range_bounds_can_split(const struct range_bounds *b, struct str key);

/* Two fields of a record: start, and end unless it is open. */
void range_bounds_encode(struct buf *out, uint32_t tag_start, const struct range_bounds *b);

/* Heap copy; range_bounds_free. */
struct range_bounds range_bounds_dup(const struct range_bounds *b) must_use;
void range_bounds_free(struct range_bounds *b);
