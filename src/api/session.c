/* Clients: found, killed, subscribed; what is stored of them.  SPDX-License-Identifier: Apache-2.0
 *
 * The session dict says which node has a client; that node does the rest.
 *
 * Invariant: an order whose client has gone meanwhile says so; nothing is answered OK that was not
 * done. */
#include <stdio.h>

#include "api/peer_priv.h"
#include "base/mem.h"
#include "broker/roster.h"
#include "codec/mqtt.h"
#include "codec/topic.h"
#include "stores/survey.h"

#define REFERENCE_MAX 65535u

static struct stores_client *stores_of(const struct api_ask *a)
{
    return stores_client_get(a->api->conf.stores, 0);
}

/* A client that is looked for, then asked for something on its node. */
struct errand {
    struct api_ask *ask;
    struct api_peer_ask order;
    struct buf text; /* what the order's views point to */
    api_peer_cb *answered;
};

static void errand_free(struct errand *e)
{
    buf_deinit(&e->text);
    mem_free(e);
}

static void located(void *arg, enum stores_outcome o, const struct stores_owner *owner)
{
    struct errand *e = arg;
    struct api_ask *a = e->ask;
    if (o == STORES_OK && owner && a->api) {
        e->order.cookie = owner->cookie;
        e->order.loop = owner->loop;
        api_peer_call(a->api, &owner->node, &e->order, e->answered, e);
        return;
    }
    api_outcome(a, o == STORES_OK ? STORES_E_NO_SESSION : o);
    errand_free(e);
}

/* Its texts are copied.  order->tenant and ->client say who. */
static void errand_run(struct api_ask *a, const struct api_peer_ask *order, api_peer_cb *answered)
{
    struct errand *e = mem_new(sizeof *e);
    e->ask = a;
    e->order = *order;
    e->answered = answered;
    struct str *part[] = {&e->order.tenant, &e->order.client, &e->order.user, &e->order.filter,
                          &e->order.reference};
    size_t at = 0;
    for (size_t i = 0; i < countof(part); i++)
        buf_put_str(&e->text, *part[i]);
    for (size_t i = 0; i < countof(part); i++) {
        part[i]->p = part[i]->p ? (char *)e->text.p + at : NULL;
        at += part[i]->n;
    }
    stores_dict_find(stores_of(a), e->order.tenant, e->order.client, located, e);
}

static struct api_peer_ask order_of(const struct api_ask *a, enum api_peer_op op)
{
    struct api_peer_ask order = {
        .op = op,
        .tenant = api_header(a, "tenant_id"),
        .client = api_header(a, "client_id"),
        .user = api_header(a, "user_id"),
        .count_max = 1,
    };
    order.has_client = order.client.n > 0;
    order.has_user = order.user.n > 0;
    return order;
}

/* ---- one session ---- */

static void found(void *arg, const struct uuid *node, const struct api_peer_answer *answer)
{
    struct errand *e = arg;
    struct api_peer_item item;
    struct str rest = answer ? answer->items : STR("");
    struct buf b = {0};
    (void)node;
    if (!answer) {
        api_text(e->ask, 500, "the client's node did not answer");
    } else if (!api_peer_item(&rest, &item)) {
        api_text(e->ask, 404, "NO_SESSION");
    } else {
        buf_put_u8(&b, '{');
        api_put_text(&b, "tenantId", e->order.tenant);
        api_put_text(&b, "type", STR("MQTT"));
        buf_put_u8(&b, ',');
        buf_put_str(&b, str_view(item.json.p + 1, item.json.n - 1));
        api_json(e->ask, 200, &b);
    }
    buf_deinit(&b);
    errand_free(e);
}

void api_session_find(struct api_ask *a)
{
    struct api_peer_ask order = order_of(a, API_PEER_LIST);
    errand_run(a, &order, found);
}

/* ---- kill ---- */

static void put_killed(struct api_ask *a, uint64_t count)
{
    struct buf b = {0};
    buf_printf(&b, "{\"killed\":%llu}", (unsigned long long)count);
    api_json(a, 200, &b);
    buf_deinit(&b);
}

static void killed_one(void *arg, const struct uuid *node, const struct api_peer_answer *answer)
{
    struct errand *e = arg;
    (void)node;
    if (!answer)
        api_text(e->ask, 500, "the client's node did not answer");
    else if (answer->count == 0)
        api_text(e->ask, 404, "NO_SESSION");
    else
        put_killed(e->ask, answer->count);
    errand_free(e);
}

/* Many: all nodes are asked. */
struct cull {
    struct api_ask *ask;
    uint64_t count;
    unsigned silent;
};

static void culled(void *arg, const struct uuid *node, const struct api_peer_answer *answer)
{
    struct cull *c = arg;
    (void)node;
    c->count += answer ? answer->count : 0;
    c->silent += answer == NULL;
}

