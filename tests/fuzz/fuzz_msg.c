/* Messages as records: decoding is total, and what it accepts encodes to something that decodes the same.
 * SPDX-License-Identifier: Apache-2.0 */
#include "codec/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct codec_msg a, b;
    if (codec_msg_decode(str_view(data, n), &a) != 0)
        return 0;
    struct codec_msg *kept = codec_msg_keep(&a);
    struct buf out = {0};
    codec_msg_encode(&out, kept);
    int r = codec_msg_decode(buf_str(&out), &b);
    must(r == 0);
    must(str_eq(a.topic, b.topic) && str_eq(a.payload, b.payload) && str_eq(a.props, b.props));
    must(str_eq(a.publisher, b.publisher) && a.hlc == b.hlc && a.qos == b.qos && a.is_retain == b.is_retain);
    must(a.has_expiry == b.has_expiry && a.expiry_sec == b.expiry_sec && a.is_utf8 == b.is_utf8);
    must(a.incarnation == b.incarnation && a.exchange == b.exchange);
    (void)codec_msg_left_sec(&a, a.hlc >> 17);
    buf_deinit(&out);
    codec_msg_unref(kept);
    return 0;
}
