/* The server: who asks, what for, and the answer.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. An ask lives from on_request to api_reply; until then it is in api->asks.
 * 2. No endpoint is entered by a role below the one its row asks for, or without its required
 * headers.
 * 3. When the API goes first, what comes later finds an ask without api and q, and only frees it.
 *
 * Never: knows what an endpoint does. */
#include "api/api.h"

#include <stdio.h>
#include <strings.h>

#include "api/api_priv.h"
#include "base/err.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "codec/json.h"
#include "net/clock.h"
#include "net/loop.h"

#define NODE_TEXT_MIN 4               /* does not matter much: that nobody means a node by a slip */
#define IDLE_USEC_MAX (10 * USEC_SEC) /* matters: how long a slow client may hold a connection */

static const struct api_route routes[] = {
#define X(method, path, role, is_open, fn, headers, body, what)                                    \
    {#method, path, API_ROLE_##role, is_open, fn, headers, body, what},
#include "api/routes.def"
#undef X
};

const struct api_route *api_route_at(size_t i)
{
    return i < countof(routes) ? &routes[i] : NULL;
}

/* ---- answers ---- */

/* A header's value in an audit line: as much of it as tells who and what. */
#define AUDIT_VALUE_MAX 256

static void audit_put(struct buf *b, struct str name, struct str value)
{
    buf_printf(b, " %.*s=%.*s", STR_ARG(name),
               value.n < AUDIT_VALUE_MAX ? (int)value.n : AUDIT_VALUE_MAX, value.p);
}

bool api_name_begins(struct str name, struct str prefix)
{
    return name.n >= prefix.n && strncasecmp(name.p, prefix.p, prefix.n) == 0;
}

/* All headers that begin so. */
static void audit_put_all(struct api_ask *a, struct str prefix)
{
    struct str name, value;
    for (size_t i = 0; net_http_header_at(a->q, i, &name, &value); i++)
        if (api_name_begins(name, prefix))
            audit_put(&a->audit, name, value);
}

/* The request's line and parameters, as an audit line has them. */
static void audit_begin(struct api_ask *a)
{
    struct str list = str_of(a->route ? a->route->headers : ""), name;
    if (a->audit.n > 0)
        return;
    buf_printf(&a->audit, "%.*s %.*s", STR_ARG(net_http_method(a->q)),
               STR_ARG(net_http_path(a->q)));
    while (list.n && str_next(&list, ' ', &name)) {
        char z[64], end = name.n ? name.p[name.n - 1] : 0;
        name.n -= end == '!' || end == '*';
        str_copy(z, sizeof z, name);
        struct str v = net_http_header(a->q, z);
        if (end == '*')
            audit_put_all(a, name);
        else if (v.p)
            audit_put(&a->audit, name, v);
    }
    buf_printf(&a->audit, " req_id=%llu", (unsigned long long)a->id);
}

static void audit_log(const struct api *api, struct str what, const char *who, int status)
{
    struct log_field field[] = {{"who", str_of(who)}};
    log_fields(api->conf.log, LOG_LEVEL_NOTICE, "api.audit", field, countof(field),
               "%.*s by %s: %d", STR_ARG(what), who, status);
}

static void audit(struct api_ask *a, int status)
{
    audit_begin(a);
    audit_log(a->api, buf_str(&a->audit), a->who, status);
}

/* What the server itself has refused. */
static void on_refused(void *arg, const struct net_http_refusal *r)
{
    audit_log(arg, r->what, r->who, r->status);
}

/* The one who asks is wrong, or asks wrongly: somebody may be trying doors. */
static bool is_wrong(int status)
{
    return status == 400 || status == 401 || status == 403 || status == 413;
}

void api_reply(struct api_ask *a, int status, const char *type, struct str body)
{
    if (a->api) {
        char id[24];
        if (a->is_change || is_wrong(status))
            audit(a, status);
        snprintf(id, sizeof id, "%llu", (unsigned long long)a->id);
        net_http_reply_header(a->q, "req_id", str_of(id));
        net_http_reply(a->q, status, type, body);
    }
    list_del(&a->link);
    buf_deinit(&a->audit);
    mem_free(a);
}

void api_text(struct api_ask *a, int status, const char *text)
{
    api_reply(a, status, "text/plain", str_of(text));
}

void api_json(struct api_ask *a, int status, const struct buf *body)
{
    api_reply(a, status, "application/json", buf_str(body));
}

int api_status_of(enum stores_outcome o)
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

void api_outcome(struct api_ask *a, enum stores_outcome o)
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
    api_text(a, api_status_of(o), text[o]);
}

