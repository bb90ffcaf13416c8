/* Listeners of the configuration.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. An entry of n->listening is open (at is the broker's number) or about to be.
 * 2. A configuration that is read again closes and opens what differs in its text, and nothing
 * else.
 *
 * Never: opens a port that no listener names. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "node/conf_priv.h"
#include "node/node_priv.h"

#define PROTOCOLS                                                                                  \
    "mqtt,mqttv3.1,mqttv3.1.1" /* WebSocket subprotocols (MQTT5 6.0-3, and what 3.1 clients say)   \
                                */
#define RANGES_MAX 64
#define NAMES_MAX 64

int node_outcome_of(int r)
{
    switch (r) {
    case -EADDRINUSE:
    case -EADDRNOTAVAIL:
        return NODE_E_ADDRESS;
    case -EACCES:
    case -EPERM:
        return NODE_E_PERMISSION;
    case -EINVAL:
    case -ENOENT:
    case -ENAMETOOLONG:
    case -ESRCH:
        return NODE_E_CONFIG;
    default:
        return NODE_E_SYSTEM;
    }
}

static const char *given(const char *text)
{
    return text[0] ? text : NULL;
}

static bool is_tls(const struct node_conf_listener *l)
{
    return strcmp(l->kind, "tls") == 0 || strcmp(l->kind, "wss") == 0;
}

/* "name=certFile:keyFile" into name, cut in place. */
static bool name_of(char *text, struct net_tls_name *out)
{
    char *eq = strchr(text, '=');
    char *colon = eq ? strchr(eq, ':') : NULL;
    if (!colon)
        return false;
    *eq = *colon = 0;
    *out = (struct net_tls_name){.name = text, .cert_file = eq + 1, .key_file = colon + 1};
    return true;
}

static int tls_of(const struct node_conf_listener *l, char error[NODE_ERROR_MAX],
                  struct net_tls **out)
{
    struct net_tls_name name[NAMES_MAX];
    char *text[NAMES_MAX], why[NET_TLS_ERROR_MAX] = "";
    size_t count = 0;
    struct str all = str_of(l->sni), one;
    int r = 0;
    while (r == 0 && all.n && str_next(&all, ',', &one)) {
        text[count] = mem_dup(one.p, one.n);
        if (count + 1 == NAMES_MAX || !name_of(text[count], &name[count])) {
            r = -EINVAL;
            snprintf(why, sizeof why, "serverNames has \"%.*s\", but needs name=certFile:keyFile",
                     STR_ARG(one));
        }
        count++;
    }
    struct net_tls_conf conf = {
        .is_server = true,
        .cert_file = l->cert,
        .key_file = l->key,
        .ca_file = given(l->ca),
        .crl_file = given(l->crl),
        .verify = strcmp(l->client_auth, "REQUIRE") == 0    ? NET_TLS_VERIFY_REQUIRED
                  : strcmp(l->client_auth, "OPTIONAL") == 0 ? NET_TLS_VERIFY_OPTIONAL
                                                            : NET_TLS_VERIFY_NONE,
        .version_min = l->tls_min,
        .ciphers = given(l->ciphers),
        .alpn = strcmp(l->kind, "tls") == 0 ? "mqtt" : "http/1.1",
        .name = name,
        .name_count = count,
    };
    if (r == 0)
        r = net_tls_new(&conf, why, out);
    for (size_t i = 0; i < count; i++)
        mem_free(text[i]);
    if (r == 0)
        return 0;
    snprintf(error, NODE_ERROR_MAX, "%s: %s", l->origin, why);
    return node_outcome_of(r);
}

/* All that decides how it listens: what is the same text is the same listener. */
static char *text_of(const struct node_conf *c, const struct node_conf_listener *l)
{
    struct buf b = {0};
    for (size_t i = 0; i < node_keys_listener.count; i++) {
        buf_put_u8(&b, '\n');
        node_key_format(&node_keys_listener.key[i], l, &b);
    }
    buf_printf(&b, "\n%lld %lld %lld %lld", (long long)c->mqtt_conn_timeout,
               (long long)c->mqtt_out_bytes, (long long)c->mqtt_conn_per_sec,
               (long long)c->mqtt_bandwidth);
    char *text = mem_dup((char *)b.p, b.n);
    buf_deinit(&b);
    return text;
}

/* An entry for it, with its certificates, not yet open. */
static int listening_add(struct node *n, const struct node_conf *c,
                         const struct node_conf_listener *l, char error[NODE_ERROR_MAX])
{
    struct net_tls *tls = NULL;
    int r = is_tls(l) ? tls_of(l, error, &tls) : 0;
    if (r)
        return r;
    n->listening =
        mem_grow(n->listening, &n->listening_cap, n->listening_count + 1, sizeof *n->listening);
    n->listening[n->listening_count++] =
        (struct node_listening){.text = text_of(c, l),
                                .origin = mem_dup(l->origin, strlen(l->origin)),
                                .address = mem_dup(l->address, strlen(l->address)),
                                .tls = tls,
                                .at = SIZE_MAX};
    return 0;
}

