/* WebSocket: the handshake's head, and frames in pieces of any size.  SPDX-License-Identifier: Apache-2.0 */
#include "net/ws_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    struct buf payload, answer;
    int result;
};

static struct seen decode(const uint8_t *data, size_t size, size_t piece)
{
    struct seen s = {0};
    struct net_ws *w = net_ws_new(true);
    for (size_t at = 0; at < size && s.result == 0; at += piece) {
        size_t n = size - at < piece ? size - at : piece, out = 0;
        struct buf in = {0};
        buf_put(&in, data + at, n);
        s.result = net_ws_decode(w, in.p, n, &out, &s.answer);
        must(out <= n);
        buf_put(&s.payload, in.p, out);
        buf_deinit(&in);
    }
    net_ws_free(w);
    return s;
}

/* However the bytes are cut, the same comes out. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 65536)
        return 0;
    size_t piece = 1 + data[0], used = 0;
    struct seen whole = decode(data + 1, size - 1, size), cut = decode(data + 1, size - 1, piece);
    must(whole.result == cut.result);
    must(str_eq(buf_str(&whole.payload), buf_str(&cut.payload)));
    must(str_eq(buf_str(&whole.answer), buf_str(&cut.answer)));
    struct buf answer = {0};
    struct str head = str_view(data, size);
    if (net_ws_accept(head, "/mqtt", "mqtt,mqttv3.1", &answer, &used) == 0)
        must(used <= size);
    (void)!net_ws_confirm(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", &used);
    buf_deinit(&answer);
    buf_deinit(&whole.payload);
    buf_deinit(&whole.answer);
    buf_deinit(&cut.payload);
    buf_deinit(&cut.answer);
    return 0;
}
