/* One node on a real disk: founds its stores, acks what is durable, finds it again.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/fs.h"
#include "engine/log.h"
#include "kv/kv.h"
#include "kv/kv_priv.h"
#include "lib/kv_machine.h"
#include "net/clock.h"
#include "net/loop.h"
#include "net/worker.h"
#include "unit/kv/suites.h"

#define DEADLINE TEST_PATIENCE(10 * USEC_SEC)

struct node {
    char dir[64];
    char log_path[96], state_path[96];
    struct net_loop *loop[3];
    unsigned loop_count;
    struct net_worker *worker;
    struct kv *kv;
    struct kv_store *store;
    unsigned leaders, effects;
    bool is_memory, is_one_loop;
    _Atomic unsigned ready_loops; /* bit by bit: those that had a complete machine */
    enum kv_durability durability;
    const struct range_machine_ops *ops; /* NULL: the test machine's */
    const struct engine_fs *fs;
    struct engine_mem *mem; /* the rows of a node in memory, when the test wants them */
};

static struct engine_mem *node_mem(void *arg, const char *store)
{
    (void)store;
    return ((struct node *)arg)->mem;
}

static void on_leader(void *arg, const struct kv_range_view *r, bool is_leader)
{
    (void)r;
    ((struct node *)arg)->leaders += is_leader;
}

static void on_ready(void *arg, const struct kv_range_view *r, bool is_ready)
{
    struct node *n = arg;
    if (is_ready)
        atomic_fetch_or(&n->ready_loops, 1u << r->loop);
}

static void on_effect(void *arg, const struct kv_range_view *r, struct str effect)
{
    (void)r;
    ck_str(effect, STR("boo"));
    ((struct node *)arg)->effects++;
}

static void node_open(struct node *n)
{
    n->loop_count = n->loop_count ? n->loop_count : 1;
    for (unsigned i = 0; i < n->loop_count; i++)
        ck_assert_int_eq(
            net_loop_new(&(struct net_loop_conf){.index = i, .seed = 1 + i}, &n->loop[i]), 0);
    ck_assert_int_eq(net_worker_new(2, 1024, "kv", &n->worker), 0);
    struct kv_conf conf = {
        .node = {{1, 2, 3}},
        .loop = n->loop,
        .loop_count = n->loop_count,
        .worker = n->worker,
        .log_path = n->is_memory ? NULL : n->log_path,
        .state_path = n->is_memory ? NULL : n->state_path,
        .fs = n->fs,
        .seed = 42,
        .election_usec = 100 * USEC_MSEC,
        .mem = n->mem ? node_mem : NULL,
        .mem_arg = n,
    };
    ck_assert_int_eq(kv_new(&conf, &n->kv), 0);
    struct kv_store_conf store = {
        .name = "test.store",
        .ops = n->ops ? n->ops : test_machine_ops(),
        .durability = n->durability,
        .is_one_loop = n->is_one_loop,
        .host = {.arg = n, .leader = on_leader, .effect = on_effect, .ready = on_ready},
    };
    ck_assert_int_eq(kv_store_add(n->kv, &store, &n->store), 0);
}

static void node_start(struct node *n)
{
    node_open(n);
    ck_assert_int_eq(kv_start(n->kv), 0);
}

static void node_stop(struct node *n)
{
    net_worker_stop(n->worker); /* in the node's order: a timer of the last turn may still ask it */
    for (unsigned i = 0; i < n->loop_count; i++)
        net_loop_turn(n->loop[i], 0);
    n->kv = kv_free(n->kv);
    n->worker = net_worker_free(n->worker);
    for (unsigned i = 0; i < n->loop_count; i++)
        n->loop[i] = net_loop_free(n->loop[i]);
}

