/* Whole kv stores in one process and one virtual time: crashes, torn disks, partitions, lost and
 * doubled frames.  Splits by size in some of them.
 * Disks that are full for a while in some of them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * kv, raft, range, balance and the engine's log and state are the real ones; net and cluster have
 * the bodies of kvsim/.
 * Checked after every turn: one leader per range and term, equal state at equal index, raft's and
 * range's own
 * invariants, logs never cut beyond what the rows have for good.  At the end, after everything was
 * healed: every range
 * has its leader and three voters again, none is larger than it may be, all replicas are equal, and
 * the history is linearizable: each key is an append-list whose replies show the whole list, so
 * every observation must be a prefix of the last one, in an order that respects real time, with
 * every acknowledged append once, every refused one never, every unknown one at most once.
 * In half of them ranges sleep when they are idle: then all of them do at the end, and when one
 * node is lost the others wake and lead them. */
#include "lib/kv_machine.h"
#include "sim/kvsim/main.h"
#include "sim/kvsim/world.h"

#define KEYS 6
#define CANARY_SEEDS 30
#define SPLIT_BYTES 4096
#define CHAOS_USEC (30 * USEC_SEC)
#define SETTLE_USEC (90 * USEC_SEC)
#define MANY 40
#define MUCH 200 /* rows of 2 KiB */
#define RESETS 3
#define EVEN_USEC (30 * USEC_SEC) /* three nodes, any number of ranges */

struct op {
    unsigned key;
    uint64_t id; /* 0: a read */
    usec_t start, end;
    enum kv_outcome outcome;
    size_t len;
    uint64_t hash; /* of the list seen */
    bool is_done;
    struct world *world;
};

/* What was asked of the store, and how it ended. */
struct kv_game {
    struct world world;
    struct op **op;
    size_t op_count, op_cap;
    uint64_t next_id;
    unsigned acked, unknown, refused, commands, merges, ranges, resets, resumed;
    unsigned full_count;  /* disks that are full now */
    uint64_t split_bytes; /* 0: nothing is split because of its size */
    usec_t pace;          /* of commands, at most */
};

static struct kv_game *game_of(struct world *w)
{
    return container_of(w, struct kv_game, world);
}

/* ---- checks ---------------------------------------------------------------------------------- */

/* Equal state at equal index. */
static void check_state(struct sim_node *n, struct kv_replica *r)
{
    struct world *w = n->seat.world;
    uint64_t h = test_machine_hash(r->machine) ^ hash_u64(range_version_pack(r->range.version));
    if (seen_value(&w->hashes, r->tag, r->applied, h) != h)
        fail(w, "replicas differ at one index");
    w->trace = hash_u64(w->trace ^ h ^ r->applied ^ w->now);
}

/* A split is made in memory on some nodes and from the rows on the others, with the same result. */
static const struct range_machine_ops *ops_of(const struct world *w, const struct sim_node *n)
{
    return n == &w->node[w->seed % 4] ? test_machine_loading_ops() : test_machine_ops();
}

static void add_store(struct sim_node *n)
{
    struct world *w = n->seat.world;
    struct kv_store *store;
    struct kv_store_conf conf = {.name = "s",
                                 .ops = ops_of(w, n),
                                 .voter_count = 3,
                                 .learner_count = 0,
                                 .split_bytes = game_of(w)->split_bytes,
                                 .durability =
                                     w->canary ? KV_DURABILITY_QUORUM : KV_DURABILITY_QUORUM_FSYNC};
    int e = kv_store_add(n->kv, &conf, &store);
    must(e == 0);
    n->game = store;
}

/* ---- the load -------------------------------------------------------------------------------- */

static void on_reply(void *arg, const struct kv_reply *r)
{
    struct op *o = arg;
    struct world *w = o->world;
    must(!o->is_done);
    o->is_done = true;
    o->end = w->now;
    o->outcome = r->outcome;
    o->len = r->bytes.n;
    o->hash = hash_str(r->bytes, 5);
    if (r->outcome == KV_OK)
        game_of(w)->acked++;
    else if (r->outcome == KV_E_UNKNOWN)
        game_of(w)->unknown++;
    else
        game_of(w)->refused++;
}

