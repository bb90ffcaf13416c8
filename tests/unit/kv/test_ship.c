/* How fast snapshots may leave.  SPDX-License-Identifier: Apache-2.0 */
#include "kv/kv_priv.h"
#include "unit/kv/suites.h"

/* Three senders that want all they can get, each asking again when its bytes have left: within 10 %
 * of the rate, and none starves. */
START_TEST(snapshots_keep_the_rate)
{
    const size_t rate = 10 << 20, part = 64 << 10;
    _Atomic usec_t free_at = 0;
    usec_t now = USEC_SEC, ask[3] = {now, now, now};
    uint64_t sent[3] = {0};
    for (usec_t end = now + 10 * USEC_SEC; now < end; now += 100)
        for (unsigned i = 0; i < countof(ask); i++) {
            if (now < ask[i])
                continue;
            ask[i] = kv_ship_pace(&free_at, now, part, rate) + 1;
            sent[i] += part;
        }
    uint64_t all = sent[0] + sent[1] + sent[2];
    ck_assert_uint_ge(all, 10 * rate * 9 / 10);
    ck_assert_uint_le(all, 10 * rate * 11 / 10);
    for (unsigned i = 0; i < countof(sent); i++)
        ck_assert_uint_gt(sent[i], all / 20);
}
END_TEST

Suite *suite_ship(void)
{
    Suite *s = suite_create("ship");
    TCase *t = tcase_create("pace");
    tcase_add_test(t, snapshots_keep_the_rate);
    suite_add_tcase(s, t);
    return s;
}
