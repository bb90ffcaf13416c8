/* Configuration files, in libconfig's syntax.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. Every setting of a file is a known key or an error with file and line.
 *
 * Never: follows @include to somewhere else silently (libconfig names the file in each error). */
#include <errno.h>
#include <glob.h>
#include <libconfig.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "node/conf_priv.h"

#define LINE_SHOWN_MAX 128 /* does not matter: keys are shorter */

struct place {
    struct node_conf *conf;
    const char *file;
    char where[320];
};

static const char *at(struct place *p, const config_setting_t *s)
{
    const char *file = config_setting_source_file(s);
    snprintf(p->where, sizeof p->where, "%s:%u", file ? file : p->file,
             config_setting_source_line(s));
    return p->where;
}

static const char *type_name(const config_setting_t *s)
{
    switch (config_setting_type(s)) {
    case CONFIG_TYPE_GROUP:
        return "a section { }";
    case CONFIG_TYPE_LIST:
        return "a list ( )";
    case CONFIG_TYPE_ARRAY:
        return "an array [ ]";
    case CONFIG_TYPE_FLOAT:
        return "a number with a fraction";
    default:
        return "a value";
    }
}

/* The value as text; false: it is not one value, or not a list of texts. */
static bool text_of(const config_setting_t *s, bool may_be_list, struct buf *out)
{
    switch (config_setting_type(s)) {
    case CONFIG_TYPE_INT:
        buf_printf(out, "%d", config_setting_get_int(s));
        return true;
    case CONFIG_TYPE_INT64:
        buf_printf(out, "%lld", config_setting_get_int64(s));
        return true;
    case CONFIG_TYPE_BOOL:
        buf_printf(out, "%s", config_setting_get_bool(s) ? "true" : "false");
        return true;
    case CONFIG_TYPE_STRING:
        buf_printf(out, "%s", config_setting_get_string(s));
        return true;
    case CONFIG_TYPE_LIST:
    case CONFIG_TYPE_ARRAY:
        break;
    default:
        return false;
    }
    for (int i = 0; i < config_setting_length(s); i++) {
        if (!may_be_list)
            return false;
        if (i > 0)
            buf_put_u8(out, ',');
        if (!text_of(config_setting_get_elem(s, (unsigned)i), false, out))
            return false;
    }
    return may_be_list;
}

static void unknown(struct place *p, const config_setting_t *s, const struct node_keys *keys,
                    struct str path, bool with_settings)
{
    const char *near = node_key_nearest(keys, path, with_settings);
    node_conf_error(p->conf, at(p, s), "unknown key \"%.*s\"%s%s%s", STR_ARG(path),
                    near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* A value for key k in the struct at base. */
static void read_value(struct place *p, const config_setting_t *s, const struct node_key *k,
                       void *base)
{
    struct buf text = {0};
    char why[256];
    buf_reserve(&text, 1);
    if (!text_of(s, k->kind == NODE_KEY_LIST, &text))
        node_conf_error(p->conf, at(p, s), "%s is %s, but must be %s", k->path, type_name(s),
                        node_key_kind_name(k));
    else if (base == p->conf)
        node_conf_put(p->conf, k, buf_str(&text), at(p, s), NODE_RANK_FILE);
    else if (node_key_set(k, base, buf_str(&text), why))
        node_conf_error(p->conf, at(p, s), "%s %s", k->path, why);
    buf_deinit(&text);
}

/* The place of one entry: that of an earlier file's entry of the same name, or a new one; NULL: the
 * same file has the name already. */
static struct node_conf_listener *listener_for(struct place *p, const config_setting_t *e)
{
    const char *name = "";
    (void)config_setting_lookup_string(e, "name", &name);
    struct node_conf_listener *l = name[0] ? node_conf_listener_find(p->conf, name) : NULL;
    if (!l)
        return node_conf_listener_add(p->conf, at(p, e));
    size_t n = strlen(p->file);
    if (strncmp(l->origin, p->file, n) == 0 && l->origin[n] == ':') {
        node_conf_error(p->conf, at(p, e), "listeners has two entries with the name \"%s\"", name);
        return NULL;
    }
    node_conf_listener_reset(l, at(p, e));
    return l;
}

static void read_listeners(struct place *p, const config_setting_t *s)
{
    if (!config_setting_is_list(s)) {
        node_conf_error(
            p->conf, at(p, s),
            "listeners is %s, but must be a list: listeners = ( { kind = \"tcp\"; ... } );",
            type_name(s));
        return;
    }
    for (int i = 0; i < config_setting_length(s); i++) {
        const config_setting_t *e = config_setting_get_elem(s, (unsigned)i);
        if (!config_setting_is_group(e)) {
            node_conf_error(p->conf, at(p, s), "listeners[%d] is %s, but must be a section { }", i,
                            type_name(e));
            continue;
        }
        struct node_conf_listener *l = listener_for(p, e);
        if (!l)
            continue;
        for (int j = 0; j < config_setting_length(e); j++) {
            const config_setting_t *v = config_setting_get_elem(e, (unsigned)j);
            struct str name = str_of(config_setting_name(v));
            const struct node_key *k = node_key_find(&node_keys_listener, name);
            if (k)
                read_value(p, v, k, l);
            else
                unknown(p, v, &node_keys_listener, name, false);
        }
    }
}

static void read_setting(struct place *p, const config_setting_t *s,
                         const struct session_setting *set, struct node_conf_tenant *t)
{
    struct buf text = {0};
    buf_reserve(&text, 1);
    if (text_of(s, false, &text))
        node_conf_setting_put(p->conf, t, set, buf_str(&text), at(p, s));
    else
        node_conf_error(p->conf, at(p, s), "%s is %s, but must be one value", set->name,
                        type_name(s));
    buf_deinit(&text);
}

static void read_tenant(struct place *p, const config_setting_t *s)
{
    if (!config_setting_is_group(s)) {
        node_conf_error(p->conf, at(p, s), "tenant %s is %s, but must be a section { }",
                        config_setting_name(s), type_name(s));
        return;
    }
    struct str name = str_of(config_setting_name(s));
    struct node_conf_tenant *t = node_conf_tenant_get(p->conf, name, at(p, s));
    for (int j = 0; j < config_setting_length(s); j++) {
        const config_setting_t *v = config_setting_get_elem(s, (unsigned)j);
        struct str key = str_of(config_setting_name(v));
        const struct session_setting *set = session_settings_find(key);
        const struct node_key *k = node_key_find(&node_keys_tenant, key);
        if (set) {
            read_setting(p, v, set, t);
        } else if (k) {
            read_value(p, v, k, t);
        } else {
            unknown(p, v, &node_keys_tenant, key, true);
        }
    }
}

static void read_tenants(struct place *p, const config_setting_t *s)
{
    if (!config_setting_is_group(s)) {
        node_conf_error(p->conf, at(p, s), "tenants is %s, but must be a section { }",
                        type_name(s));
        return;
    }
    for (int i = 0; i < config_setting_length(s); i++)
        read_tenant(p, config_setting_get_elem(s, (unsigned)i));
}

static bool is_section(struct str path)
{
    for (size_t i = 0; i < node_keys_root.count; i++) {
        struct str k = str_of(node_keys_root.key[i].path);
        if (k.n > path.n && k.p[path.n] == '.' && str_has_prefix(k, path))
            return true;
    }
    return false;
}

static void read_group(struct place *p, const config_setting_t *s, const char *prefix)
{
    for (int i = 0; i < config_setting_length(s); i++) {
        const config_setting_t *v = config_setting_get_elem(s, (unsigned)i);
        char path[256];
        snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] ? "." : "", config_setting_name(v));
        const struct node_key *k = node_key_find(&node_keys_root, str_of(path));
        if (k)
            read_value(p, v, k, p->conf);
        else if (strcmp(path, "listeners") == 0)
            read_listeners(p, v);
        else if (strcmp(path, "tenants") == 0)
            read_tenants(p, v);
        else if (config_setting_is_group(v) && is_section(str_of(path)))
            read_group(p, v, path);
        else if (is_section(str_of(path)))
            node_conf_error(p->conf, at(p, v), "%s is %s, but must be a section { }", path,
                            type_name(v));
        else
            unknown(p, v, &node_keys_root, str_of(path), false);
    }
}

