/* Columns for people.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: lets a text leave its cell: what a client chose cannot move the cursor. */
#include "ctl/table.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

/* Characters, not bytes: continuation bytes take no place. */
static size_t width_of(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((uint8_t)s.p[i] & 0xC0) != 0x80;
    return n;
}

void ctl_table_put(struct ctl_table *t, struct str s)
{
    bool is_text = str_is_utf8_text(s);
    t->cell = mem_grow(t->cell, &t->cap, t->count + 1, sizeof *t->cell);
    t->cell[t->count++] = (struct ctl_cell){t->text.n, s.n ? s.n : 1};
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        buf_put_u8(&t->text, c < 0x20 || c == 0x7f || (c >= 0x80 && !is_text) ? '?' : c);
    }
    if (s.n == 0)
        buf_put_u8(&t->text, '-');
}

void ctl_table_printf(struct ctl_table *t, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ctl_table_put(t, str_of(text));
}

void ctl_table_begin(struct ctl_table *t, const char *heads)
{
    struct str rest = str_of(heads), head;
    *t = (struct ctl_table){.columns = 0};
    while (str_next(&rest, '|', &head)) {
        must(t->columns < CTL_TABLE_COLUMNS_MAX);
        t->columns++;
        ctl_table_put(t, head);
    }
}

static struct str cell_of(const struct ctl_table *t, size_t i)
{
    return str_view(t->text.p + t->cell[i].at, t->cell[i].n);
}

void ctl_table_end(struct ctl_table *t, struct buf *out)
{
    size_t width[CTL_TABLE_COLUMNS_MAX] = {0};
    for (size_t i = 0; i < t->count; i++) {
        size_t w = width_of(cell_of(t, i));
        if (w > width[i % t->columns])
            width[i % t->columns] = w;
    }
    for (size_t i = 0; i < t->count; i++) {
        struct str s = cell_of(t, i);
        bool is_last = i % t->columns == t->columns - 1;
        buf_put_str(out, s);
        for (size_t w = width_of(s); !is_last && w < width[i % t->columns] + 2; w++)
            buf_put_u8(out, ' ');
        if (is_last)
            buf_put_u8(out, '\n');
    }
    buf_deinit(&t->text);
    mem_free(t->cell);
}

struct str ctl_size(uint64_t bytes, char out[24])
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    size_t i = 0;
    for (; v >= 1024 && i + 1 < countof(unit); i++)
        v /= 1024;
    snprintf(out, 24, i && v < 100 ? "%.1f %s" : "%.0f %s", v, unit[i]);
    return str_of(out);
}

struct str ctl_span(uint64_t seconds, char out[24])
{
    unsigned long long s = seconds;
    if (s < 60)
        snprintf(out, 24, "%llu s", s);
    else if (s < 3600)
        snprintf(out, 24, "%llu min %llu s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, 24, "%llu h %llu min", s / 3600, s / 60 % 60);
    else
        snprintf(out, 24, "%llu d %llu h", s / 86400, s / 3600 % 24);
    return str_of(out);
}
