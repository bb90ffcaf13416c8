/* The inside of the admin API, for this room.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "api/api.h"
#include "base/hlc.h"
#include "base/list.h"
#include "base/usec.h"
#include "base/uuid.h"
#include "codec/json.h"
#include "net/http.h"
#include "stores/outcome.h"

enum api_role { API_ROLE_NONE, API_ROLE_READ, API_ROLE_OPERATE, API_ROLE_ADMIN };

struct api_token {
    enum api_role role;
    char *text;
};

struct api_ask;

struct api_route {
    const char *method, *path;
    enum api_role role;
    bool is_open; /* without a token, when the configuration says so */
    void (*fn)(struct api_ask *a);
    const char *headers; /* separated by spaces; a required one ends in ! */
    const char *body, *what;
};

/* The table of routes.def, in its order; NULL behind the last. */
const struct api_route *api_route_at(size_t i);

struct api {
    struct api_conf conf;
    struct net_http *tcp, *local;
    struct api_token *token;
    size_t token_count, token_cap;
    char *token_file;
    struct list asks; /* those that are not answered */
    usec_t began;
    struct hlc request_id; /* the last one given */
};

/* One request on its way through. */
struct api_ask {
    struct list link;
    struct api *api;            /* NULL: the API has gone; answers go nowhere */
    struct net_http_request *q; /* NULL with api */
    enum api_role role;
    char who[128];
    const struct api_route *route; /* NULL: no such path and method */
    uint64_t id;                   /* req_id: the asker's, or ours */
    bool is_change;
    struct buf audit; /* what an audit line says of it */
};

/* Answers and frees the ask. */
void api_reply(struct api_ask *a, int status, const char *type, struct str body);
void api_text(struct api_ask *a, int status, const char *text);
void api_json(struct api_ask *a, int status, const struct buf *body);

/* The stores' outcomes as HTTP has them. */
int api_status_of(enum stores_outcome o);
void api_outcome(struct api_ask *a, enum stores_outcome o);

/* A header; empty when absent.  Read before anything is asked of others: it goes with the
 * connection. */
struct str api_header(const struct api_ask *a, const char *name);

/* Does a header's name, whose case does not matter, begin so? */
bool api_name_begins(struct str name, struct str prefix);

/* A header that is a number from min to max, or `absent` when it is not there; false: a 400 that
 * names it was sent. */
struct api_number {
    const char *name;
    uint64_t min, max, absent;
};
must_use bool api_number(struct api_ask *a, const struct api_number *n, uint64_t *out);

/* A node's id, or how that of just one member begins: 4 characters or more. */
must_use bool api_node_read(const struct api *api, struct str text, struct uuid *out);

/* A header that names a node; false: a 400 was sent. */
must_use bool api_uuid(struct api_ask *a, const char *name, struct uuid *out);

/* The body as JSON of that kind, yours; NULL: a 400 was sent. */
struct codec_json *api_body(struct api_ask *a, enum codec_json_kind kind);

/* ---- token.c ---- */

/* Who asks: a->who says it for people. */
enum api_role api_token_role(struct api_ask *a);
void api_token_free(struct api *a);

/* ---- peer.c ---- */

void api_peer_open(struct api *a);
void api_peer_close(struct api *a);

/* ---- json pieces ---- */

/* ,"name": in front of a value (without the comma behind an opening brace). */
void api_key(struct buf *b, const char *name);
void api_put_text(struct buf *b, const char *name, struct str v);
void api_put_number(struct buf *b, const char *name, uint64_t v);
void api_put_bool(struct buf *b, const char *name, bool v);
void api_put_uuid(struct buf *b, const char *name, const struct uuid *v);

/* 200 with a list of names. */
void api_names(struct api_ask *a, const char *const *name, size_t count);

/* The endpoints: every function of routes.def. */
#define X(method, path, role, is_open, fn, headers, body, what) void fn(struct api_ask *a);
#include "api/routes.def"
#undef X

/* Shared by views. */
void api_put_members(const struct api *api, struct buf *b);
