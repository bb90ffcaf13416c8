/* Members, keys, services, traffic rules.  SPDX-License-Identifier: Apache-2.0
 *
 * Rules and groups are rows of the cluster's table: the same on every node, kept across restarts.
 *
 * Never: hands out a key; only its print. */
#include <stdio.h>

#include "api/api_priv.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "cluster/keyring.h"
#include "cluster/mark.h"
#include "cluster/traffic.h"
#include "codec/json.h"
#include "net/address.h"
#include "net/clock.h"
#include "net/loop.h"

#define ALONE "this node is not part of a cluster: clusterConfig.enable is false"

static const char *const services[] = {"mqtt.broker", "dist.server", "inbox.server",
                                       "retain.server", "session.dict"};

/* False: a 409 was sent, and *a is gone. */
static bool is_member(struct api_ask *a)
{
    if (a->api->conf.seat)
        return true;
    api_text(a, 409, ALONE);
    return false;
}

/* ---- members ---- */

static void put_member(const struct api *api, const struct cluster_member *m, struct buf *b)
{
    static const char *const state[] = {"alive", "suspect", "dead", "left"};
    const struct cluster_seat *seat = api->conf.seat;
    struct buf why = {0};
    char rpc[160];
    usec_t now = net_loop_now(api->conf.loop);
    cluster_member_why(seat, m, &why);
    net_address_join(m->rpc_host, m->rpc_port, rpc, sizeof rpc);
    api_key(b, NULL);
    buf_put_u8(b, '{');
    api_put_uuid(b, "id", &m->uuid);
    api_put_text(b, "address", str_of(m->host));
    api_put_number(b, "port", m->port);
    api_put_number(b, "pid", m->pid);
    api_put_text(b, "state", str_of(state[m->state]));
    api_put_text(b, "why", buf_str(&why));
    api_put_number(b, "sinceSeconds", now > m->since ? (now - m->since) / USEC_SEC : 0);
    api_put_number(b, "epoch", m->epoch);
    api_put_number(b, "incarnation", m->inc);
    api_put_bool(b, "ready", m->flags & CLUSTER_FLAG_READY);
    api_put_bool(b, "draining", m->flags & CLUSTER_FLAG_DRAINING);
    api_put_bool(b, "degraded", m->flags & CLUSTER_FLAG_DEGRADED);
    api_put_bool(b, "storageFailed", m->flags & CLUSTER_FLAG_STORAGE_FAILED);
    if (cluster_is_revoked(seat, &m->uuid))
        api_put_bool(b, "revoked", true);
    api_put_number(b, "rttMicroseconds", m->rtt);
    api_put_number(b, "flaps", m->flaps);
    api_put_text(b, "rpc", str_of(rpc));
    api_put_text(b, "api", str_of(m->api));
    api_put_text(b, "release", str_of(m->release));
    api_put_number(b, "protocolMin", m->version_min);
    api_put_number(b, "protocolMax", m->version_max);
    buf_put_u8(b, '}');
    buf_deinit(&why);
}

void api_put_members(const struct api *api, struct buf *b)
{
    const struct cluster_seat *seat = api->conf.seat;
    const struct cluster_member *m;
    buf_put_u8(b, '{');
    api_put_text(b, "env", str_of(api->conf.env));
    api_put_uuid(b, "local", &api->conf.node);
    api_put_bool(b, "joined", seat && cluster_is_joined(seat));
    api_key(b, "nodes");
    buf_put_u8(b, '[');
    for (size_t i = 0; seat && (m = cluster_member_at(seat, i)) != NULL; i++)
        put_member(api, m, b);
    buf_put_str(b, STR("]}"));
}

void api_cluster(struct api_ask *a)
{
    struct buf b = {0};
    api_put_members(a->api, &b);
    api_json(a, 200, &b);
    buf_deinit(&b);
}