static void listening_drop(struct node *n, size_t i)
{
    struct node_listening *x = &n->listening[i];
    net_tls_unref(x->tls);
    mem_free(x->text);
    mem_free(x->origin);
    mem_free(x->address);
    memmove(x, x + 1, (--n->listening_count - i) * sizeof *x);
}

int node_tls_open(struct node *n, char error[NODE_ERROR_MAX])
{
    int r = 0;
    for (size_t i = 0; i < n->conf->listener_count && r == 0; i++)
        r = listening_add(n, n->conf, &n->conf->listener[i], error);
    return r;
}

void node_tls_close(struct node *n)
{
    while (n->listening_count)
        listening_drop(n, n->listening_count - 1);
    n->listening = mem_free(n->listening);
}

int node_tls_reload(struct node *n, struct buf *say)
{
    char why[NET_TLS_ERROR_MAX];
    for (size_t i = 0; i < n->listening_count; i++)
        if (n->listening[i].tls && net_tls_reload(n->listening[i].tls, why)) {
            buf_printf(say, "%s: %s; the old certificates stay in use\n", n->listening[i].origin,
                       why);
            return NODE_E_CONFIG;
        }
    return 0;
}

static int handed_fd(const struct node_conf_run *run, const char *name)
{
    for (size_t i = 0; run && i < run->handed_count; i++)
        if (!name[0] || strcmp(run->handed[i].name, name) == 0)
            return run->handed[i].fd;
    return -1;
}

static unsigned methods_of(const char *list)
{
    unsigned m = 0;
    struct str all = str_of(list), one;
    while (str_next(&all, ',', &one))
        m |= str_eq(one, STR("password"))      ? (unsigned)BROKER_AUTH_PASSWORD
             : str_eq(one, STR("certificate")) ? (unsigned)BROKER_AUTH_CERTIFICATE
             : str_eq(one, STR("plugin"))      ? (unsigned)BROKER_AUTH_PLUGIN
             : str_eq(one, STR("scram"))       ? (unsigned)BROKER_AUTH_SCRAM
             : str_eq(one, STR("anonymous"))   ? (unsigned)BROKER_AUTH_ANONYMOUS
                                               : 0u;
    return m;
}

static int64_t own_or(int64_t own, int64_t common)
{
    return own < 0 ? common : own;
}

static void net_conf_of(struct node *n, const struct node_conf *c,
                        const struct node_conf_listener *l, struct net_range *range,
                        struct net_listener_conf *out)
{
    bool is_ws = strcmp(l->kind, "ws") == 0 || strcmp(l->kind, "wss") == 0;
    bool is_unix = strcmp(l->kind, "unix") == 0;
    struct str all = str_of(l->proxy_from), one;
    size_t range_count = 0;
    while (all.n && str_next(&all, ',', &one) && range_count < RANGES_MAX)
        range_count += net_range_parse(one, &range[range_count]) == 0;
    *out = (struct net_listener_conf){
        .kind = is_unix ? NET_LISTENER_UNIX : NET_LISTENER_TCP,
        .address = l->address,
        .unix_mode = (unsigned)strtoul(l->unix_mode, NULL, 8),
        .unix_group = given(l->unix_group),
        .ws_path = is_ws ? l->path : NULL,
        .ws_protocol = is_ws ? PROTOCOLS : NULL,
        .connection_count_max = (size_t)l->connection_max,
        .connect_per_sec_max = (unsigned)own_or(l->conn_per_sec, c->mqtt_conn_per_sec),
        .proxy_from = range,
        .proxy_from_count = range_count,
        .limits.read_bytes_per_sec = (uint64_t)own_or(l->bandwidth, c->mqtt_bandwidth),
        .log = n->log,
    };
}

static void listen_tell(const struct node *n, const struct node_conf_listener *l, size_t at)
{
    char text[NET_ADDRESS_TEXT];
    const struct net_address *a = broker_listen_address(n->broker, at);
    (void)net_address_format(a, text);
    log_line(n->log, LOG_LEVEL_NOTICE, "node.listen", "listening on %s (%s, tenant %s, auth %s)",
             a->sa.sa_family == AF_UNIX ? l->address : text, l->kind, l->tenant, l->auth);
}

