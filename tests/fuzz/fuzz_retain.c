/* Commands and requests of the table of retained messages.  SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "retain/retain.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    const struct range_machine_ops *ops = retain_machine();
    struct range_bounds all = {.start = STR(""), .end = STR(""), .is_open = true};
    struct range_out out = {0};
    struct buf reply = {0};
    struct range_scan scan;
    struct retain_reply r;
    struct retain_message msg;
    void *m = ops->new (NULL);
    ops->reset(m, &all);
    struct range_apply in = {.index = 1, .hlc = 5, .command = str_view(p, n)};
    ops->apply(m, &in, &out);
    (void)ops->query(m, 6, str_view(p, n), &reply, &scan);
    if (retain_reply_begin(str_view(p, n), &r))
        while (retain_reply_next(&r, &msg))
            ;
    enum retain_get got = retain_reply_get(str_view(p, n), 7, &msg);
    (void)got;
    uint64_t removed;
    (void)!retain_reply_expired(str_view(p, n), &removed);
    ops->load(m, str_view(p, n / 2), str_view(p + n / 2, n - n / 2));
    range_out_deinit(&out);
    buf_deinit(&reply);
    ops->free(m);
    return 0;
}