void api_cluster_forget(struct api_ask *a)
{
    struct uuid node;
    if (!is_member(a) || !api_uuid(a, "node_id", &node))
        return;
    if (!cluster_member_find(a->api->conf.seat, &node))
        api_text(a, 404, "no such member");
    else if (cluster_member_forget(a->api->conf.seat, &node))
        api_text(a, 200, "OK");
    else
        api_text(a, 409, "only a dead member can be forgotten: stop it first");
}

/* Its certificate is not taken any more, or again; it need not be a member that is known here. */
static void revoked_put(struct api_ask *a, bool is_revoked)
{
    struct uuid node;
    if (!is_member(a) || !api_uuid(a, "node_id", &node))
        return;
    if (is_revoked && uuid_eq(&node, &a->api->conf.node)) {
        api_text(a, 409, "a node cannot revoke itself: ask another one");
        return;
    }
    cluster_revoked_put(a->api->conf.seat, &node, is_revoked);
    api_text(a, 200, "OK");
}

void api_revoke(struct api_ask *a)
{
    revoked_put(a, true);
}

void api_unrevoke(struct api_ask *a)
{
    revoked_put(a, false);
}

/* ---- keys ---- */

void api_keyring(struct api_ask *a)
{
    struct cluster_keyring_key key[CLUSTER_KEYRING_LIST_MAX];
    struct buf b = {0};
    if (!is_member(a))
        return;
    size_t n = cluster_keyring_list(a->api->conf.seat, key);
    buf_put_str(&b, STR("{\"keys\":["));
    for (size_t i = 0; i < n; i++) {
        api_key(&b, NULL);
        buf_put_u8(&b, '{');
        api_put_text(&b, "key", str_of(key[i].print));
        api_put_number(&b, "holders", key[i].holders);
        api_put_number(&b, "users", key[i].users);
        api_put_bool(&b, "here", key[i].is_ours);
        buf_put_u8(&b, '}');
    }
    buf_put_u8(&b, ']');
    api_put_number(&b, "members", cluster_live_count(a->api->conf.seat));
    buf_put_u8(&b, '}');
    api_json(a, 200, &b);
    buf_deinit(&b);
}

static const char *keyring_text(int outcome)
{
    switch ((enum cluster_keyring_outcome)outcome) {
    case CLUSTER_KEYRING_E_UNKNOWN:
        return "no such key on this node";
    case CLUSTER_KEYRING_E_MISSING:
        return "a live member does not have this key yet: add it first";
    case CLUSTER_KEYRING_E_USED:
        return "a live member still seals with this key: use another one first";
    case CLUSTER_KEYRING_E_FULL:
        return "the ring is full: remove an old key first";
    case CLUSTER_KEYRING_E_CLASH:
        return "another key has the same number: make another key";
    case CLUSTER_KEYRING_E_OPEN:
        return "this cluster runs without keys: the first one needs a restart of all nodes";
    }
    return "refused";
}

static void keyring_done(void *arg, const struct cluster_keyring_result *r)
{
    char text[256], id[UUID_TEXT];
    if (r->done == r->asked) {
        snprintf(text, sizeof text, "OK: %u of %u members", r->done, r->asked);
        api_text(arg, 200, text);
        return;
    }
    uuid_format(&r->failed, id);
    snprintf(text, sizeof text, "%u of %u members; %s: %s; give the same order again", r->done,
             r->asked, id, r->is_silent ? "did not answer" : keyring_text(r->outcome));
    api_text(arg, 500, text);
}

