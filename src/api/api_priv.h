/* The inside of the admin API, for this room.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "api/api.h"
#include "net/http.h"

enum api_role { API_ROLE_NONE, API_ROLE_READ, API_ROLE_OPERATE, API_ROLE_ADMIN };

struct api_token {
    enum api_role role;
    char *text;
};

struct api {
    struct api_conf conf;
    struct net_http *tcp, *local;
    struct api_token *token;
    size_t token_count, token_cap;
    char *token_file;
};

/* One request on its way through. */
struct api_ask {
    struct api *api;
    struct net_http_request *q;
    enum api_role role;
    char who[128];
    bool is_change;
};

/* Answers and frees the ask. */
void api_reply(struct api_ask *a, int status, const char *type, struct str body);
void api_text(struct api_ask *a, int status, const char *text);

/* A required header; false: a 400 that names it was sent. */
bool api_need(struct api_ask *a, const char *name, struct str *out);

/* A JSON text with its quotes. */
void api_json_put(struct buf *b, struct str s);

/* The endpoints. */
void api_pub(struct api_ask *a);
void api_retain(struct api_ask *a);
void api_session_find(struct api_ask *a);
void api_session_kill(struct api_ask *a);
void api_session_delete(struct api_ask *a);
void api_cluster(struct api_ask *a);
void api_services(struct api_ask *a);
void api_stores(struct api_ask *a);
void api_status(struct api_ask *a);
void api_metrics(struct api_ask *a);
void api_health(struct api_ask *a);
void api_ready(struct api_ask *a);
