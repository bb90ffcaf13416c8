/* Whole kv nodes on a real disk and over loopback: throughput, latency, faults, in figures.
 * SPDX-License-Identifier: Apache-2.0
 *
 * bench/kv [part ...]: one, three, idle, failover, split, snapshot, recovery; without a part all of
 * them. Each node is a process of one loop with the test machine; the parent gives orders through
 * shared memory and looks. BENCH_DIR: where the data lie (default /tmp); BENCH_KILLS: how often the
 * leader dies (default 20). */
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/rng.h"
#include "bench/disk.h"
#include "kv/kv_priv.h"
#include "lib/kv_node.h"
#include "net/clock.h"

#define NODES 3
#define PORT 24300
#define LATENCIES 8000000
#define SECONDS 5
#define BYTES 256
#define PATIENCE 600.0

enum order {
    ORDER_NONE,
    ORDER_WRITE, /* writers propose again when they are answered */
    ORDER_FILL,  /* as many proposals as keys, in order */
    ORDER_SPLIT, /* until there are so many ranges */
    ORDER_CUT,   /* the range in the middle, while writers write */
};

struct node_seen { /* written by the node */
    _Atomic bool is_ready;
    _Atomic uint32_t leads, ranges, voters, flying;
    _Atomic uint64_t syncs, entries, cpu_usec, opened_usec, snapshots, snapshot_bytes,
        snapshot_began;
};

struct shared {
    _Atomic int order[NODES];
    struct node_seen seen[NODES];
    unsigned writers, bytes, ranges; /* of the order; written before it */
    uint64_t keys, places; /* places: FILL uses only so many keys, again and again; 0: all */
    _Atomic uint64_t next, acked, failed, cut_at, cut_done;
    _Atomic uint64_t latency_count;
    struct {
        uint64_t at; /* when it was answered */
        uint32_t took;
    } latency[LATENCIES]; /* of acknowledged proposals, microseconds */
};

/* ---- a node -------------------------------------------------------------------------------------
 */

struct child {
    struct shared *shared;
    unsigned index;
    struct kv_node node;
    struct net_timer timer;
    struct rng rng;
    struct buf value;
    unsigned flying, splitting;
    unsigned split_next;
    bool is_cutting;
    usec_t counted_at;
};

struct writer {
    struct child *child;
    usec_t began;
    uint64_t key; /* that was refused and is tried again, plus one */
};

static struct net_loop *loop_of(const struct child *c)
{
    return c->node.loop[0];
}

static int order_of(const struct child *c)
{
    return atomic_load(&c->shared->order[c->index]);
}

static void key_of(uint64_t n, char out[24])
{
    snprintf(out, 24, "%010llu", (unsigned long long)n);
}

static void write_next(struct writer *w);

static void on_written(void *arg, const struct kv_reply *r)
{
    struct writer *w = arg;
    struct child *c = w->child;
    struct shared *s = c->shared;
    uint64_t now = net_clock_now();
    if (r->outcome == KV_OK) {
        uint64_t i = atomic_fetch_add(&s->latency_count, 1);
        if (i < LATENCIES) {
            s->latency[i].at = now;
            s->latency[i].took = (uint32_t)(now - w->began);
        }
        atomic_fetch_add(&s->acked, 1);
        w->key = 0;
        write_next(w);
        return;
    }
    atomic_fetch_add(&s->failed, 1);
    if (order_of(c) == ORDER_FILL) {
        write_next(w);
        return;
    }
    c->flying--; /* the timer makes another */
    mem_free(w);
}

static void write_next(struct writer *w)
{
    struct child *c = w->child;
    struct shared *s = c->shared;
    struct buf cmd = {0};
    char key[24];
    int order = order_of(c);
    uint64_t n = w->key > 0            ? w->key - 1
                 : order == ORDER_FILL ? atomic_fetch_add(&s->next, 1)
                                       : rng_below(&c->rng, s->keys);
    if (order == ORDER_NONE || order == ORDER_SPLIT || n >= s->keys) {
        c->flying--;
        mem_free(w);
        return;
    }
    w->key = order == ORDER_FILL ? n + 1 : 0;
    key_of(s->places ? n % s->places : n, key);
    c->value.n = s->bytes;
    test_command(&cmd, 's', str_of(key), buf_str(&c->value));
    w->began = net_clock_now();
    kv_propose(kv_client_get(c->node.store, 0), str_of(key), buf_str(&cmd),
               net_loop_now(loop_of(c)) + 10 * USEC_SEC, on_written, w);
    buf_deinit(&cmd);
}

