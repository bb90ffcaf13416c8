/* The table of retained messages as a machine.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants:
 *   1. Items are exactly the rows; a short value is in memory too.
 *   2. tenant->topics and ->bytes are sums over its items; a tenant without items is gone.
 *   3. An item is in the heap exactly when it expires.
 *   4. hash is the sum of the items' hashes, whatever the order they came in. */
#include "retain/retain.h"

#include "base/hash.h"
#include "base/hlc.h"
#include "base/mem.h"
#include "codec/record.h"
#include "retain/retain_priv.h"

#define STATE_SEED 0x7265746e /* fixed: state hashes are compared between processes */
#define COLLECT_MAX 1000u     /* expired messages removed by one command */

/* ---- tenants --------------------------------------------------------------------------------- */

static bool tenant_eq(const void *item, const void *key)
{
    return str_eq(((const struct retain_tenant *)item)->name, *(const struct str *)key);
}

static struct retain_tenant *tenant_find(const struct retain_machine *m, struct str name)
{
    return map_find(&m->tenant, hash_str(name, STATE_SEED), tenant_eq, &name);
}

static struct retain_tenant *tenant_get(struct retain_machine *m, struct str name)
{
    struct retain_tenant *t = tenant_find(m, name);
    if (t == NULL) {
        t = mem_new(sizeof *t);
        t->name = str_dup(name);
        map_put(&m->tenant, hash_str(name, STATE_SEED), t);
    }
    return t;
}

static void tenant_drop_if_empty(struct retain_machine *m, struct retain_tenant *t)
{
    if (t->topics > 0)
        return;
    map_del(&m->tenant, hash_str(t->name, STATE_SEED), t);
    mem_free((void *)(uintptr_t)t->name.p);
    mem_free(t);
}

/* ---- items ----------------------------------------------------------------------------------- */

static struct retain_item *item_find(const struct retain_machine *m, struct str key)
{
    struct skip_node *n = skip_find(&m->item, key);
    return n != NULL ? container_of(n, struct retain_item, node) : NULL;
}

static void item_drop(struct retain_machine *m, struct retain_item *i)
{
    struct retain_tenant *t = i->tenant;
    skip_del(&m->item, &i->node);
    heap_del(&m->due, &i->due);
    m->hash -= i->hash;
    m->count--;
    t->topics--;
    t->bytes -= i->bytes;
    mem_free((void *)(uintptr_t)i->node.key.p);
    mem_free((void *)(uintptr_t)i->small.p);
    mem_free(i);
    tenant_drop_if_empty(m, t);
}

/* The value of a key that may be there already. */
static void item_set(struct retain_machine *m, struct str tenant, struct str key, struct str value,
                     const struct retain_message *msg)
{
    struct retain_item *old = item_find(m, key);
    struct retain_tenant *t = tenant_get(m, tenant);
    t->topics++; /* keeps it while the old item goes */
    if (old != NULL)
        item_drop(m, old);
    unsigned height = skip_height(&m->item);
    struct retain_item *i = mem_new(sizeof *i + height * sizeof i->node.next[0]);
    i->tenant = t;
    i->node.key = str_dup(key);
    i->node.height = height;
    i->hash = hash_str(value, hash_str(key, STATE_SEED));
    i->hlc = msg->hlc;
    i->bytes = (uint32_t)(key.n + value.n);
    i->tenant_n = (uint32_t)tenant.n;
    if (value.n <= RETAIN_INLINE_MAX)
        i->small = str_dup(value);
    t->bytes += i->bytes;
    m->hash += i->hash;
    m->count++;
    skip_put(&m->item, &i->node);
    uint64_t due_ms = retain_message_due_ms(msg->hlc, msg->expiry_sec);
    if (due_ms != UINT64_MAX)
        heap_put(&m->due, &i->due, due_ms);
}

static bool is_inside(const struct retain_machine *m, struct str key)
{
    return str_cmp(key, buf_str(&m->start)) >= 0 &&
           (m->is_open || str_cmp(key, buf_str(&m->end)) < 0);
}

/* ---- applying -------------------------------------------------------------------------------- */

struct set {
    struct str tenant, topic, value;
    uint64_t topic_max, byte_max;
};

static bool set_decode(struct str bytes, struct set *out)
{
    struct codec_cursor c = codec_cursor_of(bytes);
    struct codec_field f;
    *out = (struct set){.tenant = STR(""), .topic = STR(""), .value = STR("")};
    while (codec_record_next(&c, &f)) {
        if (f.tag == RETAIN_TAG_TENANT && f.is_bytes)
            out->tenant = f.bytes;
        else if (f.tag == RETAIN_TAG_TOPIC && f.is_bytes)
            out->topic = f.bytes;
        else if (f.tag == RETAIN_TAG_VALUE && f.is_bytes)
            out->value = f.bytes;
        else if (f.tag == RETAIN_TAG_TOPIC_MAX)
            out->topic_max = f.u64;
        else if (f.tag == RETAIN_TAG_BYTE_MAX)
            out->byte_max = f.u64;
    }
    return !c.bad;
}

