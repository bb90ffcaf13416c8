/* Setting, reading and matching at 1,000,000 retained topics.  SPDX-License-Identifier: Apache-2.0
 */
#include "base/hlc.h"
#include "base/rng.h"
#include "bench/bench.h"
#include "bench/split.h"
#include "retain/retain.h"

#define TOPICS 1000000u

static struct str topic_of(char *at, size_t cap, uint64_t i)
{
    return str_view(
        at, (size_t)snprintf(at, cap, "site/%d/device/%d/state", (int)(i % 1000), (int)(i / 1000)));
}

static double ask(void *m, struct str filter, struct buf *reply, size_t *out_found)
{
    struct buf q = {0};
    struct range_scan scan;
    struct retain_reply r;
    struct retain_message got;
    retain_query_match(&q, STR("tenant"), filter, STR(""), 100, 65536);
    double t = bench_cpu();
    reply->n = 0;
    must(retain_machine()->query(m, hlc_of_ms(1000), buf_str(&q), reply, &scan) == 0);
    t = bench_cpu() - t;
    must(retain_reply_begin(buf_str(reply), &r));
    for (*out_found = 0; retain_reply_next(&r, &got);)
        ++*out_found;
    buf_deinit(&q);
    return t;
}

int main(void)
{
    const struct range_machine_ops *ops = retain_machine();
    void *m = ops->new (NULL);
    char at[64], payload[32] = "0123456789012345678901234567890";
    struct range_out out = {.row_count = 0};
    struct buf b = {0};
    struct rng r;
    rng_init(&r, 1);
    ops->reset(m, &(struct range_bounds){.is_open = true});
    ops->loaded(m);
    double before = bench_rss(), t = bench_cpu();
    for (uint64_t i = 0; i < TOPICS; i++) {
        struct retain_message msg = {.topic = topic_of(at, sizeof at, i * 7919 % TOPICS),
                                     .payload = str_of(payload),
                                     .expiry_sec = UINT32_MAX};
        b.n = 0;
        retain_command_begin(&b);
        retain_command_set(&b, STR("tenant"), &msg, 0, 0);
        range_out_reset(&out);
        ops->apply(
            m,
            &(struct range_apply){.index = i + 1, .hlc = hlc_of_ms(1000), .command = buf_str(&b)},
            &out);
    }
    t = bench_cpu() - t;
    bench_line("retain: set, one command each", TOPICS / t, "topics/s");
    bench_line("retain: memory, payload of 31 bytes", (bench_rss() - before) / TOPICS,
               "bytes a topic");
    size_t found, sum = 0;
    t = 0;
    for (unsigned i = 0; i < 100000; i++) {
        t += ask(m, topic_of(at, sizeof at, rng_below(&r, TOPICS)), &b, &found);
        sum += found;
    }
    must(sum == 100000);
    bench_line("retain: exact match", t / 100000 * 1e6, "us");
    static const char *const filters[] = {"#",
                                          "site/500/#",
                                          "site/+/device/77/state",
                                          "+/5/+/6/#",
                                          "site/+/device/99999/state",
                                          "nothing/+"};
    for (size_t i = 0; i < countof(filters); i++) {
        char line[80];
        t = ask(m, str_of(filters[i]), &b, &found);
        snprintf(line, sizeof line, "retain: first page of %s (%zu found)", filters[i], found);
        bench_line(line, t * 1e6, "us");
    }
    bench_split(ops, m, str_view("tenant\0site/5", 13));
    buf_deinit(&b);
    range_out_deinit(&out);
    ops->free(m);
    return 0;
}
