/* Inside the table of retained messages.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/heap.h"
#include "base/map.h"
#include "base/skip.h"
#include "retain/retain.h"

/* What one tenant has in this range. */
struct retain_tenant {
    struct str name;
    uint64_t topics, bytes;
};

/* One retained message.  `small` holds the whole row value when it is short. */
struct retain_item {
    struct heap_node due; /* by expiry; not in the heap when it never expires */
    struct retain_tenant *tenant;
    uint64_t hash; /* of key and value: its part of the state hash */
    uint64_t hlc;
    uint32_t bytes;        /* of key and value */
    uint32_t tenant_n;     /* the key is tenant 00 topic */
    struct str small;      /* empty: the value is on disk only */
    struct skip_node node; /* last: its pointers follow */
};

struct retain_machine {
    struct skip item;
    struct map tenant;
    struct heap due;
    uint64_t count;        /* of items */
    uint64_t hash;         /* sum of theirs */
    struct buf start, end; /* bounds */
    bool is_open;
    struct buf scratch;
};

static inline struct str retain_item_topic(const struct retain_item *i)
{
    return str_view(i->node.key.p + i->tenant_n + 1, i->node.key.n - i->tenant_n - 1);
}

/* The row value of a message, and back (views). */
void retain_value_encode(struct buf *out, const struct retain_message *m);
must_use bool retain_value_decode(struct str value, struct retain_message *out);

/* Milliseconds since 1970 at which it ends; UINT64_MAX never. */
uint64_t retain_message_due_ms(uint64_t hlc, uint32_t expiry_sec);

enum { /* first byte of commands and requests */
       RETAIN_KIND_SET = 0xE1,
       RETAIN_KIND_EXPIRE,
       RETAIN_KIND_COLLECT, /* everything that has expired at the command's time: asked for by tick
                             */
       RETAIN_KIND_MATCH,
       RETAIN_KIND_GET,
       RETAIN_KIND_STAT,
       RETAIN_VERSION = 1,
};

enum { /* fields */
       RETAIN_TAG_SET = 1,
       RETAIN_TAG_TENANT,
       RETAIN_TAG_TOPIC,
       RETAIN_TAG_VALUE,
       RETAIN_TAG_TOPIC_MAX,
       RETAIN_TAG_BYTE_MAX,
       RETAIN_TAG_AGE,
       RETAIN_TAG_MAX,
       RETAIN_TAG_FILTER,
       RETAIN_TAG_AFTER,
};

/* One page of matching: appends found messages to reply and says where to go on (empty: nowhere).
 */
struct retain_page {
    struct str tenant, filter, after;
    uint32_t message_max, byte_max;
    uint64_t now_ms;
};
void retain_match(const struct retain_machine *m, const struct retain_page *p,
                  struct buf *out_messages, struct buf *out_after);