static void node_init(struct node *n)
{
    *n = (struct node){0};
    snprintf(n->dir, sizeof n->dir, "/tmp/bilrost-kv-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(n->dir));
    snprintf(n->log_path, sizeof n->log_path, "%s/log", n->dir);
    snprintf(n->state_path, sizeof n->state_path, "%s/state", n->dir);
}

static void node_deinit(struct node *n)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", n->dir);
    ck_assert_int_eq(system(cmd), 0);
}

static void turn(struct node *n)
{
    for (unsigned i = 0; i < n->loop_count; i++)
        net_loop_turn(n->loop[i], n->loop_count == 1 ? 10 * USEC_MSEC : 0);
}

struct got {
    bool is_done;
    enum kv_outcome outcome;
    struct buf bytes;
};

static void on_reply(void *arg, const struct kv_reply *r)
{
    struct got *g = arg;
    ck_assert(!g->is_done);
    g->is_done = true;
    g->outcome = r->outcome;
    buf_put_str(&g->bytes, r->bytes);
}

static void await(struct node *n, struct got *g)
{
    usec_t until = net_clock_now() + DEADLINE;
    while (!g->is_done && net_clock_now() < until)
        turn(n);
    ck_assert(g->is_done);
}

static void put(struct node *n, unsigned loop, char op, struct str key, struct str value,
                struct str want)
{
    struct buf cmd = {0};
    struct got g = {0};
    test_command(&cmd, op, key, value);
    kv_propose(kv_client_get(n->store, loop), key, buf_str(&cmd),
               net_loop_now(n->loop[loop]) + DEADLINE, on_reply, &g);
    ck_assert(!g.is_done);
    buf_deinit(&cmd);
    await(n, &g);
    ck_assert_str_eq(kv_outcome_name(g.outcome), "ok");
    ck_str(buf_str(&g.bytes), want);
    buf_deinit(&g.bytes);
}

static void get(struct node *n, unsigned loop, enum kv_read read, struct str request,
                struct str want)
{
    struct got g = {0};
    struct kv_query q = {str_view(request.p + 1, request.n - 1), request, read,
                         net_loop_now(n->loop[loop]) + DEADLINE};
    kv_query(kv_client_get(n->store, loop), &q, on_reply, &g);
    ck_assert(!g.is_done);
    await(n, &g);
    ck_assert_str_eq(kv_outcome_name(g.outcome), "ok");
    ck_str(buf_str(&g.bytes), want);
    buf_deinit(&g.bytes);
}

struct found_range {
    struct kv_range_id id;
    bool is_led;
};

static void on_range(void *arg, const struct kv_range_status *r)
{
    struct found_range *f = arg;
    if (!r || f->is_led || !r->has_leader)
        return;
    f->id = r->id;
    f->is_led = true;
}

/* How a proposal ends that is given `patience`. */
static enum kv_outcome try_put(struct node *n, struct str key, usec_t patience)
{
    struct buf cmd = {0};
    struct got g = {0};
    test_command(&cmd, 's', key, STR("v"));
    kv_propose(kv_client_get(n->store, 0), key, buf_str(&cmd), net_loop_now(n->loop[0]) + patience,
               on_reply, &g);
    buf_deinit(&cmd);
    await(n, &g);
    buf_deinit(&g.bytes);
    return g.outcome;
}

static atomic_bool is_no_space;

static int64_t little_space(void *fs, const char *path)
{
    return atomic_load(&is_no_space) ? 0 : engine_fs_posix().ops->space(fs, path);
}

/* The rows cannot be written: proposals are refused although the log could take them, reads go on.
 */
