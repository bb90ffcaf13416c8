/* Orders and answers of other nodes' admin API.  SPDX-License-Identifier: Apache-2.0 */
#include "api/peer_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct str s = str_view(p, n);
    struct api_peer_ask ask, ask2;
    struct api_peer_answer answer;
    struct api_peer_item item;
    struct buf b = {0};
    if (api_peer_ask_decode(s, &ask)) {
        api_peer_ask_encode(&b, &ask);
        must(api_peer_ask_decode(buf_str(&b), &ask2));
        must(ask2.op == ask.op);
        must(str_eq(ask2.tenant, ask.tenant));
    }
    if (api_peer_answer_decode(s, &answer))
        for (struct str rest = answer.items; api_peer_item(&rest, &item);)
            must(item.client.n + item.json.n <= n);
    buf_deinit(&b);
    return 0;
}
