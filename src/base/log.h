/* Log lines: an event name and key=value fields.  Only hands log, once, where an error stops travelling.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A sink is given at start and handed down in every hand's configuration; there is no global one.  Sinks may be called
 * from any thread. */
#pragma once

#include "base/str.h"

enum log_level { /* the numbers are syslog's */
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARN = 4,
    LOG_LEVEL_NOTICE = 5,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7,
};

struct log_field {
    const char *key; /* lower case; becomes a journal field in upper case */
    struct str value;
};

struct log {
    enum log_level level_max;
    void (*write)(void *arg, enum log_level level, const char *event, struct str text,
                  const struct log_field *field, size_t field_count);
    void *arg;
};

/* One line: event is a stable dotted name ("cluster.member.dead"), text says it to a person.  log may be NULL. */
void log_line(const struct log *log, enum log_level level, const char *event, const char *fmt, ...)
    print_like(4, 5);

/* The same with fields that machines look for (CLIENT_ID, TENANT, RANGE). */
void log_fields(const struct log *log, enum log_level level, const char *event,
                const struct log_field *field, size_t field_count, const char *fmt, ...) print_like(6, 7);