START_TEST(rows_that_stall_slow_proposers)
{
    struct node n;
    node_init(&n);
    struct engine_fs_ops ops = *engine_fs_posix().ops;
    ops.space = little_space;
    struct engine_fs fs = {&ops, NULL};
    n.fs = &fs;
    node_start(&n);
    put(&n, 0, 's', STR("a"), STR("1"), STR("1"));
    atomic_store(&is_no_space, true);
    usec_t until = net_clock_now() + TEST_PATIENCE(60 * USEC_SEC);
    enum kv_outcome got = KV_OK;
    while (got != KV_E_FULL && net_clock_now() < until) /* a busy machine may miss a deadline */
        got = try_put(&n, STR("b"), 50 * USEC_MSEC);
    ck_assert_str_eq(kv_outcome_name(got), "full");
    ck_assert_int_eq(kv_disk_get(n.kv), KV_DISK_BUSY);
    get(&n, 0, KV_READ_LINEAR, STR("ga"), STR("1"));
    atomic_store(&is_no_space, false);
    while (got != KV_OK && net_clock_now() < until)
        got = try_put(&n, STR("c"), 50 * USEC_MSEC);
    ck_assert_str_eq(kv_outcome_name(got), "ok");
    node_stop(&n);
    node_deinit(&n);
}
END_TEST

START_TEST(keeps_what_it_acked)
{
    struct node n;
    node_init(&n);
    n.loop_count = (unsigned)_i + 1;
    node_start(&n);
    put(&n, 0, 's', STR("a"), STR("1"), STR("1"));
    put(&n, n.loop_count - 1, 'a', STR("l"), STR("x"), STR("x"));
    put(&n, 0, 'a', STR("l"), STR("y"), STR("xy"));
    put(&n, 0, 'e', STR("q"), STR("boo"), STR(""));
    ck_assert_uint_eq(n.leaders, 1);
    ck_assert_uint_eq(n.effects, 1);
    get(&n, 0, KV_READ_LINEAR, STR("gl"), STR("xy"));
    get(&n, n.loop_count - 1, KV_READ_STALE, STR("ga"), STR("1"));
    get(&n, 0, KV_READ_LINEAR, STR("r\0z"), STR("\1a\0011\1l\2xy"));
    for (int round = 0; round < 3; round++) {
        node_stop(&n);
        node_start(&n);
        get(&n, n.loop_count - 1, KV_READ_LINEAR, STR("gl"), STR("xy"));
        get(&n, 0, KV_READ_LINEAR, STR("ga"), round ? STR("12") : STR("1"));
        put(&n, 0, 's', STR("a"), STR("12"), STR("12"));
    }
    struct kv_stats st;
    kv_stats_get(n.kv, &st);
    ck_assert_uint_eq(st.replica_count, 1);
    ck_assert_uint_eq(st.leader_count, 1);
    ck_assert_uint_eq(st.pending_count, 0);
    node_stop(&n);
    node_deinit(&n);
}
END_TEST

static void command(struct node *n, enum kv_command_kind kind, struct str key)
{
    struct kv_client *c = kv_client_get(n->store, 0);
    usec_t until = net_clock_now() + DEADLINE;
    enum kv_outcome outcome = KV_E_CONFLICT; /* as long as a range has just begun to lead */
    while (outcome == KV_E_CONFLICT && net_clock_now() < until) {
        struct got g = {0};
        struct kv_command cmd = {.kind = kind,
                                 .id = {c->chain[0]->id.epoch, c->chain[0]->id.id},
                                 .key = key,
                                 .deadline = net_loop_now(n->loop[0]) + DEADLINE};
        kv_run(c, &cmd, on_reply, &g);
        await(n, &g);
        outcome = g.outcome;
        buf_deinit(&g.bytes);
    }
    ck_assert_str_eq(kv_outcome_name(outcome), "ok");
}

static void await_groups(struct node *n, size_t want)
{
    usec_t until = net_clock_now() + DEADLINE;
    size_t count = 0;
    while (net_clock_now() < until) {
        mem_free(engine_log_groups(n->kv->log, &count));
        if (count == want)
            return;
        turn(n);
    }
    ck_assert_uint_eq(count, want);
}