/* run NULL: later than at the start, when nothing is handed over. */
static int
listen_one(struct node *n, const struct node_conf *c, const struct node_conf_listener *l,
           struct node_listening *x, const struct node_conf_run *run,
           char error[NODE_ERROR_MAX]) /* NOLINT(size): one call below it, and its sentence */
{
    struct net_range range[RANGES_MAX];
    struct broker_listen_conf conf = {
        .name = l->name[0] ? l->name : l->kind,
        .tenant = l->tenant,
        .auth = {.methods = methods_of(l->auth),
                 .identity = strcmp(l->identity, "SAN") == 0 ? BROKER_AUTH_IDENTITY_SAN
                                                             : BROKER_AUTH_IDENTITY_CN},
        .connect_usec_max = (usec_t)own_or(l->conn_timeout, c->mqtt_conn_timeout) * USEC_SEC,
        .out_bytes_max = (size_t)c->mqtt_out_bytes,
    };
    net_conf_of(n, c, l, range, &conf.net);
    conf.net.tls = x->tls;
    if (strcmp(l->kind, "systemd") == 0) {
        conf.net.kind = NET_LISTENER_FD;
        conf.net.fd = handed_fd(run, l->address);
        conf.net.is_waiting =
            true; /* the socket was open before us: who knocks can wait a little */
        if (conf.net.fd < 0) {
            snprintf(error, NODE_ERROR_MAX,
                     "%s: systemd handed over no socket with FileDescriptorName=%s", l->origin,
                     l->address);
            return NODE_E_CONFIG;
        }
    }
    char why[NET_LISTENER_ERROR_MAX];
    size_t at = broker_listen_count(n->broker);
    int r = broker_listen(n->broker, &conf, why);
    if (r == 0) {
        x->at = at;
        listen_tell(n, l, at);
        return 0;
    }
    snprintf(error, NODE_ERROR_MAX, "%s: %s", l->origin, why);
    return node_outcome_of(r);
}

int node_listen(struct node *n, const struct node_conf_run *run, char error[NODE_ERROR_MAX])
{
    int r = 0;
    for (size_t i = 0; i < n->conf->listener_count && r == 0; i++)
        r = listen_one(n, n->conf, &n->conf->listener[i], &n->listening[i], run, error);
    return r;
}

/* ---- a configuration that is read again ---- */

static struct node_listening *listening_find(struct node *n, const char *text)
{
    for (size_t i = 0; i < n->listening_count; i++)
        if (strcmp(n->listening[i].text, text) == 0)
            return &n->listening[i];
    return NULL;
}

/* Is its address taken by one that is about to be closed? */
static bool is_succession(const struct node *n, const struct node_conf_listener *l)
{
    for (size_t i = 0; i < n->listening_count; i++)
        if (!n->listening[i].is_wanted && n->listening[i].at != SIZE_MAX &&
            strcmp(n->listening[i].address, l->address) == 0)
            return true;
    return false;
}

/* Those of c that do not listen yet: with is_late those whose address has just become free. */
static int listen_added(struct node *n, const struct node_conf *c, bool is_late,
                        char error[NODE_ERROR_MAX])
{
    int r = 0;
    for (size_t i = 0; i < c->listener_count && r == 0; i++) {
        const struct node_conf_listener *l = &c->listener[i];
        char *text = text_of(c, l);
        struct node_listening *x = listening_find(n, text);
        mem_free(text);
        if (x->at == SIZE_MAX && (is_late || !is_succession(n, l)))
            r = listen_one(n, c, l, x, NULL, error);
    }
    return r;
}

static void listen_close(struct node *n, bool is_wanted, size_t from)
{
    for (size_t i = n->listening_count; i-- > from;) {
        struct node_listening *x = &n->listening[i];
        if (x->is_wanted != is_wanted)
            continue;
        if (x->at != SIZE_MAX) {
            broker_listen_stop(n->broker, x->at);
            log_line(n->log, LOG_LEVEL_NOTICE, "node.listen.stop", "no longer listening on %s",
                     x->address);
        }
        listening_drop(n, i);
    }
}

int node_listen_again(struct node *n, struct node_conf *c, struct buf *say)
{
    char error[NODE_ERROR_MAX];
    size_t before = n->listening_count;
    int r = 0;
    for (size_t i = 0; i < before; i++)
        n->listening[i].is_wanted = false;
    for (size_t i = 0; i < c->listener_count && r == 0; i++) {
        char *text = text_of(c, &c->listener[i]);
        struct node_listening *x = listening_find(n, text);
        mem_free(text);
        if (!x && (r = listening_add(n, c, &c->listener[i], error)) == 0)
            x = &n->listening[n->listening_count - 1];
        if (x)
            x->is_wanted = true;
    }
    node_tenants_add(n, c);
    if (r == 0)
        r = listen_added(n, c, false, error);
    if (r) { /* what was opened is closed again, the others never noticed */
        listen_close(n, true, before);
        buf_printf(say, "%s; all listeners stay as they were\n", error);
        return NODE_E_CONFIG;
    }
    listen_close(n, false, 0);
    if (listen_added(n, c, true, error))
        buf_printf(say, "%s; what listened there before is closed\n", error);
    return 0;
}