static struct op *op_new(struct world *w, unsigned key, bool is_write)
{
    struct op *o = mem_new(sizeof *o);
    *o = (struct op){
        .key = key, .id = is_write ? ++game_of(w)->next_id : 0, .start = w->now, .world = w};
    game_of(w)->op = mem_grow(game_of(w)->op, &game_of(w)->op_cap, game_of(w)->op_count + 1,
                              sizeof(struct op *));
    game_of(w)->op[game_of(w)->op_count++] = o;
    return o;
}

static void op_start(struct world *w, struct sim_node *n, struct op *o, usec_t patience)
{
    char key[8];
    struct buf cmd = {0}, id = {0};
    struct kv_client *c = kv_client_get(n->game, 0);
    snprintf(key, sizeof key, "key%u", o->key);
    if (o->id) {
        buf_put_u64(&id, o->id);
        test_command(&cmd, 'a', str_of(key), buf_str(&id));
        kv_propose(c, str_of(key), buf_str(&cmd), w->now + patience, on_reply, o);
    } else {
        buf_printf(&cmd, "g%s", key);
        kv_query(c,
                 &(struct kv_query){str_of(key), buf_str(&cmd), KV_READ_LINEAR, w->now + patience},
                 on_reply, o);
    }
    buf_deinit(&cmd);
    buf_deinit(&id);
}

static void load(struct world_event *ev)
{
    struct world *w = ev->b;
    struct sim_node *n = &w->node[rng_below(&w->rng, w->node_count)];
    if (!w->is_chaos)
        return;
    if (n->is_up) {
        n->loop->now = w->now;
        op_start(w, n, op_new(w, (unsigned)rng_below(&w->rng, KEYS), rng_chance(&w->rng, 700000)),
                 2 * USEC_SEC);
    }
    world_at(w, w->now + rng_below(&w->rng, 20 * USEC_MSEC), load, NULL, w);
}

/* ---- trouble --------------------------------------------------------------------------------- */

static void on_command(void *arg, const struct kv_reply *r)
{
    struct world *w = arg;
    game_of(w)->commands += r->outcome == KV_OK;
}

static void on_merge(void *arg, const struct kv_reply *r)
{
    struct world *w = arg;
    game_of(w)->merges += r->outcome == KV_OK;
}

/* A transfer or a split of a random range, asked for at a random node. */
static void command(struct world *w)
{
    struct sim_node *n = &w->node[rng_below(&w->rng, w->node_count)];
    struct kv_client *c = n->is_up ? kv_client_get(n->game, 0) : NULL;
    static const enum kv_command_kind kind[] = {KV_CMD_TRANSFER, KV_CMD_TRANSFER, KV_CMD_SPLIT,
                                                KV_CMD_SPLIT,    KV_CMD_MERGE,    KV_CMD_MERGE};
    char key[8];
    if (!c || c->chain_count == 0)
        return;
    n->loop->now = w->now;
    struct kv_route *r = c->chain[rng_below(&w->rng, c->chain_count)];
    struct kv_command cmd = {
        .kind = kind[rng_below(&w->rng, countof(kind))],
        .id = {r->id.epoch, r->id.id},
        .node = {world_uuid((unsigned)rng_below(&w->rng, w->node_count))},
        .node_count = 1,
        .deadline = w->now + 3 * USEC_SEC,
    };
    snprintf(key, sizeof key, "key%u", (unsigned)rng_below(&w->rng, KEYS));
    cmd.key = str_of(key);
    kv_run(c, &cmd, cmd.kind == KV_CMD_MERGE ? on_merge : on_command, w);
}

static void steer(struct world_event *ev)
{
    struct world *w = ev->b;
    if (!w->is_chaos)
        return;
    command(w);
    world_at(w, w->now + rng_below(&w->rng, game_of(w)->pace), steer, NULL, w);
}

/* A disk is full for a while, under a running node or one that starts on it. */
static void space_is_back(struct world_event *ev)
{
    struct world *w = ev->b;
    engine_fs_mem_set(w->node[ev->u].fs, &(struct engine_fs_mem_fault){0});
    game_of(w)->full_count--;
}

