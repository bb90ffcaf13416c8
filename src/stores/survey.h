/* What the stores hold, for people and tools; and clearing it by age.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Threads and lifetime as in stores/stores.h: asked on a loop, the answer comes there, never before
 * the asking function has returned; texts are copied; views in answers are good until the callback
 * returns. Each answer visits all ranges that may hold something of the tenant. */
#pragma once

#include "stores/stores.h"

#define STORES_SURVEY_MAX 1000u /* sessions in one page */

/* A persistent session, connected or not. */
struct stores_stored {
    struct str client;
    uint64_t incarnation, mod;
    uint64_t created_ms, detached_ms; /* since 1970; detached 0: a connection owns it */
    uint64_t queue_count, qos0_count; /* messages not acknowledged; of the QoS 0 queue */
    uint64_t bytes;
    uint32_t expiry_sec, limit, sub_count, received_count;
    bool has_will;
    struct uuid node;   /* of the owner; zero: nobody */
    struct str filters; /* stores_stored_filter */
};

struct stores_stored_filter {
    struct str filter; /* as the client wrote it */
    uint8_t qos;
    bool is_no_local, is_as_published;
    uint32_t sub_id;
};
/* The next one of s->filters; false at the end.  Start with rest = s->filters. */
must_use bool stores_stored_filter(struct str *rest, struct stores_stored_filter *out);

/* OK: s; E_NO_SESSION, E_UNAVAILABLE. */
typedef void stores_stored_cb(void *arg, enum stores_outcome outcome,
                              const struct stores_stored *s);
void stores_stored_find(struct stores_client *c, struct str tenant, struct str client,
                        stores_stored_cb *cb, void *arg);

/* In order of client identifiers: those with this prefix behind `after`, at most count_max. */
struct stores_survey {
    enum stores_outcome outcome;
    const struct stores_stored *session;
    size_t count;
    bool is_more;
};
typedef void stores_survey_cb(void *arg, const struct stores_survey *s);
struct stores_survey_query {
    struct str tenant, prefix, after;
    uint32_t count_max; /* 1 .. STORES_SURVEY_MAX */
};
void stores_survey_sessions(struct stores_client *c, const struct stores_survey_query *q,
                            stores_survey_cb *cb, void *arg);

/* Ends the sessions of a tenant that nobody has owned for age_sec; removes its retained messages
 * that are older than age_sec.  count: how many, also when it could not go on to the end (outcome).
 */
typedef void stores_expired_cb(void *arg, enum stores_outcome outcome, uint64_t count);
void stores_expire_sessions(struct stores_client *c, struct str tenant, uint32_t age_sec,
                            stores_expired_cb *cb, void *arg);
void stores_expire_retained(struct stores_client *c, struct str tenant, uint32_t age_sec,
                            stores_expired_cb *cb, void *arg);
