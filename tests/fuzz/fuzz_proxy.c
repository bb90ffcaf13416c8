/* PROXY protocol headers, versions 1 and 2.  SPDX-License-Identifier: Apache-2.0 */
#include "net/proxy_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A header that is complete stays what it is when more follows, and none of its beginnings is complete. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct net_address a = {0}, b = {0};
    size_t used = 0, again = 0;
    if (size == 0 || net_proxy_decode(data, size, &a, &used) != 0)
        return 0;
    must(used > 0 && used <= size);
    must(net_proxy_decode(data, used, &b, &again) == 0);
    must(again == used);
    must(net_address_eq(&a, &b));
    for (size_t n = 1; n < used; n++)
        must(net_proxy_decode(data, n, &b, &again) == NET_PROXY_E_MORE);
    return 0;
}
