/* SUBSCRIBE and UNSUBSCRIBE.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/conn_priv.h"

/* A shared subscription of a connected clean session. */
struct broker_shared {
    struct broker_shared *next;
    struct str text;          /* as subscribed */
    struct str filter, group; /* views into text */
    uint64_t number; /* of this connection: tells it from one before it with the same text */
    uint32_t sub_id;
    uint32_t adding; /* routes asked for and not answered */
    uint8_t qos;
    bool is_on; /* its route was added once */
    bool is_ordered;
    bool is_as_published;
    char bytes[];
};

/* Puts the route of a shared subscription of this clean session again; false: it has it no more.  done
 * comes later, when the connection may have gone. */
bool broker_subscribe_restore(struct broker_conn *c, const struct stores_route *lost,
                              stores_done *done, void *arg);

/* Carry out the effects; SUBSCRIBED or UNSUBSCRIBED follows when all filters are decided. */
void broker_subscribe(struct broker_conn *c, const struct session_subscribe *s);
void broker_unsubscribe(struct broker_conn *c, const struct session_subscribe *s);

/* An operator's wish in the client's name: done is called once, now or later, with the code and whether
 * it is new.  The session mind hears nothing of it. */
typedef void broker_subscribe_done(void *arg, uint8_t code, bool is_new);
void broker_subscribe_ask(struct broker_conn *c, const struct session_sub *sub, bool is_unsubscribe,
                          broker_subscribe_done *done, void *arg);

/* The connection ends: its live subscriptions go. */
void broker_subscribe_drop(struct broker_conn *c);
