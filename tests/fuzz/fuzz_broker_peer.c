/* Hostile batches of messages from another node.  SPDX-License-Identifier: Apache-2.0
 *
 * What decodes is put into a batch again and then decodes to the same. */
#include "broker/peer_priv.h"
#include "codec/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct codec_cursor c = codec_cursor_of(str_view(p, n));
    struct broker_peer_record r, again;
    struct codec_msg msg, same;
    struct buf b = {0};
    while (codec_cursor_left(&c) > 0 && broker_peer_record_next(&c, &r, &msg)) {
        must(r.qos <= 2 && r.tenant.n + msg.topic.n + msg.payload.n <= n);
        b.n = 0;
        broker_peer_record_put(&b, &r);
        struct codec_cursor back = codec_cursor_of(buf_str(&b));
        must(broker_peer_record_next(&back, &again, &same) && codec_cursor_left(&back) == 0);
        must(again.cookie == r.cookie && again.sub_id == r.sub_id && again.qos == r.qos &&
             again.flags == r.flags && str_eq(again.tenant, r.tenant));
        must(str_eq(same.topic, msg.topic) && str_eq(same.payload, msg.payload) &&
             str_eq(same.props, msg.props) && same.qos == msg.qos && same.hlc == msg.hlc);
    }
    buf_deinit(&b);
    return 0;
}