static bool is_over_limits(const struct retain_machine *m, const struct set *s,
                           const struct retain_item *old, size_t bytes)
{
    const struct retain_tenant *t = tenant_find(m, s->tenant);
    uint64_t topics = t != NULL ? t->topics : 0, used = t != NULL ? t->bytes : 0;
    if (s->topic_max != 0 && old == NULL && topics >= s->topic_max)
        return true;
    return s->byte_max != 0 && used - (old != NULL ? old->bytes : 0) + bytes > s->byte_max;
}

/* A name that a message can have: a wildcard in it would be matched by filters that do not mean it.
 */
static bool is_topic(struct str t)
{
    return t.n > 0 && t.n <= UINT16_MAX && memchr(t.p, 0, t.n) == NULL &&
           memchr(t.p, '+', t.n) == NULL && memchr(t.p, '#', t.n) == NULL;
}

static uint8_t apply_set(struct retain_machine *m, const struct set *s, uint64_t hlc,
                         struct range_out *out)
{
    struct retain_message msg;
    bool has_nul = s->tenant.n > 0 && memchr(s->tenant.p, 0, s->tenant.n) != NULL;
    if (!is_topic(s->topic) || has_nul || !retain_value_decode(s->value, &msg))
        return RETAIN_E_INVALID;
    struct buf key = {0};
    uint8_t result = 0;
    retain_key(&key, s->tenant, s->topic);
    struct retain_item *old = item_find(m, buf_str(&key));
    if (msg.hlc == 0)
        msg.hlc = hlc;
    m->scratch.n = 0;
    retain_value_encode(&m->scratch, &msg);
    struct str value = buf_str(&m->scratch);
    if (!is_inside(m, buf_str(&key))) {
        result = RETAIN_E_MOVED;
    } else if (old != NULL && old->hlc > msg.hlc) {
        result = RETAIN_E_OLD;
    } else if (msg.payload.n == 0) { /* [MQTT-3.3.1-10] */
        if (old != NULL) {
            range_out_del(out, buf_str(&key));
            item_drop(m, old);
        }
    } else if (is_over_limits(m, s, old, key.n + value.n)) {
        result = RETAIN_E_FULL;
    } else {
        range_out_put(out, buf_str(&key), value);
        item_set(m, s->tenant, buf_str(&key), value, &msg);
    }
    buf_deinit(&key);
    return result;
}

/* All or nothing: a command that cannot be decoded to its end changes nothing. */
static bool sets_are_whole(struct codec_cursor c)
{
    struct codec_field f;
    struct set s;
    bool ok = true;
    while (codec_record_next(&c, &f))
        ok = ok && (f.tag != RETAIN_TAG_SET || (f.is_bytes && set_decode(f.bytes, &s)));
    return ok && !c.bad;
}

static void apply_sets(struct retain_machine *m, struct codec_cursor c, uint64_t hlc,
                       struct range_out *out)
{
    struct codec_field f;
    struct set s;
    if (!sets_are_whole(c))
        return;
    while (codec_record_next(&c, &f))
        if (f.tag == RETAIN_TAG_SET && set_decode(f.bytes, &s))
            buf_put_u8(&out->reply, apply_set(m, &s, hlc, out));
}

static void remove_item(struct retain_machine *m, struct retain_item *i, struct range_out *out)
{
    range_out_del(out, i->node.key);
    item_drop(m, i);
}

static void apply_collect(struct retain_machine *m, uint64_t now_ms, struct range_out *out)
{
    struct heap_node *n;
    usec_t last =
        0; /* what is due at the same time goes together: a heap orders it differently on each replica */
    for (unsigned k = 0; (n = heap_top(&m->due)) != NULL && n->at <= now_ms; k++) {
        if (k >= COLLECT_MAX && n->at > last)
            break;
        last = n->at;
        remove_item(m, container_of(n, struct retain_item, due), out);
    }
}

static void apply_expire(struct retain_machine *m, struct codec_cursor c, uint64_t now_ms,
                         struct range_out *out)
{
    struct codec_field f;
    struct str tenant = STR("");
    uint64_t age_sec = 0, max = 0, removed = 0;
    while (codec_record_next(&c, &f)) {
        if (f.tag == RETAIN_TAG_TENANT && f.is_bytes)
            tenant = f.bytes;
        else if (f.tag == RETAIN_TAG_AGE)
            age_sec = f.u64;
        else if (f.tag == RETAIN_TAG_MAX)
            max = f.u64;
    }
    if (c.bad)
        return;
    struct buf from = {0}, to = {0};
    retain_key_tenant(&from, &to, tenant);
    struct skip_node *n = skip_seek(&m->item, buf_str(&from));
    while (n != NULL && removed < max && str_cmp(n->key, buf_str(&to)) < 0) {
        struct retain_item *i = container_of(n, struct retain_item, node);
        n = n->next[0];
        if (age_sec <= UINT32_MAX && hlc_ms(i->hlc) + age_sec * 1000 < now_ms) {
            remove_item(m, i, out);
            removed++;
        }
    }
    buf_put_varint(&out->reply, removed);
    buf_deinit(&from);
    buf_deinit(&to);
}

