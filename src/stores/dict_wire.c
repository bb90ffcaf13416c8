/* Messages of the session dict.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. What is encoded is decoded to the same; unknown tags are skipped.
 * 2. What decodes has a kind and a value that we know, and a cookie where somebody claims, holds or
 * asks. */
#include "stores/dict_wire_priv.h"

#include "codec/layout.h"

#define RECORD_KIND 0x44
#define RECORD_VERSION 1

#define FIELD(tag, member) CODEC_LAYOUT(struct stores_dict_message, tag, member)

enum { TAG_KIND = 1 };
static const struct codec_layout layout[] = {
    FIELD(2, tenant),     FIELD(3, client),       FIELD(4, owner.node), FIELD(5, owner.epoch),
    FIELD(6, owner.loop), FIELD(7, owner.cookie), FIELD(8, token),      FIELD(9, value),
};

void stores_dict_encode(struct buf *b, const struct stores_dict_message *m)
{
    codec_record_begin(b, RECORD_KIND, RECORD_VERSION);
    codec_record_u64(b, TAG_KIND, m->kind);
    codec_layout_put(b, layout, countof(layout), m);
}

static bool check(struct stores_dict_message *m)
{
    switch (m->kind) {
    case STORES_DICT_CLAIM:
    case STORES_DICT_HELD:
    case STORES_DICT_RELEASE:
    case STORES_DICT_FIND:
    case STORES_DICT_KILL:
        return m->owner.cookie != 0;
    case STORES_DICT_GRANT:
        return true;
    case STORES_DICT_QUIT:
        if (m->value > STORES_QUIT_GONE)
            m->value = STORES_QUIT_KILL;
        return true;
    case STORES_DICT_REFUSE:
        if (m->value == STORES_OK)
            m->value = STORES_E_UNKNOWN;
        /* fallthrough */
    case STORES_DICT_FOUND:
        if (m->value > STORES_E_INVALID)
            m->value = STORES_E_UNKNOWN;
        return true;
    }
    return false;
}

bool stores_dict_decode(struct str bytes, struct stores_dict_message *m)
{
    struct codec_cursor c = codec_cursor_of(bytes);
    uint8_t kind, version;
    struct codec_field f;
    *m = (struct stores_dict_message){.tenant = STR(""), .client = STR("")};
    codec_record_head(&c, &kind, &version);
    if (c.bad || kind != RECORD_KIND || version != RECORD_VERSION ||
        !codec_layout_get(c, layout, countof(layout), m))
        return false;
    while (codec_record_next(&c, &f))
        if (f.tag == TAG_KIND && f.u64 <= STORES_DICT_FOUND)
            m->kind = (enum stores_dict_kind)f.u64;
    return check(m);
}