static void fill(struct world_event *ev)
{
    struct world *w = ev->b;
    if (!w->is_chaos)
        return;
    unsigned i = (unsigned)rng_below(&w->rng, w->node_count);
    if (game_of(w)->full_count == 0) {
        if (w->node[i].is_up && rng_chance(&w->rng, 500000)) {
            node_down(w, i, rng_chance(&w->rng, 500000));
            world_at(w, w->now + 300 * USEC_MSEC, restart, NULL, w)->u = i;
        }
        engine_fs_mem_set(w->node[i].fs, &(struct engine_fs_mem_fault){.space_max = 1});
        game_of(w)->full_count++;
        world_at(w, w->now + rng_below(&w->rng, 6 * USEC_SEC), space_is_back, NULL, w)->u = i;
    }
    world_at(w, w->now + rng_below(&w->rng, 8 * USEC_SEC), fill, NULL, w);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Whoever leads knows how large its range is, and nothing that can be split is too large. */
static bool is_sized(const struct world *w, const struct kv_replica *r)
{
    uint64_t split = container_of(w, struct kv_game, world)->split_bytes;
    return !kv_replica_is_leader(r) ||
           (r->is_weighed && (split == 0 || kv_weigh_bytes(r) <= split));
}

/* Every range led, as many voters as wanted, every replica at one index. */
static bool is_settled(struct world *w)
{
    struct map at = {0};
    bool is_so = true;
    game_of(w)->ranges = 0;
    for (unsigned i = 0; i < w->node_count && is_so; i++) {
        struct sim_node *n = &w->node[i];
        size_t hosted = 0;
        if (!n->is_up || !kv_is_ready(n->kv)) {
            is_so = false;
            break;
        }
        list_each(&n->kv->loop[0].replicas, x)
        {
            struct kv_replica *r = container_of(x, struct kv_replica, link);
            const struct raft_config *c = raft_config_get(&r->raft);
            unsigned voters = 0;
            for (size_t k = 0; k < c->count; k++)
                voters += (c->member[k].role & RAFT_VOTER) != 0;
            is_so = is_so && r->is_ready && !c->is_joint && voters == 3 && is_sized(w, r) &&
                    seen_value(&at, r->tag, 0, r->applied) == r->applied;
            hosted++;
        }
        is_so = is_so && hosted == kv_client_get(n->game, 0)->chain_count;
        game_of(w)->ranges = (unsigned)hosted;
    }
    drop_map(&at);
    return is_so;
}

#include "sim/kvsim/history.h"

static void check_history(struct world *w)
{
    struct sim_node *n = &w->node[0];
    for (unsigned k = 0; k < KEYS && !w->failed; k++) {
        char key[8];
        snprintf(key, sizeof key, "key%u", k);
        struct test_machine *m = kv_local_machine(kv_client_get(n->game, 0), str_of(key));
        if (!m)
            fail(w, "a key that nobody owns");
        else
            check_key(w, k, buf_str(&test_cell_get(m, str_of(key))->value));
    }
}

static void print_replica(unsigned node, const struct kv_replica *r)
{
    const struct raft_config *c = raft_config_get(&r->raft);
    struct raft_status st = raft_status_get(&r->raft);
    printf("  node %u range %016llx [%.*s, %.*s) version %u replica %llu role %d term %llu commit "
           "%llu applied %llu last %llu "
           "ready %d paused %d frozen %d merging %d command %d entry %d config",
           node, (unsigned long long)r->range_id.id, STR_ARG(r->range.bounds.start),
           STR_ARG(r->range.bounds.end), r->range.version.boundary, (unsigned long long)r->id,
           (int)st.role, (unsigned long long)st.term, (unsigned long long)st.commit,
           (unsigned long long)r->applied, (unsigned long long)st.last, r->is_ready, r->is_paused,
           r->range.frozen != 0, (int)r->range.merge.state,
           r->command ? (int)r->command->command.kind : -1, r->command_entry != NULL);
    for (size_t i = 0; i < c->count; i++)
        printf(" %llu@%u/%d", (unsigned long long)c->member[i].id, c->member[i].store.b[1] - 1u,
               c->member[i].role);
    printf("\n");
}

static void print_all(const struct world *w)
{
    for (unsigned i = 0; w->is_verbose && i < w->node_count; i++) {
        list_each(&w->node[i].kv->loop[0].replicas, x)
            print_replica(i, container_of(x, struct kv_replica, link));
        struct kv_client *c = kv_client_get(w->node[i].game, 0);
        for (size_t k = 0; k < c->route_count; k++)
            printf("  node %u route %016llx version %u leader %u local %d\n", i,
                   (unsigned long long)c->route[k]->id.id, c->route[k]->version.boundary,
                   c->route[k]->leader.b[1], c->route[k]->is_local);
    }
}

static void settle(struct world *w)
{
    usec_t until = w->now + SETTLE_USEC;
    world_heal(w);
    while (!w->failed && w->now < until && !is_settled(w))
        run_until(w, w->now + USEC_SEC);
    if (!w->failed && !is_settled(w)) {
        fail(w, "did not settle after everything was healed");
        print_all(w);
    }
    run_until(w, w->now + 5 * USEC_SEC); /* the last deadlines */
}

/* The most that one node leads, less the least. */
static unsigned leaders_spread(const struct world *w)
{
    unsigned most = 0, least = UINT32_MAX;
    for (unsigned i = 0; i < w->node_count; i++) {
        unsigned leads = 0;
        list_each(&w->node[i].kv->loop[0].replicas, x) leads +=
            kv_replica_is_leader(container_of(x, struct kv_replica, link));
        most = leads > most ? leads : most;
        least = leads < least ? leads : least;
    }
    return most - least;
}

/* Splits until there are MANY more ranges, all led where the first was, but for what the balancers did meanwhile. */
static void split_much(struct world *w)
{
    usec_t until = w->now + SETTLE_USEC;
    for (unsigned i = 0; i < MANY && !w->failed && w->now < until;) {
        struct kv_client *c = kv_client_get(w->node[0].game, 0);
        unsigned before = game_of(w)->commands;
        char key[8];
        snprintf(key, sizeof key, "m%03u", i);
        w->node[0].loop->now = w->now;
        struct kv_command cmd = {
            .kind = KV_CMD_SPLIT, .key = str_of(key), .deadline = w->now + 3 * USEC_SEC};
        for (size_t k = 0; k < c->chain_count; k++)
            if (str_cmp(c->chain[k]->bounds.start, cmd.key) <
                0) /* the last one has it: keys rise */
                cmd.id = (struct kv_range_id){c->chain[k]->id.epoch, c->chain[k]->id.id};
        kv_run(c, &cmd, on_command, w);
        run_until(w, w->now + 100 * USEC_MSEC);
        i += game_of(w)->commands > before;
    }
    if (!w->failed && game_of(w)->commands < MANY)
        fail(w, "a healed store could not be split");
}

/* Whoever has led before, soon all lead alike. */
static void even_out(struct world *w)
{
    usec_t until = w->now + EVEN_USEC;
    while (!w->failed && w->now < until && leaders_spread(w) > 1)
        run_until(w, w->now + USEC_SEC);
    if (!w->failed && leaders_spread(w) > 1) {
        fail(w, "leaders are not even");
        print_all(w);
    }
}

/* Nobody asks for anything any more: every range sleeps on every node. */
static bool is_asleep(const struct world *w)
{
    for (unsigned i = 0; i < w->node_count; i++)
        list_each(&w->node[i].kv->loop[0].replicas, x)
        {
            const struct kv_replica *r = container_of(x, struct kv_replica, link);
            if (!r->raft.is_quiet)
                return false;
        }
    return true;
}

/* Those that are up lead every range among themselves. */
static bool is_led_without(const struct world *w, unsigned lost)
{
    const struct kv_client *c = kv_client_get(w->node[(lost + 1) % w->node_count].game, 0);
    for (size_t k = 0; k < c->chain_count; k++) {
        unsigned leaders = 0;
        for (unsigned i = 0; i < w->node_count; i++) {
            struct kv_replica *r =
                i == lost ? NULL : kv_replica_find(&w->node[i].kv->loop[0], c->chain[k]->tag);
            leaders += r && r->is_leader_told;
        }
        if (leaders != 1)
            return false;
    }
    return true;
}

static void sleep_and_wake(struct world *w)
{
    usec_t until = w->now + 30 * USEC_SEC;
    while (!w->failed && w->now < until && !is_asleep(w))
        run_until(w, w->now + USEC_SEC);
    if (!w->failed && !is_asleep(w))
        fail(w, "an idle range does not sleep");
    if (w->failed)
        return;
    unsigned lost = (unsigned)rng_below(&w->rng, w->node_count);
    bool is_clean = rng_chance(&w->rng, 500000);
    node_down(w, lost, is_clean);
    run_until(w, w->now + 8 * USEC_SEC);
    if (!w->failed && !is_led_without(w, lost))
        fail(w, "ranges slept on when their leader was lost");
    if (!w->failed)
        node_up(w, lost);
}

/* ---- far behind ------------------------------------------------------------------------------ */

/* What one of them missed is more than the others keep in their logs.  */
static void on_much(void *arg, const struct kv_reply *r)
{
    (void)arg;
    (void)r; /* what was lost on the way makes the log no shorter than it has to be */
}

static void write_much(struct world *w, const struct sim_node *n)
{
    struct buf value = {0}, cmd = {0};
    for (unsigned i = 0; i < 2048; i++)
        buf_put_u8(&value, (uint8_t)i);
    for (unsigned i = 0; i < MUCH && !w->failed; i++) {
        char key[8];
        snprintf(key, sizeof key, "far%03u", i);
        cmd.n = 0;
        test_command(&cmd, 's', str_of(key), buf_str(&value));
        n->loop->now = w->now;
        kv_propose(kv_client_get(n->game, 0), str_of(key), buf_str(&cmd), w->now + 5 * USEC_SEC,
                   on_much, NULL);
        run_until(w, w->now + 20 * USEC_MSEC);
    }
    buf_deinit(&value);
    buf_deinit(&cmd);
}

static uint64_t shipped(const struct world *w, uint64_t *out_resumed, uint64_t *out_bytes)
{
    uint64_t n = 0;
    *out_resumed = *out_bytes = 0;
    for (unsigned i = 0; i < w->node_count; i++) {
        struct kv_stats st;
        kv_stats_get(w->node[i].kv, &st);
        n += st.snapshot_in;
        *out_resumed += st.snapshot_resumed;
        *out_bytes += st.snapshot_bytes_in;
    }
    return n;
}

/* One node misses more than the others keep, and the connections over which it gets a snapshot are reset
 * again and again: it goes on where it was cut off. */
static void fall_behind(struct world *w)
{
    unsigned lost = (unsigned)rng_below(&w->rng, w->node_count), resets = 0;
    uint64_t resumed, bytes = 0, began, bytes_began, n = shipped(w, &resumed, &began);
    for (unsigned i = 0; i < w->node_count; i++)
        w->cut[i][lost] = w->cut[lost][i] = i != lost;
    write_much(w, &w->node[(lost + 1) % w->node_count]);
    run_until(w, w->now + 8 * USEC_SEC); /* logs are cut behind marks that take turns of 5 s */
    world_heal(w);
    bytes_began = began;
    for (usec_t until = w->now + SETTLE_USEC; !w->failed && w->now < until;) {
        run_until(w, w->now + 300 * USEC_MSEC);
        if (shipped(w, &resumed, &bytes) > n && is_settled(w))
            break;
        if (bytes > bytes_began + 20000 && resets < RESETS) {
            world_reset(w, lost, (lost + 1) % w->node_count);
            world_reset(w, lost, (lost + 2) % w->node_count);
            resets++;
            bytes_began = bytes;
        }
    }
    game_of(w)->resumed = (unsigned)resumed;
    game_of(w)->resets = resets;
    if (!w->failed && shipped(w, &resumed, &bytes) == n)
        fail(w, "who was far behind got no snapshot");
    if (game_of(w)->ranges > 1) /* each of the others may be too small for a mark */
        return;
    if (!w->failed && (resets == 0 || resumed == 0))
        fail(w, "a snapshot did not go on after its connection was reset");
    if (!w->failed && bytes - began > MUCH * 2048 * 3 / 2)
        fail(w, "a snapshot was sent more than once");
}

static void game_end(struct world *w)
{
    struct kv_game *g = game_of(w);
    world_drop(w);
    for (size_t i = 0; i < g->op_count; i++) {
        if (!g->op[i]->is_done)
            fail(w, "a call never ended");
        mem_free(g->op[i]);
    }
    mem_free(g->op);
}

static const struct world_game kv_game = {.stores = add_store, .check = check_state};

static bool play(uint64_t seed, bool is_verbose, unsigned canary, struct sim_end *out)
{
    struct kv_game *g = mem_new(sizeof *g);
    struct world *w = &g->world;
    w->game = &kv_game;
    w->seed = seed;
    w->is_verbose = is_verbose;
    w->canary = canary;
    rng_init(&w->rng, seed);
    w->now = USEC_SEC;
    w->node_count = 3;
    w->loss = (uint32_t)rng_below(&w->rng, 30000);
    w->doubling = (uint32_t)rng_below(&w->rng, 30000);
    w->slow = (uint32_t)rng_below(&w->rng, 20000);
    g->split_bytes = rng_chance(&w->rng, 300000) ? SPLIT_BYTES : 0;
    g->pace = rng_chance(&w->rng, 500000) ? 400 * USEC_MSEC : 3 * USEC_SEC;
    w->hibernate = rng_chance(&w->rng, 500000) ? 300 * USEC_MSEC : USEC_NEVER;
    if (rng_chance(&w->rng, 500000)) /* snapshots take their time, and have many marks */
        w->ship_part_bytes = 64 + rng_below(&w->rng, 4096);
    if (w->ship_part_bytes > 0 || seed % 5 == 3)
        w->ship_bytes_per_sec = (20 + rng_below(&w->rng, 80)) << 10;
    for (unsigned i = 0; i < w->node_count; i++) {
        w->node[i].fs = engine_fs_mem_new(rng_u64(&w->rng));
        node_up(w, i);
    }
    w->is_chaos = true;
    world_at(w, w->now + 1, members_tick, NULL, w);
    world_at(w, w->now + 1, load, NULL, w);
    world_at(w, w->now + 5 * USEC_SEC + rng_below(&w->rng, 5 * USEC_SEC), trouble, NULL, w);
    if (rng_chance(&w->rng, 700000))
        world_at(w, w->now + 6 * USEC_SEC, steer, NULL, w);
    if (rng_chance(&w->rng, 400000))
        world_at(w, w->now + 8 * USEC_SEC, fill, NULL, w);
    run_until(w, w->now + CHAOS_USEC);
    settle(w);
    if (!w->failed && seed % 10 == 7)
        split_much(w);
    even_out(w);
    if (!w->failed && seed % 5 == 3 && g->split_bytes == 0) { /* else it would split for minutes */
        fall_behind(w);
        settle(w);
    }
    if (!w->failed && w->hibernate != USEC_NEVER) {
        sleep_and_wake(w);
        settle(w);
    }
    if (!w->failed)
        check_history(w);
    w->is_over = true;
    if (is_verbose)
        printf("seed %llu: %u acked, %u unknown, %u refused, %u crashes, %u commands, %u merges, "
               "%u ranges, %u resets, %u snapshots resumed, "
               "trace %016llx\n",
               (unsigned long long)seed, game_of(w)->acked, game_of(w)->unknown,
               game_of(w)->refused, w->crashes, game_of(w)->commands, game_of(w)->merges,
               game_of(w)->ranges, game_of(w)->resets, game_of(w)->resumed,
               (unsigned long long)w->trace);
    if (!w->failed && game_of(w)->acked < 100)
        fail(w, "hardly anything was acknowledged");
    *out = (struct sim_end){w->trace, w->now};
    game_end(w);
    bool is_good = !w->failed;
    mem_free(g);
    return is_good;
}

int main(int argc, char **argv)
{
    static const char *const canary[] = {"acknowledging before the disk has it", NULL};
    static const uint64_t found[] = {
        267, /* what a range had been here waited for a merged one, which waited for it */
        298, /* a row of a former life outlived it, in the simulator */
        0};
    static const struct sim_main m = {play, 20, canary, CANARY_SEEDS, found};
    return sim_main(argc, argv, &m);
}
