/* What one node asks the others for: about connections, which only their node knows.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Records (codec/record.h) over the link's service API.  A node that does not know an order refuses
 * it, which counts as no answer. */
#pragma once

#include "api/api_priv.h"

enum api_peer_op {
    API_PEER_LIST = 1, /* sessions (or their subscriptions), a page */
    API_PEER_KILL,
    API_PEER_SUB,
    API_PEER_FACTS, /* of the node itself */
};

struct api_peer_ask {
    enum api_peer_op op;
    struct str tenant, user, client, prefix, after, filter, reference;
    bool has_user, has_client; /* else everybody */
    bool wants_subs, is_unsubscribe;
    uint64_t count_max, cookie, loop, qos, reason;
};

struct api_peer_answer {
    uint64_t count;   /* KILL */
    uint64_t code;    /* SUB: as broker_roster_subbed */
    bool is_new;      /* SUB */
    bool is_more;     /* LIST */
    struct str text;  /* FACTS: a JSON object */
    struct str items; /* LIST: api_peer_item */
};

void api_peer_ask_encode(struct buf *b, const struct api_peer_ask *a);
must_use bool api_peer_ask_decode(struct str bytes, struct api_peer_ask *out);
void api_peer_answer_encode(struct buf *b, const struct api_peer_answer *a);
must_use bool api_peer_answer_decode(struct str bytes, struct api_peer_answer *out);

/* Items of an answer: a client identifier and JSON about it (subscriptions: objects with commas
 * between; may be empty). */
struct api_peer_item {
    struct str client, json;
};
void api_peer_item_put(struct buf *b, struct str client, struct str json);
/* The next one; false at the end or when it is cut short. */
must_use bool api_peer_item(struct str *rest, struct api_peer_item *out);

/* Asks one node (ourselves too).  answer is NULL when none came; cb comes once, maybe at once. */
typedef void api_peer_cb(void *arg, const struct uuid *node, const struct api_peer_answer *answer);
void api_peer_call(struct api *api, const struct uuid *node, const struct api_peer_ask *ask,
                   api_peer_cb *cb, void *arg);

/* Asks all live nodes: each comes for every one of them, then end. */
void api_peer_all(struct api *api, const struct api_peer_ask *ask, api_peer_cb *each,
                  void (*end)(void *arg), void *arg);

/* One subscription as JSON, without a comma before it. */
struct api_sub_view {
    struct str client, filter;
    uint8_t qos;
    bool is_no_local, is_as_published, is_persistent, is_online;
    uint32_t sub_id;
};
void api_put_sub(struct buf *b, const struct api_sub_view *s);

/* session.c: fields of what is stored, into an open object. */
struct stores_stored;
void api_put_stored(struct buf *b, const struct stores_stored *s);

/* facts.c: about this node, a JSON object. */
void api_put_facts(const struct api *api, struct buf *b);
