/* Packets of gossip from nowhere, fed to a machine that knows some members.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The first byte chooses: a datagram, a frame of a stream that a peer opened, an answer on a stream
 * of ours. */
#include "gossip/gossip.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const struct gossip_addr seed = {.ip = {1, 2, 3}, .port = 9};
    struct gossip_conf c = {.uuid = {.b = {1}},
                            .epoch = 1,
                            .addr = {.ip = {1}, .port = 1},
                            .version_max = 9,
                            .meta = STR("me")};
    struct gossip_out out = {0};
    struct gossip *g = gossip_new(&c, 0, 1000, 1);
    struct gossip_event ev = {
        .kind = GOSSIP_EV_SEEDS, .now = 1, .wall = 1000, .seed = &seed, .seed_count = 1};
    gossip_step(g, &ev, &out); /* opens stream 1 */
    uint8_t how = n > 0 ? p[0] % 3 : 0;
    ev = (struct gossip_event){
        .kind = how == 0 ? GOSSIP_EV_PACKET : GOSSIP_EV_STREAM,
        .now = 2,
        .wall = 1001,
        .addr = seed,
        .stream = how == 1 ? GOSSIP_STREAM_THEIRS | 1 : 1,
        .bytes = str_view(n > 0 ? p + 1 : p, n > 0 ? n - 1 : 0),
    };
    gossip_step(g, &ev, &out);
    gossip_check(g);
    gossip_step(g, &ev, &out); /* again: it must not be news any more, and must not hurt */
    gossip_check(g);
    ev = (struct gossip_event){.kind = GOSSIP_EV_TICK, .now = 400000, .wall = 401000};
    gossip_step(g, &ev, &out);
    gossip_check(g);
    gossip_free(g);
    gossip_out_deinit(&out);
    return 0;
}
