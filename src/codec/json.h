/* JSON, read into a tree and written.  SPDX-License-Identifier: Apache-2.0
 *
 * Reading is RFC 8259 by a library: one value, no comments, no duplicate keys, well-formed UTF-8.
 * Everything a getter gives belongs to the tree and is good until codec_json_free. */
#pragma once

#include "base/buf.h"

struct codec_json;

enum codec_json_kind {
    CODEC_JSON_NULL,
    CODEC_JSON_BOOL,
    CODEC_JSON_NUMBER,
    CODEC_JSON_TEXT,
    CODEC_JSON_ARRAY,
    CODEC_JSON_OBJECT,
};

#define CODEC_JSON_ERROR_MAX 200

/* Yours: codec_json_free.  NULL, and one sentence that names line and column. */
struct codec_json *codec_json_parse(struct str text, char out_error[CODEC_JSON_ERROR_MAX]) must_use;
/* NULL is fine; returns NULL. */
struct codec_json *codec_json_free(struct codec_json *j);

/* Getters take NULL for "was not there": NULL, 0, an empty view (p NULL) or false come back; so
 * does what is of another kind. */
enum codec_json_kind codec_json_kind(const struct codec_json *j);
const struct codec_json *codec_json_get(const struct codec_json *j, const char *key);
size_t codec_json_count(const struct codec_json *j); /* of an array or object */
const struct codec_json *codec_json_at(const struct codec_json *j, size_t i); /* of an array */
struct str codec_json_text(const struct codec_json *j);
double codec_json_number(const struct codec_json *j);
uint64_t codec_json_u64(const struct codec_json *j); /* negative and fractions: towards 0 */
bool codec_json_bool(const struct codec_json *j);

/* Walks an object: *at = NULL to start; false at the end. */
bool codec_json_next(const struct codec_json *j, void **at, struct str *out_key,
                     const struct codec_json **out_value);

/* Appends a text with its quotes.  Bytes that are not UTF-8 become U+FFFD. */
void codec_json_put(struct buf *b, struct str s);

/* Appends a tree on one line, keys sorted: the same tree gives the same bytes. */
void codec_json_print(const struct codec_json *j, struct buf *b);
