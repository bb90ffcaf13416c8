/* Bytes per filter and time per match of the index at 1,000,000 filters.  SPDX-License-Identifier:
 * Apache-2.0 */
#include "base/mem.h"
#include "base/rng.h"
#include "bench/bench.h"
#include "bench/split.h"
#include "dist/dist.h"
#include "dist/index.h"

static void free_now(void *arg, void *ptr, void (*fn)(void *ptr))
{
    (void)arg;
    fn(ptr);
}

static struct str topic_of(char *at, size_t cap, size_t client, size_t n, const char *last)
{
    return str_view(at, (size_t)snprintf(at, cap, "bench/c%zu/dev%zu%s", client, n, last));
}

static void match_time(struct dist_index *x, const char *what, size_t clients, size_t each,
                       const char *last)
{
    struct rng r;
    struct dist_match m = {0};
    char at[64];
    size_t hits = 0, runs = 1000000;
    rng_init(&r, 3);
    double t = bench_cpu();
    for (size_t i = 0; i < runs; i++) {
        struct str s = topic_of(at, sizeof at, rng_below(&r, clients), rng_below(&r, each), last);
        dist_index_match(x, STR("tenant"), s, &m);
        hits += m.count;
    }
    t = bench_cpu() - t;
    char line[80];
    snprintf(line, sizeof line, "match, %s (%.2f hits), with making the topic", what,
             (double)hits / (double)runs);
    bench_line(line, t / (double)runs * 1e9, "ns");
    dist_match_deinit(&m);
}

static void run(size_t clients, size_t each, const char *last)
{
    struct dist_index *x =
        dist_index_new(&(struct dist_index_conf){.seed = 1, .reclaim = free_now});
    struct dist_route r = {
        .tenant = STR("tenant"), .kind = DIST_KIND_NODE, .node = {{1}}, .incarnation = 1};
    struct dist_conf conf = {x};
    void *m = dist_machine()->new (&conf); /* owner 1 of a new index */
    char at[64], line[80];
    size_t count = clients * each;
    dist_machine()->reset(m, &(struct range_bounds){.is_open = true});
    double before = bench_rss(), t = bench_cpu();
    for (size_t i = 0; i < count; i++) {
        r.filter = topic_of(at, sizeof at, i % clients, i / clients, last);
        must(dist_index_add(x, 1, &r, 0) == 0);
    }
    t = bench_cpu() - t;
    printf("-- %zu filters bench/c*/dev*%s of %zu clients\n", count, last, clients);
    bench_line("add", t / (double)count * 1e9, "ns");
    bench_line("memory", (bench_rss() - before) / (double)count, "bytes a filter");
    match_time(x, "named", clients, each, last);
    r.filter = STR("bench/+/dev1/#");
    must(dist_index_add(x, 1, &r, 0) == 0);
    r.filter = STR("#");
    must(dist_index_add(x, 1, &r, 0) == 0);
    match_time(x, "two wildcards beside", clients, each, last);
    match_time(x, "nothing named", clients, each, "/none");
    t = bench_cpu();
    for (size_t i = 0; i < each; i++) {
        r.filter = topic_of(at, sizeof at, 1, i, last);
        must(dist_index_del(x, 0, &r) == 0);
    }
    t = bench_cpu() - t;
    snprintf(line, sizeof line, "removal of one client's %zu filters", each);
    bench_line(line, t / (double)each * 1e9, "ns each");
    bench_split(dist_machine(), m, str_view("tenant\0\x80", 8));
    dist_machine()->free(m);
    dist_index_free(x);
}

int main(void)
{
    run(1000, 1000, "");
    run(1000, 1000, "/cmd");
    return 0;
}
