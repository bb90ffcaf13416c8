/* Records: reading is total and stays inside.  SPDX-License-Identifier: Apache-2.0 */
#include "codec/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void read_all(struct str in, unsigned depth)
{
    struct codec_cursor c = codec_cursor_of(in);
    struct codec_field f;
    struct buf copy = {0};
    uint8_t kind, version;
    codec_record_head(&c, &kind, &version);
    codec_record_begin(&copy, kind, version);
    while (codec_record_next(&c, &f)) {
        if (f.is_bytes) {
            must(f.bytes.n == 0 || (f.bytes.p >= in.p && f.bytes.p + f.bytes.n <= in.p + in.n));
            size_t opened = codec_record_open(&copy, f.tag);
            buf_put_str(&copy, f.bytes);
            codec_record_close(&copy, opened);
            if (depth < 4)
                read_all(f.bytes, depth + 1);
        } else {
            codec_record_u64(&copy, f.tag, f.u64);
        }
    }
    struct codec_cursor a = codec_cursor_of(in), b = codec_cursor_of(buf_str(&copy));
    struct codec_field fa, fb;
    codec_record_head(&a, &kind, &version);
    codec_record_head(&b, &kind, &version);
    while (codec_record_next(&a, &fa)) {
        bool has = codec_record_next(&b, &fb);
        must(has && fa.tag == fb.tag && fa.is_bytes == fb.is_bytes && fa.u64 == (fa.is_bytes ? fa.u64 : fb.u64));
        must(!fa.is_bytes || str_eq(fa.bytes, fb.bytes));
    }
    buf_deinit(&copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    read_all(str_view(data, n), 0);
    return 0;
}
