/* The admin API of the configuration.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: opens a TCP port without a token file unless only the open pages are left to see there. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "api/api.h"
#include "net/address.h"
#include "node/node_priv.h"

#define NODE_API_SOCKET "/run/bilrost/api.sock" /* as in conf.def */

static const char *given(const char *text)
{
    return text[0] ? text : NULL;
}

static void not_ready(void *arg, struct buf *why)
{
    node_health_reasons(arg, why);
}

static int tls_open(struct node *n, char error[NODE_ERROR_MAX])
{
    char why[NET_TLS_ERROR_MAX];
    struct net_tls_conf conf = {
        .is_server = true, .cert_file = n->conf->api_cert, .key_file = n->conf->api_key};
    if (!n->conf->api_ssl)
        return 0;
    int r = net_tls_new(&conf, why, &n->api_tls);
    if (r)
        snprintf(error, NODE_ERROR_MAX, "apiServerConfig.sslConfig: %s", why);
    return r ? node_outcome_of(r) : 0;
}

/* The socket's directory is made by systemd; a node started by hand goes without, unless a socket
 * was asked for. */
static const char *socket_path(struct node *n)
{
    const struct node_conf *c = n->conf;
    char dir[256];
    const char *slash = strrchr(c->api_socket, '/');
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - c->api_socket) : 0, c->api_socket);
    if (strcmp(c->api_socket, NODE_API_SOCKET) == 0 && access(dir, F_OK) < 0) {
        log_line(n->log, LOG_LEVEL_NOTICE, "node.api.socket",
                 "no unix socket for the admin API: there is no %s", dir);
        return NULL;
    }
    return given(c->api_socket);
}

int node_admin_open(struct node *n, char error[NODE_ERROR_MAX])
{
    const struct node_conf *c = n->conf;
    char address[160], why[API_ERROR_MAX];
    if (!c->api_enable)
        return 0;
    int r = tls_open(n, error);
    if (r)
        return r;
    net_address_join(c->api_host, (uint16_t)c->api_port, address, sizeof address);
    struct api_conf conf = {
        .loop = n->loop[0],
        .broker = n->broker,
        .stores = n->stores,
        .kv = n->kv,
        .seat = n->seat ? n->seat[0] : NULL,
        .env = c->cluster_env,
        .version = n->version,
        .node = n->uuid,
        .data_path = given(c->data_dir),
        .durability = c->data_dir[0] ? c->durability : "memory",
        .memory_max = n->memory_max,
        .memory_limit = n->memory_limit,
        .address = c->api_host[0] ? address : NULL,
        .unix_path = socket_path(n),
        .unix_group = given(c->api_group),
        .token_file = given(c->api_tokens),
        .tls = n->api_tls,
        .body_bytes_max = (size_t)c->api_content_max,
        .connection_count_max = (size_t)c->api_connection_max,
        .is_metrics_open = c->api_metrics_open != 0,
        .log = n->log,
        .not_ready = not_ready,
        .arg = n,
    };
    r = api_new(&conf, why, &n->api);
    if (r)
        snprintf(error, NODE_ERROR_MAX, "%s", why);
    return r ? node_outcome_of(r) : 0;
}

int node_admin_try(const struct node_conf *c, char error[NODE_ERROR_MAX])
{
    char why[API_ERROR_MAX];
    struct node n = {.conf = (struct node_conf *)(uintptr_t)c};
    if (!c->api_enable)
        return 0;
    int r = tls_open(&n, error);
    net_tls_unref(n.api_tls);
    if (r)
        return r;
    r = c->api_tokens[0] ? api_tokens_check(c->api_tokens, why) : 0;
    if (r)
        snprintf(error, NODE_ERROR_MAX, "%s", why);
    return r ? NODE_E_CONFIG : 0;
}

int node_admin_reload(struct node *n, struct buf *say)
{
    char why[API_ERROR_MAX];
    if (!n->api || api_tokens_reload(n->api, why) == 0)
        return 0;
    buf_printf(say, "%s; the old tokens stay in use\n", why);
    return NODE_E_CONFIG;
}

void node_admin_close(struct node *n)
{
    n->api = api_free(n->api);
    n->api_tls = net_tls_unref(n->api_tls);
}