START_TEST(splits_and_merges)
{
    struct node n;
    node_init(&n);
    n.loop_count = (unsigned)_i + 1;
    node_start(&n);
    put(&n, 0, 's', STR("a"), STR("1"), STR("1"));
    put(&n, 0, 's', STR("x"), STR("2"), STR("2"));
    for (unsigned round = 0; round < 3; round++) {
        command(&n, KV_CMD_SPLIT, STR("m"));
        put(&n, 0, 's', STR("a"), STR("3"), STR("3"));
        put(&n, n.loop_count - 1, 'a', STR("l"), STR("x"), STR("x"));
        put(&n, 0, 'a', STR("y"), STR("y"), STR("y"));
        await_groups(&n, 2);
        command(&n, KV_CMD_MERGE, STR(""));
        put(&n, n.loop_count - 1, 'a', STR("y"), STR("z"), STR("yz"));
        get(&n, 0, KV_READ_LINEAR, STR("gl"), STR("x"));
        await_groups(&n, 1);
        if (round == 1) {
            node_stop(&n);
            node_start(&n);
        }
        get(&n, n.loop_count - 1, KV_READ_LINEAR, STR("r\0z"),
            STR("\1a\0013\1l\1x\1x\0012\1y\2yz"));
        put(&n, 0, 's', STR("l"), STR(""), STR(""));
        put(&n, 0, 's', STR("y"), STR(""), STR(""));
    }
    struct kv_stats st;
    kv_stats_get(n.kv, &st);
    ck_assert_uint_eq(st.replica_count, 1);
    ck_assert_uint_eq(st.leader_count, 1);
    node_stop(&n);
    node_deinit(&n);
}
END_TEST

struct writer {
    struct node *n;
    unsigned left;
    struct buf cmd;
    uint64_t *done;
};

static void on_written(void *arg, const struct kv_reply *r)
{
    struct writer *w = arg;
    ck_assert_int_eq(r->outcome, KV_OK);
    (*w->done)++;
    if (w->left > 0 && --w->left > 0)
        kv_propose(kv_client_get(w->n->store, 0), STR("k"), buf_str(&w->cmd),
                   net_loop_now(w->n->loop[0]) + DEADLINE, on_written, w);
}

/* 64 writers share syncs of the disk. */
START_TEST(writers_share_syncs)
{
    struct node n;
    struct writer w[64];
    char value[256] = {0};
    uint64_t done = 0;
    const unsigned each = 100;
    struct engine_log_stats before, after;

    node_init(&n);
    node_start(&n);
    put(&n, 0, 's', STR("k"), STR("1"), STR("1"));
    engine_log_stats(n.kv->log, &before);
    usec_t began = net_clock_now();
    for (size_t i = 0; i < countof(w); i++) {
        w[i] = (struct writer){.n = &n, .left = each, .done = &done};
        test_command(&w[i].cmd, 's', STR("k"), str_view(value, sizeof value));
        kv_propose(kv_client_get(n.store, 0), STR("k"), buf_str(&w[i].cmd),
                   net_loop_now(n.loop[0]) + DEADLINE, on_written, &w[i]);
    }
    while (done < countof(w) * each && net_clock_now() < began + DEADLINE)
        turn(&n);
    usec_t took = net_clock_now() - began;
    engine_log_stats(n.kv->log, &after);
    ck_assert_uint_eq(done, countof(w) * each);
    uint64_t syncs = after.syncs - before.syncs;
    if (getenv("VERBOSE"))
        printf("%llu proposals, %llu syncs, %.1f per sync, %.0f/s\n", (unsigned long long)done,
               (unsigned long long)syncs, (double)done / (double)syncs,
               1e6 * (double)done / (double)took);
    ck_assert_uint_ge(done, syncs * 20);
    for (size_t i = 0; i < countof(w); i++)
        buf_deinit(&w[i].cmd);
    node_stop(&n);
    node_deinit(&n);
}
END_TEST