/* What stands before the = or : of that line: with a mistake in the syntax, the key is not known
 * otherwise.  The value is nobody's business. */
static void key_in_line(const char *path, int number, char out[LINE_SHOWN_MAX])
{
    char part[LINE_SHOWN_MAX] = "";
    FILE *f = fopen(path, "re");
    for (int at = 1; f && at <= number && fgets(part, sizeof part, f);)
        at += strchr(part, '\n') != NULL;
    if (f)
        fclose(f);
    const char *p = part + strspn(part, " \t{(,");
    snprintf(out, LINE_SHOWN_MAX, "%.*s", (int)strcspn(p, "=:; \t\r\n"), p);
}

void node_conf_read_file(struct node_conf *c, const char *path)
{
    struct place p = {.conf = c, .file = path};
    struct stat st;
    FILE *f =
        stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? (errno = EISDIR, NULL) : fopen(path, "re");
    if (!f) {
        node_conf_error(c, path, "cannot read it: %s", strerrordesc_np(errno));
        return;
    }
    config_t cfg;
    config_init(&cfg);
    if (config_read(&cfg, f) != CONFIG_TRUE) {
        const char *file = config_error_file(&cfg);
        snprintf(p.where, sizeof p.where, "%s:%d", file ? file : path, config_error_line(&cfg));
        char key[LINE_SHOWN_MAX];
        key_in_line(file ? file : path, config_error_line(&cfg), key);
        node_conf_error(
            c, p.where,
            "%s%s%s%s (each entry is \"key = value;\" and comes once, a section \"name: "
            "{ ... };\", texts are in \"quotes\")",
            config_error_text(&cfg), key[0] ? " at \"" : "", key, key[0] ? "\"" : "");
    } else {
        read_group(&p, config_root_setting(&cfg), "");
    }
    config_destroy(&cfg);
    fclose(f);
}

void node_conf_read_dir(struct node_conf *c, const char *dir)
{
    char pattern[512];
    glob_t g;
    snprintf(pattern, sizeof pattern, "%s/*.conf", dir);
    int r = glob(pattern, 0, NULL, &g); /* sorted by name */
    if (r == 0)
        for (size_t i = 0; i < g.gl_pathc; i++)
            node_conf_read_file(c, g.gl_pathv[i]);
    else if (r != GLOB_NOMATCH)
        node_conf_error(c, dir, "cannot read it");
    if (r != GLOB_NOMATCH)
        globfree(&g);
}
