/* Log lines.  SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#define LOG_TEXT_MAX 1024 /* longer lines are cut */

static void write_line(const struct log *log, enum log_level level, const char *event,
                       const struct log_field *field, size_t field_count, const char *fmt, va_list ap)
{
    char text[LOG_TEXT_MAX];
    int n = vsnprintf(text, sizeof text, fmt, ap);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    log->write(log->arg, level, event, str_view(text, len), field, field_count);
}

void log_line(const struct log *log, enum log_level level, const char *event, const char *fmt, ...)
{
    if (log == NULL || level > log->level_max)
        return;
    va_list ap;
    va_start(ap, fmt);
    write_line(log, level, event, NULL, 0, fmt, ap);
    va_end(ap);
}

void log_fields(const struct log *log, enum log_level level, const char *event,
                const struct log_field *field, size_t field_count, const char *fmt, ...)
{
    if (log == NULL || level > log->level_max)
        return;
    va_list ap;
    va_start(ap, fmt);
    write_line(log, level, event, field, field_count, fmt, ap);
    va_end(ap);
}
