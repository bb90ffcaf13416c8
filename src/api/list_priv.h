/* Merging pages of several sources.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/buf.h"

struct api_merge_row {
    struct str client, json; /* ours */
    bool is_stored;
};

struct api_merge {
    struct api_merge_row *row;
    size_t count, cap;
    struct buf bound; /* nothing behind this client identifier may be shown yet */
    bool is_bounded, is_more;
};

void api_merge_put(struct api_merge *m, struct str client, struct str json, bool is_stored);
/* A source has more behind `last`. */
void api_merge_bound(struct api_merge *m, struct str last);
/* Orders the rows by client, the live one before the stored one; how many of them make a page of at
 * most `limit` clients.  Sets is_more. */
size_t api_merge_end(struct api_merge *m, size_t limit);
void api_merge_deinit(struct api_merge *m);