/* ---- parameters ---- */

struct str api_header(const struct api_ask *a, const char *name)
{
    struct str s = net_http_header(a->q, name);
    return s.p ? s : STR("");
}

bool api_number(struct api_ask *a, const struct api_number *n, uint64_t *out)
{
    char text[128];
    struct str s = net_http_header(a->q, n->name);
    *out = n->absent;
    if (!s.p || (str_to_u64(s, out) && *out >= n->min && *out <= n->max))
        return true;
    snprintf(text, sizeof text, "%s must be a number from %llu to %llu", n->name,
             (unsigned long long)n->min, (unsigned long long)n->max);
    api_text(a, 400, text);
    return false;
}

bool api_node_read(const struct api *api, struct str text, struct uuid *out)
{
    const struct cluster_member *m;
    unsigned count = 0;
    if (uuid_parse(text, out))
        return true;
    for (size_t i = 0; text.n >= NODE_TEXT_MIN && api->conf.seat; i++) {
        char id[UUID_TEXT];
        if (!(m = cluster_member_at(api->conf.seat, i)))
            break;
        uuid_format(&m->uuid, id);
        if (str_has_prefix(str_of(id), text)) {
            *out = m->uuid;
            count++;
        }
    }
    return count == 1;
}

bool api_uuid(struct api_ask *a, const char *name, struct uuid *out)
{
    char text[128];
    if (api_node_read(a->api, api_header(a, name), out))
        return true;
    snprintf(text, sizeof text,
             "%s is not the id of a node, nor how just one begins (bilrostctl cluster shows them)",
             name);
    api_text(a, 400, text);
    return false;
}

struct codec_json *api_body(struct api_ask *a, enum codec_json_kind kind)
{
    char why[CODEC_JSON_ERROR_MAX];
    struct codec_json *j = codec_json_parse(net_http_body(a->q), why);
    if (!j)
        api_text(a, 400, why);
    else if (codec_json_kind(j) != kind) {
        api_text(a, 400,
                 kind == CODEC_JSON_OBJECT ? "the body must be a JSON object"
                                           : "the body must be a JSON array");
        j = codec_json_free(j);
    }
    return j;
}

/* ---- pieces of JSON ---- */

void api_key(struct buf *b, const char *name)
{
    if (b->n && b->p[b->n - 1] != '{' && b->p[b->n - 1] != '[')
        buf_put_u8(b, ',');
    if (name)
        buf_printf(b, "\"%s\":", name);
}

void api_put_text(struct buf *b, const char *name, struct str v)
{
    api_key(b, name);
    codec_json_put(b, v);
}

void api_put_number(struct buf *b, const char *name, uint64_t v)
{
    api_key(b, name);
    buf_printf(b, "%llu", (unsigned long long)v);
}

void api_put_bool(struct buf *b, const char *name, bool v)
{
    api_key(b, name);
    buf_put_str(b, v ? STR("true") : STR("false"));
}

void api_put_uuid(struct buf *b, const char *name, const struct uuid *v)
{
    char text[UUID_TEXT];
    uuid_format(v, text);
    api_put_text(b, name, str_of(text));
}

void api_names(struct api_ask *a, const char *const *name, size_t count)
{
    struct buf b = {0};
    buf_put_u8(&b, '[');
    for (size_t i = 0; i < count; i++)
        api_put_text(&b, NULL, str_of(name[i]));
    buf_put_u8(&b, ']');
    api_json(a, 200, &b);
    buf_deinit(&b);
}

/* ---- requests ---- */

