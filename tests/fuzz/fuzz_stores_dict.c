/* Hostile messages of the session dict.  SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "stores/dict_wire_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct stores_dict_message m, again;
    struct buf b = {0};
    if (stores_dict_decode(str_view(p, n), &m)) {
        must(m.kind >= STORES_DICT_CLAIM && m.kind <= STORES_DICT_FOUND);
        must(m.kind > STORES_DICT_KILL || m.owner.cookie != 0);
        must(m.kind != STORES_DICT_QUIT || m.value <= STORES_QUIT_GONE);
        must((m.kind != STORES_DICT_REFUSE && m.kind != STORES_DICT_FOUND) ||
             m.value <= STORES_E_INVALID);
        must(m.kind != STORES_DICT_REFUSE || m.value != STORES_OK);
        stores_dict_encode(&b, &m);
        must(stores_dict_decode(buf_str(&b), &again));
        must(again.kind == m.kind && again.token == m.token && again.value == m.value);
        must(str_eq(again.tenant, m.tenant) && str_eq(again.client, m.client));
        must(uuid_eq(&again.owner.node, &m.owner.node) && again.owner.epoch == m.owner.epoch &&
             again.owner.loop == m.owner.loop && again.owner.cookie == m.owner.cookie);
    }
    buf_deinit(&b);
    return 0;
}
