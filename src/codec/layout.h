/* Which member of a struct is which field of a record.  SPDX-License-Identifier: Apache-2.0
 *
 * One table serves the writer and the reader, so that they cannot differ.  It holds what stands
 * alone; lists, nested records and what only sometimes counts are for the caller, before or after,
 * with codec/record.h: a table skips tags that it does not have. */
#pragma once

#include <stddef.h>

#include "base/uuid.h"
#include "codec/record.h"

enum codec_layout_type {
    CODEC_LAYOUT_U64 = 0,
    CODEC_LAYOUT_U32, /* enums too: the caller checks that it knows the value */
    CODEC_LAYOUT_U8,
    CODEC_LAYOUT_BOOL,
    CODEC_LAYOUT_STR, /* decoded: a view into the record */
    CODEC_LAYOUT_UUID,
};

struct codec_layout {
    uint32_t tag;
    enum codec_layout_type type;
    size_t at;
};

/* A row: field tag is the member of struct type; the member's own type says how it is written. */
#define CODEC_LAYOUT(type, tag, member)                                                            \
    {                                                                                              \
        tag,                                                                                       \
            _Generic(((const type *)NULL)->member, uint64_t                                        \
                     : CODEC_LAYOUT_U64, uint32_t                                                  \
                     : CODEC_LAYOUT_U32, uint8_t                                                   \
                     : CODEC_LAYOUT_U8, bool                                                       \
                     : CODEC_LAYOUT_BOOL, struct str                                               \
                     : CODEC_LAYOUT_STR, struct uuid                                               \
                     : CODEC_LAYOUT_UUID),                                                         \
            offsetof(type, member)                                                                 \
    }

/* Appends the fields of *from in the table's order.  Zeros and empty views are left out: absent
 * means the same. */
void codec_layout_put(struct buf *out, const struct codec_layout *layout, size_t count,
                      const void *from);

/* Reads the fields up to c's end (c is behind the record's head) into *to, which keeps what it has
 * where a field is absent.  False when the bytes are damaged or a value does not fit its member;
 * *to may then be half filled. */
must_use bool codec_layout_get(struct codec_cursor c, const struct codec_layout *layout,
                               size_t count, void *to);
