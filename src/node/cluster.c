/* This node's part of the cluster.  SPDX-License-Identifier: Apache-2.0
 *
 * With clusterConfig.enable the node has a seat on every loop; what the cluster keeps lies in the
 * data directory under "cluster".
 *
 * Never: decides anything about members. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cluster/host.h"
#include "engine/dir.h"
#include "net/address.h"
#include "node/node_priv.h"

#define KEYS_MAX CLUSTER_KEYRING_MAX
#define SEEDS_MAX 64
#define KEY_FILE_MAX 4096

static const char *given(const char *text)
{
    return text[0] ? text : NULL;
}

static int outcome_of_start(int r)
{
    switch (-r) {
    case EADDRINUSE:
    case EADDRNOTAVAIL:
        return NODE_E_ADDRESS;
    case EINVAL:
    case EACCES:
        return NODE_E_CONFIG;
    default:
        return NODE_E_SYSTEM;
    }
}

/* --- keys and certificates --- */

static int keys_read(const char *path, struct cluster_host_key key[KEYS_MAX], size_t *count,
                     char error[NODE_ERROR_MAX])
{
    char text[KEY_FILE_MAX];
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        snprintf(error, NODE_ERROR_MAX, "%.200s: %s", path, strerrordesc_np(errno));
        return NODE_E_CONFIG;
    }
    struct str left = {text, fread(text, 1, sizeof text, f)}, line;
    fclose(f);
    *count = 0;
    while (str_next(&left, '\n', &line)) {
        if (line.n == 0 || line.p[0] == '#')
            continue;
        if (*count == KEYS_MAX || !cluster_key_parse(line, key[*count].bytes)) {
            snprintf(error, NODE_ERROR_MAX, "%.200s: at most %d keys, 64 hexadecimal digits a line",
                     path, KEYS_MAX);
            return NODE_E_CONFIG;
        }
        ++*count;
    }
    return 0;
}

static int tls_make(const struct node_conf *c, bool is_server, char error[NODE_ERROR_MAX],
                    struct net_tls **out)
{
    char why[NET_TLS_ERROR_MAX];
    struct net_tls_conf conf = {
        .is_server = is_server,
        .cert_file = given(c->rpc_cert),
        .key_file = given(c->rpc_key),
        .ca_file = given(c->rpc_ca),
        .verify = NET_TLS_VERIFY_REQUIRED,
        .version_min = "1.3",
    };
    *out = NULL;
    if (!c->rpc_ssl || net_tls_new(&conf, why, out) == 0)
        return 0;
    snprintf(error, NODE_ERROR_MAX, "rpcConfig.sslConfig: %s", why);
    return NODE_E_CONFIG;
}

/* --- the cluster --- */

static void on_fatal(void *arg, const char *why)
{
    struct node *n = arg;
    if (n->events.failed)
        n->events.failed(n->events.arg, why);
}

/* The parts of a comma separated list, in place. */
static size_t list_split(char *text, const char **out, size_t max)
{
    size_t count = 0;
    for (char *at = text; at != NULL && count < max;) {
        char *next = strchr(at, ',');
        if (next != NULL)
            *next++ = 0;
        while (*at == ' ')
            at++;
        if (*at)
            out[count++] = at;
        at = next;
    }
    return count;
}

static int cluster_make(struct node *n, const struct cluster_host_conf *conf,
                        char error[NODE_ERROR_MAX])
{
    char why[CLUSTER_HOST_ERROR_MAX] = "";
    int r = cluster_new(conf, why, &n->cluster);
    if (r) {
        snprintf(error, NODE_ERROR_MAX, "%s", why);
        return outcome_of_start(r);
    }
    n->seat = mem_new(n->loop_count * sizeof(struct cluster_seat *));
    for (unsigned i = 0; i < n->loop_count; i++)
        n->seat[i] = cluster_seat(n->cluster, i);
    return 0;
}

/* What a node proves itself with. */
struct secrets {
    struct cluster_host_key key[KEYS_MAX];
    size_t key_count;
    struct net_tls *server, *client; /* NULL: plain */
};

static int secrets_open(const struct node_conf *c, struct secrets *s, char error[NODE_ERROR_MAX])
{
    memset(s, 0, sizeof *s);
    int r =
        c->cluster_key_file[0] ? keys_read(c->cluster_key_file, s->key, &s->key_count, error) : 0;
    if (r == 0)
        r = tls_make(c, true, error, &s->server);
    if (r == 0)
        r = tls_make(c, false, error, &s->client);
    return r;
}

static void secrets_close(struct secrets *s)
{
    net_tls_unref(s->server);
    net_tls_unref(s->client);
    explicit_bzero(s->key, sizeof s->key);
}

int node_cluster_try(const struct node_conf *c, char error[NODE_ERROR_MAX])
{
    struct secrets s;
    if (!c->cluster_enable)
        return 0;
    int r = secrets_open(c, &s, error);
    secrets_close(&s);
    return r;
}