static void cull_end(void *arg)
{
    struct cull *c = arg;
    char text[128];
    if (c->silent > 0) {
        snprintf(text, sizeof text, "%u nodes did not answer; %llu clients were disconnected",
                 c->silent, (unsigned long long)c->count);
        api_text(c->ask, 500, text);
    } else if (c->count == 0) {
        api_text(c->ask, 404, "NO_SESSION");
    } else {
        put_killed(c->ask, c->count);
    }
    mem_free(c);
}

/* What server_redirect and server_reference ask for; false: a 400 was sent. */
static bool redirect_of(struct api_ask *a, struct api_peer_ask *order)
{
    struct str redirect = api_header(a, "server_redirect");
    order->reference = api_header(a, "server_reference");
    order->reason = CODEC_MQTT_RC_ADMINISTRATIVE_ACTION;
    if (str_eq(redirect, STR("move"))) {
        order->reason = CODEC_MQTT_RC_SERVER_MOVED;
    } else if (str_eq(redirect, STR("temp_use"))) {
        order->reason = CODEC_MQTT_RC_USE_ANOTHER_SERVER;
    } else if (redirect.n && !str_eq(redirect, STR("no"))) {
        api_text(a, 400, "server_redirect must be no, move or temp_use");
        return false;
    }
    if (order->reference.n >= REFERENCE_MAX || !str_is_utf8(order->reference)) {
        api_text(a, 400, "server_reference is too long or not UTF-8");
        return false;
    }
    if (order->reason == CODEC_MQTT_RC_ADMINISTRATIVE_ACTION)
        order->reference = STR("");
    return true;
}

void api_kill(struct api_ask *a)
{
    struct api_peer_ask order = order_of(a, API_PEER_KILL);
    if (!redirect_of(a, &order))
        return;
    if (order.has_client) {
        errand_run(a, &order, killed_one);
        return;
    }
    struct cull *c = mem_new(sizeof *c);
    c->ask = a;
    api_peer_all(a->api, &order, culled, cull_end, c);
}

/* ---- subscriptions ---- */

static void subbed(void *arg, const struct uuid *node, const struct api_peer_answer *answer)
{
    struct errand *e = arg;
    struct api_ask *a = e->ask;
    (void)node;
    if (!answer)
        api_text(a, 500, "the client's node did not answer");
    else if (answer->code == BROKER_ROSTER_GONE)
        api_text(a, 404, "NO_SESSION");
    else if (answer->code == CODEC_MQTT_RC_NO_SUBSCRIPTION_EXISTED)
        api_text(a, 200, "NO_SUB");
    else if (answer->code < 0x80)
        api_text(a, 200, e->order.is_unsubscribe || answer->is_new ? "OK" : "EXISTS");
    else if (answer->code == CODEC_MQTT_RC_TOPIC_FILTER_INVALID)
        api_text(a, 400, "TOPIC_FILTER_INVALID");
    else if (answer->code == CODEC_MQTT_RC_QUOTA_EXCEEDED)
        api_text(a, 400, "EXCEED_LIMIT");
    else if (answer->code == CODEC_MQTT_RC_NOT_AUTHORIZED)
        api_text(a, 401, "NOT_AUTHORIZED");
    else
        api_text(a, 500, codec_mqtt_reason_text((uint8_t)answer->code));
    errand_free(e);
}

static void subscribe(struct api_ask *a, bool is_unsubscribe)
{
    struct api_peer_ask order = order_of(a, API_PEER_SUB);
    struct api_number qos = {"sub_qos", 0, 2, 0};
    struct codec_topic_filter f;
    order.filter = api_header(a, "topic_filter");
    order.is_unsubscribe = is_unsubscribe;
    if (!api_number(a, &qos, &order.qos))
        return;
    if (codec_topic_filter_parse(order.filter, NULL, &f))
        api_text(a, 400, "TOPIC_FILTER_INVALID");
    else
        errand_run(a, &order, subbed);
}

void api_sub(struct api_ask *a)
{
    subscribe(a, false);
}

void api_unsub(struct api_ask *a)
{
    subscribe(a, true);
}

/* ---- what is stored ---- */

void api_put_stored(struct buf *b, const struct stores_stored *s)
{
    struct buf incarnation = {0};
    api_put_number(b, "createdAt", s->created_ms);
    if (s->detached_ms)
        api_put_number(b, "detachedAt", s->detached_ms);
    api_put_number(b, "expirySeconds", s->expiry_sec);
    api_put_number(b, "queued", s->queue_count);
    api_put_number(b, "queuedQos0", s->qos0_count);
    api_put_number(b, "queuedBytes", s->bytes);
    api_put_number(b, "limit", s->limit);
    api_put_number(b, "subscriptions", s->sub_count);
    api_put_number(b, "unreleased", s->received_count);
    api_put_bool(b, "will", s->has_will);
    buf_printf(&incarnation, "%llu", (unsigned long long)s->incarnation);
    api_put_text(b, "incarnation", buf_str(&incarnation)); /* all 64 bits: no number of JSON */
    buf_deinit(&incarnation);
    if (!uuid_is_zero(&s->node))
        api_put_uuid(b, "owner", &s->node);
}

