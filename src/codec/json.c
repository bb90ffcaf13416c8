/* A thin door before the JSON library.  SPDX-License-Identifier: Apache-2.0
 *
 * struct codec_json is the library's value under our name; there is nothing beside it.
 *
 * Never: accepts what the library calls an error. */
#include "codec/json.h"

#include <jansson.h>
#include <stdio.h>

static json_t *in(const struct codec_json *j)
{
    return (json_t *)(uintptr_t)j;
}

static const struct codec_json *out(const json_t *j)
{
    return (const struct codec_json *)j;
}

struct codec_json *codec_json_parse(struct str text, char out_error[CODEC_JSON_ERROR_MAX])
{
    json_error_t why;
    json_t *j = json_loadb(text.p ? text.p : "", text.n,
                           JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (j == NULL)
        snprintf(out_error, CODEC_JSON_ERROR_MAX, "not JSON, line %d column %d: %.140s", why.line,
                 why.column, why.text);
    return (struct codec_json *)j;
}

struct codec_json *codec_json_free(struct codec_json *j)
{
    json_decref(in(j));
    return NULL;
}

enum codec_json_kind codec_json_kind(const struct codec_json *j)
{
    if (j == NULL)
        return CODEC_JSON_NULL;
    switch (json_typeof(in(j))) {
    case JSON_OBJECT:
        return CODEC_JSON_OBJECT;
    case JSON_ARRAY:
        return CODEC_JSON_ARRAY;
    case JSON_STRING:
        return CODEC_JSON_TEXT;
    case JSON_INTEGER:
    case JSON_REAL:
        return CODEC_JSON_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE:
        return CODEC_JSON_BOOL;
    case JSON_NULL:
        break;
    }
    return CODEC_JSON_NULL;
}

const struct codec_json *codec_json_get(const struct codec_json *j, const char *key)
{
    return out(json_object_get(in(j), key));
}

size_t codec_json_count(const struct codec_json *j)
{
    return json_is_object(in(j)) ? json_object_size(in(j)) : json_array_size(in(j));
}

const struct codec_json *codec_json_at(const struct codec_json *j, size_t i)
{
    return out(json_array_get(in(j), i));
}

struct str codec_json_text(const struct codec_json *j)
{
    const char *p = json_string_value(in(j));
    return str_view(p, p ? json_string_length(in(j)) : 0);
}

double codec_json_number(const struct codec_json *j)
{
    return json_number_value(in(j));
}

uint64_t codec_json_u64(const struct codec_json *j)
{
    if (json_is_integer(in(j)))
        return json_integer_value(in(j)) > 0 ? (uint64_t)json_integer_value(in(j)) : 0;
    double d = json_real_value(in(j));
    return d > 0 && d < 1.8e19 ? (uint64_t)d : 0;
}

bool codec_json_bool(const struct codec_json *j)
{
    return json_is_true(in(j));
}

bool codec_json_next(const struct codec_json *j, void **at, struct str *out_key,
                     const struct codec_json **out_value)
{
    *at = *at ? json_object_iter_next(in(j), *at) : json_object_iter(in(j));
    if (*at == NULL)
        return false;
    *out_key = str_of(json_object_iter_key(*at));
    *out_value = out(json_object_iter_value(*at));
    return true;
}

void codec_json_put(struct buf *b, struct str s)
{
    bool is_good = str_is_utf8_text(s);
    buf_put_u8(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            buf_printf(b, "\\u%04x", c);
        else if (c >= 0x80 && !is_good)
            buf_put_str(b, STR("\\ufffd"));
        else
            buf_put_u8(b, c);
    }
    buf_put_u8(b, '"');
}

static int print_some(const char *p, size_t n, void *arg)
{
    buf_put(arg, p, n);
    return 0;
}

void codec_json_print(const struct codec_json *j, struct buf *b)
{
    if (j != NULL)
        (void)json_dump_callback(in(j), print_some, b,
                                 JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
}
