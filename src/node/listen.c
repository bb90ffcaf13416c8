/* Listeners of the configuration.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. tls[i] belongs to listener[i] of the configuration the node was started with.
 *
 * Never: opens a port that no listener names. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
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

int node_tls_open(struct node *n, char error[NODE_ERROR_MAX])
{
    n->tls = mem_new((n->conf->listener_count + 1) * sizeof(struct net_tls *));
    for (size_t i = 0; i < n->conf->listener_count; i++) {
        int r =
            is_tls(&n->conf->listener[i]) ? tls_of(&n->conf->listener[i], error, &n->tls[i]) : 0;
        if (r)
            return r;
    }
    return 0;
}

void node_tls_close(struct node *n)
{
    for (size_t i = 0; n->tls && i < n->conf->listener_count; i++)
        net_tls_unref(n->tls[i]);
    n->tls = mem_free(n->tls);
}

int node_tls_reload(struct node *n, struct buf *say)
{
    char why[NET_TLS_ERROR_MAX];
    for (size_t i = 0; i < n->conf->listener_count; i++)
        if (n->tls[i] && net_tls_reload(n->tls[i], why)) {
            buf_printf(say, "%s: %s; the old certificates stay in use\n",
                       n->conf->listener[i].origin, why);
            return NODE_E_CONFIG;
        }
    return 0;
}

static int handed_fd(const struct node_conf_run *run, const char *name)
{
    for (size_t i = 0; i < run->handed_count; i++)
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
             : str_eq(one, STR("scram"))       ? (unsigned)BROKER_AUTH_SCRAM
             : str_eq(one, STR("anonymous"))   ? (unsigned)BROKER_AUTH_ANONYMOUS
                                               : 0u;
    return m;
}

static int64_t own_or(int64_t own, int64_t common)
{
    return own < 0 ? common : own;
}

static void net_conf_of(struct node *n, const struct node_conf_listener *l, struct net_range *range,
                        struct net_listener_conf *out)
{
    const struct node_conf *c = n->conf;
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

static int listen_one(struct node *n, size_t i, const struct node_conf_run *run,
                      char error[NODE_ERROR_MAX])
{
    const struct node_conf_listener *l = &n->conf->listener[i];
    struct net_range range[RANGES_MAX];
    struct broker_listen_conf conf = {
        .name = l->name[0] ? l->name : l->kind,
        .tenant = l->tenant,
        .auth = {.methods = methods_of(l->auth),
                 .identity = strcmp(l->identity, "SAN") == 0 ? BROKER_AUTH_IDENTITY_SAN
                                                             : BROKER_AUTH_IDENTITY_CN},
        .connect_usec_max = (usec_t)own_or(l->conn_timeout, n->conf->mqtt_conn_timeout) * USEC_SEC,
        .out_bytes_max = (size_t)n->conf->mqtt_out_bytes,
    };
    net_conf_of(n, l, range, &conf.net);
    conf.net.tls = n->tls[i];
    if (strcmp(l->kind, "systemd") == 0) {
        conf.net.kind = NET_LISTENER_FD;
        conf.net.fd = handed_fd(run, l->address);
        if (conf.net.fd < 0) {
            snprintf(error, NODE_ERROR_MAX,
                     "%s: systemd handed over no socket with FileDescriptorName=%s", l->origin,
                     l->address);
            return NODE_E_CONFIG;
        }
    }
    char why[NET_LISTENER_ERROR_MAX];
    int r = broker_listen(n->broker, &conf, why);
    if (r == 0)
        return 0;
    snprintf(error, NODE_ERROR_MAX, "%s: %s", l->origin, why);
    return node_outcome_of(r);
}

int node_listen(struct node *n, const struct node_conf_run *run, char error[NODE_ERROR_MAX])
{
    for (size_t i = 0; i < n->conf->listener_count; i++) {
        int r = listen_one(n, i, run, error);
        if (r)
            return r;
        char text[NET_ADDRESS_TEXT];
        const struct net_address *a = broker_listen_address(n->broker, i);
        const struct node_conf_listener *l = &n->conf->listener[i];
        (void)net_address_format(a, text);
        log_line(n->log, LOG_LEVEL_NOTICE, "node.listen",
                 "listening on %s (%s, tenant %s, auth %s)",
                 a->sa.sa_family == AF_UNIX ? l->address : text, l->kind, l->tenant, l->auth);
    }
    return 0;
}