void api_keyring_change(struct api_ask *a)
{
    struct str order = api_header(a, "order"), hex = net_http_body(a->q);
    uint8_t key[CLUSTER_KEY_LEN];
    struct cluster_keyring_change c = {.print = api_header(a, "key")};
    if (!is_member(a))
        return;
    while (hex.n && (hex.p[hex.n - 1] == '\n' || hex.p[hex.n - 1] == '\r'))
        hex.n--;
    if (str_eq(order, STR("add"))) {
        c.order = CLUSTER_KEYRING_ADD;
        c.key = key;
        if (!cluster_key_parse(hex, key)) {
            api_text(a, 400, "the body must be a key of 64 hexadecimal digits");
            return;
        }
    } else if (str_eq(order, STR("use"))) {
        c.order = CLUSTER_KEYRING_USE;
    } else if (str_eq(order, STR("remove"))) {
        c.order = CLUSTER_KEYRING_REMOVE;
    } else {
        api_text(a, 400, "order must be add, use or remove");
        return;
    }
    int r = cluster_keyring_give(a->api->conf.seat, &c, keyring_done, a);
    if (r)
        api_text(a, r == CLUSTER_KEYRING_E_UNKNOWN ? 404 : 409, keyring_text(r));
}

/* ---- services ---- */

static bool service_is(struct str name)
{
    for (size_t i = 0; i < countof(services); i++)
        if (str_eq(name, str_of(services[i])))
            return true;
    return false;
}

/* The service of the request; false: a 404 was sent. */
static bool service_of(struct api_ask *a, struct str *out)
{
    *out = api_header(a, "service_name");
    if (service_is(*out))
        return true;
    api_text(a, 404, "no such service: GET /services lists them");
    return false;
}

void api_services(struct api_ask *a)
{
    api_names(a, services, countof(services));
}

static void put_groups(const struct api *api, struct str service, const struct uuid *node,
                       struct buf *b)
{
    struct str group[CLUSTER_TRAFFIC_GROUPS_MAX];
    size_t n = api->conf.seat ? cluster_group_get(api->conf.seat, service, node, group) : 0;
    api_key(b, "groups");
    buf_put_u8(b, '[');
    for (size_t i = 0; i < n; i++)
        api_put_text(b, NULL, group[i]);
    buf_put_u8(b, ']');
}

static void put_server(const struct api *api, struct str service, const struct uuid *node,
                       const struct cluster_member *m, struct buf *b)
{
    api_key(b, NULL);
    buf_put_u8(b, '{');
    api_put_uuid(b, "hostId", node);
    api_put_uuid(b, "id", node);
    api_put_text(b, "address", str_of(m ? m->rpc_host : ""));
    api_put_number(b, "port", m ? m->rpc_port : 0);
    api_key(b, "attributes");
    buf_put_str(b, STR("{}"));
    put_groups(api, service, node, b);
    buf_put_u8(b, '}');
}

void api_service_landscape(struct api_ask *a)
{
    const struct cluster_seat *seat = a->api->conf.seat;
    const struct cluster_member *m;
    struct str service;
    struct buf b = {0};
    if (!service_of(a, &service))
        return;
    buf_put_u8(&b, '[');
    if (!seat)
        put_server(a->api, service, &a->api->conf.node, NULL, &b);
    for (size_t i = 0; seat && (m = cluster_member_at(seat, i)) != NULL; i++)
        if (cluster_is_live(seat, &m->uuid, 0)) /* every node serves all of them */
            put_server(a->api, service, &m->uuid, m, &b);
    buf_put_u8(&b, ']');
    api_json(a, 200, &b);
    buf_deinit(&b);
}

/* ---- traffic rules and groups ---- */

void api_traffic(struct api_ask *a)
{
    const struct cluster_seat *seat = a->api->conf.seat;
    struct cluster_traffic_rule rule;
    struct buf b = {0};
    struct str service;
    size_t at = 0;
    if (!service_of(a, &service))
        return;
    buf_put_u8(&b, '{');
    while (seat && cluster_traffic_next(seat, service, &at, &rule)) {
        api_key(&b, NULL);
        codec_json_put(&b, rule.prefix);
        buf_put_str(&b, STR(":{"));
        for (size_t i = 0; i < rule.share_count; i++) {
            api_key(&b, NULL);
            codec_json_put(&b, rule.share[i].group);
            buf_printf(&b, ":%u", rule.share[i].weight);
        }
        buf_put_u8(&b, '}');
    }
    buf_put_u8(&b, '}');
    api_json(a, 200, &b);
    buf_deinit(&b);
}

