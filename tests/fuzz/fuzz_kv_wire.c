/* Hostile requests, replies, frames and rows of kv.  SPDX-License-Identifier: Apache-2.0 */
#include "kv/wire_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str s = str_view(data, size), body;
    struct kv_wire_request rq;
    struct kv_wire_reply rp;
    struct kv_wire_ensure e;
    struct kv_wire_replica r;
    struct kv_wire_applied a;
    struct kv_wire_ship h;
    struct kv_wire_held held;
    struct codec_cursor c = codec_cursor_of(s);
    enum kv_wire_frame kind;
    uint64_t tag;
    if (kv_wire_request_decode(s, &rq) == 0 && rq.kind == KV_WIRE_PROPOSE)
        must(rq.propose.count == kv_wire_count(rq.propose.data));
    if (kv_wire_reply_decode(s, &rp) == 0)
        must(rp.answer.status < KV_WIRE_STATUS_COUNT);
    (void)!kv_wire_ensure_decode(s, &e);
    (void)!kv_wire_replica_decode(s, &r);
    (void)!kv_wire_applied_decode(s, &a);
    (void)!kv_wire_ship_decode(s, &h);
    (void)!kv_wire_held_decode(s, &held);
    while (kv_wire_frame_next(&c, &kind, &tag, &body))
        must(body.n <= size);
    return 0;
}