static void write_on(struct child *c)
{
    struct shared *s = c->shared;
    for (;
         c->flying < s->writers && !(order_of(c) == ORDER_FILL && atomic_load(&s->next) >= s->keys);
         c->flying++) {
        struct writer *w = mem_new(sizeof *w);
        w->child = c;
        write_next(w);
    }
}

static void on_split(void *arg, const struct kv_reply *r)
{
    struct child *c = arg;
    (void)r; /* what did not come to be is seen and asked for again */
    c->splitting--;
}

/* Asks the range that owns the key to be cut there; false: not now, or it begins there. */
static bool split_at(struct child *c, struct str key, kv_reply_cb *done)
{
    struct kv_client *client = kv_client_get(c->node.store, 0);
    struct kv_route *r = kv_router_find(client, key);
    if (!r || str_eq(r->bounds.start, key))
        return false;
    struct kv_command cmd = {.kind = KV_CMD_SPLIT,
                             .id = {r->id.epoch, r->id.id},
                             .key = key,
                             .deadline = net_loop_now(loop_of(c)) + 10 * USEC_SEC};
    c->splitting++;
    kv_run(client, &cmd, done, c);
    return true;
}

/* First in halves, then quarters: so that many ranges can be cut at a time. */
static void split_on(struct child *c)
{
    struct shared *s = c->shared;
    for (unsigned step = s->ranges; step > 1 && c->splitting < 64; step /= 2)
        for (unsigned i = step / 2; i < s->ranges && c->splitting < 64; i += step) {
            char key[24];
            key_of(i * s->keys / s->ranges, key);
            (void)split_at(c, str_of(key), on_split);
        }
}

static void on_cut(void *arg, const struct kv_reply *r)
{
    struct child *c = arg;
    c->splitting--;
    (void)r; /* the answer of a split that was done may be lost: the routes tell */
    c->is_cutting = false;
}

/* The fewest voters that any range here has. */
static uint32_t voters_of(const struct child *c)
{
    uint32_t voters = UINT32_MAX;
    list_each(&c->node.kv->loop[0].replicas, x)
    {
        const struct kv_replica *r = container_of(x, struct kv_replica, link);
        uint32_t count = 0;
        for (size_t i = 0; i < raft_config_get(&r->raft)->count; i++)
            count += (raft_config_get(&r->raft)->member[i].role & RAFT_VOTER) != 0;
        voters = count < voters ? count : voters;
    }
    return voters == UINT32_MAX ? 0 : voters;
}

static void look(struct child *c, usec_t now)
{
    struct node_seen *n = &c->shared->seen[c->index];
    struct kv_stats st;
    kv_stats_get(c->node.kv, &st);
    if (now >= c->counted_at + (st.replica_count > 100 ? 5 * USEC_SEC : 0)) {
        c->counted_at = now;
        atomic_store(&n->voters, voters_of(c));
    }
    atomic_store(&n->leads, st.leader_count);
    atomic_store(&n->ranges, (uint32_t)kv_client_get(c->node.store, 0)->chain_count);
    atomic_store(&n->flying, c->flying);
    if (order_of(c) != ORDER_NONE) { /* it asks every group */
        struct engine_log_stats log;
        engine_log_stats(c->node.kv->log, &log);
        atomic_store(&n->syncs, log.syncs);
    }
    atomic_store(&n->entries, st.entry_count);
    atomic_store(&n->snapshots, st.snapshot_in);
    if (st.snapshot_bytes_in > 0 && atomic_load(&n->snapshot_began) == 0)
        atomic_store(&n->snapshot_began, net_clock_now());
    atomic_store(&n->snapshot_bytes, st.snapshot_bytes_in);
    atomic_store(&n->is_ready, kv_is_ready(c->node.kv));
}