static bool rule_read(const struct codec_json *j, struct str prefix,
                      struct cluster_traffic_rule *out)
{
    const struct codec_json *v;
    struct str group;
    void *at = NULL;
    *out = (struct cluster_traffic_rule){.prefix = prefix};
    while (codec_json_next(j, &at, &group, &v)) {
        double weight = codec_json_number(v);
        if (codec_json_kind(v) != CODEC_JSON_NUMBER || weight < 0 ||
            weight > CLUSTER_TRAFFIC_WEIGHT_MAX || out->share_count == CLUSTER_TRAFFIC_GROUPS_MAX ||
            group.n > CLUSTER_TRAFFIC_NAME_MAX)
            return false;
        out->share[out->share_count++] = (struct cluster_traffic_share){group, (uint32_t)weight};
    }
    return out->share_count > 0 && prefix.n <= CLUSTER_TRAFFIC_PREFIX_MAX;
}

static bool are_texts(const struct codec_json *j)
{
    for (size_t i = 0; i < codec_json_count(j); i++)
        if (codec_json_kind(codec_json_at(j, i)) != CODEC_JSON_TEXT)
            return false;
    return true;
}

void api_traffic_put(struct api_ask *a)
{
    struct cluster_traffic_rule rule;
    const struct codec_json *v;
    struct str service, prefix;
    void *at = NULL;
    bool is_good = true;
    struct codec_json *j = NULL;
    if (!is_member(a) || !service_of(a, &service) || !(j = api_body(a, CODEC_JSON_OBJECT)))
        return;
    while (codec_json_next(j, &at, &prefix, &v)) /* what is wrong somewhere changes nothing */
        is_good = is_good && rule_read(v, prefix, &rule);
    for (at = NULL; is_good && codec_json_next(j, &at, &prefix, &v);)
        is_good =
            rule_read(v, prefix, &rule) && cluster_traffic_put(a->api->conf.seat, service, &rule);
    if (is_good)
        api_text(a, 200, "OK");
    else
        api_text(a, 400,
                 "each prefix of tenant ids (180 bytes at most) needs an object of 1 to 16 groups "
                 "with weights from 0 to 1000");
    codec_json_free(j);
}

void api_traffic_delete(struct api_ask *a)
{
    struct str service;
    struct codec_json *j = NULL;
    if (!is_member(a) || !service_of(a, &service) || !(j = api_body(a, CODEC_JSON_ARRAY)))
        return;
    bool is_good = are_texts(j);
    for (size_t i = 0; is_good && i < codec_json_count(j); i++)
        cluster_traffic_del(a->api->conf.seat, service, codec_json_text(codec_json_at(j, i)));
    if (is_good)
        api_text(a, 200, "OK");
    else
        api_text(a, 400, "the array holds prefixes of tenant ids");
    codec_json_free(j);
}

void api_group_put(struct api_ask *a)
{
    struct str service, group[CLUSTER_TRAFFIC_GROUPS_MAX];
    struct uuid node;
    struct codec_json *j = NULL;
    if (!is_member(a) || !service_of(a, &service) || !api_uuid(a, "server_id", &node))
        return;
    if (!cluster_member_find(a->api->conf.seat, &node)) {
        api_text(a, 404, "no such server");
        return;
    }
    if (!(j = api_body(a, CODEC_JSON_ARRAY)))
        return;
    size_t n = codec_json_count(j);
    bool is_good = n <= CLUSTER_TRAFFIC_GROUPS_MAX && are_texts(j);
    for (size_t i = 0; is_good && i < n; i++)
        group[i] = codec_json_text(codec_json_at(j, i));
    if (is_good && cluster_group_put(a->api->conf.seat, service, &node, group, n))
        api_text(a, 200, "OK");
    else
        api_text(a, 400, "the array holds at most 16 short names of groups");
    codec_json_free(j);
}
