/* Three processes over loopback, one of them killed with SIGKILL while it leads and writes.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Nothing acknowledged is lost and there is a leader again within 3 s.
 *
 * The parent only kills and looks: children tell what they do through shared memory.  With KV_BENCH
 * in the environment
 * (seconds) it measures throughput and processor time instead. */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kv/kv_priv.h"
#include "lib/kv_node.h"
#include "net/clock.h"
#include "unit/kv/suites.h"

#define NODES 3
#define IDS 2000000
#define PORT 24100
#define LOOPS KV_NODE_LOOPS
#ifdef BILROST_SANITIZED
#define FAILOVER_USEC (30 * USEC_SEC)
#else
#define FAILOVER_USEC (5 * USEC_SEC)
#endif

enum order { ORDER_NONE, ORDER_WRITE, ORDER_VERIFY, ORDER_STOP };

struct shared {
    _Atomic int order[NODES];
    _Atomic bool is_ready[NODES], is_done[NODES];
    _Atomic uint32_t leads[NODES], voters[NODES];
    _Atomic uint64_t next, acked, unknown, refused, lost[NODES], seen[NODES];
    _Atomic uint64_t lag_usec, lag_max; /* of acknowledged proposals */
    _Atomic uint64_t cpu_usec[NODES], syncs[NODES], entries[NODES];
    unsigned writers, value_bytes;
    bool is_one_loop;
    _Atomic uint8_t
        state[IDS]; /* 0 not written, 1 under way, 2 acknowledged, 3 refused for certain */
};

struct child {
    struct shared *shared;
    unsigned index;
    struct kv_node node;
    struct net_loop *loop;
    struct kv *kv;
    struct kv_store *store;
    struct net_timer timer;
    unsigned flying;
    bool is_verifying;
    struct buf value;
};

struct writer {
    struct child *child;
    uint64_t id;
    usec_t began;
};

static void write_next(struct writer *w);

static void on_written(void *arg, const struct kv_reply *r)
{
    struct writer *w = arg;
    struct shared *s = w->child->shared;
    if (r->outcome == KV_OK) {
        uint64_t took = net_loop_now(w->child->loop) - w->began;
        atomic_store(&s->state[w->id], 2);
        atomic_fetch_add(&s->acked, 1);
        atomic_fetch_add(&s->lag_usec, took);
        if (took > atomic_load(&s->lag_max))
            atomic_store(&s->lag_max, took);
    } else if (kv_is_not_executed(r->outcome)) {
        atomic_store(&s->state[w->id], 3);
        atomic_fetch_add(&s->refused, 1);
    } else
        atomic_fetch_add(&s->unknown, 1);
    if (r->outcome == KV_OK)
        write_next(w);
    else { /* as a client would: after a breath */
        w->child->flying--;
        mem_free(w);
    }
}

static void write_next(struct writer *w)
{
    struct child *c = w->child;
    struct buf cmd = {0};
    char key[24];
    w->id = atomic_fetch_add(&c->shared->next, 1);
    if (w->id >= IDS || atomic_load(&c->shared->order[c->index]) != ORDER_WRITE) {
        c->flying--;
        mem_free(w);
        return;
    }
    atomic_store(&c->shared->state[w->id], 1);
    snprintf(key, sizeof key, "%010llu", (unsigned long long)w->id);
    test_command(&cmd, 's', str_of(key), buf_str(&c->value));
    w->began = net_loop_now(c->loop);
    kv_propose(kv_client_get(c->store, 0), str_of(key), buf_str(&cmd), w->began + 5 * USEC_SEC,
               on_written, w);
    buf_deinit(&cmd);
}

