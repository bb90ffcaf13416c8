/* The window of one follower.  SPDX-License-Identifier: Apache-2.0 */
#include "base/list.h"
#include "base/mem.h"
#include "base/rng.h"
#include "raft/raft_priv.h"
#include "unit/raft/suites.h"

START_TEST(test_flight_ring)
{
    struct rng r;
    struct raft_peer p = {.id = 2, .next = 1, .state = RAFT_PEER_REPLICATE};
    uint64_t last[512], bytes[512];
    size_t head = 0, tail = 0;
    rng_init(&r, 7);
    for (uint64_t round = 1; round < 20000; round++) {
        if (tail - head < 300 && rng_chance(&r, 600000)) {
            last[tail % 512] = round;
            bytes[tail % 512] = rng_below(&r, 100);
            raft_peer_flight_push(&p, round, (uint32_t)bytes[tail++ % 512]);
        } else if (tail > head) {
            uint64_t acked = last[rng_between(&r, head, tail - 1) % 512];
            raft_peer_flight_pop(&p, acked);
            while (head < tail && last[head % 512] <= acked)
                head++;
        }
        uint64_t sum = 0;
        for (size_t i = head; i < tail; i++)
            sum += bytes[i % 512];
        ck_assert_uint_eq(p.flight_count, tail - head);
        ck_assert_uint_eq(p.flight_bytes, sum);
    }
    raft_peer_probe(&p, 5);
    ck_assert_uint_eq(p.flight_count, 0);
    ck_assert_uint_eq(p.flight_bytes, 0);
    raft_peer_flight_free(&p);
}
END_TEST

START_TEST(test_states)
{
    struct raft_peer p = {.id = 2, .match = 4, .next = 9};
    raft_peer_replicate(&p);
    ck_assert_uint_eq(p.next, 5); /* what is not acknowledged goes again */
    raft_peer_flight_push(&p, 5, 10);
    raft_peer_snapshot(&p);
    ck_assert_uint_eq(p.flight_count, 0);
    p.snapshot = 20;
    raft_peer_probe(&p, 21);
    ck_assert_uint_eq(p.next, 21);
    ck_assert_uint_eq(p.snapshot, 0);
    raft_peer_flight_free(&p);
}
END_TEST

Suite *suite_progress(void)
{
    Suite *s = suite_create("progress");
    TCase *t = tcase_create("progress");
    tcase_add_test(t, test_flight_ring);
    tcase_add_test(t, test_states);
    suite_add_tcase(s, t);
    return s;
}