START_TEST(works_in_memory)
{
    struct node n;
    node_init(&n);
    n.is_memory = true;
    node_start(&n);
    put(&n, 0, 's', STR("a"), STR("1"), STR("1"));
    get(&n, 0, KV_READ_LINEAR, STR("ga"), STR("1"));
    node_stop(&n);
    node_deinit(&n);
}
END_TEST

START_TEST(refuses_what_is_too_much)
{
    struct node n;
    struct got g = {0};
    char *big = calloc(1, 5 << 20);
    node_init(&n);
    node_start(&n);
    kv_propose(kv_client_get(n.store, 0), STR("k"), str_view(big, 5 << 20),
               net_loop_now(n.loop[0]) + DEADLINE, on_reply, &g);
    ck_assert(!g.is_done);
    await(&n, &g);
    ck_assert_int_eq(g.outcome, KV_E_INVALID);
    node_stop(&n);
    node_deinit(&n);
    free(big);
}
END_TEST

static void split(struct node *n, struct str key)
{
    struct got g = {0};
    struct found_range f = {0};
    usec_t until = net_clock_now() + DEADLINE;
    do {
        f = (struct found_range){0};
        kv_status(kv_client_get(n->store, 0), on_range, &f);
        turn(n);
    } while (!f.is_led && net_clock_now() < until);
    struct kv_command c = {.kind = KV_CMD_SPLIT,
                           .id = f.id,
                           .key = key,
                           .deadline = net_loop_now(n->loop[0]) + DEADLINE};
    kv_run(kv_client_get(n->store, 0), &c, on_reply, &g);
    await(n, &g);
    ck_assert_str_eq(kv_outcome_name(g.outcome), "ok");
}

/* A command that writes where its range is not: nothing of it is kept, in memory or on the disk,
 * and everything goes on. */
START_TEST(refuses_rows_of_others)
{
    struct node n;
    struct buf cmd = {0};
    struct got g = {0};
    node_init(&n);
    node_start(&n);
    put(&n, 0, 's', STR("a"), STR("1"), STR("1"));
    put(&n, 0, 's', STR("z"), STR("2"), STR("2"));
    split(&n, STR("m"));
    put(&n, 0, 's', STR("y"), STR("3"), STR("3"));
    test_command(&cmd, 's', STR("a"), STR("poison"));
    for (unsigned i = 0; i < 2; i++) {
        g.is_done = false;
        kv_propose(kv_client_get(n.store, 0), STR("z"), buf_str(&cmd),
                   net_loop_now(n.loop[0]) + DEADLINE, on_reply, &g);
        await(&n, &g);
        ck_assert_str_eq(kv_outcome_name(g.outcome), "ok");
        ck_assert_uint_eq(g.bytes.n, 0);
        put(&n, 0, 'a', STR("z"), STR("+"), i ? STR("2++") : STR("2+"));
        get(&n, 0, KV_READ_LINEAR, STR("ga"), STR("1"));
        struct test_machine *m = kv_local_machine(kv_client_get(n.store, 0), STR("z"));
        ck_assert_ptr_nonnull(test_cell_find(m, STR("y")));
        ck_assert_ptr_null(test_cell_find(m, STR("a")));
    }
    buf_deinit(&cmd);
    node_stop(&n);
    node_start(&n);
    get(&n, 0, KV_READ_LINEAR, STR("ga"), STR("1"));
    get(&n, 0, KV_READ_LINEAR, STR("gz"), STR("2++"));
    node_stop(&n);
    node_deinit(&n);
}
END_TEST

/* What the machines of a store share has one writer: the halves of its ranges stay where the first one is, also
 * after a start. */
