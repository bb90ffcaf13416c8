/* Where proposals and queries of the three tables go: kv, or tables in this process.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Both bodies speak with kv's types, so that the rest of the room does not know which one is there.
 */
#pragma once

#include "kv/kv.h"
#include "range/machine.h"

enum stores_table {
    STORES_TABLE_DIST,
    STORES_TABLE_INBOX,
    STORES_TABLE_RETAIN,
    STORES_TABLE_COUNT,
};

/* One table in this process, in memory: its machine and rows live on loop 0. */
struct stores_solo;

struct stores_solo_conf {
    const struct range_machine_ops *ops;
    void *machine_conf;
    struct kv_host host;
    struct net_loop **loop;
    unsigned loop_count;
    uint64_t seed;
};

struct stores_solo *stores_solo_new(const struct stores_solo_conf *conf) must_use;

/* The loops have stopped. */
struct stores_solo *stores_solo_free(struct stores_solo *s);

/* As kv_propose and kv_query, asked on loop number `loop`; the answer comes there. */
void stores_solo_propose(struct stores_solo *s, unsigned loop, struct str command, kv_reply_cb *cb,
                         void *arg);
void stores_solo_query(struct stores_solo *s, unsigned loop, struct str request, kv_reply_cb *cb,
                       void *arg);

void *stores_solo_machine(struct stores_solo *s);
