/* Raft messages and configurations: decoding is total, and what is decoded can be said again.
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "raft/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check_config(struct str in)
{
    struct raft_config *c = raft_config_decode(in);
    if (c == NULL)
        return;
    struct buf b = {0};
    raft_config_encode(c, &b);
    struct raft_config *again = raft_config_decode(buf_str(&b));
    must(again != NULL && raft_config_eq(c, again));
    mem_free(again);
    mem_free(c);
    buf_deinit(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct raft_message_store store = {0}, store2 = {0};
    struct raft_message m, again;
    struct str in = str_view(p, n);
    check_config(in);
    if (raft_message_decode(in, &store, &m) == 0) {
        struct buf b = {0}, b2 = {0};
        check_config(m.config);
        raft_message_encode(&m, &b);
        int r = raft_message_decode(buf_str(&b), &store2, &again);
        must(r == 0 && again.type == m.type && again.entry_count == m.entry_count);
        raft_message_encode(&again, &b2);
        must(str_eq(buf_str(&b), buf_str(&b2)));
        buf_deinit(&b);
        buf_deinit(&b2);
    }
    mem_free(store.entry);
    mem_free(store2.entry);
    return 0;
}
