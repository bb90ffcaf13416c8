/* A configuration: its values, where they come from, and what is wrong with them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * 1. tenant[0] is "default" and is always there.
 * 2. A value of lower rank never replaces one of higher rank.
 * 3. errors has error_count lines.
 *
 * Never: changes anything outside itself; prints. */
#include "node/conf.h"

#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/address.h"
#include "node/conf_priv.h"

#define ERRORS_MAX 50

void node_conf_error(struct node_conf *c, const char *where, const char *fmt, ...)
{
    char text[512];
    va_list args;
    if (++c->error_count > ERRORS_MAX)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    buf_printf(&c->errors, "%s: %s\n", where, text);
}

struct node_conf_tenant *node_conf_tenant_get(struct node_conf *c, struct str name,
                                              const char *where)
{
    for (size_t i = 0; i < c->tenant_count; i++)
        if (str_eq(name, str_of(c->tenant[i].name)))
            return &c->tenant[i];
    c->tenant = mem_grow(c->tenant, &c->tenant_cap, c->tenant_count + 1, sizeof *c->tenant);
    struct node_conf_tenant *t = &c->tenant[c->tenant_count++];
    memset(t, 0, sizeof *t);
    t->name = mem_dup(name.p, name.n);
    t->origin = mem_dup(where, strlen(where));
    node_keys_init(&node_keys_tenant, t);
    t->settings = mem_new(sizeof *t->settings);
    session_settings_init(t->settings);
    return t;
}

struct node_conf *node_conf_new(void)
{
    struct node_conf *c = mem_new(sizeof *c);
    node_keys_init(&node_keys_root, c);
    c->origin = mem_new(node_keys_root.count * sizeof *c->origin);
    c->rank = mem_new(node_keys_root.count);
    (void)node_conf_tenant_get(c, STR("default"), "default");
    return c;
}

static void listener_init(struct node_conf_listener *l, const char *where)
{
    memset(l, 0, sizeof *l);
    node_keys_init(&node_keys_listener, l);
    l->origin = mem_dup(where, strlen(where));
}

static void listener_deinit(struct node_conf_listener *l)
{
    node_keys_deinit(&node_keys_listener, l);
    mem_free(l->origin);
}

void node_conf_listener_reset(struct node_conf_listener *l, const char *where)
{
    listener_deinit(l);
    listener_init(l, where);
}

struct node_conf_listener *node_conf_listener_find(struct node_conf *c, const char *name)
{
    for (size_t i = 0; i < c->listener_count; i++)
        if (strcmp(c->listener[i].name, name) == 0)
            return &c->listener[i];
    return NULL;
}

/* Those that are switched off are gone from here on. */
static void listeners_settle(struct node_conf *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->listener_count; i++) {
        if (c->listener[i].enable)
            c->listener[kept++] = c->listener[i];
        else
            listener_deinit(&c->listener[i]);
    }
    c->listener_count = kept;
}

struct node_conf_listener *node_conf_listener_add(struct node_conf *c, const char *where)
{
    c->listener =
        mem_grow(c->listener, &c->listener_cap, c->listener_count + 1, sizeof *c->listener);
    struct node_conf_listener *l = &c->listener[c->listener_count++];
    listener_init(l, where);
    return l;
}

struct node_conf *node_conf_free(struct node_conf *c)
{
    if (!c)
        return NULL;
    for (size_t i = 0; i < c->listener_count; i++)
        listener_deinit(&c->listener[i]);
    mem_free(c->listener);
    for (size_t i = 0; i < c->tenant_count; i++) {
        node_keys_deinit(&node_keys_tenant, &c->tenant[i]);
        mem_free(c->tenant[i].settings);
        mem_free(c->tenant[i].name);
        mem_free(c->tenant[i].origin);
    }
    mem_free(c->tenant);
    for (size_t i = 0; i < node_keys_root.count; i++)
        mem_free(c->origin[i]);
    mem_free(c->origin);
    mem_free(c->rank);
    node_keys_deinit(&node_keys_root, c);
    buf_deinit(&c->errors);
    return mem_free(c);
}

void node_conf_put(struct node_conf *c, const struct node_key *k, struct str text,
                   const char *where, enum node_rank rank)
{
    char why[256];
    size_t i = (size_t)(k - node_keys_root.key);
    const char *wrong = node_key_set(k, c, text, why);
    if (wrong) {
        node_conf_error(c, where, "%s %s", k->path, wrong);
        return;
    }
    mem_free(c->origin[i]);
    c->origin[i] = mem_dup(where, strlen(where));
    c->rank[i] = (uint8_t)rank;
}

