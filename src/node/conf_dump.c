/* The configuration as text: what is in effect, what a key means, the manual.
 * SPDX-License-Identifier: Apache-2.0
 *
 * 1. What node_conf_dump writes is a file that node_conf_read_file reads back to the same values.
 *
 * Never: shows the content of a file that the configuration names (keys, tokens, passwords). */
#include <stdio.h>

#include "node/conf_priv.h"

static void indent(size_t depth, struct buf *out)
{
    for (size_t i = 0; i < depth; i++)
        buf_put_str(out, STR("  "));
}

static void comment(const struct node_key *k, const char *origin, size_t depth, struct buf *out)
{
    indent(depth, out);
    buf_printf(out, "# %s\n", k->meaning);
    indent(depth, out);
    buf_put_str(out, STR("# "));
    node_key_bounds(k, out);
    buf_printf(out, "; default %s", k->value_default[0] ? k->value_default : "empty");
    if (origin)
        buf_printf(out, "; set by %s", origin);
    buf_put_str(out, STR("\n"));
}

static size_t depth_of(struct str path)
{
    size_t n = 0;
    for (size_t i = 0; i < path.n; i++)
        n += path.p[i] == '.';
    return n;
}

/* How many leading sections two paths share. */
static size_t shared_depth(const char *a, const char *b)
{
    size_t n = 0;
    for (size_t i = 0; a[i] && a[i] == b[i]; i++)
        n += a[i] == '.';
    return n;
}

/* Closes and opens sections so that the next key stands where its path says. */
static void move_to(const char *from, const char *to, struct buf *out)
{
    size_t have = depth_of(str_of(from)), shared = shared_depth(from, to);
    for (; have > shared; have--) {
        indent(have - 1, out);
        buf_put_str(out, STR("};\n"));
    }
    struct str rest = str_of(to), part;
    size_t want = depth_of(rest);
    for (size_t i = 0; i < want; i++) {
        (void)str_next(&rest, '.', &part);
        if (i < shared)
            continue;
        indent(i, out);
        buf_printf(out, "%.*s: {\n", STR_ARG(part));
    }
}

static struct str last_part(const char *path)
{
    const char *dot = strrchr(path, '.');
    return str_of(dot ? dot + 1 : path);
}

static void put_key(const struct node_key *k, const void *base, size_t depth, struct buf *out)
{
    indent(depth, out);
    buf_printf(out, "%.*s = ", STR_ARG(last_part(k->path)));
    node_key_format(k, base, out);
    buf_put_str(out, STR(";\n"));
}

static void dump_listeners(const struct node_conf *c, bool with_comments, struct buf *out)
{
    buf_put_str(out, STR("listeners = (\n"));
    for (size_t i = 0; i < c->listener_count; i++) {
        buf_put_str(out, i ? STR(",\n  {\n") : STR("  {\n"));
        for (size_t j = 0; j < node_keys_listener.count; j++) {
            if (with_comments && i == 0)
                comment(&node_keys_listener.key[j], NULL, 2, out);
            put_key(&node_keys_listener.key[j], &c->listener[i], 2, out);
        }
        buf_put_str(out, STR("  }"));
    }
    buf_put_str(out, STR("\n);\n"));
}

/* For whom a reload changes it. */
static const char *whom(const struct session_setting *s)
{
    return s->when == SESSION_SETTING_LIVE ? "all" : "who connects later";
}

static void dump_tenants(const struct node_conf *c, bool with_comments, struct buf *out)
{
    size_t count;
    const struct session_setting *s = session_settings_table(&count);
    buf_put_str(out, STR("tenants: {\n"));
    for (size_t i = 0; i < c->tenant_count; i++) {
        const struct node_conf_tenant *t = &c->tenant[i];
        buf_printf(out, "  %s: {\n", t->name);
        for (size_t j = 0; j < node_keys_tenant.count; j++) {
            if (with_comments && i == 0)
                comment(&node_keys_tenant.key[j], NULL, 2, out);
            put_key(&node_keys_tenant.key[j], t, 2, out);
        }
        for (size_t j = 0; j < count; j++) {
            int64_t v = *(const int64_t *)(const void *)((const char *)t->settings + s[j].offset);
            if (with_comments && i == 0)
                buf_printf(out,
                           "    # %s; %lld to %lld; default %lld; changed by a reload for %s\n",
                           s[j].meaning, (long long)s[j].value_min, (long long)s[j].value_max,
                           (long long)s[j].value_default, whom(&s[j]));
            if (s[j].kind == SESSION_SETTING_BOOL)
                buf_printf(out, "    %s = %s;\n", s[j].name, v ? "true" : "false");
            else
                buf_printf(out, "    %s = %lld%s;\n", s[j].name, (long long)v,
                           v > INT32_MAX ? "L" : "");
        }
        buf_put_str(out, STR("  };\n"));
    }
    buf_put_str(out, STR("};\n"));
}

void node_conf_dump(const struct node_conf *c, bool with_comments, struct buf *out)
{
    const char *before = "";
    for (size_t i = 0; i < node_keys_root.count; i++) {
        const struct node_key *k = &node_keys_root.key[i];
        move_to(before, k->path, out);
        if (with_comments)
            comment(k, c->origin[i], depth_of(str_of(k->path)), out);
        put_key(k, c, depth_of(str_of(k->path)), out);
        before = k->path;
    }
    move_to(before, "", out);
    dump_listeners(c, with_comments, out);
    dump_tenants(c, with_comments, out);
}