START_TEST(keeps_a_store_on_one_loop)
{
    struct node n;
    node_init(&n);
    n.loop_count = 3;
    n.is_one_loop = true;
    node_start(&n);
    for (unsigned start = 0; start < 2; start++) {
        for (unsigned i = 0; start == 0 && i < 7; i++) {
            char key[] = {(char)('h' - i), 0};
            put(&n, i % 3, 's', str_of(key), STR("1"), STR("1"));
            split(&n, str_of(key));
        }
        await_groups(&n, 8);
        for (unsigned i = 0; i < 7; i++) {
            char request[] = {'g', (char)('h' - i), 0};
            get(&n, i % 3, KV_READ_LINEAR, str_of(request), STR("1"));
        }
        ck_assert_int_eq(__builtin_popcount(n.ready_loops), 1);
        node_stop(&n);
        node_start(&n);
    }
    node_stop(&n);
    node_deinit(&n);
}
END_TEST

/* Rows that cannot be read where they are loaded while the node runs: the range is not served, and
 * nothing else ends. */
START_TEST(lives_with_unreadable_rows)
{
    struct node n;
    struct got g = {0};
    struct kv_stats st = {0};
    node_init(&n);
    n.is_memory = true;
    n.ops = test_machine_loading_ops();
    n.mem = engine_mem_new();
    node_start(&n);
    put(&n, 0, 's', STR("a"), STR("1"), STR("1"));
    put(&n, 0, 's', STR("z"), STR("2"), STR("2"));
    engine_mem_spoil(n.mem, -EBADMSG);
    split(&n, STR("m")); /* both halves are loaded anew */
    usec_t until = net_clock_now() + DEADLINE;
    do {
        turn(&n);
        kv_stats_get(n.kv, &st);
    } while (st.replica_count > 0 && net_clock_now() < until);
    ck_assert_uint_eq(st.replica_count, 0);
    struct kv_query q = {STR("a"), STR("ga"), KV_READ_LINEAR,
                         net_loop_now(n.loop[0]) + 100 * USEC_MSEC};
    kv_query(kv_client_get(n.store, 0), &q, on_reply, &g);
    await(&n, &g);
    ck_assert(kv_is_not_executed(g.outcome) && g.outcome != KV_OK);
    node_stop(&n);
    engine_mem_spoil(n.mem, 0);
    engine_mem_free(n.mem);
    node_deinit(&n);
}
END_TEST

/* A replica that was closed in this turn and that a completion of the disk lets go of before the
 * turn ends. */
START_TEST(ends_once)
{
    struct node n;
    struct kv_stats st;
    node_init(&n);
    node_start(&n);
    put(&n, 0, 's', STR("a"), STR("1"), STR("1"));
    struct kv_loop *l = &n.kv->loop[0];
    struct kv_replica *r = container_of(l->replicas.next, struct kv_replica, link);
    kv_replica_close(r, false);
    kv_replica_reap(r);
    for (unsigned i = 0; i < 10; i++)
        turn(&n);
    kv_stats_get(n.kv, &st);
    ck_assert_uint_eq(st.replica_count, 0);
    node_stop(&n);
    node_deinit(&n);
}
END_TEST

static void no_completion(void *arg, const struct engine_state_done *done, size_t count)
{
    (void)arg, (void)done, (void)count;
}

/* With the node stopped. */
static struct engine_state *rows_open(struct node *n)
{
    struct engine_state *s;
    char dir[128];
    snprintf(dir, sizeof dir, "%s/test.store", n->state_path);
    struct engine_state_conf conf = {.dir = dir, .fs = engine_fs_posix(), .done = no_completion};
    ck_assert_int_eq(engine_state_open(&conf, &s), 0);
    return s;
}

/* With the node stopped: what a group has applied, by its row; returns what stood there. */
static struct kv_wire_applied pretend_applied(struct node *n, char group, struct kv_wire_applied a)
{
    const char text[9] = {'a', 0, 0, 0, 0, 0, 0, 0, group};
    const struct str key = str_view(text, sizeof text);
    struct engine_state *s = rows_open(n);
    struct buf row = {0}, out = {0};
    struct kv_wire_applied was;
    struct engine_batch *b = engine_batch_new();
    ck_assert_int_eq(engine_state_get_meta(s, key, &row), 0);
    ck_assert_int_eq(kv_wire_applied_decode(buf_str(&row), &was), 0);
    kv_wire_applied_encode(&a, &out);
    engine_batch_put_meta(b, key, buf_str(&out));
    engine_state_write(s, b, NULL, 0);
    engine_state_close(s);
    buf_deinit(&row);
    buf_deinit(&out);
    return was;
}