static void on_timer(void *arg, usec_t now)
{
    struct child *c = arg;
    struct shared *s = c->shared;
    char key[24];
    int order = order_of(c);
    look(c, now);
    if (order == ORDER_WRITE || order == ORDER_FILL || order == ORDER_CUT)
        write_on(c);
    if (order == ORDER_SPLIT)
        split_on(c);
    if (order == ORDER_CUT && !c->is_cutting && atomic_load(&s->cut_done) == 0) {
        key_of(s->keys / 2, key);
        if (atomic_load(&s->cut_at) == 0)
            atomic_store(&s->cut_at, net_clock_now());
        if (kv_client_get(c->node.store, 0)->chain_count > 1)
            atomic_store(&s->cut_done, net_clock_now());
        else
            c->is_cutting = split_at(c, str_of(key), on_cut);
    }
    atomic_store(&s->seen[c->index].cpu_usec, net_clock_cpu());
    /* seldom while nothing is asked of it: what it costs is measured */
    net_timer_set(loop_of(c), &c->timer, now + (order == ORDER_NONE ? 100 : 5) * USEC_MSEC);
}

static void on_log(void *arg, enum log_level level, const char *event, struct str text,
                   const struct log_field *f, size_t n)
{
    (void)f, (void)n, (void)level;
    if (getenv("VERBOSE"))
        fprintf(stderr, "node %u %s: %.*s\n", ((struct child *)arg)->index, event, STR_ARG(text));
}

struct plan { /* what the nodes are started with */
    unsigned count, voters;
    int learners;
    bool is_fresh_kept;
    struct kv_limits limits;
};

/* Never returns. */
static void child_run(struct shared *s, unsigned index, const char *dir, const struct plan *p)
{
    struct child *c = mem_new(sizeof *c);
    struct log log = {LOG_LEVEL_INFO, on_log, c};
    struct kv_node_conf conf = {.dir = dir,
                                .index = index,
                                .count = p->count,
                                .loop_count = 1,
                                .port = PORT,
                                .limits = p->limits,
                                .voter_count = p->voters,
                                .learner_count = p->learners,
                                .is_fresh_kept = p->is_fresh_kept,
                                .log = &log};
    c->shared = s;
    c->index = index;
    rng_init(&c->rng, index + 1);
    usec_t began = net_clock_now();
    kv_node_open(&c->node, &conf);
    atomic_store(&s->seen[index].opened_usec, net_clock_now() - began);
    (void)buf_reserve(&c->value, 1 << 20);
    memset(c->value.p, 'v', 1 << 20);
    net_timer_init(&c->timer, on_timer, c);
    net_timer_set(loop_of(c), &c->timer, net_loop_now(loop_of(c)) + 1);
    must(net_loop_run(loop_of(c)) == 0);
    _exit(0);
}

/* ---- the parent ---------------------------------------------------------------------------------
 */

struct bench {
    char dir[256];
    struct shared *s;
    pid_t pid[NODES];
    struct plan plan;
};

static void fail(const char *what)
{
    fprintf(stderr, "bench/kv: %s\n", what);
    abort();
}

static void spawn(struct bench *b, unsigned i)
{
    memset(&b->s->seen[i], 0, sizeof b->s->seen[i]);
    atomic_store(&b->s->order[i], ORDER_NONE);
    b->pid[i] = fork();
    if (b->pid[i] == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0)
        child_run(b->s, i, b->dir, &b->plan);
}

static void end(struct bench *b, unsigned i)
{
    kill(b->pid[i], SIGKILL);
    waitpid(b->pid[i], NULL, 0);
    b->pid[i] = 0;
}