/* False: a 400 names the header that is missing. */
static bool has_required(struct api_ask *a, const struct api_route *r)
{
    struct str list = str_of(r->headers), name;
    while (list.n && str_next(&list, ' ', &name)) {
        char z[64], text[96];
        if (name.n == 0 || name.p[name.n - 1] != '!')
            continue;
        str_copy(z, sizeof z, str_view(name.p, name.n - 1));
        if (net_http_header(a->q, z).n > 0)
            continue;
        snprintf(text, sizeof text, "header not found: %s", z);
        api_text(a, 400, text);
        return false;
    }
    return true;
}

static const struct api_route *route_find(struct str method, struct str path)
{
    if (str_eq(method, STR("HEAD")))
        method = STR("GET"); /* the same without its body */
    for (size_t i = 0; i < countof(routes); i++)
        if (str_eq(path, str_of(routes[i].path)) && str_eq(method, str_of(routes[i].method)))
            return &routes[i];
    return NULL;
}

static void on_request(void *arg, struct net_http_request *q)
{
    struct api *api = arg;
    struct api_ask *a = mem_new(sizeof *a);
    a->api = api;
    a->q = q;
    list_push_back(&api->asks, &a->link);
    a->role = api_token_role(a);
    struct str method = net_http_method(q), id = net_http_header(q, "req_id");
    const struct api_route *r = a->route = route_find(method, net_http_path(q));
    if (!id.p || !str_to_u64(id, &a->id))
        a->id = hlc_now(&api->request_id, net_loop_wall(api->conf.loop));
    a->is_change = !str_eq(method, STR("GET")) && !str_eq(method, STR("HEAD"));
    if (a->is_change)
        audit_begin(a); /* while its headers are there: the answer may come later */
    bool is_open = r && r->is_open && api->conf.is_metrics_open;
    if (a->role == API_ROLE_NONE && !is_open) {
        net_http_reply_header(q, "WWW-Authenticate", STR("Bearer"));
        api_text(a, 401, "a token is needed: Authorization: Bearer TOKEN");
    } else if (!r) {
        api_text(a, 400, "no such path and method");
    } else if (a->role < r->role && !is_open) {
        api_text(a, 403, "the role of this token does not allow that");
    } else if (has_required(a, r)) {
        r->fn(a);
    }
}

/* ---- birth and death ---- */

static int listen_on(struct api *a, bool is_local, char out_error[API_ERROR_MAX])
{
    char why[256];
    struct net_http_conf conf = {
        .address = is_local ? NULL : a->conf.address,
        .unix_path = is_local ? a->conf.unix_path : NULL,
        .unix_group = is_local ? a->conf.unix_group : NULL,
        .tls = is_local ? NULL : a->conf.tls,
        .body_bytes_max = a->conf.body_bytes_max,
        .idle_usec_max = IDLE_USEC_MAX,
        .connection_count_max = a->conf.connection_count_max,
        .request = on_request,
        .refused = on_refused,
        .arg = a,
    };
    int r = net_http_new(a->conf.loop, &conf, why, is_local ? &a->local : &a->tcp);
    if (r)
        snprintf(out_error, API_ERROR_MAX, "admin API: %s", why);
    return err_trace(r);
}

int api_new(const struct api_conf *conf, char out_error[API_ERROR_MAX], struct api **out_api)
{
    struct api *a = mem_new(sizeof *a);
    a->conf = *conf;
    a->began = net_clock_now();
    list_init(&a->asks);
    a->token_file = conf->token_file ? mem_dup(conf->token_file, strlen(conf->token_file)) : NULL;
    int r = api_tokens_reload(a, out_error);
    if (r == 0 && conf->address)
        r = listen_on(a, false, out_error);
    if (r == 0 && conf->unix_path)
        r = listen_on(a, true, out_error);
    if (r)
        api_free(a);
    else
        *out_api = a;
    if (r == 0)
        api_peer_open(a);
    return err_trace(r);
}

struct api *api_free(struct api *a)
{
    if (!a)
        return NULL;
    api_peer_close(a);
    for (struct list *it; (it = list_pop_front(&a->asks)) != NULL;) { /* 3 */
        struct api_ask *ask = container_of(it, struct api_ask, link);
        ask->api = NULL;
        ask->q = NULL;
    }
    net_http_free(a->tcp);
    net_http_free(a->local);
    api_token_free(a);
    mem_free(a->token_file);
    return mem_free(a);
}