/* The only copy of the younger of two ranges has lost the end of its log: the start is refused when
 * the other one is open already.  Nothing of that is left in memory (AddressSanitizer would say
 * so), and on the disk nothing has changed: with the row put back all is there. */
START_TEST(a_refused_start_leaves_nothing_behind)
{
    struct node n;
    struct kv_wire_applied was;
    node_init(&n);
    node_start(&n);
    put(&n, 0, 's', STR("a"), STR("1"), STR("1"));
    put(&n, 0, 's', STR("z"), STR("2"), STR("2"));
    split(&n, STR("m"));
    put(&n, 0, 's', STR("z"), STR("3"), STR("3"));
    node_stop(&n);
    was = pretend_applied(&n, 2, (struct kv_wire_applied){.index = 1000, .term = 1});
    for (unsigned i = 0; i < 2; i++) {
        node_open(&n);
        ck_assert_int_eq(kv_start(n.kv), -EBADMSG);
        ck_assert(!list_empty(&n.kv->loop[0].replicas));
        node_stop(&n);
    }
    (void)pretend_applied(&n, 2, was);
    node_start(&n);
    get(&n, 0, KV_READ_LINEAR, STR("ga"), STR("1"));
    get(&n, 0, KV_READ_LINEAR, STR("gz"), STR("3"));
    node_stop(&n);
    node_deinit(&n);
}
END_TEST

/* With the node stopped: the row that says what the only replica is; config (not empty) and snapshot (not 0) instead
 * of its own. */
static void replica_row(struct node *n, struct buf *was, struct str config, uint64_t snapshot)
{
    const struct str key = str_view("r\0\0\0\0\0\0\0\1", 9);
    struct engine_state *s = rows_open(n);
    struct engine_batch *b = engine_batch_new();
    struct buf out = {0};
    struct kv_wire_replica w;
    if (was->n == 0)
        ck_assert_int_eq(engine_state_get_meta(s, key, was), 0);
    ck_assert_int_eq(kv_wire_replica_decode(buf_str(was), &w), 0);
    if (config.n > 0)
        w.config = config;
    if (snapshot > 0)
        w.snapshot_index = snapshot;
    kv_wire_replica_encode(&w, &out);
    engine_batch_put_meta(b, key, buf_str(&out));
    engine_state_write(s, b, NULL, 0);
    engine_state_close(s);
    buf_deinit(&out);
}

/* Who else has a range cannot be read: it may be the only copy, so nothing of it is thrown away. */
START_TEST(keeps_what_others_may_not_have)
{
    struct node n;
    struct buf was = {0};
    node_init(&n);
    node_start(&n);
    put(&n, 0, 's', STR("a"), STR("1"), STR("1"));
    node_stop(&n);
    replica_row(&n, &was, STR("no configuration"), 0);
    node_open(&n);
    ck_assert_int_eq(kv_start(n.kv), -EBADMSG);
    node_stop(&n);
    replica_row(&n, &was, STR(""), 0);
    node_start(&n);
    get(&n, 0, KV_READ_LINEAR, STR("ga"), STR("1"));
    node_stop(&n);
    node_deinit(&n);
    buf_deinit(&was);
}
END_TEST

/* Says in the rows of the only replica, with the node stopped, that they came as a snapshot at
 * (index, term). */