static void on_verify(void *arg, const struct kv_reply *r)
{
    struct child *c = arg;
    struct shared *s = c->shared;
    c->is_verifying = false;
    if (r->outcome != KV_OK)
        return; /* asked again */
    /* nobody writes any more: the machine may be looked at from this loop */
    struct test_machine *m = kv_local_machine(kv_client_get(c->store, 0), STR(""));
    uint64_t lost = 0, seen = 0;
    for (uint64_t id = 0; m && id < IDS && id < atomic_load(&s->next); id++) {
        char key[24];
        snprintf(key, sizeof key, "%010llu", (unsigned long long)id);
        struct str k = str_of(key);
        bool is_there = test_cell_find(m, k) != NULL;
        uint8_t state = atomic_load(&s->state[id]);
        lost += (state == 2 && !is_there) || (state == 3 && is_there);
        seen += is_there;
    }
    atomic_store(&s->lost[c->index], lost);
    atomic_store(&s->seen[c->index], seen);
    atomic_store(&s->is_done[c->index], m && lost == 0); /* a follower may be behind: look again */
}

static void on_status(void *arg, const struct kv_range_status *r)
{
    struct child *c = arg;
    uint32_t voters = 0;
    for (unsigned i = 0; r && i < r->member_count; i++)
        voters += r->member[i].is_voter && r->member[i].is_next_voter;
    if (r && r->is_local)
        atomic_store(&c->shared->voters[c->index], voters);
}

static void on_timer(void *arg, usec_t now)
{
    struct child *c = arg;
    struct shared *s = c->shared;
    struct kv_stats st;
    kv_stats_get(c->kv, &st);
    atomic_store(&s->leads[c->index], st.leader_count);
    atomic_store(&s->is_ready[c->index], kv_is_ready(c->kv));
    kv_status(kv_client_get(c->store, 0), on_status, c);
    atomic_store(&s->cpu_usec[c->index], net_clock_cpu());
    struct engine_log_stats log;
    engine_log_stats(c->kv->log, &log);
    atomic_store(&s->syncs[c->index], log.syncs);
    atomic_store(&s->entries[c->index], st.entry_count);
    switch ((enum order)atomic_load(&s->order[c->index])) {
    case ORDER_NONE:
        break;
    case ORDER_WRITE:
        for (; c->flying < s->writers && atomic_load(&s->next) < IDS; c->flying++) {
            struct writer *w = mem_new(sizeof *w);
            w->child = c;
            write_next(w);
        }
        break;
    case ORDER_VERIFY:
        if (c->flying > 0 || c->is_verifying || atomic_load(&s->is_done[c->index]))
            break;
        c->is_verifying = true;
        kv_query(kv_client_get(c->store, 0),
                 &(struct kv_query){STR(""), STR("g"), KV_READ_LINEAR, now + 5 * USEC_SEC},
                 on_verify, c);
        break;
    case ORDER_STOP:
        net_loop_stop(c->loop);
        break;
    }
    net_timer_set(c->loop, &c->timer, now + 10 * USEC_MSEC);
}

static void on_log(void *arg, enum log_level level, const char *event, struct str text,
                   const struct log_field *f, size_t n)
{
    (void)f, (void)n, (void)level;
    if (getenv("VERBOSE"))
        fprintf(stderr, "node %u %s: %.*s\n", ((struct child *)arg)->index, event, STR_ARG(text));
}

/* Never returns. */
static void child_run(struct shared *s, unsigned index, const char *dir)
{
    struct child *c = mem_new(sizeof *c);
    static struct log log;
    c->shared = s;
    c->index = index;
    log = (struct log){LOG_LEVEL_INFO, on_log, c};
    struct kv_node_conf conf = {.dir = dir,
                                .index = index,
                                .count = NODES,
                                .loop_count = LOOPS,
                                .port = PORT,
                                .voter_count = 3,
                                .is_one_loop = s->is_one_loop,
                                .log = &log};
    kv_node_open(&c->node, &conf);
    c->loop = c->node.loop[0];
    c->kv = c->node.kv;
    c->store = c->node.store;
    (void)buf_reserve(&c->value, s->value_bytes);
    memset(c->value.p, 'v', s->value_bytes);
    c->value.n = s->value_bytes;
    net_timer_init(&c->timer, on_timer, c);
    net_timer_set(c->loop, &c->timer, net_loop_now(c->loop) + 1);
    for (unsigned i = 1; i < LOOPS; i++)
        must(net_loop_start(c->node.loop[i]) == 0);
    must(net_loop_run(c->loop) == 0);
    _exit(0);
}

