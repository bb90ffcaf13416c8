/* Whole segments from hostile bytes: recovery answers, marks, and never dies.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Input: bytes of a body, cut into records by a length byte each.  Half of the inputs are laid down
 * raw as a segment; of the others proper frames are made around the records, so that the fuzzer
 * gets behind the checksums. */
#include <stdlib.h>

#include "base/mem.h"
#include "engine/log_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define RECORDS_MAX 64u

static struct engine_log_conf conf_of(struct engine_fs_mem *disk)
{
    return (struct engine_log_conf){.dir = "/log",
                                    .fs = engine_fs_mem_fs(disk),
                                    .segment_bytes = SEGMENT_BYTES_MIN,
                                    .seed = 1,
                                    .is_inline = true};
}

/* Frames of one or more records; each record is: length byte, group byte, payload. */
static void put_frames(struct buf *out, uint32_t seed, const uint8_t *p, size_t n)
{
    uint64_t number = 1;
    while (n > 0) {
        struct engine_frame_record rec[RECORDS_MAX];
        size_t count = 0, want = p[0] % 4 + 1, begin = out->n;
        for (p++, n--; n > 2 && count < want; count++) {
            size_t len = p[0] < n - 2 ? p[0] : n - 2;
            rec[count] = (struct engine_frame_record){p[1] % 8, (uint32_t)len, p + 2};
            p += len + 2;
            n -= len + 2;
        }
        if (n <= 2)
            n = 0;
        uint8_t *head = buf_reserve(out, FRAME_HEAD + count * FRAME_RECORD);
        engine_frame_encode(seed, number, number - 1, rec, count, head);
        out->n += FRAME_HEAD + count * FRAME_RECORD;
        for (size_t i = 0; i < count; i++)
            buf_put(out, rec[i].p, rec[i].len);
        while ((out->n - begin) % FRAME_ALIGN != 0)
            buf_put_u8(out, 0);
        number++;
    }
}

static void read_all(struct engine_log *log)
{
    size_t n;
    uint64_t *id = engine_log_groups(log, &n);
    for (size_t i = 0; i < n; i++) {
        struct engine_log_group g;
        struct engine_log_entry e[8];
        struct buf bytes = {0};
        size_t got;
        if (engine_log_group(log, id[i], &g) != 0)
            abort();
        struct engine_log_want w = {id[i], g.floor_index + 1, 8, 4096, true};
        int r = engine_log_read(log, &w, &bytes, e, &got);
        if (r < 0 || (r == 0 && (got == 0 || g.is_damaged)))
            abort();
        buf_deinit(&bytes);
        engine_log_group_deinit(&g);
    }
    mem_free(id);
}

static void on_damage(void *arg, const struct engine_log_damage *d)
{
    (void)arg, (void)d;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 2)
        return 0;
    struct engine_fs_mem *disk = engine_fs_mem_new(1);
    struct engine_log_conf conf = conf_of(disk);
    struct engine_segment_head h = {SEGMENT_FORMAT, conf.node, 1, 1, 7};
    uint8_t head[SEGMENT_HEAD];
    engine_segment_head_encode(&h, head);
    struct buf b = {0};
    buf_put(&b, head, sizeof head);
    if (p[0] % 2 == 0)
        put_frames(&b, engine_segment_seed(&h), p + 1, n - 1);
    else
        buf_put(&b, p + 1, n - 1);
    if (engine_fs_replace(conf.fs, "/log", "0000000000000001.rlog", buf_str(&b)) != 0)
        abort();
    buf_deinit(&b);
    size_t found;
    if (engine_log_verify(&conf, on_damage, NULL, &found) < 0)
        abort();
    struct engine_log *log;
    if (engine_log_open(&conf, &log) == 0) {
        engine_log_check(log);
        read_all(log);
        struct engine_log_batch *batch = engine_log_batch_new();
        engine_log_put_create(batch, 1000, STR("new"));
        engine_log_submit(log, batch, true, NULL, 0);
        for (int i = 0; i < 100 && engine_log_step(log); i++)
            engine_log_check(log);
        if (engine_log_admit(log) < 0)
            abort();
        engine_log_close(log);
        if (engine_log_open(&conf, &log) != 0)
            abort();
        read_all(log);
        engine_log_close(log);
    }
    engine_fs_mem_free(disk);
    return 0;
}
