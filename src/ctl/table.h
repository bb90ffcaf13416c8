/* Columns for people.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/buf.h"

#define CTL_TABLE_COLUMNS_MAX 16

struct ctl_table {
    struct buf text; /* cells, one behind the other */
    struct ctl_cell {
        size_t at, n;
    } * cell;
    size_t count, cap;
    unsigned columns;
};

/* heads: separated by '|'.  A table without rows prints its heads. */
void ctl_table_begin(struct ctl_table *t, const char *heads);

/* The next cell; rows follow from the number of heads.  Control characters become '?': a client
 * chooses its name. */
void ctl_table_put(struct ctl_table *t, struct str s);
void ctl_table_printf(struct ctl_table *t, const char *fmt, ...) print_like(2, 3);

/* Appends the table and frees it. */
void ctl_table_end(struct ctl_table *t, struct buf *out);

/* "1.5 GiB", "3 d 4 h": at most 12 characters, for ctl_table_put. */
struct str ctl_size(uint64_t bytes, char out[24]);
struct str ctl_span(uint64_t seconds, char out[24]);
