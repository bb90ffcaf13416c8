/* Publishing, and retained messages.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: answers before every receiver that must not miss the message has it. */
#include <stdio.h>

#include "api/api_priv.h"
#include "base/hlc.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "codec/json.h"
#include "codec/mqtt.h"
#include "codec/topic.h"
#include "net/loop.h"
#include "stores/survey.h"

#define LIMIT_MAX 1000u
#define ANSWER_BYTES_MAX ((size_t)4 << 20) /* matters: memory of one answer with payloads */

static struct stores_client *stores_of(const struct api_ask *a)
{
    return stores_client_get(a->api->conf.stores, 0);
}

/* Why this message is refused; NULL: it is fine. */
static const char *message_judge(const struct broker_tenant *t, const struct codec_msg *m,
                                 int *out_status)
{
    const struct session_settings *s = &t->loop[0].settings->value;
    struct codec_topic_limits limits = {(uint32_t)s->max_topic_levels,
                                        (uint32_t)s->max_topic_level_length,
                                        (uint32_t)s->max_topic_length};
    if (codec_topic_name_check(m->topic, &limits)) {
        *out_status = 403;
        return "UNACCEPTED_TOPIC";
    }
    if (m->payload.n > (uint64_t)s->max_user_payload_bytes) {
        *out_status = 413;
        return "the payload is larger than MaxUserPayloadBytes";
    }
    if (m->qos > s->maximum_qos) {
        *out_status = 400;
        return "INVALID_QOS";
    }
    return NULL;
}

/* client_meta_NAME: VALUE as User Properties; false: a 400 was sent. */
static bool meta_of(struct api_ask *a, struct buf *out)
{
    const struct str prefix = STR("client_meta_");
    struct str name, value;
    for (size_t i = 0; net_http_header_at(a->q, i, &name, &value); i++) {
        if (!api_name_begins(name, prefix) || name.n == prefix.n)
            continue;
        if (!str_is_utf8(name) || !str_is_utf8(value)) {
            api_text(a, 400, "a client_meta_ header is not UTF-8");
            return false;
        }
        must(name.n <= UINT16_MAX && value.n <= UINT16_MAX); /* the server bounds all headers */
        buf_put_u8(out, CODEC_MQTT_P_USER_PROPERTY);
        buf_put_u16(out, (uint16_t)(name.n - prefix.n));
        buf_put_str(out, str_view(name.p + prefix.n, name.n - prefix.n));
        buf_put_u16(out, (uint16_t)value.n);
        buf_put_str(out, value);
    }
    return true;
}

/* The message of /pub and /retain, its properties in props; NULL: an answer was sent. */
static struct broker_tenant *message_of(struct api_ask *a, struct buf *props, struct codec_msg *out)
{
    struct str qos = api_header(a, "qos");
    struct api_number expiry = {"expiry_seconds", 1, UINT32_MAX, 0};
    uint64_t seconds;
    if (!api_number(a, &expiry, &seconds) || !meta_of(a, props))
        return NULL;
    *out = (struct codec_msg){
        .topic = api_header(a, "topic"), .payload = net_http_body(a->q), .props = buf_str(props)};
    out->hlc = hlc_of_ms(net_loop_wall(a->api->conf.loop) / USEC_MSEC);
    out->has_expiry = seconds > 0;
    out->expiry_sec = (uint32_t)seconds;
    struct broker_tenant *t = broker_tenant_find(a->api->conf.broker, api_header(a, "tenant_id"));
    const char *wrong = NULL;
    int status = 400;
    if (qos.n != 1 || qos.p[0] < '0' || qos.p[0] > '2') {
        wrong = "INVALID_QOS";
    } else if (!t) {
        wrong = "no such tenant";
        status = 404;
    } else {
        out->qos = (uint8_t)(qos.p[0] - '0');
        wrong = message_judge(t, out, &status);
    }
    if (wrong)
        api_text(a, status, wrong);
    return wrong ? NULL : t;
}

static void published(void *arg, uint8_t reason)
{
    if (reason == 0)
        api_text(arg, 200, "OK");
    else if (reason == CODEC_MQTT_RC_NO_MATCHING_SUBSCRIBERS)
        api_text(arg, 200, "NO_MATCH");
    else if (reason == CODEC_MQTT_RC_QUOTA_EXCEEDED)
        api_text(arg, 400, "EXCEED_LIMIT");
    else
        api_text(arg, 500, "not every receiver could be reached: publish it again");
}

void api_pub(struct api_ask *a)
{
    struct codec_msg m;
    struct buf props = {0};
    struct broker_tenant *t = message_of(a, &props, &m);
    if (t)
        must(broker_publish_ask(a->api->conf.broker, 0, t->name, &m, published, a));
    buf_deinit(&props);
}

/* ---- retained messages ---- */

struct put {
    struct api_ask *ask;
    bool is_clear;
};

static void retained(void *arg, enum stores_outcome o)
{
    struct put *p = arg;
    if (o == STORES_OK)
        api_text(p->ask, 200, p->is_clear ? "CLEARED" : "RETAINED");
    else if (o == STORES_E_FULL || o == STORES_E_UNAVAILABLE)
        api_text(p->ask, 400, "BACK_PRESSURE_REJECTED");
    else
        api_outcome(p->ask, o);
    mem_free(p);
}

static void retain_put(struct api_ask *a, const struct broker_tenant *t, struct codec_msg *m)
{
    if (!t->loop[0].settings->value.retain_enabled) {
        api_text(a, 401, "RetainEnabled is false for this tenant");
        return;
    }
    struct put *p = mem_new(sizeof *p);
    p->ask = a;
    p->is_clear = m->payload.n == 0;
    m->is_retain = true;
    stores_retain_put(stores_of(a), t->name, m, 0, 0, retained, p);
}

