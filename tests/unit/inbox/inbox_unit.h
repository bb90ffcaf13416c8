/* The suites of inbox, and a replica with short words.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "inbox/inbox.h"
#include "unit/replica.h"

Suite *inbox_suite(void);
Suite *model_suite(void);

/* A replica, its clock, and the last reply and the references it gave. */
struct world {
    struct replica r;
    uint64_t ms;
    struct buf command, query, answer;
    struct inbox_reply reply;
};

void world_open(struct world *w);
void world_close(struct world *w);

/* Applies w->command; the reply is decoded into w->reply. */
uint8_t apply(struct world *w);
struct inbox_attach attach_of(const char *client, uint8_t node);
/* Attaches and gives the reference. */
struct inbox_ref attach(struct world *w, const struct inbox_attach *a);
uint8_t detach(struct world *w, const struct inbox_ref *ref, uint32_t expiry_sec, bool keep_will);
uint8_t commit(struct world *w, const struct inbox_ref *ref, uint64_t acked, uint64_t seq,
               uint8_t phase);
/* One message for one session. */
uint8_t insert(struct world *w, const struct inbox_ref *ref, uint8_t qos, const char *message,
               uint64_t publisher, uint64_t exchange);
/* Only if somebody is connected for it. */
uint8_t insert_for_held(struct world *w, const struct inbox_ref *ref, uint8_t qos,
                        const char *message);
/* Asks tick and applies what it wants until it wants nothing now; returns the wills that were
 * offered. */
unsigned pass(struct world *w, uint64_t ms);
/* How many effects of a kind the last command had; the first one is decoded. */
unsigned effects(struct world *w, enum inbox_effect_kind kind, struct inbox_effect *out);
/* Reads the queue with fetch from seq on: messages separated by '|', each "seq:text". */
struct str backlog(struct world *w, const struct inbox_ref *ref, bool is_qos0, uint64_t seq);
