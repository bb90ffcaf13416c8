/* The table of configuration keys.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. A value in a struct is always inside its key's bounds: what is not never gets there.
 * 2. Text values are owned by the struct and never NULL.
 *
 * Never: reads a file. */
#include "node/conf_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"

#define CREDENTIALS "$CREDENTIALS_DIRECTORY" /* systemd.exec(5), LoadCredential= */

#define ROW(STRUCT, field, path, KIND, def, min, max, unit, meaning)                               \
    {path, NODE_KEY_##KIND, def, min, max, unit, meaning, offsetof(struct STRUCT, field)},

static const struct node_key root[] = {
#define X(field, path, KIND, def, min, max, unit, meaning)                                         \
    ROW(node_conf, field, path, KIND, def, min, max, unit, meaning)
#include "node/conf.def"
#undef X
};

static const struct node_key listener[] = {
#define X(field, path, KIND, def, min, max, unit, meaning)                                         \
    ROW(node_conf_listener, field, path, KIND, def, min, max, unit, meaning)
#include "node/conf_listener.def"
#undef X
};

static const struct node_key tenant[] = {
#define X(field, path, KIND, def, min, max, unit, meaning)                                         \
    ROW(node_conf_tenant, field, path, KIND, def, min, max, unit, meaning)
#include "node/conf_tenant.def"
#undef X
};

const struct node_keys node_keys_root = {root, countof(root)};
const struct node_keys node_keys_listener = {listener, countof(listener)};
const struct node_keys node_keys_tenant = {tenant, countof(tenant)};

const struct node_key *node_key_find(const struct node_keys *t, struct str path)
{
    for (size_t i = 0; i < t->count; i++)
        if (str_eq(path, str_of(t->key[i].path)))
            return &t->key[i];
    return NULL;
}

static bool is_number(const struct node_key *k)
{
    return k->kind == NODE_KEY_NUM || k->kind == NODE_KEY_BOOL;
}

static bool choices_have(const char *choices, struct str word)
{
    struct str all = str_of(choices), one;
    while (str_next(&all, '|', &one))
        if (str_eq(one, word))
            return true;
    return false;
}

/* Sizes and times may be written with a suffix: 64K, 2M, 1G. */
static bool number_of(struct str text, int64_t *out)
{
    bool is_negative = text.n && text.p[0] == '-';
    if (is_negative)
        text = str_view(text.p + 1, text.n - 1);
    unsigned shift = 0;
    static const char suffix[] = "KMGT";
    const char *s = text.n ? strchr(suffix, text.p[text.n - 1]) : NULL;
    if (s && *s) {
        shift = 10 * (unsigned)(s - suffix + 1);
        text.n--;
    }
    uint64_t v;
    if (!str_to_u64(text, &v) || v > (uint64_t)INT64_MAX >> shift)
        return false;
    *out = (int64_t)(v << shift);
    if (is_negative)
        *out = -*out;
    return true;
}

static const char *set_number(const struct node_key *k, int64_t *at, struct str text, char why[256])
{
    int64_t v;
    if (k->kind == NODE_KEY_BOOL) {
        bool is_true = str_eq(text, STR("true")) || str_eq(text, STR("1"));
        if (!is_true && !str_eq(text, STR("false")) && !str_eq(text, STR("0"))) {
            snprintf(why, 256, "is \"%.*s\", but must be true or false", STR_ARG(text));
            return why;
        }
        v = is_true;
    } else if (!number_of(text, &v)) {
        snprintf(why, 256, "is \"%.*s\", but must be a whole number (%s)", STR_ARG(text), k->unit);
        return why;
    }
    if (v < k->min || v > k->max) {
        snprintf(why, 256, "is %lld, but must be between %lld and %lld (%s)", (long long)v,
                 (long long)k->min, (long long)k->max, k->unit);
        return why;
    }
    *at = v;
    return NULL;
}

/* What systemd hands over lies in a directory that only the environment names. */
static char *text_of(struct str text)
{
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    struct buf b = {0};
    if (!dir || !str_has_prefix(text, STR(CREDENTIALS)))
        return mem_dup(text.p, text.n);
    buf_printf(&b, "%s%.*s", dir, (int)(text.n - strlen(CREDENTIALS)),
               text.p + strlen(CREDENTIALS));
    char *all = mem_dup(b.p, b.n);
    buf_deinit(&b);
    return all;
}

const char *node_key_set(const struct node_key *k, void *base, struct str text, char why[256])
{
    void *at = (char *)base + k->offset;
    if (is_number(k))
        return set_number(k, at, text, why);
    if (k->kind == NODE_KEY_ENUM && !choices_have(k->unit, text)) {
        snprintf(why, 256, "is \"%.*s\", but must be one of %s", STR_ARG(text), k->unit);
        return why;
    }
    char **slot = at;
    mem_free(*slot);
    *slot = text_of(text);
    return NULL;
}

void node_keys_init(const struct node_keys *t, void *base)
{
    char why[256];
    for (size_t i = 0; i < t->count; i++)
        must(node_key_set(&t->key[i], base, str_of(t->key[i].value_default), why) == NULL);
}

void node_keys_deinit(const struct node_keys *t, void *base)
{
    for (size_t i = 0; i < t->count; i++)
        if (!is_number(&t->key[i])) {
            char **slot = (char **)(void *)((char *)base + t->key[i].offset);
            *slot = mem_free(*slot);
        }
}

static void put_quoted(struct str s, struct buf *out)
{
    buf_put_u8(out, '"');
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\')
            buf_put_u8(out, '\\');
        buf_put_u8(out, (uint8_t)s.p[i]);
    }
    buf_put_u8(out, '"');
}