struct three {
    char dir[64];
    struct shared *shared;
    pid_t pid[NODES];
};

static void spawn(struct three *t, unsigned i)
{
    atomic_store(&t->shared->is_ready[i], false);
    atomic_store(&t->shared->is_done[i], false);
    atomic_store(&t->shared->leads[i], 0);
    atomic_store(&t->shared->order[i], ORDER_NONE);
    t->pid[i] = fork();
    ck_assert_int_ge(t->pid[i], 0);
    if (t->pid[i] == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0)
        child_run(t->shared, i, t->dir);
}

static void end(struct three *t, unsigned i)
{
    kill(t->pid[i], SIGKILL);
    waitpid(t->pid[i], NULL, 0);
    t->pid[i] = 0;
}

static void three_init(struct three *t, unsigned writers, bool is_one_loop)
{
    snprintf(t->dir, sizeof t->dir, "/tmp/bilrost-kv3-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(t->dir));
    t->shared =
        mmap(NULL, sizeof *t->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(t->shared != MAP_FAILED);
    t->shared->writers = writers;
    t->shared->value_bytes = 256;
    t->shared->is_one_loop = is_one_loop;
    for (unsigned i = 0; i < NODES; i++)
        spawn(t, i);
}

static void three_deinit(struct three *t)
{
    char cmd[128];
    for (unsigned i = 0; i < NODES; i++)
        if (t->pid[i])
            end(t, i);
    munmap(t->shared, sizeof *t->shared);
    snprintf(cmd, sizeof cmd, "rm -rf %s", t->dir);
    ck_assert_int_eq(system(cmd), 0);
}

/* Looks every 5 ms until is_so or the time is over. */
static bool await(struct three *t, usec_t patience, bool (*is_so)(struct three *t, uint64_t u),
                  uint64_t u)
{
    usec_t until = net_clock_now() + patience;
    while (!is_so(t, u)) {
        if (net_clock_now() > until)
            return false;
        usleep(5000);
    }
    return true;
}

static bool is_whole(struct three *t, uint64_t u)
{
    (void)u;
    for (unsigned i = 0; i < NODES; i++)
        if (!t->shared->is_ready[i] || t->shared->voters[i] != 3)
            return false;
    return true;
}

static bool has_acked(struct three *t, uint64_t u)
{
    return t->shared->acked >= u;
}

static bool is_verified(struct three *t, uint64_t u)
{
    return t->shared->is_done[u];
}

static unsigned leader(struct three *t)
{
    for (unsigned i = 0; i < NODES; i++)
        if (t->pid[i] && t->shared->leads[i])
            return i;
    return 0;
}

/* Of a store whose ranges are all on one loop, the loop of a range is not what its id says: several times, as the id
 * is by chance. */
START_TEST(nothing_acked_is_lost)
{
    struct three t = {0};
    three_init(&t, 64, _i > 0);
    ck_assert_msg(await(&t, TEST_PATIENCE(40 * USEC_SEC), is_whole, 0), "three voters within 40 s");
    for (int round = 0; round < (_i ? 1 : 3); round++) {
        unsigned victim = leader(&t), writer = (victim + 1) % NODES;
        atomic_store(&t.shared->order[writer], ORDER_WRITE);
        ck_assert(await(&t, TEST_PATIENCE(20 * USEC_SEC), has_acked, t.shared->acked + 2000));
        usec_t began = net_clock_now();
        end(&t, victim);
        ck_assert_msg(await(&t, TEST_PATIENCE(10 * USEC_SEC), has_acked, t.shared->acked + 500),
                      "writes go on");
        usec_t took = net_clock_now() - began;
        if (getenv("VERBOSE"))
            fprintf(stderr, "killed node %u: writes again after %.3f s\n", victim,
                    (double)took / 1e6);
        ck_assert_uint_le(took, FAILOVER_USEC);
        spawn(&t, victim);
        ck_assert_msg(await(&t, TEST_PATIENCE(40 * USEC_SEC), is_whole, 0),
                      "whole again within 40 s");
        atomic_store(&t.shared->order[writer], ORDER_NONE);
    }
    for (unsigned i = 0; i < NODES; i++)
        atomic_store(&t.shared->order[i], ORDER_VERIFY);
    for (unsigned i = 0; i < NODES; i++)
        ck_assert_msg(await(&t, TEST_PATIENCE(30 * USEC_SEC), is_verified, i),
                      "node %u lost %llu of what was acked", i,
                      (unsigned long long)t.shared->lost[i]);
    if (getenv("VERBOSE"))
        fprintf(stderr, "%llu acked, %llu unknown, %llu refused\n",
                (unsigned long long)t.shared->acked, (unsigned long long)t.shared->unknown,
                (unsigned long long)t.shared->refused);
    three_deinit(&t);
}
END_TEST

START_TEST(bench)
{
    struct three t = {0};
    const char *seconds = getenv("KV_BENCH"), *writers = getenv("KV_WRITERS");
    uint64_t s = 0, w = 256;
    if (!seconds || !str_to_u64(str_of(seconds), &s))
        return;
    if (writers)
        (void)str_to_u64(str_of(writers), &w);
    three_init(&t, (unsigned)w, false);
    ck_assert(await(&t, TEST_PATIENCE(40 * USEC_SEC), is_whole, 0));
    for (int via = 0; via < 2; via++) {
        unsigned writer = (leader(&t) + (unsigned)via) % NODES;
        uint64_t acked = t.shared->acked, lag = t.shared->lag_usec, cpu = 0, syncs = 0, entries = 0;
        atomic_store(&t.shared->lag_max, 0);
        for (unsigned i = 0; i < NODES; i++) {
            cpu += t.shared->cpu_usec[i];
            syncs += t.shared->syncs[i];
            entries += t.shared->entries[i];
        }
        atomic_store(&t.shared->order[writer], ORDER_WRITE);
        usleep((useconds_t)(s * USEC_SEC));
        acked = t.shared->acked - acked;
        lag = t.shared->lag_usec - lag;
        uint64_t cpu_now = 0, syncs_now = 0, entries_now = 0;
        for (unsigned i = 0; i < NODES; i++) {
            cpu_now += t.shared->cpu_usec[i];
            syncs_now += t.shared->syncs[i];
            entries_now += t.shared->entries[i];
        }
        atomic_store(&t.shared->order[writer], ORDER_NONE);
        fprintf(stderr,
                "%s: %.0f/s, %.1f us of processor a proposal (all nodes), mean %.2f ms, longest "
                "%.1f ms, %.1f per entry, "
                "%.1f per sync\n",
                via ? "by a follower" : "at the leader", (double)acked / (double)s,
                (double)(cpu_now - cpu) / (double)acked, (double)lag / (double)acked / 1e3,
                (double)t.shared->lag_max / 1e3, (double)acked / (double)(entries_now - entries),
                (double)acked * 3 / (double)(syncs_now - syncs));
        usleep(500000);
    }
    three_deinit(&t);
}
END_TEST

Suite *suite_three(void)
{
    Suite *s = suite_create("three");
    TCase *t = tcase_create("three nodes");
    tcase_set_timeout(t, TEST_PATIENCE(300));
    tcase_add_loop_test(t, nothing_acked_is_lost, 0, 4);
    tcase_add_test(t, bench);
    suite_add_tcase(s, t);
    return s;
}