void api_retain(struct api_ask *a)
{
    struct codec_msg m;
    struct buf props = {0};
    const struct broker_tenant *t = message_of(a, &props, &m);
    if (t)
        retain_put(a, t, &m);
    buf_deinit(&props);
}

/* A page under way: pages of the store are asked for until there are enough. */
struct page {
    struct api_ask *ask;
    struct stores_client *stores;
    struct str tenant, filter; /* ours */
    uint64_t limit, count;
    bool wants_payload;
    struct buf json, after;
};

static void put_base64(struct buf *b, struct str s)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    buf_put_u8(b, '"');
    for (size_t i = 0; i < s.n; i += 3) {
        uint32_t v = 0;
        for (size_t k = 0; k < 3; k++)
            v = v << 8 | (i + k < s.n ? (uint8_t)s.p[i + k] : 0u);
        for (size_t k = 0; k < 4; k++)
            buf_put_u8(b, i + k <= s.n ? (uint8_t)digit[v >> (18 - 6 * k) & 63] : '=');
    }
    buf_put_u8(b, '"');
}

static void put_message(struct page *p, const struct codec_msg *m)
{
    struct buf *b = &p->json;
    api_key(b, NULL);
    buf_put_u8(b, '{');
    api_put_text(b, "topic", m->topic);
    api_put_number(b, "qos", m->qos);
    api_put_number(b, "bytes", m->payload.n);
    api_put_number(b, "retainedAt", hlc_ms(m->hlc));
    if (m->has_expiry)
        api_put_number(b, "expirySeconds", m->expiry_sec);
    if (m->publisher.n)
        api_put_text(b, "publisher", m->publisher);
    if (p->wants_payload && str_is_utf8_text(m->payload)) {
        api_put_text(b, "payload", m->payload);
    } else if (p->wants_payload) {
        api_key(b, "payloadBase64");
        put_base64(b, m->payload);
    }
    buf_put_u8(b, '}');
}

static void page_end(struct page *p, enum stores_outcome o)
{
    if (o == STORES_OK) {
        buf_put_u8(&p->json, ']');
        if (p->after.n)
            api_put_text(&p->json, "after", buf_str(&p->after));
        buf_put_u8(&p->json, '}');
        api_json(p->ask, 200, &p->json);
    } else {
        api_outcome(p->ask, o);
    }
    mem_free((void *)(uintptr_t)p->tenant.p);
    mem_free((void *)(uintptr_t)p->filter.p);
    buf_deinit(&p->json);
    buf_deinit(&p->after);
    mem_free(p);
}

static void page_next(struct page *p);

static void page_read(void *arg, const struct stores_retained *r)
{
    struct page *p = arg;
    for (size_t i = 0; i < r->msg_count; i++)
        put_message(p, &r->msg[i]);
    p->count += r->msg_count;
    p->after.n = 0;
    buf_put_str(&p->after, r->after);
    bool is_enough = p->after.n == 0 || p->count >= p->limit || p->json.n >= ANSWER_BYTES_MAX;
    if (r->outcome != STORES_OK || is_enough || !p->ask->api)
        page_end(p, r->outcome);
    else
        page_next(p);
}

static void page_next(struct page *p)
{
    stores_retain_match(p->stores, p->tenant, p->filter, buf_str(&p->after),
                        (uint32_t)(p->limit - p->count), page_read, p);
}

void api_retain_list(struct api_ask *a)
{
    struct codec_topic_filter f;
    struct api_number limit = {"limit", 1, LIMIT_MAX, 100};
    struct str filter = api_header(a, "topic_filter");
    uint64_t max;
    if (filter.n == 0)
        filter = STR("#");
    if (!api_number(a, &limit, &max))
        return;
    if (codec_topic_filter_parse(filter, NULL, &f) || f.kind != CODEC_TOPIC_NORMAL) {
        api_text(a, 400, "TOPIC_FILTER_INVALID");
        return;
    }
    struct page *p = mem_new(sizeof *p);
    p->ask = a;
    p->stores = stores_of(a);
    p->limit = max;
    p->tenant = str_dup(api_header(a, "tenant_id"));
    p->filter = str_dup(filter);
    p->wants_payload = str_eq(api_header(a, "payload"), STR("true"));
    buf_put_str(&p->after, api_header(a, "after"));
    buf_put_str(&p->json, STR("{\"messages\":["));
    page_next(p);
}

static void expired(void *arg, enum stores_outcome o, uint64_t count)
{
    struct api_ask *a = arg;
    struct buf b = {0};
    if (o == STORES_OK) {
        buf_put_u8(&b, '{');
        api_put_number(&b, "removed", count);
        buf_put_u8(&b, '}');
        api_json(a, 200, &b);
    } else if (o == STORES_E_FULL || o == STORES_E_UNAVAILABLE) {
        buf_printf(&b, "TRY_LATER: %llu were removed", (unsigned long long)count);
        api_reply(a, 429, "text/plain", buf_str(&b));
    } else {
        api_outcome(a, o);
    }
    buf_deinit(&b);
}

static void expire(struct api_ask *a,
                   void (*fn)(struct stores_client *c, struct str tenant, uint32_t age_sec,
                              stores_expired_cb *cb, void *arg))
{
    struct api_number age = {"expiry_seconds", 0, UINT32_MAX, 0};
    uint64_t seconds;
    if (api_number(a, &age, &seconds))
        fn(stores_of(a), api_header(a, "tenant_id"), (uint32_t)seconds, expired, a);
}

void api_retain_expire(struct api_ask *a)
{
    expire(a, stores_expire_retained);
}

void api_session_expire(struct api_ask *a)
{
    expire(a, stores_expire_sessions);
}