void node_key_format(const struct node_key *k, const void *base, struct buf *out)
{
    const void *at = (const char *)base + k->offset;
    int64_t v = is_number(k) ? *(const int64_t *)at : 0;
    if (k->kind == NODE_KEY_BOOL) {
        buf_put_str(out, v ? STR("true") : STR("false"));
    } else if (k->kind == NODE_KEY_NUM) {
        buf_printf(out, "%lld%s", (long long)v, v > INT32_MAX || v < INT32_MIN ? "L" : "");
    } else if (k->kind == NODE_KEY_LIST) {
        struct str all = str_of(*(char *const *)at), one;
        buf_put_u8(out, '[');
        for (bool is_first = true; all.n && str_next(&all, ',', &one); is_first = false) {
            if (!is_first)
                buf_put_str(out, STR(", "));
            put_quoted(one, out);
        }
        buf_put_u8(out, ']');
    } else {
        put_quoted(str_of(*(char *const *)at), out);
    }
}

const char *node_key_kind_name(const struct node_key *k)
{
    static const char *const name[] = {
        [NODE_KEY_STR] = "text",           [NODE_KEY_NUM] = "number",
        [NODE_KEY_BOOL] = "true or false", [NODE_KEY_ENUM] = "one of",
        [NODE_KEY_LIST] = "list of texts",
    };
    return name[k->kind];
}

void node_key_bounds(const struct node_key *k, struct buf *out)
{
    if (k->kind == NODE_KEY_NUM && k->max == INT64_MAX)
        buf_printf(out, "%lld or more (%s)", (long long)k->min, k->unit);
    else if (k->kind == NODE_KEY_NUM)
        buf_printf(out, "%lld to %lld (%s)", (long long)k->min, (long long)k->max, k->unit);
    else if (k->kind == NODE_KEY_BOOL)
        buf_put_str(out, STR("true or false"));
    else
        buf_printf(out, "%s%s%s", node_key_kind_name(k), k->unit[0] ? ": " : "", k->unit);
}

/* Edits between two names (Levenshtein), case aside; names are short. */
static size_t edits(struct str a, struct str b)
{
    size_t row[128];
    if (b.n >= countof(row) || a.n >= countof(row))
        return SIZE_MAX;
    for (size_t j = 0; j <= b.n; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.n; j++) {
            size_t up = row[j], change = diagonal + (strncasecmp(a.p + i - 1, b.p + j - 1, 1) != 0);
            size_t least = up < row[j - 1] ? up : row[j - 1];
            row[j] = change < least + 1 ? change : least + 1;
            diagonal = up;
        }
    }
    return row[b.n];
}

/* The last part of a dotted path: people mistype that, or leave the rest out. */
static struct str last_part(struct str path)
{
    size_t at = path.n;
    while (at > 0 && path.p[at - 1] != '.')
        at--;
    return str_view(path.p + at, path.n - at);
}

const char *node_key_nearest(const struct node_keys *t, struct str wrong, bool with_settings)
{
    const char *best = NULL;
    size_t best_n = SIZE_MAX, setting_count;
    for (size_t i = 0; i < t->count; i++) {
        struct str path = str_of(t->key[i].path);
        size_t whole = edits(wrong, path), tail = edits(last_part(wrong), last_part(path)) + 1;
        size_t n = whole < tail ? whole : tail;
        if (n < best_n) {
            best_n = n;
            best = t->key[i].path;
        }
    }
    const struct session_setting *s = session_settings_table(&setting_count);
    for (size_t i = 0; with_settings && i < setting_count; i++) {
        size_t n = edits(wrong, str_of(s[i].name));
        if (n < best_n) {
            best_n = n;
            best = s[i].name;
        }
    }
    return best_n <= wrong.n / 2 + 1 ? best : NULL;
}