int node_cluster_open(struct node *n, char error[NODE_ERROR_MAX])
{
    const struct node_conf *c = n->conf;
    struct secrets secrets;
    const char *seed[SEEDS_MAX];
    char api[160];
    char *path = NULL;
    struct cluster_identity identity = {.uuid = n->uuid, .epoch = n->epoch, .lock = -1};
    if (!c->cluster_enable)
        return 0;
    if (n->dir != NULL && engine_dir_sub(n->dir, "cluster", &path) != 0) {
        snprintf(error, NODE_ERROR_MAX, "%.200s/cluster: cannot be made", c->data_dir);
        return NODE_E_DATA;
    }
    int r = secrets_open(c, &secrets, error);
    char *seeds = mem_dup(c->cluster_seeds, strlen(c->cluster_seeds));
    net_address_join(c->api_host, (uint16_t)c->api_port, api, sizeof api);
    struct cluster_host_conf conf = {
        .loop = n->loop,
        .loop_count = n->loop_count,
        .worker = n->worker,
        .data_path = path,
        .identity = &identity,
        .env = c->cluster_env,
        .host = c->cluster_host,
        .port = (uint16_t)c->cluster_port,
        .domain_name = given(c->cluster_domain),
        .seed = seed,
        .seed_count = list_split(seeds, seed, SEEDS_MAX),
        .rpc_host = given(c->rpc_host),
        .rpc_port = (uint16_t)c->rpc_port,
        .tls_server = secrets.server,
        .tls_client = secrets.client,
        .key = secrets.key,
        .key_count = secrets.key_count,
        .is_insecure = c->cluster_insecure,
        .api = c->api_enable && c->api_host[0] ? api : NULL,
        .release = n->version,
        .log = n->log,
        .fatal = on_fatal,
        .arg = n,
    };
    n->has_keys = secrets.key_count > 0;
    if (secrets.server != NULL) {
        n->rpc_tls[0] = net_tls_ref(secrets.server);
        n->rpc_tls[1] = net_tls_ref(secrets.client);
    }
    if (r == 0)
        r = cluster_make(n, &conf, error);
    mem_free(seeds);
    mem_free(path);
    secrets_close(&secrets);
    return r;
}

int node_cluster_reload(struct node *n, const struct node_conf *c, struct buf *say)
{
    struct cluster_host_key key[KEYS_MAX];
    size_t key_count = 0;
    char error[NODE_ERROR_MAX], why[NET_TLS_ERROR_MAX];
    if (n->cluster == NULL)
        return 0;
    int r = c->cluster_key_file[0] ? keys_read(c->cluster_key_file, key, &key_count, error) : 0;
    if (r != 0) {
        buf_printf(say, "%s; the old keys stay in use\n", error);
        return r;
    }
    for (unsigned i = 0; i < countof(n->rpc_tls); i++)
        if (n->rpc_tls[i] != NULL && net_tls_reload(n->rpc_tls[i], why) != 0) {
            buf_printf(say, "rpcConfig.sslConfig: %s; the old certificate stays in use\n", why);
            return NODE_E_CONFIG;
        }
    if (n->has_keys != (key_count > 0)) {
        buf_printf(say, "clusterConfig.keyFile: the first key, and the end of all keys, want a "
                        "restart of every node\n");
        return NODE_E_CONFIG;
    }
    cluster_keys_set(n->cluster, key, key_count);
    return 0;
}

void node_cluster_ready(struct node *n)
{
    if (n->seat != NULL)
        cluster_flags_set(n->seat[0], CLUSTER_FLAG_READY, 0);
}

void node_cluster_drain(struct node *n, bool is_on)
{
    if (n->seat == NULL)
        return;
    if (is_on)
        cluster_flags_set(n->seat[0], CLUSTER_FLAG_DRAINING, CLUSTER_FLAG_READY);
    else
        cluster_flags_set(n->seat[0], CLUSTER_FLAG_READY, CLUSTER_FLAG_DRAINING);
}

void node_cluster_health(struct node *n, bool is_disk_bad, bool is_slow)
{
    uint32_t set =
        (is_disk_bad ? CLUSTER_FLAG_STORAGE_FAILED : 0u) | (is_slow ? CLUSTER_FLAG_DEGRADED : 0u);
    if (n->seat != NULL)
        cluster_flags_set(n->seat[0], set,
                          (CLUSTER_FLAG_STORAGE_FAILED | CLUSTER_FLAG_DEGRADED) & ~set);
}

void node_cluster_leave(struct node *n, void (*done)(void *arg), void *arg)
{
    if (n->cluster != NULL)
        cluster_leave(n->cluster, done, arg);
    else
        done(arg);
}

void node_cluster_stop(struct node *n)
{
    if (n->cluster != NULL)
        cluster_stop(n->cluster);
}

void node_cluster_free(struct node *n)
{
    n->cluster = cluster_free(n->cluster);
    for (unsigned i = 0; i < countof(n->rpc_tls); i++)
        n->rpc_tls[i] = net_tls_unref(n->rpc_tls[i]);
    n->seat = mem_free(n->seat);
}