static void inbox_found(void *arg, enum stores_outcome o, const struct stores_stored *s)
{
    struct api_ask *a = arg;
    struct buf b = {0};
    if (o == STORES_E_NO_SESSION) {
        api_text(a, 404, "NO_INBOX");
    } else if (o == STORES_E_UNAVAILABLE || o == STORES_E_UNKNOWN) {
        api_text(a, 409, "TRY_LATER");
    } else if (o != STORES_OK) {
        api_outcome(a, o);
    } else {
        buf_put_u8(&b, '{');
        api_put_text(&b, "clientId", s->client);
        api_put_stored(&b, s);
        buf_put_u8(&b, '}');
        api_json(a, 200, &b);
    }
    buf_deinit(&b);
}

/* Whose a stored session is, is known while it is connected: with user_id, whoever is connected
 * with that identifier must be that user before fn goes on. */
struct claim {
    struct api_ask *ask;
    struct str tenant, client, user; /* ours */
    void (*fn)(struct api_ask *a, struct str tenant, struct str client);
};

static void claim_end(struct claim *c, enum stores_outcome o)
{
    if (!c->ask->api)
        api_text(c->ask, 503, ""); /* goes nowhere */
    else if (o == STORES_OK)
        c->fn(c->ask, c->tenant, c->client);
    else if (o == STORES_E_NO_SESSION)
        api_text(c->ask, 404, "NO_INBOX");
    else
        api_text(c->ask, 409, "TRY_LATER");
    mem_free((void *)(uintptr_t)c->tenant.p);
    mem_free((void *)(uintptr_t)c->client.p);
    mem_free((void *)(uintptr_t)c->user.p);
    mem_free(c);
}

static void claim_listed(void *arg, const struct uuid *node, const struct api_peer_answer *answer)
{
    struct api_peer_item item;
    struct str rest = answer ? answer->items : STR("");
    (void)node;
    claim_end(arg, !answer                       ? STORES_E_UNAVAILABLE
                   : api_peer_item(&rest, &item) ? STORES_OK
                                                 : STORES_E_NO_SESSION);
}

static void claim_located(void *arg, enum stores_outcome o, const struct stores_owner *owner)
{
    struct claim *c = arg;
    struct api_peer_ask order = {.op = API_PEER_LIST,
                                 .tenant = c->tenant,
                                 .client = c->client,
                                 .user = c->user,
                                 .has_client = true,
                                 .has_user = true,
                                 .count_max = 1};
    if (o == STORES_OK && owner && c->ask->api)
        api_peer_call(c->ask->api, &owner->node, &order, claim_listed, c);
    else /* nobody is connected: the identifier alone tells */
        claim_end(c, o == STORES_E_NO_SESSION ? STORES_OK : o);
}

static void claim_begin(struct api_ask *a,
                        void (*fn)(struct api_ask *a, struct str tenant, struct str client))
{
    struct str tenant = api_header(a, "tenant_id"), client = api_header(a, "client_id"),
               user = api_header(a, "user_id");
    if (user.n == 0) {
        fn(a, tenant, client);
        return;
    }
    struct claim *c = mem_new(sizeof *c);
    *c = (struct claim){a, str_dup(tenant), str_dup(client), str_dup(user), fn};
    stores_dict_find(stores_of(a), c->tenant, c->client, claim_located, c);
}

static void inbox_find(struct api_ask *a, struct str tenant, struct str client)
{
    stores_stored_find(stores_of(a), tenant, client, inbox_found, a);
}

void api_inbox_find(struct api_ask *a)
{
    claim_begin(a, inbox_find);
}

/* A stored session that ends. */
struct removal {
    struct api_ask *ask;
    struct stores_client *stores;
    struct str tenant, client; /* ours */
    enum stores_outcome outcome;
};

static void removal_end(void *arg, enum stores_outcome o)
{
    struct removal *r = arg;
    (void)o; /* nobody was connected, or has gone now */
    api_outcome(r->ask, r->outcome);
    mem_free((void *)(uintptr_t)r->tenant.p);
    mem_free((void *)(uintptr_t)r->client.p);
    mem_free(r);
}

/* A connection that still thinks it has this session ends too. */
static void deleted(void *arg, enum stores_outcome o)
{
    struct removal *r = arg;
    r->outcome = o;
    if (o == STORES_OK && r->ask->api)
        stores_dict_kill(r->stores, r->tenant, r->client, removal_end, r);
    else
        removal_end(r, o);
}

static void inbox_delete(struct api_ask *a, struct str tenant, struct str client)
{
    struct removal *r = mem_new(sizeof *r);
    r->ask = a;
    r->stores = stores_of(a);
    r->tenant = str_dup(tenant);
    r->client = str_dup(client);
    stores_delete(r->stores, r->tenant, r->client, deleted, r);
}

void api_inbox_delete(struct api_ask *a)
{
    claim_begin(a, inbox_delete);
}
