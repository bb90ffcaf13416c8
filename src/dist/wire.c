/* The record of a route.  SPDX-License-Identifier: Apache-2.0
 *
 * It never judges a route: dist_index_add does.  Unknown tags are skipped, numbers that do not fit
 * make it bad. */
#include "dist/wire_priv.h"

#include "codec/layout.h"

enum {
    TAG_TENANT = 1,
    TAG_FILTER,
    TAG_SHARE,
    TAG_GROUP,
    TAG_KIND,
    TAG_NODE,
    TAG_EPOCH,
    TAG_CLIENT,
    TAG_SESSION,
    TAG_INCARNATION,
    TAG_OPTIONS,
    TAG_SUB_ID,
    TAG_MEMBER_MAX,
};

struct entry {
    struct dist_route route;
    uint32_t member_max;
};

static const struct codec_layout layout[] = {
    CODEC_LAYOUT(struct entry, TAG_TENANT, route.tenant),
    CODEC_LAYOUT(struct entry, TAG_FILTER, route.filter),
    CODEC_LAYOUT(struct entry, TAG_SHARE, route.share),
    CODEC_LAYOUT(struct entry, TAG_GROUP, route.group),
    CODEC_LAYOUT(struct entry, TAG_KIND, route.kind),
    CODEC_LAYOUT(struct entry, TAG_NODE, route.node),
    CODEC_LAYOUT(struct entry, TAG_EPOCH, route.epoch),
    CODEC_LAYOUT(struct entry, TAG_CLIENT, route.client),
    CODEC_LAYOUT(struct entry, TAG_SESSION, route.session),
    CODEC_LAYOUT(struct entry, TAG_INCARNATION, route.incarnation),
    CODEC_LAYOUT(struct entry, TAG_OPTIONS, route.options),
    CODEC_LAYOUT(struct entry, TAG_SUB_ID, route.sub_id),
    CODEC_LAYOUT(struct entry, TAG_MEMBER_MAX, member_max),
};

void dist_wire_put(struct buf *out, uint32_t tag, const struct dist_route *r, uint32_t member_max)
{
    struct entry e = {*r, member_max};
    size_t opened = codec_record_open(out, tag);
    codec_layout_put(out, layout, countof(layout), &e);
    codec_record_close(out, opened);
}

bool dist_wire_get(struct str fields, struct dist_route *out, uint32_t *out_member_max)
{
    struct entry e = {.member_max = 0};
    bool is_good = codec_layout_get(codec_cursor_of(fields), layout, countof(layout), &e);
    *out = e.route;
    *out_member_max = e.member_max;
    return is_good && e.route.share <= DIST_SHARE_ORDERED && e.route.kind <= DIST_KIND_MEMBER &&
           e.route.sub_id <= DIST_SUB_ID_MAX;
}
