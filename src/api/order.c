/* Endpoints that do something: publish, retain, sessions.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. An ask that waits for a store is answered from its completion, which comes exactly once.
 *
 * Never: waits. */
#include <stdio.h>

#include "api/api_priv.h"
#include "base/hlc.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "codec/msg.h"
#include "codec/topic.h"
#include "net/loop.h"
#include "stores/stores.h"

static int status_of(enum stores_outcome o)
{
    switch (o) {
    case STORES_OK:
    case STORES_E_EXISTS:
        return 200;
    case STORES_E_NO_SESSION:
    case STORES_E_NO_SUB:
        return 404;
    case STORES_E_CONFLICT:
        return 409;
    case STORES_E_FULL:
        return 429;
    case STORES_E_LIMIT:
    case STORES_E_INVALID:
        return 400;
    case STORES_E_UNAVAILABLE:
    case STORES_E_UNKNOWN:
        break;
    }
    return 500;
}

static const char *text_of(enum stores_outcome o)
{
    static const char *const text[] = {
        [STORES_OK] = "OK",
        [STORES_E_UNAVAILABLE] = "TRY_LATER",
        [STORES_E_UNKNOWN] = "ERROR",
        [STORES_E_FULL] = "BACK_PRESSURE_REJECTED",
        [STORES_E_NO_SESSION] = "NO_SESSION",
        [STORES_E_CONFLICT] = "CONFLICT",
        [STORES_E_LIMIT] = "EXCEED_LIMIT",
        [STORES_E_EXISTS] = "EXISTS",
        [STORES_E_NO_SUB] = "NO_SUB",
        [STORES_E_INVALID] = "TOO_LARGE",
    };
    return text[o];
}

/* The message of /pub and /retain; NULL: an answer was sent. */
static struct broker_tenant *message_of(struct api_ask *a, struct codec_msg *out)
{
    struct str tenant, topic, qos, type, expiry = net_http_header(a->q, "expiry_seconds");
    uint64_t seconds = 0;
    if (!api_need(a, "tenant_id", &tenant) || !api_need(a, "topic", &topic) ||
        !api_need(a, "qos", &qos) || !api_need(a, "client_type", &type))
        return NULL;
    *out = (struct codec_msg){.topic = topic, .payload = net_http_body(a->q)};
    out->hlc = hlc_of_ms(net_loop_wall(a->api->conf.loop) / USEC_MSEC);
    struct broker_tenant *t = broker_tenant_find(a->api->conf.broker, tenant);
    const char *wrong = NULL;
    int status = 400;
    if (qos.n != 1 || qos.p[0] < '0' || qos.p[0] > '2') {
        wrong = "INVALID_QOS";
    } else if (expiry.p &&
               (!str_to_u64(expiry, &seconds) || seconds == 0 || seconds > UINT32_MAX)) {
        wrong = "expiry_seconds must be 1 to 4294967295";
    } else if (!t) {
        wrong = "no such tenant";
        status = 404;
    } else if (codec_topic_name_check(topic, NULL)) {
        wrong = "UNACCEPTED_TOPIC";
        status = 403;
    } else if (out->payload.n > (uint64_t)t->loop[0].settings->value.max_user_payload_bytes) {
        wrong = "the payload is larger than MaxUserPayloadBytes";
        status = 413;
    }
    if (wrong) {
        api_text(a, status, wrong);
        return NULL;
    }
    out->qos = (uint8_t)(qos.p[0] - '0');
    out->has_expiry = expiry.p != NULL;
    out->expiry_sec = (uint32_t)seconds;
    return t;
}

void api_pub(struct api_ask *a)
{
    struct codec_msg m;
    struct broker_tenant *t = message_of(a, &m);
    if (!t)
        return;
    broker_publish_inject(a->api->conf.broker, 0, t->name, &m);
    api_text(a, 200, "OK");
}

struct put {
    struct api_ask *ask;
    bool is_clear;
};

static void retained(void *arg, enum stores_outcome o)
{
    struct put *p = arg;
    int status = o == STORES_E_FULL || o == STORES_E_UNAVAILABLE ? 400 : status_of(o);
    api_text(p->ask, status,
             o == STORES_OK              ? (p->is_clear ? "CLEARED" : "RETAINED")
             : o == STORES_E_UNAVAILABLE ? "BACK_PRESSURE_REJECTED"
                                         : text_of(o));
    mem_free(p);
}

void api_retain(struct api_ask *a)
{
    struct codec_msg m;
    struct broker_tenant *t = message_of(a, &m);
    if (!t)
        return;
    if (!t->loop[0].settings->value.retain_enabled) {
        api_text(a, 401, "RetainEnabled is false for this tenant");
        return;
    }
    struct put *p = mem_new(sizeof *p);
    p->ask = a;
    p->is_clear = m.payload.n == 0;
    m.is_retain = true;
    stores_retain_put(stores_client_get(a->api->conf.stores, 0), t->name, &m, 0, 0, retained, p);
}

static void found(void *arg, enum stores_outcome o, const struct stores_owner *owner)
{
    struct api_ask *a = arg;
    struct buf b = {0};
    char node[UUID_TEXT];
    if (o != STORES_OK || !owner) {
        api_text(a, o == STORES_OK ? 404 : status_of(o),
                 o == STORES_OK ? "NO_SESSION" : text_of(o));
        return;
    }
    uuid_format(&owner->node, node);
    buf_put_str(&b, STR("{\"tenantId\":"));
    api_json_put(&b, net_http_header(a->q, "tenant_id"));
    buf_put_str(&b, STR(",\"clientId\":"));
    api_json_put(&b, net_http_header(a->q, "client_id"));
    buf_printf(&b, ",\"node\":\"%s\",\"epoch\":%llu,\"loop\":%u}", node,
               (unsigned long long)owner->epoch, owner->loop);
    api_reply(a, 200, "application/json", buf_str(&b));
    buf_deinit(&b);
}

void api_session_find(struct api_ask *a)
{
    struct str tenant, client;
    if (api_need(a, "tenant_id", &tenant) && api_need(a, "client_id", &client))
        stores_dict_find(stores_client_get(a->api->conf.stores, 0), tenant, client, found, a);
}

static void done(void *arg, enum stores_outcome o)
{
    api_text(arg, status_of(o), text_of(o));
}

void api_session_kill(struct api_ask *a)
{
    struct str tenant, client;
    if (api_need(a, "tenant_id", &tenant) && api_need(a, "client_id", &client))
        stores_dict_kill(stores_client_get(a->api->conf.stores, 0), tenant, client, done, a);
}

void api_session_delete(struct api_ask *a)
{
    struct str tenant, client;
    if (api_need(a, "tenant_id", &tenant) && api_need(a, "client_id", &client))
        stores_delete(stores_client_get(a->api->conf.stores, 0), tenant, client, done, a);
}
