/* SCRAM: a client's two messages, divided by a NUL, and what a password file could hold.
 * SPDX-License-Identifier: Apache-2.0 */
#include "net/scram.h"

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t secret[NET_SCRAM_SECRET_LEN];
    struct str text = str_view((const char *)data, size), first;
    struct net_scram *s;
    struct buf out = {0};
    (void)!net_scram_is_stored(text);
    (void)str_next(&text, 0, &first);
    if (net_scram_begin(first, &s) == 0) {
        must(str_is_utf8(net_scram_user(s)) && net_scram_user(s).n > 0);
        net_scram_challenge(s, STR(""), secret, STR("nonce"), &out);
        must(str_has_prefix(buf_str(&out), STR("r=")));
        if (text.p)
            must(net_scram_finish(s, text, &out) != 0); /* nobody has keys here */
        net_scram_free(s);
    }
    buf_deinit(&out);
    return 0;
}