void node_conf_setting_put(struct node_conf *c, struct node_conf_tenant *t,
                           const struct session_setting *s, struct str text, const char *where)
{
    size_t count, row = (size_t)(s - session_settings_table(&count));
    struct node_key k = {.path = s->name,
                         .kind = s->kind == SESSION_SETTING_BOOL ? NODE_KEY_BOOL : NODE_KEY_NUM,
                         .min = s->value_min,
                         .max = s->value_max,
                         .unit = "number",
                         .offset = s->offset};
    char why[256];
    must(count <= NODE_CONF_SETTINGS_MAX);
    const char *wrong = node_key_set(&k, t->settings, text, why);
    if (wrong)
        node_conf_error(c, where, "%s %s", s->name, wrong);
    else
        t->is_set[row] = true;
}

/* A tenant setting by its bare name is that of the default tenant. */
static bool put_setting(struct node_conf *c, struct str name, struct str value, const char *where)
{
    const struct session_setting *s = session_settings_find(name);
    if (s)
        node_conf_setting_put(c, &c->tenant[0], s, value, where);
    return s != NULL;
}

/* What a tenant does not set, it has from "default". */
static void inherit(struct node_conf *c)
{
    size_t count;
    const struct session_setting *s = session_settings_table(&count);
    for (size_t i = 1; i < c->tenant_count; i++)
        for (size_t j = 0; j < count; j++)
            if (!c->tenant[i].is_set[j])
                memcpy((char *)c->tenant[i].settings + s[j].offset,
                       (char *)c->tenant[0].settings + s[j].offset, sizeof(int64_t));
}

void node_conf_read_environment(struct node_conf *c, char *const *environment)
{
    for (; *environment; environment++) {
        struct str rest = str_of(*environment), name;
        (void)str_next(&rest, '=', &name);
        if (memchr(name.p, '.', name.n) || !rest.p)
            continue;
        const struct node_key *k = node_key_find(&node_keys_root, name);
        if (k)
            node_conf_put(c, k, rest, "environment", NODE_RANK_ENVIRONMENT);
        else
            (void)put_setting(c, name, rest, "environment");
    }
}