static void bench_begin(struct bench *b, struct plan plan)
{
    const char *top = getenv("BENCH_DIR");
    snprintf(b->dir, sizeof b->dir, "%s/bilrost-bench-kv-XXXXXX", top ? top : "/tmp");
    if (!mkdtemp(b->dir))
        fail("no directory");
    b->s = mmap(NULL, sizeof *b->s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (b->s == MAP_FAILED)
        fail("no memory");
    b->plan = plan;
    b->s->keys = 1000000;
    b->s->bytes = BYTES;
    b->s->writers = 64;
}

static void bench_end(struct bench *b)
{
    char cmd[300];
    for (unsigned i = 0; i < NODES; i++)
        if (b->pid[i])
            end(b, i);
    munmap(b->s, sizeof *b->s);
    snprintf(cmd, sizeof cmd, "rm -rf %s", b->dir);
    if (system(cmd) != 0)
        fail("the directory stays");
}

typedef bool condition(struct bench *b, uint64_t u);

/* Seconds it took. */
static double await(struct bench *b, condition *is_so, uint64_t u, const char *what)
{
    double began = bench_now();
    while (!is_so(b, u)) {
        if (bench_now() > began + PATIENCE)
            fail(what);
        usleep(500);
    }
    return bench_now() - began;
}

/* All nodes that run see u ranges, all of them led and with all their voters. */
static bool is_whole(struct bench *b, uint64_t u)
{
    uint32_t leads = 0;
    for (unsigned i = 0; i < b->plan.count; i++) {
        const struct node_seen *n = &b->s->seen[i];
        if (b->pid[i] && (!n->is_ready || n->ranges != u || n->voters != b->plan.voters))
            return false;
        leads += b->pid[i] ? n->leads : 0;
    }
    return leads == u;
}

static bool has_acked(struct bench *b, uint64_t u)
{
    return b->s->acked >= u;
}

static bool is_still(struct bench *b, uint64_t node)
{
    return b->s->seen[node].flying == 0;
}

static bool is_cut(struct bench *b, uint64_t u)
{
    (void)u;
    return b->s->cut_done != 0;
}

static unsigned leader(struct bench *b)
{
    unsigned best = 0;
    for (unsigned i = 1; i < b->plan.count; i++)
        if (b->pid[i] && b->s->seen[i].leads > b->s->seen[best].leads)
            best = i;
    return best;
}

static void begin_nodes(struct bench *b)
{
    for (unsigned i = 0; i < b->plan.count; i++)
        spawn(b, i);
    await(b, is_whole, 1, "no cluster within ten minutes");
}

static void give(struct bench *b, unsigned node, enum order o)
{
    atomic_store(&b->s->order[node], o);
}

static void fill(struct bench *b, unsigned node, uint64_t keys, unsigned bytes, unsigned writers)
{
    b->s->keys = keys;
    b->s->bytes = bytes;
    b->s->writers = writers;
    atomic_store(&b->s->next, 0);
    atomic_store(&b->s->acked, 0);
    double t = bench_now();
    give(b, node, ORDER_FILL);
    await(b, has_acked, keys, "filling takes too long");
    give(b, node, ORDER_NONE);
    t = bench_now() - t;
    printf("  (filled with %llu keys of %u bytes at %.0f/s)\n", (unsigned long long)keys, bytes,
           (double)keys / t);
    b->s->bytes = BYTES;
    b->s->writers = 64;
}

struct sums {
    uint64_t syncs, cpu, entries;
};

static struct sums sums_of(struct bench *b, unsigned node)
{
    struct sums s = {.syncs = b->s->seen[node].syncs, .entries = b->s->seen[node].entries};
    for (unsigned i = 0; i < b->plan.count; i++)
        s.cpu += b->s->seen[i].cpu_usec;
    return s;
}

/* q in 0 .. 1 of the latencies that were measured, milliseconds; sorts them. */
static double quantile(double *v, size_t n, double q)
{
    return n > 0 ? v[(size_t)((double)(n - 1) * q)] : 0;
}

static size_t latencies(struct bench *b, double **out)
{
    size_t n = b->s->latency_count < LATENCIES ? b->s->latency_count : LATENCIES;
    double *v = mem_alloc((n + 1) * sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = b->s->latency[i].took / 1e3;
    qsort(v, n, sizeof *v, bench_double_cmp);
    *out = v;
    return n;
}

/* Writers at one node for some seconds. */
static void measure(struct bench *b, unsigned node, double fdatasync_ms)
{
    struct shared *s = b->s;
    double *v;
    give(b, node, ORDER_WRITE);
    usleep(1000000); /* what the first batches cost is not meant */
    atomic_store(&s->latency_count, 0);
    struct sums from = sums_of(b, node);
    double t = bench_now();
    usleep(SECONDS * 1000000);
    t = bench_now() - t;
    struct sums to = sums_of(b, node);
    size_t n = latencies(b, &v);
    give(b, node, ORDER_NONE);
    double p50 = quantile(v, n, 0.5);
    printf("  %u ranges: %.0f proposals/s, %.1f per fdatasync, %.1f per log entry, p50 %.2f ms = "
           "%.2f fdatasyncs, p99 "
           "%.2f ms, %.1f us of processor each\n",
           s->seen[node].ranges, (double)n / t, (double)n / (double)(to.syncs - from.syncs),
           (double)n / (double)(to.entries - from.entries), p50, p50 / fdatasync_ms,
           quantile(v, n, 0.99), (double)(to.cpu - from.cpu) / (double)n);
    fflush(stdout);
    mem_free(v);
    usleep(500000);
}

static double probe(struct bench *b)
{
    double ms = bench_fdatasync(b->dir, 64 * (BYTES + 40)) / 1e3;
    printf("  one fdatasync of 64 such entries, by hand: p50 %.2f ms\n", ms);
    return ms;
}

static void split_to(struct bench *b, unsigned ranges)
{
    unsigned node = leader(b);
    double t = bench_now();
    b->s->ranges = ranges;
    give(b, node, ORDER_SPLIT);
    await(b, is_whole, ranges, "ranges were not split");
    give(b, node, ORDER_NONE);
    printf("  (%u ranges after %.1f s)\n", ranges, bench_now() - t);
}

static const unsigned range_steps[] = {1, 16, 256, 4096};

static void ranges_of(unsigned nodes)
{
    struct bench b = {0};
    bench_begin(
        &b, (struct plan){.count = nodes, .voters = nodes, .limits = {.range_count_max = 10000}});
    printf("%u node%s, 64 writers, %u bytes\n", nodes, nodes > 1 ? "s" : "", BYTES);
    double ms = probe(&b);
    begin_nodes(&b);
    for (size_t i = 0; i < countof(range_steps); i++) {
        if (range_steps[i] > 1)
            split_to(&b, range_steps[i]);
        measure(&b, leader(&b), ms);
    }
    bench_end(&b);
}

static void part_one(void)
{
    ranges_of(1);
}

static void part_three(void)
{
    ranges_of(3);
}

/* Ranges whose freshness is kept do not sleep, so few of them are enough to see what each costs. */
static void idle(bool is_fresh_kept)
{
    struct bench b = {0};
    bench_begin(&b, (struct plan){.count = 3,
                                  .voters = 3,
                                  .is_fresh_kept = is_fresh_kept,
                                  .limits = {.range_count_max = 10000}});
    printf("three nodes, nobody writes%s\n",
           is_fresh_kept ? ", how fresh machines are is kept" : "");
    begin_nodes(&b);
    for (size_t i = 0; i < (is_fresh_kept ? 2 : countof(range_steps)); i++) {
        if (range_steps[i] > 1)
            split_to(&b, range_steps[i]);
        usleep(60000000); /* leaders are spread, sizes weighed, ranges asleep */
        struct sums from = sums_of(&b, 0);
        double t = bench_now();
        usleep(20000000);
        t = bench_now() - t;
        printf("  %u ranges: %.2f %% of a core for each node\n", range_steps[i],
               (double)(sums_of(&b, 0).cpu - from.cpu) / t / 1e6 * 100 / 3);
        fflush(stdout);
    }
    bench_end(&b);
}

static void part_idle(void)
{
    idle(false);
    idle(true);
}

static void part_failover(void)
{
    struct bench b = {0};
    const char *text = getenv("BENCH_KILLS");
    uint64_t kills = 20;
    if (text && !str_to_u64(str_of(text), &kills))
        fail("BENCH_KILLS is no number");
    bench_begin(&b, (struct plan){.count = 3, .voters = 3});
    double *took = mem_new((kills + 1) * sizeof *took);
    printf("three nodes, the leader is killed under load\n");
    begin_nodes(&b);
    for (uint64_t k = 0; k < kills; k++) {
        unsigned victim = leader(&b), node = (victim + 1) % NODES;
        give(&b, node, ORDER_WRITE);
        await(&b, has_acked, b.s->acked + 200, "nothing is written");
        double t = bench_now();
        end(&b, victim);
        await(&b, has_acked, b.s->acked + 100, "nobody leads");
        took[k] = bench_now() - t;
        give(&b, node, ORDER_NONE);
        spawn(&b, victim);
        await(&b, is_whole, 1, "the node did not come back");
    }
    qsort(took, kills, sizeof *took, bench_double_cmp);
    printf("  %llu kills: writes go on after p50 %.2f s, p99 %.2f s, longest %.2f s\n",
           (unsigned long long)kills, quantile(took, kills, 0.5), quantile(took, kills, 0.99),
           quantile(took, kills, 1));
    mem_free(took);
    bench_end(&b);
}

static void part_split(void)
{
    struct bench b = {0};
    bench_begin(&b, (struct plan){.count = 3, .voters = 3});
    printf("three nodes, a range of 1,000,000 keys is split while 64 writers write\n");
    begin_nodes(&b);
    unsigned node = leader(&b);
    fill(&b, node, 1000000, 100, 2000);
    measure(&b, node, 1);
    atomic_store(&b.s->latency_count, 0);
    give(&b, node, ORDER_WRITE);
    usleep(2000000);
    give(&b, node, ORDER_CUT);
    await(&b, is_cut, 0, "it is not split");
    usleep(3000000);
    give(&b, node, ORDER_NONE);
    await(&b, is_still, node, "a write never ended"); /* one that still waits counts too */
    uint64_t worst = 0, before = 0, after = 0;
    for (uint64_t i = 0; i < b.s->latency_count && i < LATENCIES; i++) {
        uint64_t at = b.s->latency[i].at, ms = b.s->latency[i].took;
        if (at < b.s->cut_at)
            before = ms > before ? ms : before;
        else {
            worst = ms > worst ? ms : worst;
            after++;
        }
    }
    printf("  longest write before %.1f ms, across the split %.1f ms (%llu writes in 3 s, %llu "
           "failed); split "
           "known after %.1f ms\n",
           (double)before / 1e3, (double)worst / 1e3, (unsigned long long)after,
           (unsigned long long)b.s->failed, (double)(b.s->cut_done - b.s->cut_at) / 1e3);
    bench_end(&b);
}

static bool has_snapshot(struct bench *b, uint64_t node)
{
    return b->s->seen[node].snapshots > 0;
}

static void part_snapshot(void)
{
    struct bench b = {0};
    bench_begin(&b, (struct plan){.count = 2,
                                  .voters = 1,
                                  .learners = -1,
                                  .limits = {.ship_bytes_per_sec = (size_t)16 << 30}});
    printf("a learner that was away is given 1 GiB\n");
    begin_nodes(&b);
    usleep(3000000); /* the learner is there */
    end(&b, 1);
    fill(&b, 0, 65536, 16384, 64);
    usleep(8000000); /* the log is cut */
    spawn(&b, 1);
    await(&b, has_snapshot, 1, "no snapshot came");
    const struct node_seen *n = &b.s->seen[1];
    double s = (double)(net_clock_now() - n->snapshot_began) / 1e6;
    printf("  %.0f MiB in %.2f s: %.0f MB/s\n", (double)n->snapshot_bytes / (1 << 20), s,
           (double)n->snapshot_bytes / 1e6 / s);
    bench_end(&b);
}

static bool is_back(struct bench *b, uint64_t u)
{
    (void)u;
    return b->s->seen[0].is_ready && b->s->seen[0].leads == 1;
}

static void recover(uint64_t places)
{
    struct bench b = {0};
    bench_begin(&b, (struct plan){.count = 2,
                                  .voters = 1,
                                  .learners = -1,
                                  .limits = {.log_bytes_max = (size_t)16 << 30}});
    printf(
        "a node is killed with a log of 2 GiB that a lost learner would need, %llu MiB of rows\n",
        (unsigned long long)places * 16384 >> 20);
    begin_nodes(&b);
    usleep(3000000); /* the learner is there */
    end(&b, 1);
    b.s->places = places;
    fill(&b, 0, 131072, 16384, 64);
    end(&b, 0);
    double t = bench_now();
    spawn(&b, 0);
    await(&b, is_back, 0, "it does not come back");
    t = bench_now() - t;
    printf("  leads again after %.2f s, of which %.2f s until log and rows were open; %.2f s of "
           "processor\n",
           t, (double)b.s->seen[0].opened_usec / 1e6, (double)b.s->seen[0].cpu_usec / 1e6);
    bench_end(&b);
}

static void part_recovery(void)
{
    recover(131072);
    recover(8192);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } part[] = {
        {"one", part_one},           {"three", part_three}, {"idle", part_idle},
        {"failover", part_failover}, {"split", part_split}, {"snapshot", part_snapshot},
        {"recovery", part_recovery},
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < countof(part); i++) {
        bool is_wanted = argc < 2;
        for (int k = 1; k < argc; k++)
            is_wanted = is_wanted || strcmp(argv[k], part[i].name) == 0;
        if (is_wanted)
            part[i].run();
        fflush(stdout);
    }
    return 0;
}
