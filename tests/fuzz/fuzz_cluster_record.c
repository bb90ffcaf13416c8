/* Hostile records of the cluster room: heads and hellos of the link, what a member says about
 * itself, traffic rules and groups, orders about keys, and its files (shared rows, keyring,
 * addresses of peers). SPDX-License-Identifier: Apache-2.0
 *
 * Input: a byte that chooses the decoder, then what it reads.  What decodes is encoded again and
 * must then decode to the same. */
#include "base/crc.h"
#include "cluster/cluster_priv.h"
#include "cluster/record_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void head_try(struct str s)
{
    struct link_head h, again;
    struct buf b = {0};
    if (s.n >= LINK_HEAD_LEN) {
        cluster_record_head_get((const uint8_t *)s.p, &h);
        cluster_record_head_put(&b, &h, str_view(s.p + LINK_HEAD_LEN, s.n - LINK_HEAD_LEN));
        must(b.n == s.n);
        cluster_record_head_get(b.p, &again);
        must(again.len == s.n - LINK_HEAD_LEN && again.id == h.id && again.service == h.service);
        must(again.type == h.type && again.shard == h.shard && again.timeout_ms == h.timeout_ms);
    }
    buf_deinit(&b);
}

static void hello_try(struct str s)
{
    struct cluster_hello h, again;
    struct buf b = {0};
    if (cluster_record_hello_get(s, &h)) {
        cluster_record_hello_put(&b, LINK_FRAME_HELLO, &h);
        must(cluster_record_hello_get(buf_str(&b), &again));
        must(memcmp(&h, &again, sizeof h) == 0);
    }
    buf_deinit(&b);
}

static void meta_try(struct str s)
{
    struct meta m, again;
    struct buf b = {0};
    struct net_address a;
    struct gossip_addr g;
    cluster_meta_get(s, &m);
    must(m.api.p != NULL && m.release.p != NULL && m.loops <= UINT16_MAX);
    cluster_meta_put(&b, &m);
    cluster_meta_get(buf_str(&b), &again);
    must(m.loops == again.loops && m.pid == again.pid && str_eq(m.api, again.api) &&
         str_eq(m.release, again.release) && memcmp(m.rpc.ip, again.rpc.ip, sizeof m.rpc.ip) == 0);
    cluster_addr_to(&m.rpc, &a);
    cluster_addr_of(&a, &g);
    must(memcmp(g.ip, m.rpc.ip, sizeof g.ip) == 0 && g.port == m.rpc.port);
    buf_deinit(&b);
}

static void rule_try(struct str s)
{
    struct cluster_traffic_rule r, again;
    struct str group[CLUSTER_TRAFFIC_GROUPS_MAX], twice[CLUSTER_TRAFFIC_GROUPS_MAX];
    struct buf b = {0};
    if (cluster_record_rule_get(s, &r)) {
        cluster_record_rule_put(&b, &r);
        must(cluster_record_rule_get(buf_str(&b), &again) && again.share_count == r.share_count);
        for (size_t i = 0; i < r.share_count; i++)
            must(str_eq(r.share[i].group, again.share[i].group) &&
                 r.share[i].weight == again.share[i].weight &&
                 r.share[i].weight <= CLUSTER_TRAFFIC_WEIGHT_MAX);
    }
    b.n = 0;
    size_t count = cluster_record_groups_get(s, group);
    cluster_record_groups_put(&b, group, count);
    must(cluster_record_groups_get(buf_str(&b), twice) == count);
    for (size_t i = 0; i < count; i++)
        must(str_eq(group[i], twice[i]));
    buf_deinit(&b);
}

static void order_try(struct str s)
{
    struct cluster_order o, again;
    struct buf b = {0};
    if (cluster_record_order_get(s, &o)) {
        must(o.what != CLUSTER_KEYRING_ADD || o.key.n == CLUSTER_KEY_LEN);
        cluster_record_order_put(&b, &o);
        must(cluster_record_order_get(buf_str(&b), &again));
        must(o.what == again.what && o.epoch == again.epoch && str_eq(o.key, again.key) &&
             str_eq(o.print, again.print) && uuid_eq(&o.target, &again.target));
    }
    buf_deinit(&b);
}

static size_t rows_count(struct str file)
{
    struct codec_cursor c;
    struct gossip_event ev;
    size_t count = 0;
    if (!cluster_record_rows_open(file, &c))
        return 0;
    for (; cluster_record_row_next(&c, &ev); count++)
        must(ev.kind == GOSSIP_EV_ROW_LOAD && ev.key.n > 0 && ev.bytes.p != NULL && ev.flags <= 1);
    return count;
}

/* The file as it is; then the same bytes behind a right beginning and sum, and what was read of
 * them written anew. */
static void rows_try(struct str s)
{
    struct buf b = {0}, again = {0};
    struct codec_cursor c;
    struct gossip_event ev;
    (void)rows_count(s);
    cluster_record_rows_begin(&b);
    buf_put_str(&b, s);
    cluster_record_rows_end(&b);
    cluster_record_rows_begin(&again);
    must(cluster_record_rows_open(buf_str(&b), &c));
    size_t count = 0;
    for (; cluster_record_row_next(&c, &ev); count++) {
        struct gossip_row row = {.owner = ev.uuid,
                                 .space = ev.space,
                                 .key = ev.key,
                                 .value = ev.bytes,
                                 .version = ev.version,
                                 .is_tombstone = ev.flags != 0};
        cluster_record_row_put(&again, &row);
    }
    cluster_record_rows_end(&again);
    must(rows_count(buf_str(&again)) == count);
    buf_deinit(&b);
    buf_deinit(&again);
}

static void keyring_try(struct str s)
{
    struct keyring k = {.origin = "0123456789abcdef"}, again = {.origin = "0123456789abcdef"};
    struct buf b = {0};
    if (cluster_keyring_parse(s, &k) == 0) {
        must(k.count > 0 && k.count <= CLUSTER_KEYRING_MAX);
        cluster_keyring_fill(&k, &b);
        must(cluster_keyring_parse(buf_str(&b), &again) == 0);
        must(again.count == k.count && memcmp(again.key, k.key, sizeof k.key) == 0);
    }
    buf_deinit(&b);
}

static void address_try(struct str s)
{
    struct str line;
    while (str_next(&s, '\n', &line)) {
        struct net_address a, again;
        char text[NET_ADDRESS_TEXT];
        if (net_address_parse(line, &a) != 0)
            continue;
        (void)net_address_format(&a, text);
        must(net_address_parse(str_of(text), &again) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static void (*const try[])(struct str s) = {head_try,  hello_try, meta_try,    rule_try,
                                                order_try, rows_try,  keyring_try, address_try};
    if (n > 0)
        try[p[0] % countof(try)](str_view(p + 1, n - 1));
    return 0;
}
