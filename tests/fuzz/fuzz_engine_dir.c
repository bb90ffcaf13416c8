/* Hostile files of a data directory: FORMAT and NODE.  SPDX-License-Identifier: Apache-2.0
 *
 * Input: a byte, then the content.  Bit 0: it is FORMAT, with a NODE that is right (else FORMAT is
 * right and it is NODE); bit 1: NODE's checksum is made right, so that the fuzzer gets behind it.
 */
#include <errno.h>

#include "base/crc.h"
#include "base/mem.h"
#include "codec/record.h"
#include "engine/dir_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void put_node(struct buf *b, struct str record, bool is_right)
{
    if (is_right)
        buf_put_u32(b, crc_update(0, record.p, record.n));
    buf_put_str(b, record);
}

static void put_files(struct engine_fs fs, uint8_t what, struct str s)
{
    struct buf node = {0}, record = {0};
    struct uuid id = {.b = {1, 2, 3}};
    codec_record_begin(&record, 1, 1);
    codec_record_bytes(&record, 1, str_view(id.b, sizeof id.b));
    codec_record_u64(&record, 3, 7);
    if (what & 1)
        put_node(&node, buf_str(&record), true);
    else
        put_node(&node, s, what & 2);
    must(fs.ops->mkdir(fs.arg, "/data") == 0);
    must(engine_fs_replace(fs, "/data", "NODE", buf_str(&node)) == 0);
    must(engine_fs_replace(fs, "/data", "FORMAT", what & 1 ? s : STR("bilrost-data 1\n")) == 0);
    buf_deinit(&node);
    buf_deinit(&record);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 1)
        return 0;
    struct engine_fs_mem *disk = engine_fs_mem_new(1);
    struct engine_dir_conf conf = {.path = "/data", .fs = engine_fs_mem_fs(disk)};
    struct engine_dir *d = NULL;
    struct uuid whose, again;
    struct buf why = {0};
    put_files(conf.fs, p[0], str_view(p + 1, n - 1));
    int r = engine_dir_whose(conf.fs, "/data", &whose, &why);
    must(r == 0 || why.n > 0 || r < 0);
    must(engine_dir_open(&conf, &d, &why) == r);
    if (r == 0) {
        again = engine_dir_node(d);
        must(!uuid_is_zero(&whose) && uuid_eq(&whose, &again) && !engine_dir_is_new(d));
        uint64_t epoch = engine_dir_epoch(d);
        (void)!engine_dir_join(d, STR("ours"));
        engine_dir_close(d);
        must(engine_dir_open(&conf, &d, NULL) == 0);
        must(engine_dir_epoch(d) > epoch || epoch == UINT64_MAX);
        engine_dir_close(d);
    }
    buf_deinit(&why);
    engine_fs_mem_free(disk);
    return 0;
}
