/* The server: who asks, what for, and the answer.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. An ask lives from on_request to api_reply.
 * 2. No endpoint is entered by a role below the one its row asks for.
 *
 * Never: knows what an endpoint does; logs a token. */
#include "api/api.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "api/api_priv.h"
#include "base/err.h"
#include "base/mem.h"
#include "net/password.h"

#define TOKENS_MAX 1024
#define TOKEN_LEN_MIN 16

static const struct {
    const char *method, *path;
    enum api_role role;
    bool is_open; /* without a token, when the configuration says so */
    void (*fn)(struct api_ask *a);
} routes[] = {
    {"GET", "/metrics", API_ROLE_READ, true, api_metrics},
    {"GET", "/healthz", API_ROLE_READ, true, api_health},
    {"GET", "/readyz", API_ROLE_READ, true, api_ready},
    {"GET", "/status", API_ROLE_READ, false, api_status},
    {"GET", "/cluster", API_ROLE_READ, false, api_cluster},
    {"GET", "/services", API_ROLE_READ, false, api_services},
    {"GET", "/stores", API_ROLE_READ, false, api_stores},
    {"GET", "/session", API_ROLE_READ, false, api_session_find},
    {"POST", "/pub", API_ROLE_OPERATE, false, api_pub},
    {"POST", "/retain", API_ROLE_OPERATE, false, api_retain},
    {"DELETE", "/kill", API_ROLE_OPERATE, false, api_session_kill},
    {"DELETE", "/session/inbox", API_ROLE_ADMIN, false, api_session_delete},
};

/* Answers. */

static void audit(const struct api_ask *a, int status)
{
    struct str method = net_http_method(a->q), path = net_http_path(a->q),
               tenant = net_http_header(a->q, "tenant_id"),
               client = net_http_header(a->q, "client_id"), topic = net_http_header(a->q, "topic");
    struct log_field field[] = {{"tenant", tenant}, {"client_id", client}, {"who", str_of(a->who)}};
    log_fields(a->api->conf.log, LOG_LEVEL_NOTICE, "api.audit", field, countof(field),
               "%.*s %.*s by %s: %d%s%.*s", STR_ARG(method), STR_ARG(path), a->who, status,
               topic.n ? " topic=" : "", STR_ARG(topic));
}

void api_reply(struct api_ask *a, int status, const char *type, struct str body)
{
    if (a->is_change)
        audit(a, status);
    struct str id = net_http_header(a->q, "req_id");
    if (id.p)
        net_http_reply_header(a->q, "req_id", id);
    net_http_reply(a->q, status, type, body);
    mem_free(a);
}

void api_text(struct api_ask *a, int status, const char *text)
{
    api_reply(a, status, "text/plain", str_of(text));
}

bool api_need(struct api_ask *a, const char *name, struct str *out)
{
    char text[96];
    *out = net_http_header(a->q, name);
    if (out->n)
        return true;
    snprintf(text, sizeof text, "header not found: %s", name);
    api_text(a, 400, text);
    return false;
}

void api_json_put(struct buf *b, struct str s)
{
    buf_put_u8(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c < 0x20)
            buf_printf(b, "\\u%04x", c);
        else
            buf_put_u8(b, c);
    }
    buf_put_u8(b, '"');
}

/* Who asks. */

static enum api_role role_of_token(const struct api *api, struct str token)
{
    enum api_role role = API_ROLE_NONE;
    for (size_t i = 0; i < api->token_count; i++) /* all are compared, so that time tells nothing */
        if (net_password_eq(token, str_of(api->token[i].text)))
            role = api->token[i].role;
    return role;
}

static enum api_role role_of(struct api_ask *a)
{
    uint32_t uid, gid;
    if (net_http_peer_cred(a->q, &uid, &gid)) {
        snprintf(a->who, sizeof a->who, "uid %u", uid);
        return API_ROLE_ADMIN; /* the socket's permissions let in root, the service and its group
                                  alone */
    }
    struct net_address peer;
    char text[NET_ADDRESS_TEXT] = "?";
    if (net_http_peer(a->q, &peer))
        (void)net_address_format_host(&peer, text);
    struct str header = net_http_header(a->q, "Authorization");
    enum api_role role = API_ROLE_NONE;
    if (str_has_prefix(header, STR("Bearer ")))
        role = role_of_token(a->api, str_view(header.p + 7, header.n - 7));
    static const char *const name[] = {"nobody", "read", "operate", "admin"};
    snprintf(a->who, sizeof a->who, "%.20s at %.40s", name[role], text);
    return role;
}

