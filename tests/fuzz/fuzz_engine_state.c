/* A database of hostile rows: records of dropped spans, the next space, anything.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Input: rows, each a length byte, the key, a length byte, the value.  Dropped rows go, all others
 * stay, and a record that makes no sense is removed. */
#include "base/mem.h"
#include "codec/cursor.h"
#include "engine/state_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define ROWS_MAX 64u
#define STEPS_MAX 10000u

static void on_done(void *arg, const struct engine_state_done *done, size_t count)
{
    (void)arg, (void)done, (void)count;
}

static size_t read_rows(struct str s, struct engine_change *row)
{
    struct codec_cursor c = codec_cursor_of(s);
    size_t count = 0;
    while (count < ROWS_MAX && codec_cursor_left(&c) > 0) {
        struct str key = codec_cursor_bytes(&c, codec_cursor_u8(&c));
        struct str value = codec_cursor_bytes(&c, codec_cursor_u8(&c));
        bool is_twice = false;
        for (size_t i = 0; i < count; i++)
            is_twice = is_twice || str_eq(row[i].key, key);
        if (c.bad)
            break;
        if (key.n > 0 && !is_twice)
            row[count++] = (struct engine_change){.key = key, .value = value};
    }
    return count;
}

/* Does this record drop that row of a space? */
static bool is_dropped(struct str record, struct str row)
{
    struct codec_cursor c = codec_cursor_of(record);
    (void)codec_cursor_u8(&c);
    struct str space = codec_cursor_bytes(&c, 8);
    struct str from = codec_cursor_bytes(&c, codec_cursor_varint(&c));
    struct str to = codec_cursor_bytes(&c, codec_cursor_left(&c));
    struct str key = str_view(row.p + 9, row.n - 9);
    return record.p[0] == TAG_DROP && !c.bad && str_eq(space, str_view(row.p + 1, 8)) &&
           str_cmp(from, key) <= 0 && (to.n == 0 || str_cmp(key, to) < 0);
}

static void check(struct engine_table *t, const struct engine_change *row, size_t count)
{
    struct buf value = {0};
    for (size_t i = 0; i < count; i++) {
        bool is_data = row[i].key.p[0] == TAG_DATA && row[i].key.n >= 9, is_gone = false;
        for (size_t k = 0; k < count && is_data; k++)
            is_gone = is_gone || is_dropped(row[k].key, row[i].key);
        value.n = 0;
        int r = t->ops->get(t, NULL, row[i].key, &value);
        if (row[i].key.p[0] == TAG_DROP || is_gone)
            must(r == ENGINE_STATE_E_NONE);
        else if (row[i].key.p[0] != TAG_DATA || is_data) /* a row in no space may lie in any span */
            must(r == 0 && str_eq(buf_str(&value), row[i].value));
    }
    buf_deinit(&value);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct engine_change row[ROWS_MAX];
    size_t count = read_rows(str_view(p, n), row);
    struct engine_mem *mem = engine_mem_new();
    struct engine_state_conf conf = {.mem = mem, .is_inline = true, .done = on_done};
    struct engine_table *t;
    struct engine_state *s;
    must(engine_mem_open(mem, false, &t) == 0);
    must(t->ops->write(t, row, count, false) == 0);
    t->ops->close(t);
    if (engine_state_open(&conf, &s) == 0) {
        unsigned steps = 0;
        while (steps < STEPS_MAX && engine_state_step(s))
            steps++;
        must(steps < STEPS_MAX);
        engine_state_close(s);
        must(engine_mem_open(mem, false, &t) == 0);
        check(t, row, count);
        t->ops->close(t);
    }
    engine_mem_free(mem);
    return 0;
}