static void pretend_snapshot(struct node *n, uint64_t index, uint64_t term)
{
    struct buf was = {0};
    struct kv_wire_applied a = pretend_applied(n, 1, (struct kv_wire_applied){.index = 1});
    a.index = index;
    a.term = term;
    (void)pretend_applied(n, 1, a);
    replica_row(n, &was, STR(""), index);
    buf_deinit(&was);
}

/* The machine died when a snapshot was in and the log not yet emptied.  What the log still has at
 * and behind the snapshot's place is of another term: nobody may take it for committed, or vote
 * with it. */
START_TEST(empties_a_log_behind_its_snapshot)
{
    struct node n;
    node_init(&n);
    node_start(&n);
    for (unsigned i = 0; i < 8; i++)
        put(&n, 0, 's', STR("k"), STR("v"), STR("v"));
    node_stop(&n);
    pretend_snapshot(&n, 5, 77);
    node_start(&n);
    struct kv_replica *r = container_of(n.kv->loop[0].replicas.next, struct kv_replica, link);
    ck_assert_uint_eq(r->raft.log.base, 5);
    ck_assert_uint_eq(r->raft.log.base_term, 77);
    ck_assert_uint_eq(r->raft.log.last, 5);
    put(&n, 0, 's', STR("k"), STR("w"), STR("w"));
    node_stop(&n);
    node_start(&n); /* and so it is on the disk */
    get(&n, 0, KV_READ_LINEAR, STR("gk"), STR("w"));
    node_stop(&n);
    node_deinit(&n);
}
END_TEST

/* What the machine wants to do by itself: first something that Raft refuses, then what it may. */
static unsigned tick_count;
static size_t tick_bytes;

static uint64_t refused_tick(void *arg, uint64_t hlc, struct buf *out)
{
    (void)arg, (void)hlc;
    tick_count++;
    if (tick_count == 1)
        memset(buf_reserve(out, tick_bytes), 0, tick_bytes), out->n += tick_bytes;
    else if (tick_count == 2)
        test_command(out, 's', STR("due"), STR("done"));
    return UINT64_MAX;
}

START_TEST(a_command_of_the_machine_that_raft_refuses_is_asked_for_again)
{
    struct node n;
    struct range_machine_ops ops = *test_machine_ops();
    ops.tick = refused_tick;
    tick_count = 0;
    node_init(&n);
    n.ops = &ops;
    node_start(&n);
    tick_bytes = n.kv->raft_conf.entry_bytes_max;
    usec_t until = net_clock_now() + DEADLINE;
    while (tick_count < 3 && net_clock_now() < until) /* the third: after the second was applied */
        turn(&n);
    ck_assert_uint_ge(tick_count, 3);
    get(&n, 0, KV_READ_LINEAR, STR("gdue"), STR("done"));
    node_stop(&n);
    node_deinit(&n);
}
END_TEST

Suite *suite_node(void)
{
    Suite *s = suite_create("node");
    TCase *t = tcase_create("one node");
    tcase_set_timeout(t, TEST_PATIENCE(120));
    tcase_add_loop_test(t, keeps_what_it_acked, 0, 2);
    tcase_add_test(t, rows_that_stall_slow_proposers);
    tcase_add_loop_test(t, splits_and_merges, 0, 3);
    tcase_add_test(t, keeps_a_store_on_one_loop);
    tcase_add_test(t, writers_share_syncs);
    tcase_add_test(t, works_in_memory);
    tcase_add_test(t, refuses_what_is_too_much);
    tcase_add_test(t, refuses_rows_of_others);
    tcase_add_test(t, lives_with_unreadable_rows);
    tcase_add_test(t, ends_once);
    tcase_add_test(t, a_refused_start_leaves_nothing_behind);
    tcase_add_test(t, keeps_what_others_may_not_have);
    tcase_add_test(t, empties_a_log_behind_its_snapshot);
    tcase_add_test(t, a_command_of_the_machine_that_raft_refuses_is_asked_for_again);
    suite_add_tcase(s, t);
    return s;
}