static void on_request(void *arg, struct net_http_request *q)
{
    struct api *api = arg;
    struct api_ask *a = mem_new(sizeof *a);
    a->api = api;
    a->q = q;
    a->role = role_of(a);
    struct str method = net_http_method(q), path = net_http_path(q);
    a->is_change = !str_eq(method, STR("GET"));
    for (size_t i = 0; i < countof(routes); i++) {
        if (!str_eq(path, str_of(routes[i].path)) || !str_eq(method, str_of(routes[i].method)))
            continue;
        if (a->role >= routes[i].role || (routes[i].is_open && api->conf.is_metrics_open)) {
            routes[i].fn(a);
        } else if (a->role == API_ROLE_NONE) {
            net_http_reply_header(q, "WWW-Authenticate", STR("Bearer"));
            api_text(a, 401, "a token is needed: Authorization: Bearer TOKEN");
        } else {
            api_text(a, 403, "the role of this token does not allow that");
        }
        return;
    }
    api_text(a, a->role == API_ROLE_NONE ? 401 : 400, "no such path and method");
}

/* Tokens. */

static void tokens_free(struct api_token *token, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mem_free(token[i].text);
    mem_free(token);
}

static enum api_role role_named(struct str name)
{
    return str_eq(name, STR("admin"))     ? API_ROLE_ADMIN
           : str_eq(name, STR("operate")) ? API_ROLE_OPERATE
           : str_eq(name, STR("read"))    ? API_ROLE_READ
                                          : API_ROLE_NONE;
}

/* Reads into a fresh table; the old one stays until all is good. */
static int tokens_read(FILE *f, const char *file, struct api *into, char out_error[API_ERROR_MAX])
{
    char line[1024];
    for (unsigned number = 1; fgets(line, sizeof line, f); number++) {
        struct str rest = str_of(line), name;
        while (rest.n && (rest.p[rest.n - 1] == '\n' || rest.p[rest.n - 1] == ' '))
            rest.n--;
        if (rest.n == 0 || rest.p[0] == '#')
            continue;
        (void)str_next(&rest, ' ', &name);
        enum api_role role = role_named(name);
        if (role == API_ROLE_NONE || !rest.p || rest.n < TOKEN_LEN_MIN ||
            into->token_count == TOKENS_MAX) {
            snprintf(out_error, API_ERROR_MAX,
                     "%s:%u: needs ROLE TOKEN, the role read, operate or admin, the token at least "
                     "%d characters",
                     file, number, TOKEN_LEN_MIN);
            return -EINVAL;
        }
        into->token =
            mem_grow(into->token, &into->token_cap, into->token_count + 1, sizeof *into->token);
        into->token[into->token_count++] = (struct api_token){role, mem_dup(rest.p, rest.n)};
    }
    return 0;
}

/* fresh is empty and gets them. */
static int tokens_open(const char *file, struct api *fresh, char out_error[API_ERROR_MAX])
{
    FILE *f = fopen(file, "re");
    if (!f) {
        int r = -errno;
        snprintf(out_error, API_ERROR_MAX, "cannot read \"%s\": %s", file, strerrordesc_np(-r));
        return err_trace(r);
    }
    int r = tokens_read(f, file, fresh, out_error);
    fclose(f);
    if (r)
        tokens_free(fresh->token, fresh->token_count);
    return err_trace(r);
}

int api_tokens_check(const char *file, char out_error[API_ERROR_MAX])
{
    struct api fresh = {0};
    int r = tokens_open(file, &fresh, out_error);
    if (r == 0)
        tokens_free(fresh.token, fresh.token_count);
    return r;
}

int api_tokens_reload(struct api *a, char out_error[API_ERROR_MAX])
{
    struct api fresh = {0};
    if (!a->token_file)
        return 0;
    int r = tokens_open(a->token_file, &fresh, out_error);
    if (r)
        return r;
    tokens_free(a->token, a->token_count);
    a->token = fresh.token;
    a->token_count = fresh.token_count;
    a->token_cap = fresh.token_cap;
    return 0;
}

/* Birth and death. */

static int listen_on(struct api *a, bool is_local, char out_error[API_ERROR_MAX])
{
    char why[256];
    struct net_http_conf conf = {
        .address = is_local ? NULL : a->conf.address,
        .unix_path = is_local ? a->conf.unix_path : NULL,
        .unix_group = is_local ? a->conf.unix_group : NULL,
        .tls = is_local ? NULL : a->conf.tls,
        .body_bytes_max = a->conf.body_bytes_max,
        .request = on_request,
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
    return err_trace(r);
}

struct api *api_free(struct api *a)
{
    if (!a)
        return NULL;
    net_http_free(a->tcp);
    net_http_free(a->local);
    tokens_free(a->token, a->token_count);
    mem_free(a->token_file);
    return mem_free(a);
}
