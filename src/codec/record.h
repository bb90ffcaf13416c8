/* The one encoding of our records on wire and disk.  SPDX-License-Identifier: Apache-2.0
 *
 *   record = kind u8, version u8, fields;   field = varint(tag << 1 | is_bytes), then varint value or varint len, bytes
 *
 * A reader skips tags it does not know, so a newer writer may add some.  A tag may repeat (lists).  Nested records are
 * bytes fields.  Integrity (CRC, AEAD) belongs to the frame around it. */
#pragma once

#include "base/buf.h"
#include "codec/cursor.h"

struct codec_field {
    uint32_t tag;
    bool is_bytes;
    uint64_t u64;     /* when not is_bytes */
    struct str bytes; /* when is_bytes: a view into the record */
};

void codec_record_begin(struct buf *b, uint8_t kind, uint8_t version);

/* Absent and 0 mean the same: a field of value 0 may be left out by the caller. */
void codec_record_u64(struct buf *b, uint32_t tag, uint64_t v);
void codec_record_bytes(struct buf *b, uint32_t tag, struct str v);

/* A bytes field whose content is put with further calls: remember the result for codec_record_close. */
size_t codec_record_open(struct buf *b, uint32_t tag);
void codec_record_close(struct buf *b, size_t opened);

/* Reads the head.  On a truncated one c->bad. */
void codec_record_head(struct codec_cursor *c, uint8_t *out_kind, uint8_t *out_version);

/* The next field; false at the end or when c->bad. */
bool codec_record_next(struct codec_cursor *c, struct codec_field *out);