void node_conf_read_argument(struct node_conf *c, const char *text)
{
    struct str rest = str_of(text), name;
    (void)str_next(&rest, '=', &name);
    if (!rest.p) {
        node_conf_error(c, "command line", "-D %s has no value: write -D name=value", text);
        return;
    }
    const struct node_key *k = node_key_find(&node_keys_root, name);
    if (k) {
        node_conf_put(c, k, rest, "command line", NODE_RANK_ARGUMENT);
        return;
    }
    if (put_setting(c, name, rest, "command line"))
        return;
    const char *near = node_key_nearest(&node_keys_root, name, true);
    node_conf_error(c, "command line", "unknown name \"%.*s\"%s%s%s", STR_ARG(name),
                    near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* Checks over several keys. */

static const char *origin_of(const struct node_conf *c, const char *path)
{
    const struct node_key *k = node_key_find(&node_keys_root, str_of(path));
    const char *o = c->origin[k - node_keys_root.key];
    return o ? o : "default";
}

static void check_file(struct node_conf *c, const char *where, const char *key, const char *file)
{
    if (file[0] && access(file, R_OK) < 0)
        node_conf_error(c, where, "%s: cannot read \"%s\": %s", key, file, strerrordesc_np(errno));
}

static void check_voters(struct node_conf *c, const char *path, int64_t count)
{
    if (count % 2 == 0)
        node_conf_error(c, origin_of(c, path),
                        "%s is %lld, but must be odd: an even count survives no more failures and "
                        "needs a larger quorum",
                        path, (long long)count);
}

static void check_tenant(struct node_conf *c, const char *where, const char *key, const char *name)
{
    struct buf known = {0};
    for (size_t i = 0; i < c->tenant_count; i++) {
        if (strcmp(c->tenant[i].name, name) == 0) {
            buf_deinit(&known);
            return;
        }
        buf_printf(&known, "%s%s", i ? ", " : "", c->tenant[i].name);
    }
    node_conf_error(c, where,
                    "%s is \"%s\", but there is no such tenant: add it to tenants, which has %.*s",
                    key, name, STR_ARG(buf_str(&known)));
    buf_deinit(&known);
}

/* A directory of users that does not answer is no mistake of the configuration. */
static void check_group(struct node_conf *c, const char *where, const char *key, const char *group)
{
    errno = 0;
    if (group[0] && !getgrnam(group) && (errno == 0 || errno == ENOENT || errno == ESRCH))
        node_conf_error(c, where,
                        "%s is \"%s\", but this machine has no such group: make it with groupadd, "
                        "or leave it empty for the service's own",
                        key, group);
}

static void check_auth(struct node_conf *c, const struct node_conf_listener *l)
{
    struct str all = str_of(l->auth), one;
    bool is_any = false;
    while (all.n && str_next(&all, ',', &one)) {
        is_any = true;
        if (str_eq(one, STR("password")) || str_eq(one, STR("scram"))) {
            if (!c->password_file[0])
                node_conf_error(c, l->origin,
                                "auth has \"%.*s\", but auth.password_file is not set "
                                "(make one with: bilrostctl passwd FILE NAME)",
                                STR_ARG(one));
        } else if (str_eq(one, STR("certificate"))) {
            if (strcmp(l->client_auth, "NONE") == 0)
                node_conf_error(
                    c, l->origin,
                    "auth has \"certificate\", but clientAuth is NONE: use OPTIONAL or REQUIRE");
        } else if (str_eq(one, STR("plugin"))) {
            if (!c->plugins[0])
                node_conf_error(c, l->origin, "auth has \"plugin\", but plugins names none");
        } else if (!str_eq(one, STR("anonymous"))) {
            node_conf_error(
                c, l->origin,
                "auth has \"%.*s\", but knows certificate, plugin, password, scram, anonymous",
                STR_ARG(one));
        }
    }
    if (!is_any)
        node_conf_error(c, l->origin,
                        "auth is empty: nobody could connect; use for example [\"password\"]");
}

/* What only TLS has, on a listener without it: taken for granted, it would protect nobody. */
static void check_no_tls(struct node_conf *c, const struct node_conf_listener *l)
{
    const struct {
        const char *key;
        bool is_given;
    } own[] = {{"certFile", l->cert[0]},
               {"keyFile", l->key[0]},
               {"trustCertsFile", l->ca[0]},
               {"crlFile", l->crl[0]},
               {"clientAuth", strcmp(l->client_auth, "NONE") != 0},
               {"serverNames", l->sni[0]}};
    for (size_t i = 0; i < countof(own); i++)
        if (own[i].is_given)
            node_conf_error(c, l->origin, "%s is given, but kind is \"%s\": use tls or wss",
                            own[i].key, l->kind);
}

/* One place is listened at once; port 0 is another one each time. */
static void check_listener_is_alone(struct node_conf *c, size_t i)
{
    const struct node_conf_listener *l = &c->listener[i];
    struct str host;
    uint16_t port = 1;
    if (strcmp(l->kind, "systemd") == 0 ||
        (l->address[0] != '/' &&
         (net_address_split(str_of(l->address), &host, &port) || port == 0)))
        return;
    for (size_t j = 0; j < i; j++)
        if (strcmp(c->listener[j].address, l->address) == 0 &&
            strcmp(c->listener[j].kind, "systemd") != 0) {
            node_conf_error(c, l->origin,
                            "address is \"%s\", but the listener at %s has it already: use another",
                            l->address, c->listener[j].origin);
            return;
        }
}

static void check_listener(struct node_conf *c, const struct node_conf_listener *l)
{
    bool is_tls = strcmp(l->kind, "tls") == 0 || strcmp(l->kind, "wss") == 0;
    bool is_path = strcmp(l->kind, "unix") == 0 || strcmp(l->kind, "systemd") == 0;
    struct str host, all = str_of(l->proxy_from), one;
    uint16_t port;
    if (!is_path && net_address_split(str_of(l->address), &host, &port))
        node_conf_error(
            c, l->origin,
            "address is \"%s\", but must be ADDRESS:PORT, for example 127.0.0.1:1883 or *:1883",
            l->address);
    if (strcmp(l->kind, "unix") == 0 && l->address[0] != '/')
        node_conf_error(c, l->origin, "address is \"%s\", but a unix socket needs a path from /",
                        l->address);
    if (is_tls && (!l->cert[0] || !l->key[0]))
        node_conf_error(c, l->origin, "kind is \"%s\": certFile and keyFile are needed", l->kind);
    if (!is_tls)
        check_no_tls(c, l);
    if ((strcmp(l->kind, "ws") == 0 || strcmp(l->kind, "wss") == 0) && l->path[0] != '/')
        node_conf_error(c, l->origin, "path is \"%s\", but must begin with /, for example /mqtt",
                        l->path);
    check_file(c, l->origin, "certFile", l->cert);
    check_file(c, l->origin, "keyFile", l->key);
    check_file(c, l->origin, "trustCertsFile", l->ca);
    check_file(c, l->origin, "crlFile", l->crl);
    if (strcmp(l->client_auth, "NONE") != 0 && !l->ca[0])
        node_conf_error(c, l->origin,
                        "clientAuth is %s: trustCertsFile says whose certificates are taken",
                        l->client_auth);
    while (all.n && str_next(&all, ',', &one)) {
        struct net_range r;
        if (net_range_parse(one, &r))
            node_conf_error(c, l->origin,
                            "proxyFrom has \"%.*s\", but needs addresses or ranges like 10.0.0.0/8",
                            STR_ARG(one));
    }
    char *end;
    unsigned long mode = strtoul(l->unix_mode, &end, 8);
    if (*end || mode > 0777)
        node_conf_error(c, l->origin, "mode is \"%s\", but must be octal, for example 0660",
                        l->unix_mode);
    check_group(c, l->origin, "group", l->unix_group);
    check_tenant(c, l->origin, "tenant", l->tenant);
    check_auth(c, l);
}

static void check_cluster(struct node_conf *c)
{
    if (!c->cluster_enable)
        return;
    if (!c->cluster_env[0] || strlen(c->cluster_env) > 63)
        node_conf_error(c, origin_of(c, "clusterConfig.env"),
                        "clusterConfig.env needs a name of 1 to 63 characters");
    if (c->rpc_ssl && (!c->rpc_cert[0] || !c->rpc_key[0] || !c->rpc_ca[0]))
        node_conf_error(c, origin_of(c, "rpcConfig.enableSSL"),
                        "rpcConfig.enableSSL needs sslConfig.certFile, keyFile and trustCertsFile");
    struct str all = str_of(c->cluster_seeds), one, host;
    uint16_t port;
    while (all.n && str_next(&all, ',', &one))
        if (net_address_split(one, &host, &port))
            node_conf_error(c, origin_of(c, "clusterConfig.seedEndpoints"),
                            "clusterConfig.seedEndpoints has \"%.*s\", but needs HOST:PORT",
                            STR_ARG(one));
}

size_t node_conf_check(struct node_conf *c)
{
    inherit(c);
    node_conf_durability_settle(c, c);
    listeners_settle(c);
    check_voters(c, "dist_worker_range_voter_count", c->dist_voters);
    check_voters(c, "inbox_store_range_voter_count", c->inbox_voters);
    check_voters(c, "retain_store_range_voter_count", c->retain_voters);
    check_file(c, origin_of(c, "auth.password_file"), "auth.password_file", c->password_file);
    check_file(c, origin_of(c, "auth.acl_file"), "auth.acl_file", c->acl_file);
    check_file(c, origin_of(c, "apiServerConfig.tokenFile"), "apiServerConfig.tokenFile",
               c->api_tokens);
    check_file(c, origin_of(c, "apiServerConfig.sslConfig.certFile"),
               "apiServerConfig.sslConfig.certFile", c->api_cert);
    check_file(c, origin_of(c, "apiServerConfig.sslConfig.keyFile"),
               "apiServerConfig.sslConfig.keyFile", c->api_key);
    if (c->api_ssl && (!c->api_cert[0] || !c->api_key[0]))
        node_conf_error(c, origin_of(c, "apiServerConfig.enableSSL"),
                        "apiServerConfig.enableSSL needs sslConfig.certFile and keyFile");
    check_group(c, origin_of(c, "apiServerConfig.unixGroup"), "apiServerConfig.unixGroup",
                c->api_group);
    check_tenant(c, origin_of(c, "sys_tenant"), "sys_tenant", c->sys_tenant);
    check_cluster(c);
    for (size_t i = 0; i < c->listener_count; i++) {
        check_listener(c, &c->listener[i]);
        check_listener_is_alone(c, i);
    }
    for (size_t i = 0; i < c->tenant_count; i++) {
        const char *name = session_settings_conflict(c->tenant[i].settings);
        if (name)
            node_conf_error(c, c->tenant[i].origin,
                            "tenant \"%s\": %s is above the setting it is the lower bound of",
                            c->tenant[i].name, name);
        check_file(c, c->tenant[i].origin, "aclFile", c->tenant[i].acl_file);
    }
    return c->error_count;
}
