/* Commands, rows, queries, replies and effects of dist that somebody else made.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The first byte says what the rest is taken for; the index is checked behind every input. */
#include "base/mem.h"
#include "dist/dist.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void free_now(void *arg, void *ptr, void (*fn)(void *ptr))
{
    (void)arg;
    fn(ptr);
}

static void read_replies(struct str s)
{
    struct dist_collected collected;
    struct dist_tenant_stat stat;
    struct dist_route r;
    struct str command;
    uint64_t at;
    struct dist_reply_cursor c = {.rest = s};
    if (dist_effect_decode(s, &collected) && dist_reply_stat(s, &stat) &&
        dist_reply_collect(s, &at, &command))
        return;
    while (dist_reply_match(&c, &r))
        must(r.client.n <= s.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n == 0)
        return 0;
    struct str rest = str_view(p + 1, n - 1);
    struct dist_index_conf conf = {.seed = 1, .reclaim = free_now};
    struct dist_index *x = dist_index_new(&conf);
    struct dist_conf machine = {x};
    const struct range_machine_ops *ops = dist_machine();
    void *m = ops->new (&machine);
    struct range_out out = {.row_count = 0};
    struct range_scan scan;
    struct buf reply = {0};
    ops->reset(m, &(struct range_bounds){.is_open = true});
    if (p[0] == 'r')
        ops->load(m, STR("k"), rest);
    ops->loaded(m);
    if (p[0] == 'c')
        ops->apply(m, &(struct range_apply){.index = 1, .command = rest, .has_host = true}, &out);
    else if (p[0] == 'q' && ops->query(m, 1, rest, &reply, &scan) < 0)
        must(false);
    else if (p[0] == 'a')
        read_replies(rest);
    else if (p[0] == 's')
        ops->split_key(m, rest, &reply);
    dist_index_check(x);
    buf_deinit(&reply);
    range_out_deinit(&out);
    ops->free(m);
    dist_index_free(x);
    return 0;
}
