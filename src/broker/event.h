/* What happened to a client, said once and counted.  SPDX-License-Identifier: Apache-2.0
 *
 * Called on the loop where it happened.  A debug event costs one comparison unless the tenant asks
 * for it. */
#pragma once

#include <stdatomic.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/usec.h"

enum broker_event_id {
#define EVENT(name, level, is_debug, what) BROKER_EV_##name,
#include "broker/event.def"
#undef EVENT
    BROKER_EVENT_COUNT,
};

/* Who it happened to; empty views where nobody is known yet. */
struct broker_event_who {
    struct str tenant;
    struct str user;
    struct str client_id;
    struct str address;
};

struct broker_plugins;

/* One per broker: counters are shared by all loops. */
struct broker_events {
    const struct log *log;
    struct broker_plugins *plugins; /* told of what is heard; NULL: none */
    _Atomic uint64_t count[BROKER_EVENT_COUNT];
    struct broker_event_window {
        _Atomic usec_t began;
        _Atomic uint32_t lines;
    } window[BROKER_EVENT_COUNT];
};

/* Clients cause events: of a kind that tells of trouble so many lines are written in a window, the
 * others are counted. */
#define BROKER_EVENT_LINES_MAX 100
#define BROKER_EVENT_WINDOW_USEC (10 * USEC_SEC)

const char *broker_event_name(enum broker_event_id id);
const char *broker_event_what(enum broker_event_id id);
bool broker_event_is_debug(enum broker_event_id id);

/* Whether a line would be written or a plugin told: what it says need not be made otherwise. */
bool broker_event_is_heard(const struct broker_events *e, enum broker_event_id id);

/* Counts, tells plugins and logs.  detail says what is special here ("" for nothing). */
void broker_event_report(struct broker_events *e, enum broker_event_id id,
                         const struct broker_event_who *who, const char *detail, ...)
    print_like(4, 5);