static void machine_apply(void *arg, const struct range_apply *in, struct range_out *out)
{
    struct retain_machine *m = arg;
    struct codec_cursor c = codec_cursor_of(in->command);
    uint8_t kind, version;
    codec_record_head(&c, &kind, &version);
    if (c.bad || version != RETAIN_VERSION)
        return;
    if (kind == RETAIN_KIND_SET)
        apply_sets(m, c, in->hlc, out);
    else if (kind == RETAIN_KIND_COLLECT)
        apply_collect(m, hlc_ms(in->hlc), out);
    else if (kind == RETAIN_KIND_EXPIRE)
        apply_expire(m, c, hlc_ms(in->hlc), out);
}

/* ---- queries --------------------------------------------------------------------------------- */

static void query_match(const struct retain_machine *m, const struct retain_page *p,
                        struct buf *reply)
{
    struct buf messages = {0}, after = {0};
    retain_match(m, p, &messages, &after);
    buf_put_varint(reply, after.n);
    buf_put_str(reply, buf_str(&after));
    buf_put_str(reply, buf_str(&messages));
    buf_deinit(&messages);
    buf_deinit(&after);
}

static int query_get(const struct retain_machine *m, struct str tenant, struct str topic,
                     struct buf *reply, struct range_scan *scan)
{
    struct buf key = {0};
    retain_key(&key, tenant, topic);
    const struct retain_item *i = item_find(m, buf_str(&key));
    if (i != NULL && i->small.n == 0) {
        /* the row, and its key in front of it, which the scan's bounds are views of */
        buf_put_varint(reply, key.n + 1);
        buf_put_str(reply, buf_str(&key));
        buf_put_u8(reply, 0);
        const uint8_t *at = reply->p + reply->n - key.n - 1;
        *scan = (struct range_scan){str_view(at, key.n), str_view(at, key.n + 1), 1, UINT32_MAX};
        buf_deinit(&key);
        return RANGE_QUERY_E_SCAN;
    }
    buf_put_varint(reply, 0);
    if (i != NULL) {
        buf_put_varint(reply, key.n);
        buf_put_str(reply, buf_str(&key));
        buf_put_varint(reply, i->small.n);
        buf_put_str(reply, i->small);
    }
    buf_deinit(&key);
    return 0;
}

static void query_stat(const struct retain_machine *m, struct str tenant, struct buf *reply)
{
    uint64_t topics = 0, bytes = 0;
    size_t at = 0;
    for (const struct retain_tenant *t; (t = map_next(&m->tenant, &at)) != NULL;) {
        if (tenant.n > 0 && !str_eq(t->name, tenant))
            continue;
        topics += t->topics;
        bytes += t->bytes;
    }
    buf_put_varint(reply, topics);
    buf_put_varint(reply, bytes);
}

