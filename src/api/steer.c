/* Endpoints that steer the cluster: rules of balancers, nodes out of service.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Both are rows of the cluster's table: any node writes them, all nodes follow, a restart keeps
 * them.
 *
 * 1. What would break a quorum, or leave nobody to serve, is refused with the reason. */
#include <stdio.h>

#include "api/api_priv.h"
#include "cluster/cluster.h"
#include "cluster/mark.h"
#include "kv/kv.h"

#define NODES_SAFE 3 /* nodes that keep three voters */

/* ---- balancers ---- */

/* The store of the request; NULL: an answer was sent. */
static struct kv_client *store_of(struct api_ask *a)
{
    struct kv *kv = a->api->conf.kv;
    struct kv_store *s = kv ? kv_store_of_name(kv, api_header(a, "store_name")) : NULL;
    if (s)
        return kv_client_get(s, 0);
    api_text(a, 404, "no such store: dist.worker, inbox.store and retain.store are there");
    return NULL;
}

static void refuse(struct api_ask *a, int outcome, const char *why)
{
    switch ((enum kv_rule_outcome)outcome) {
    case KV_RULE_E_UNKNOWN:
        api_text(a, 404, "no such balancer (bilrostctl balancer STORE shows them)");
        break;
    case KV_RULE_E_BAD:
        api_text(a, 409, why);
        break;
    case KV_RULE_E_ALONE:
        api_text(a, 409, "this node is not part of a cluster: nothing is balanced");
        break;
    }
}

static void put_state(struct kv_client *c, const char *name, struct buf *b)
{
    api_key(b, name);
    must(kv_rule_get(c, str_of(name), b) == 0);
}

void api_balancers(struct api_ask *a)
{
    struct str name = api_header(a, "balancer_factory_class");
    struct kv_client *c = store_of(a); /* NULL: a is no more */
    struct buf b = {0};
    int r = 0;
    if (!c)
        return;
    if (name.n)
        r = kv_rule_get(c, name, &b);
    else {
        buf_put_u8(&b, '{');
        const char *each;
        for (size_t i = 0; (each = kv_balancer_at(i)); i++)
            put_state(c, each, &b);
        buf_put_u8(&b, '}');
    }
    if (r)
        refuse(a, r, "");
    else
        api_json(a, 200, &b);
    buf_deinit(&b);
}

static void rules_put(struct api_ask *a, struct str rules)
{
    char why[KV_RULE_WHY_MAX];
    struct kv_client *c = store_of(a);
    if (!c)
        return;
    int r = kv_rule_put(c, api_header(a, "balancer_factory_class"), rules, why);
    if (r)
        refuse(a, r, why);
    else
        api_text(a, 200, why[0] ? why : "OK");
}

void api_balancer_enable(struct api_ask *a)
{
    rules_put(a, STR("{\"disable\":false}"));
}

void api_balancer_disable(struct api_ask *a)
{
    rules_put(a, STR("{\"disable\":true}"));
}

void api_balancer_rules(struct api_ask *a)
{
    struct codec_json *j = api_body(a, CODEC_JSON_OBJECT);
    if (j)
        rules_put(a, net_http_body(a->q));
    codec_json_free(j);
}

void api_balancer_reset(struct api_ask *a)
{
    struct kv_client *c = store_of(a);
    if (!c)
        return;
    int r = kv_rule_reset(c, api_header(a, "balancer_factory_class"));
    if (r)
        refuse(a, r, "");
    else
        api_text(a, 200, "OK");
}

/* ---- nodes out of service ---- */

void api_drains(struct api_ask *a)
{
    struct cluster_seat *seat = a->api->conf.seat;
    const struct cluster_member *m;
    struct buf b = {0};
    buf_put_u8(&b, '[');
    for (size_t i = 0; seat && (m = cluster_member_at(seat, i)); i++) {
        enum cluster_mark mark = cluster_mark_get(seat, &m->uuid);
        const struct cluster_row *row =
            cluster_row_find(seat, CLUSTER_SPACE_NODE, STR("drain"), &m->uuid);
        if (mark == CLUSTER_MARK_NONE)
            continue;
        api_key(&b, NULL);
        buf_put_u8(&b, '{');
        api_put_uuid(&b, "node", &m->uuid);
        api_put_text(&b, "mark", str_of(cluster_mark_name(mark)));
        api_put_bool(&b, "alive", cluster_is_live(seat, &m->uuid, 0));
        if (row) {
            api_key(&b, "left");
            buf_put_str(&b, row->value);
        }
        buf_put_u8(&b, '}');
    }
    buf_put_u8(&b, ']');
    api_json(a, 200, &b);
    buf_deinit(&b);
}

/* The node of the request, ourselves when it names none; NULL: an answer was sent. */
static const struct cluster_member *node_of(struct api_ask *a)
{
    struct cluster_seat *seat = a->api->conf.seat;
    struct uuid node;
    if (!seat) {
        api_text(a, 409, "this node is not part of a cluster: nobody could take over");
        return NULL;
    }
    if (api_header(a, "node_id").n == 0)
        return cluster_member_find(seat, cluster_self(seat));
    if (!api_uuid(a, "node_id", &node))
        return NULL;
    const struct cluster_member *m = cluster_member_find(seat, &node);
    if (!m)
        api_text(a, 404, "no such node (bilrostctl cluster shows them)");
    return m;
}

/* Live nodes without a mark, beside this one. */
static unsigned others(const struct cluster_seat *seat, const struct cluster_member *but)
{
    const struct cluster_member *m;
    unsigned count = 0;
    for (size_t i = 0; (m = cluster_member_at(seat, i)); i++)
        count += m != but && cluster_is_live(seat, &m->uuid, 0) &&
                 cluster_mark_get(seat, &m->uuid) == CLUSTER_MARK_NONE;
    return count;
}

void api_drain(struct api_ask *a)
{
    const struct cluster_member *m = node_of(a);
    if (!m)
        return;
    bool is_remove = str_eq(api_header(a, "remove"), STR("true"));
    bool is_sure = str_eq(api_header(a, "confirm"), STR("fewer-replicas"));
    unsigned rest = others(a->api->conf.seat, m);
    if (rest == 0)
        api_text(a, 409, "no other node is in service: nobody could take over");
    else if (is_remove && rest < NODES_SAFE && !is_sure)
        api_text(
            a, 409,
            "fewer than 3 nodes would remain, and what they keep would have one voter: one "
            "more death could stop it or lose it; confirm: fewer-replicas does it all the same");
    else {
        cluster_mark_put(a->api->conf.seat, &m->uuid,
                         is_remove ? CLUSTER_MARK_REMOVE : CLUSTER_MARK_DRAIN);
        api_text(a, 200, "OK");
    }
}

void api_undrain(struct api_ask *a)
{
    const struct cluster_member *m = node_of(a);
    if (!m)
        return;
    cluster_mark_put(a->api->conf.seat, &m->uuid, CLUSTER_MARK_NONE);
    api_text(a, 200, "OK");
}
