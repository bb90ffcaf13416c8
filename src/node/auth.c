/* Users and tenants of the configuration, handed to the broker.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Never: keeps a password. */
#include <stdio.h>

#include "base/mem.h"
#include "node/node_priv.h"

static const char *given(const char *text)
{
    return text[0] ? text : NULL;
}

int node_plugins_open(const struct node_conf *c, struct broker_plugins *plugins, bool is_trial,
                      char error[NODE_ERROR_MAX])
{
    struct str all = str_of(c->plugins), one;
    char why[BROKER_PLUGIN_ERROR_MAX];
    int r = 0;
    while (r == 0 && all.n && str_next(&all, ',', &one)) {
        struct str file;
        (void)str_next(&one, '=', &file);
        char *name = mem_dup(file.p, file.n);
        char *settings = mem_dup(one.p ? one.p : "", one.n);
        r = broker_plugins_add(plugins, name, settings, is_trial, why);
        mem_free(name);
        mem_free(settings);
    }
    if (r == 0)
        return 0;
    snprintf(error, NODE_ERROR_MAX, "%s", why);
    return NODE_E_CONFIG;
}

int node_auth_open(const struct node *n, const struct node_conf *c, char error[NODE_ERROR_MAX],
                   struct broker_auth_files **out_files)
{
    struct broker_auth_acl *acl = mem_new((c->tenant_count + 1) * sizeof *acl);
    size_t count = 0;
    for (size_t i = 0; i < c->tenant_count; i++)
        if (c->tenant[i].acl_file[0])
            acl[count++] = (struct broker_auth_acl){c->tenant[i].name, c->tenant[i].acl_file};
    struct broker_auth_conf conf = {.password_file = given(c->password_file),
                                    .acl_file = given(c->acl_file),
                                    .acl = acl,
                                    .acl_count = count,
                                    .plugins = n->plugins};
    memcpy(conf.secret, n->auth_secret, sizeof conf.secret);
    char why[BROKER_AUTH_ERROR_MAX];
    int r = broker_auth_files_new(&conf, why, out_files);
    mem_free(acl);
    if (r == 0)
        return 0;
    snprintf(error, NODE_ERROR_MAX, "%s", why);
    return NODE_E_CONFIG;
}

static void tenants_put(struct node *n, const struct node_conf *c, bool is_new_only)
{
    for (size_t i = 0; i < c->tenant_count; i++) {
        const struct node_conf_tenant *t = &c->tenant[i];
        if (is_new_only && broker_tenant_find(n->broker, str_of(t->name)))
            continue;
        struct broker_settings *s = broker_settings_new(t->settings);
        struct broker_tenant_limits limits = {
            .connection_max = (uint64_t)t->connection_max,
            .connect_per_sec_max = (uint64_t)t->connect_per_sec,
            .in_bytes_per_sec_max = (uint64_t)t->in_bytes_per_sec,
            .memory_max = (uint64_t)t->memory_max,
            .retained_max = (uint64_t)t->retained_max,
            .retained_bytes_max = (uint64_t)t->retained_bytes_max,
        };
        broker_tenant_set(n->broker, str_of(t->name), s, &limits);
        broker_settings_unref(s);
    }
}

void node_tenants_put(struct node *n, const struct node_conf *c)
{
    tenants_put(n, c, false);
}

void node_tenants_add(struct node *n, const struct node_conf *c)
{
    tenants_put(n, c, true);
}
