/* The event table.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: 1 every event is counted, also when its log level is off.
 * It never blocks and keeps nothing of what it is given.  No client fills the journal. */
#include "broker/event.h"

#include <stdarg.h>
#include <stdio.h>

#include "broker/plugin.h"
#include "net/clock.h"

#define DETAIL_MAX 256 /* does not matter: the rest of a longer text is cut */

static const struct {
    const char *name, *what;
    enum log_level level;
    bool is_debug;
} table[BROKER_EVENT_COUNT] = {
#define EVENT(name, level, is_debug, what) {#name, what, LOG_LEVEL_##level, is_debug},
#include "broker/event.def"
#undef EVENT
};

const char *broker_event_name(enum broker_event_id id)
{
    return table[id].name;
}

const char *broker_event_what(enum broker_event_id id)
{
    return table[id].what;
}

bool broker_event_is_debug(enum broker_event_id id)
{
    return table[id].is_debug;
}

/* Somebody asked for the debug events of a tenant: they are written without the log's whole debug
 * level. */
static enum log_level level_of(enum broker_event_id id)
{
    return table[id].is_debug ? LOG_LEVEL_INFO : table[id].level;
}

static bool is_logged(const struct broker_events *e, enum broker_event_id id)
{
    return e->log && level_of(id) <= e->log->level_max;
}

bool broker_event_is_heard(const struct broker_events *e, enum broker_event_id id)
{
    return is_logged(e, id) || broker_plugins_listen(e->plugins);
}

/* What goes on in quiet days too (a client came, a client went) is written each time.  The loops
 * share a window, and where two open it at once some lines more are written. */
static bool may_write(struct broker_events *e, enum broker_event_id id)
{
    struct broker_event_window *w = &e->window[id];
    usec_t now = net_clock_now(), began = atomic_load_explicit(&w->began, memory_order_relaxed);
    if (level_of(id) > LOG_LEVEL_NOTICE)
        return true;
    if (began == 0 || now - began >= BROKER_EVENT_WINDOW_USEC) {
        atomic_store_explicit(&w->began, now, memory_order_relaxed);
        atomic_store_explicit(&w->lines, 0, memory_order_relaxed);
    }
    uint32_t n = atomic_fetch_add_explicit(&w->lines, 1, memory_order_relaxed);
    if (n == BROKER_EVENT_LINES_MAX)
        log_line(e->log, level_of(id), table[id].name,
                 "%s: %u times within 10 s; more of this are only counted for the rest of it",
                 table[id].what, BROKER_EVENT_LINES_MAX);
    return n < BROKER_EVENT_LINES_MAX;
}

void broker_event_report(struct broker_events *e, enum broker_event_id id,
                         const struct broker_event_who *who, const char *detail, ...)
{
    atomic_fetch_add_explicit(&e->count[id], 1, memory_order_relaxed);
    if (!broker_event_is_heard(e, id))
        return;
    char text[DETAIL_MAX];
    va_list args;
    va_start(args, detail);
    vsnprintf(text, sizeof(text), detail, args);
    va_end(args);
    if (broker_plugins_listen(e->plugins))
        broker_plugins_tell(e->plugins, id, level_of(id), who, str_of(text));
    if (!is_logged(e, id) || !may_write(e, id))
        return;
    struct log_field field[4];
    size_t n = 0;
    field[n++] = (struct log_field){"tenant", who->tenant};
    if (who->client_id.n)
        field[n++] = (struct log_field){"client_id", who->client_id};
    if (who->user.n)
        field[n++] = (struct log_field){"user", who->user};
    if (who->address.n)
        field[n++] = (struct log_field){"address", who->address};
    log_fields(e->log, level_of(id), table[id].name, field, n, "%s%s%s", table[id].what,
               text[0] ? ": " : "", text);
}