static void explain_key(const struct node_key *k, const char *section, struct buf *out)
{
    buf_printf(out, "%s%s\n  %s\n  ", section, k->path, k->meaning);
    node_key_bounds(k, out);
    buf_printf(out, "\n  default: %s\n", k->value_default[0] ? k->value_default : "(empty)");
}

bool node_conf_explain(struct str key, struct buf *out)
{
    static const struct {
        const struct node_keys *keys;
        const char *section;
    } all[] = {{&node_keys_root, ""},
               {&node_keys_listener, "listeners: "},
               {&node_keys_tenant, "tenants.<name>: "}};
    bool is_found = false;
    for (size_t i = 0; i < countof(all); i++)
        for (size_t j = 0; j < all[i].keys->count; j++) {
            const struct node_key *k = &all[i].keys->key[j];
            if (str_eq(key, str_of(k->path)) || str_eq(key, last_part(k->path))) {
                explain_key(k, all[i].section, out);
                is_found = true;
            }
        }
    const struct session_setting *s = session_settings_find(key);
    if (s) {
        buf_printf(out, "tenants.<name>: %s\n  %s\n  %lld to %lld\n  default: %lld\n", s->name,
                   s->meaning, (long long)s->value_min, (long long)s->value_max,
                   (long long)s->value_default);
        is_found = true;
    }
    if (is_found)
        return true;
    const char *near = node_key_nearest(&node_keys_root, key, true);
    buf_printf(out, "no key \"%.*s\"%s%s%s\n", STR_ARG(key), near ? "; did you mean \"" : "",
               near ? near : "", near ? "\"?" : "");
    return false;
}

static void document_keys(const struct node_keys *t, struct buf *out)
{
    buf_put_str(out, STR("| key | value | default | meaning |\n|---|---|---|---|\n"));
    for (size_t i = 0; i < t->count; i++) {
        const struct node_key *k = &t->key[i];
        struct buf bounds = {0};
        node_key_bounds(k, &bounds);
        buf_printf(out, "| `%s` | ", k->path);
        for (size_t j = 0; j < bounds.n; j++) {
            if (bounds.p[j] == '|')
                buf_put_u8(out, '\\');
            buf_put_u8(out, bounds.p[j]);
        }
        buf_printf(out, " | %s%s%s | %s |\n", k->value_default[0] ? "`" : "", k->value_default,
                   k->value_default[0] ? "`" : "", k->meaning);
        buf_deinit(&bounds);
    }
    buf_put_str(out, STR("\n"));
}

void node_conf_document(struct buf *out)
{
    buf_put_str(
        out,
        STR("# Configuration\n\n"
            "Written by `bilrostd --document-config`; do not edit.\n\n"
            "`bilrostd` reads `/etc/bilrost/bilrostd.conf` and then `/etc/bilrost/conf.d/*.conf` "
            "in the order of "
            "their names, in the syntax of libconfig: `key = value;`, sections `name: { ... };`, "
            "texts in "
            "\"quotes\", lists in `[ ]`. A later file replaces single values, "
            "and listeners of the same name; "
            "other listeners are added, tenants are merged. Keys without a dot, and tenant "
            "settings (for the tenant "
            "`default`), may also come "
            "from the environment (`/etc/default/bilrostd`), and every key from the command line: "
            "`-D name=value`. "
            "A file may be named `$CREDENTIALS_DIRECTORY/NAME`: what systemd hands over "
            "(`LoadCredential=`). "
            "The command line comes before the environment, the environment before the files, the "
            "files before the "
            "defaults. An unknown key is an error. Numbers may be written as texts with K, M, G: "
            "`\"64M\"`.\n\n"
            "`bilrostd --test-config` checks and exits; `bilrostd --dump-config` shows what is in "
            "effect and where "
            "it comes from; `bilrostctl config explain KEY` explains one key.\n\n## Keys\n\n"));
    document_keys(&node_keys_root, out);
    buf_put_str(out, STR("## listeners\n\nA list of sections: `listeners = ( { kind = \"tcp\"; "
                         "address = \"127.0.0.1:1883\"; "
                         "auth = [\"anonymous\"]; } );`\n\n"));
    document_keys(&node_keys_listener, out);
    buf_put_str(out, STR("## tenants\n\nA section per tenant; what a tenant does not set, it has "
                         "from `default`.\n\n"));
    document_keys(&node_keys_tenant, out);
    buf_put_str(out, STR("### Tenant settings\n\nA reload changes a setting for all clients, or, "
                         "where it was agreed when they connected, for those that connect later. "
                         "What a stored session may hold (`SessionInboxSize`, `QoS0DropOldest`) "
                         "changes when its client connects again.\n\n"
                         "| setting | from | to | default | a reload changes it for | meaning "
                         "|\n|---|---|---|---|---|---|\n"));
    size_t count;
    const struct session_setting *s = session_settings_table(&count);
    for (size_t i = 0; i < count; i++)
        buf_printf(out, "| `%s` | %lld | %lld | `%lld` | %s | %s |\n", s[i].name,
                   (long long)s[i].value_min, (long long)s[i].value_max,
                   (long long)s[i].value_default, whom(&s[i]), s[i].meaning);
}
