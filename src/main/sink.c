/* The log sink.  SPDX-License-Identifier: Apache-2.0
 *
 * Under systemd each line goes to the journal with its fields in upper case, so that `journalctl
 * CLIENT_ID=x` finds them; elsewhere it is text on stderr.  Any thread.
 *
 * Never: keeps a line; blocks longer than the journal's socket does. */
#include "main/sink.h"

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"

#define FIELDS_MAX 16

static const struct {
    const char *name;
    enum log_level level;
} levels[] = {
    {"error", LOG_LEVEL_ERROR}, {"warn", LOG_LEVEL_WARN},   {"notice", LOG_LEVEL_NOTICE},
    {"info", LOG_LEVEL_INFO},   {"debug", LOG_LEVEL_DEBUG},
};

static const char *name_of(enum log_level level)
{
    for (size_t i = 0; i < countof(levels); i++)
        if (levels[i].level == level)
            return levels[i].name;
    return "info";
}

static uint8_t upper(char c)
{
    return (uint8_t)(c >= 'a' && c <= 'z' ? c - 32 : c == '.' || c == '-' ? '_' : c);
}

static void write_journal(void *arg, enum log_level level, const char *event, struct str text,
                          const struct log_field *field, size_t field_count)
{
    (void)arg;
    struct buf b = {0};
    struct iovec iov[FIELDS_MAX + 4];
    size_t start[FIELDS_MAX + 5], count = 0;
    start[count++] = b.n;
    buf_printf(&b, "PRIORITY=%d", (int)level);
    start[count++] = b.n;
    buf_printf(&b, "BILROST_EVENT=%s", event);
    start[count++] = b.n;
    buf_printf(&b, "MESSAGE=%.*s", STR_ARG(text));
    for (size_t i = 0; i < field_count && i < FIELDS_MAX; i++) {
        start[count++] = b.n;
        for (const char *k = field[i].key; *k; k++)
            buf_put_u8(&b, upper(*k));
        buf_put_u8(&b, '=');
        buf_put_str(&b, field[i].value);
    }
    start[count] = b.n;
    for (size_t i = 0; i < count; i++)
        iov[i] = (struct iovec){b.p + start[i], start[i + 1] - start[i]};
    (void)sd_journal_sendv(iov, (int)count);
    buf_deinit(&b);
}

static void put_safe(struct buf *b, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        if (c < ' ' || c == 0x7f)
            buf_printf(b, "\\x%02x", c);
        else
            buf_put_u8(b, c);
    }
}

static void write_text(void *arg, enum log_level level, const char *event, struct str text,
                       const struct log_field *field, size_t field_count)
{
    (void)arg;
    struct buf b = {0};
    struct timespec t;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    buf_printf(&b, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s %s: ", tm.tm_year + 1900, tm.tm_mon + 1,
               tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, t.tv_nsec / 1000000, name_of(level),
               event);
    put_safe(&b, text);
    for (size_t i = 0; i < field_count; i++) {
        buf_printf(&b, " %s=", field[i].key);
        put_safe(&b, field[i].value);
    }
    buf_put_u8(&b, '\n');
    ssize_t r = write(STDERR_FILENO, b.p, b.n); /* one call, so that lines of threads do not mix */
    (void)r;
    buf_deinit(&b);
}

/* systemd says which file our stderr is when it is the journal (sd-daemon(3), JOURNAL_STREAM). */
static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat st;
    unsigned long long dev, ino;
    return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void main_sink_level(struct main_sink *s, const char *level)
{
    for (size_t i = 0; i < countof(levels); i++)
        if (strcmp(levels[i].name, level) == 0)
            s->log.level_max = levels[i].level;
}

void main_sink_init(struct main_sink *s, const char *level)
{
    memset(s, 0, sizeof *s);
    s->is_journal = is_journal();
    s->log.write = s->is_journal ? write_journal : write_text;
    s->log.arg = s;
    main_sink_level(s, level);
}
