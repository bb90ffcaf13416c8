/* SUBSCRIBE and UNSUBSCRIBE.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/conn_priv.h"

/* A shared subscription of a connected clean session. */
struct broker_shared {
    struct broker_shared *next;
    struct str text;          /* as subscribed */
    struct str filter, group; /* views into text */
    bool is_ordered;
    char bytes[];
};

/* Carry out the effects; SUBSCRIBED or UNSUBSCRIBED follows when all filters are decided. */
void broker_subscribe(struct broker_conn *c, const struct session_subscribe *s);
void broker_unsubscribe(struct broker_conn *c, const struct session_subscribe *s);

/* The connection ends: its live subscriptions go. */
void broker_subscribe_drop(struct broker_conn *c);
