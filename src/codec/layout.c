/* Structs as records, by a table.  SPDX-License-Identifier: Apache-2.0 */
#include "codec/layout.h"

static void put_u64(struct buf *out, uint32_t tag, uint64_t v)
{
    if (v > 0)
        codec_record_u64(out, tag, v);
}

static void put(struct buf *out, uint32_t tag, enum codec_layout_type type, const void *from)
{
    switch (type) {
    case CODEC_LAYOUT_U64:
        put_u64(out, tag, *(const uint64_t *)from);
        break;
    case CODEC_LAYOUT_U32:
        put_u64(out, tag, *(const uint32_t *)from);
        break;
    case CODEC_LAYOUT_U8:
        put_u64(out, tag, *(const uint8_t *)from);
        break;
    case CODEC_LAYOUT_BOOL:
        put_u64(out, tag, *(const bool *)from);
        break;
    case CODEC_LAYOUT_STR:
        if (((const struct str *)from)->n > 0)
            codec_record_bytes(out, tag, *(const struct str *)from);
        break;
    case CODEC_LAYOUT_UUID: {
        const struct uuid *u = from;
        if (!uuid_is_zero(u))
            codec_record_bytes(out, tag, str_view(u->b, sizeof u->b));
        break;
    }
    }
}

void codec_layout_put(struct buf *out, const struct codec_layout *layout, size_t count,
                      const void *from)
{
    for (size_t i = 0; i < count; i++)
        put(out, layout[i].tag, layout[i].type, (const uint8_t *)from + layout[i].at);
}

static bool get(const struct codec_field *f, enum codec_layout_type type, void *to)
{
    bool is_bytes = type == CODEC_LAYOUT_STR || type == CODEC_LAYOUT_UUID;
    if (f->is_bytes != is_bytes)
        return false;
    switch (type) {
    case CODEC_LAYOUT_U64:
        *(uint64_t *)to = f->u64;
        return true;
    case CODEC_LAYOUT_U32:
        *(uint32_t *)to = (uint32_t)f->u64;
        return f->u64 <= UINT32_MAX;
    case CODEC_LAYOUT_U8:
        *(uint8_t *)to = (uint8_t)f->u64;
        return f->u64 <= UINT8_MAX;
    case CODEC_LAYOUT_BOOL:
        *(bool *)to = f->u64 != 0;
        return true;
    case CODEC_LAYOUT_STR:
        *(struct str *)to = f->bytes;
        return true;
    case CODEC_LAYOUT_UUID: {
        struct uuid *u = to;
        if (f->bytes.n != sizeof u->b)
            return false;
        memcpy(u->b, f->bytes.p, sizeof u->b);
        return true;
    }
    }
    return false;
}

bool codec_layout_get(struct codec_cursor c, const struct codec_layout *layout, size_t count,
                      void *to)
{
    struct codec_field f;
    size_t next = 0; /* fields mostly come in the table's order */
    while (codec_record_next(&c, &f))
        for (size_t tried = 0; tried < count; tried++, next++) {
            next = next < count ? next : 0;
            if (layout[next].tag != f.tag)
                continue;
            if (!get(&f, layout[next].type, (uint8_t *)to + layout[next].at))
                return false;
            next++;
            break;
        }
    return !c.bad;
}