static int machine_query(void *arg, uint64_t hlc, struct str request, struct buf *reply,
                         struct range_scan *scan)
{
    const struct retain_machine *m = arg;
    struct codec_cursor c = codec_cursor_of(request);
    struct codec_field f;
    uint8_t kind, version;
    struct retain_page p = {.tenant = STR(""),
                            .filter = STR(""),
                            .after = STR(""),
                            .message_max = 1,
                            .now_ms = hlc_ms(hlc)};
    struct str topic = STR("");
    codec_record_head(&c, &kind, &version);
    while (codec_record_next(&c, &f)) {
        if (f.tag == RETAIN_TAG_TENANT && f.is_bytes)
            p.tenant = f.bytes;
        else if (f.tag == RETAIN_TAG_FILTER && f.is_bytes)
            p.filter = f.bytes;
        else if (f.tag == RETAIN_TAG_AFTER && f.is_bytes)
            p.after = f.bytes;
        else if (f.tag == RETAIN_TAG_TOPIC && f.is_bytes)
            topic = f.bytes;
        else if (f.tag == RETAIN_TAG_MAX && f.u64 > 0)
            p.message_max = f.u64 < UINT32_MAX ? (uint32_t)f.u64 : UINT32_MAX;
        else if (f.tag == RETAIN_TAG_BYTE_MAX)
            p.byte_max = f.u64 > 0 && f.u64 < UINT32_MAX ? (uint32_t)f.u64 : UINT32_MAX;
    }
    if (c.bad || version != RETAIN_VERSION)
        return RANGE_QUERY_E_INVALID;
    if (kind == RETAIN_KIND_GET)
        return query_get(m, p.tenant, topic, reply, scan);
    if (kind == RETAIN_KIND_MATCH)
        query_match(m, &p, reply);
    else if (kind == RETAIN_KIND_STAT)
        query_stat(m, p.tenant, reply);
    else
        return RANGE_QUERY_E_INVALID;
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void *machine_new(void *conf)
{
    struct retain_machine *m = mem_new(sizeof *m);
    (void)conf;
    skip_init(&m->item, STATE_SEED);
    return m;
}

static void drop_all(struct retain_machine *m)
{
    for (struct skip_node *n; (n = skip_first(&m->item)) != NULL;)
        item_drop(m, container_of(n, struct retain_item, node));
}

static void machine_free(void *arg)
{
    struct retain_machine *m = arg;
    drop_all(m);
    map_deinit(&m->tenant);
    heap_deinit(&m->due);
    buf_deinit(&m->start);
    buf_deinit(&m->end);
    buf_deinit(&m->scratch);
    mem_free(m);
}

static void set_bounds(struct retain_machine *m, const struct range_bounds *b)
{
    m->start.n = m->end.n = 0;
    buf_put_str(&m->start, b->start);
    buf_put_str(&m->end, b->end);
    m->is_open = b->is_open;
}

static void machine_reset(void *arg, const struct range_bounds *b)
{
    drop_all(arg);
    set_bounds(arg, b);
}

/* ---- split ----------------------------------------------------------------------------------- */

static bool is_due_cut(void *arg, const struct heap_node *x)
{
    const struct retain_machine *right = arg;
    return is_inside(right, container_of(x, const struct retain_item, due)->node.key);
}

/* The items lie in the right machine's list already. */
static void move_sums(struct retain_machine *left, struct retain_machine *right)
{
    struct retain_tenant *to = NULL;
    for (struct skip_node *n = skip_first(&right->item); n != NULL; n = n->next[0]) {
        struct retain_item *i = container_of(n, struct retain_item, node);
        struct retain_tenant *from = i->tenant;
        if (to == NULL || !str_eq(to->name, from->name))
            to = tenant_get(right, from->name);
        i->tenant = to;
        to->topics++;
        to->bytes += i->bytes;
        from->topics--;
        from->bytes -= i->bytes;
        right->hash += i->hash;
        right->count++;
        tenant_drop_if_empty(left, from);
    }
    left->hash -= right->hash;
    left->count -= right->count;
}

static void *machine_split(void *arg, const struct range_bounds *left,
                           const struct range_bounds *right)
{
    struct retain_machine *m = arg, *out = machine_new(NULL);
    set_bounds(m, left);
    set_bounds(out, right);
    skip_cut(&m->item, right->start, &out->item);
    heap_cut(&m->due, &out->due, is_due_cut, out);
    move_sums(m, out);
    return out;
}

static void machine_load(void *arg, struct str key, struct str value)
{
    struct retain_message msg;
    const char *nul = key.n > 0 ? memchr(key.p, 0, key.n) : NULL;
    if (nul != NULL && retain_value_decode(value, &msg))
        item_set(arg, str_view(key.p, (size_t)(nul - key.p)), key, value, &msg);
}

static void machine_loaded(void *arg)
{
    (void)arg;
}

static void machine_split_key(void *arg, struct str wish, struct buf *out_key)
{
    (void)arg;
    buf_put_str(out_key, wish); /* between any two topics */
}

static uint64_t machine_tick(void *arg, uint64_t hlc, struct buf *out_command)
{
    struct retain_machine *m = arg;
    uint64_t due_ms = heap_deadline(&m->due);
    if (due_ms <= hlc_ms(hlc))
        codec_record_begin(out_command, RETAIN_KIND_COLLECT, RETAIN_VERSION);
    return due_ms;
}

static void machine_fact(void *arg, struct buf *out)
{
    (void)arg;
    (void)out;
}

static uint64_t machine_state_hash(void *arg)
{
    const struct retain_machine *m = arg;
    return hash_u64(m->hash + m->count);
}

const struct range_machine_ops *retain_machine(void)
{
    static const struct range_machine_ops ops = {.name = "retain",
                                                 .new = machine_new,
                                                 .free = machine_free,
                                                 .reset = machine_reset,
                                                 .load = machine_load,
                                                 .loaded = machine_loaded,
                                                 .split = machine_split,
                                                 .apply = machine_apply,
                                                 .query = machine_query,
                                                 .split_key = machine_split_key,
                                                 .tick = machine_tick,
                                                 .fact = machine_fact,
                                                 .state_hash = machine_state_hash};
    return &ops;
}
