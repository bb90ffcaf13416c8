/* Rows in order, in memory: what a machine wrote when there is no engine below.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Not thread safe: belongs to one loop. */
#pragma once

#include "range/machine.h"

struct stores_rows;

struct stores_rows *stores_rows_new(uint64_t seed) must_use;
struct stores_rows *stores_rows_free(struct stores_rows *r);

/* Copies key and value; replaces what was there. */
void stores_rows_put(struct stores_rows *r, struct str key, struct str value);
void stores_rows_del(struct stores_rows *r, struct str key);

/* Appends the rows of [from, to) to reply, as range_scan has it, until a limit is met. */
void stores_rows_scan(const struct stores_rows *r, const struct range_scan *s, struct buf *reply);

size_t stores_rows_count(const struct stores_rows *r);
