/* Whole nodes and their clients in one process and one virtual time.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Broker, stores, kv and everything below them are the real ones, and so is the load: the pairs of
 * bilrost-bench failover, which reconnect, repeat what was not acknowledged, and count what is
 * lost, doubled or out of order.  net and cluster have the bodies of kvsim/.  Nodes lose their
 * power alone and all at once, with disks that lose what was not synced, and the network between
 * them is cut; then everything is healed. A seed has one of five kinds of trouble: of the whole
 * house (kvsim/world.h); only some links between nodes, while gossip finds its way; clients and
 * nodes that lose sight of each other; all of these and single crashes; long cuts that connections
 * outlive.
 *
 * In every fourth five seeds one node alone has the subscriptions.
 *
 * Beside the pairs there is a crowd (nodesim/): clients with wills that die, clients that take
 * their sessions from node to node, shared subscriptions, retained messages, sessions and messages
 * that expire.
 *
 * Demanded at the end: every message that was acknowledged has arrived, at QoS 2 once and in the
 * order of its publisher (at QoS 1, where resends may double, the first deliveries); no session was
 * forgotten. */
#include "broker/broker.h"
#include "bench/load.h"
#include "broker/tenant.h"
#include "codec/msg.h"
#include "session/settings.h"
#include "sim/kvsim/main.h"
#include "sim/kvsim/stream.h"
#include "sim/nodesim/judge.h"
#include "stores/stores.h"

#define NODES 3
#define PAIRS 5
#define CALM_USEC (8 * USEC_SEC) /* founding, three voters, clients connected */
#define CHAOS_SEC 25
#define DRAIN_SEC 60
#define CANARY_SEEDS 20
#define RECOVER_SEC 12 /* then what was broken is noticed by all */
#define STIR_SEC 15    /* more of the crowd's own trouble, in calm */
#define REST_SEC 14    /* then nobody comes or goes */
#define WATCH_SEC 6    /* and messages are looked at closely */
#define SETTLE_SEC 30
#define EMPTY_SEC 20

enum trouble_kind {
    TROUBLE_HOUSE,
    TROUBLE_LINKS,
    TROUBLE_CLIENTS,
    TROUBLE_ALL,
    TROUBLE_LONG,
    TROUBLE_COUNT
};

/* ---- one node -------------------------------------------------------------------------------- */

static void mqtt_stores(struct sim_node *n)
{
    struct world *w = n->seat.world;
    struct mqtt *m = n->game = mem_new(sizeof *m);
    struct broker_conf bc = {.node = world_uuid(n->seat.node),
                             .epoch = n->life,
                             .loop = &n->loop,
                             .loop_count = 1,
                             .seat = n->seats,
                             .worker = &n->worker,
                             .seed = rng_u64(&w->rng),
                             .log = &node_log[n->seat.node]};
    m->broker = broker_new(&bc);
    struct stores_conf sc = {
        .node = world_uuid(n->seat.node),
        .epoch = n->life,
        .loop = &n->loop,
        .loop_count = 1,
        .kv = n->kv,
        .seat = n->seats,
        .host = *broker_stores_host(m->broker),
        .seed = rng_u64(&w->rng),
        .log = &node_log[n->seat.node],
        .dist_voter_count = 3,
        .inbox_voter_count = 3,
        .retain_voter_count = 3,
        .durability = w->canary == 1 ? KV_DURABILITY_QUORUM : KV_DURABILITY_QUORUM_FSYNC,
    };
    int e = stores_new(&sc, &m->stores);
    must(e == 0);
    struct session_settings values;
    session_settings_init(&values);
    struct broker_settings *settings = broker_settings_new(&values);
    broker_tenant_set(m->broker, STR("default"), settings, &(struct broker_tenant_limits){0});
    broker_settings_unref(settings);
    broker_start(m->broker, m->stores);
}

/* In some worlds only one node has the subscriptions: the others ask it what matches. */
static bool is_sparse(const struct world *w)
{
    return w->seed / TROUBLE_COUNT % 4 == 3;
}

static void mqtt_started(struct sim_node *n)
{
    struct mqtt *m = n->game;
    if (is_sparse(n->seat.world)) {
        char why[KV_RULE_WHY_MAX];
        int r = kv_rule_put(kv_client_get(m->stores->store[STORES_TABLE_DIST], 0),
                            STR("ReplicaCntBalancer"),
                            STR("{\"votersPerRange\":1,\"learnersPerRange\":0}"), why);
        must(r == 0);
    }
    char error[NET_LISTENER_ERROR_MAX];
    struct broker_listen_conf conf = {.name = "tcp", .auth = {.methods = BROKER_AUTH_ANONYMOUS}};
    int e = broker_listen(m->broker, &conf, error);
    must(e == 0);
}

static void mqtt_ended(struct sim_node *n)
{
    struct mqtt *m = n->game;
    stores_stop(m->stores);
    broker_free(m->broker);
    sim_loop_settle(n->loop);
    stores_free(m->stores);
    sim_loop_settle(n->loop);
    n->game = mem_free(m);
}

static const struct world_game mqtt_game = {
    .stores = mqtt_stores, .started = mqtt_started, .ended = mqtt_ended};

/* ---- trouble with the network ---------------------------------------------------------------- */

static void calm_down(struct world_event *ev)
{
    world_clear(ev->b);
}

static void rumour_begins(struct world *w, unsigned i, unsigned k)
{
    w->rumoured_at = w->now;
    w->rumour[i][k] = w->now + 500 * USEC_MSEC + rng_below(&w->rng, 4 * USEC_SEC);
}

static void cut_clients(struct world *w, unsigned i)
{
    uint64_t how = rng_below(&w->rng, 3);
    w->client_cut[i][0] = how != 1;
    w->client_cut[i][1] = how != 0;
}

static void crash(struct world *w, unsigned i)
{
    if (!w->node[i].is_up)
        return;
    node_down(w, i, false);
    world_at(w, w->now + 200 * USEC_MSEC + rng_below(&w->rng, 4 * USEC_SEC), restart, NULL, w)->u =
        i;
}

/* One thing at a time between two nodes, or a node and all clients, for a while. */
static void net_trouble(struct world_event *ev)
{
    struct world *w = ev->b;
    unsigned i = (unsigned)rng_below(&w->rng, w->node_count);
    unsigned k = (i + 1 + (unsigned)rng_below(&w->rng, w->node_count - 1)) % w->node_count;
    enum trouble_kind kind = (enum trouble_kind)ev->u;
    if (!w->is_chaos)
        return;
    usec_t lasts = 200 * USEC_MSEC + rng_below(&w->rng, 12 * USEC_SEC);
    switch (kind == TROUBLE_CLIENTS ? 4 + rng_below(&w->rng, 3)
                                    : rng_below(&w->rng, kind == TROUBLE_ALL ? 8 : 5)) {
    case 0:
        w->cut[i][k] = true;
        break;
    case 1:
        w->cut[i][k] = w->cut[k][i] = true;
        break;
    case 2: /* from all nodes, not from its clients */
        for (k = 0; k < w->node_count; k++)
            w->cut[i][k] = w->cut[k][i] = k != i;
        break;
    case 3:
        rumour_begins(w, i, k);
        break;
    case 4:
        w->lag[i][k] = rng_below(&w->rng, 1500 * USEC_MSEC);
        break;
    case 5:
    case 6:
        cut_clients(w, i);
        break;
    default:
        crash(w, i);
        break;
    }
    world_at(w, w->now + lasts, calm_down, NULL, w);
    lasts += rng_below(&w->rng, 3 * USEC_SEC);
    world_at(w, w->now + lasts, net_trouble, NULL, w)->u = kind;
}

/* As scripts/torture does it: one node loses its whole network, clients too, or two nodes lose each
 * other, for longer than operations last; then all is well until everybody may be back. */
static void long_cut(struct world_event *ev)
{
    struct world *w = ev->b;
    unsigned i = (unsigned)rng_below(&w->rng, w->node_count);
    unsigned k = (i + 1 + (unsigned)rng_below(&w->rng, w->node_count - 1)) % w->node_count;
    bool is_whole = rng_below(&w->rng, 2) == 0;
    if (!w->is_chaos)
        return;
    for (unsigned j = 0; j < w->node_count; j++)
        if (j != i && (is_whole || j == k))
            w->cut[i][j] = w->cut[j][i] = true;
    w->client_cut[i][0] = w->client_cut[i][1] = is_whole;
    usec_t lasts = 4 * USEC_SEC + rng_below(&w->rng, 6 * USEC_SEC);
    world_at(w, w->now + lasts, calm_down, NULL, w);
    lasts += 2 * USEC_SEC + rng_below(&w->rng, 4 * USEC_SEC);
    world_at(w, w->now + lasts, long_cut, NULL, w);
}

/* ---- one world ------------------------------------------------------------------------------- */

static void begin_chaos(struct world_event *ev)
{
    struct world *w = ev->b;
    w->is_chaos = true;
    enum trouble_kind kind = (enum trouble_kind)(w->seed / 2 % TROUBLE_COUNT);
    w->is_indirect = kind == TROUBLE_LINKS || kind == TROUBLE_ALL || kind == TROUBLE_LONG;
    w->is_patient = kind == TROUBLE_LONG;
    void (*begins)(struct world_event *) = kind == TROUBLE_HOUSE  ? trouble
                                           : kind == TROUBLE_LONG ? long_cut
                                                                  : net_trouble;
    world_at(w, w->now + 1, begins, NULL, w)->u = kind;
}

static void end_chaos(struct world_event *ev)
{
    struct crowd *c = ev->a;
    world_heal(ev->b);
    c->calm_from = c->world->now + RECOVER_SEC * USEC_SEC;
}

static const char *verdict(const struct bench_load *l)
{
    const struct bench_result *r = &l->result;
    if (r->error)
        return r->error;
    if (r->sessions_lost)
        return "a session was forgotten";
    if (r->acked + r->refused < r->published)
        return "a message was never acknowledged";
    if (r->lost)
        return "an acknowledged message did not arrive";
    if (l->conf->qos == 2 && r->duplicate)
        return "a QoS 2 message arrived twice";
    if (r->reordered)
        return "messages of one publisher changed places";
    if (r->acked < 100)
        return "hardly anything was acknowledged";
    return NULL;
}

/* The pairs are through: the crowd goes on in calm, rests, is judged, and leaves. */
static void crowd_play_on(struct crowd *c, struct net_loop *clients)
{
    struct world *w = c->world;
    char id[16];
    while (c->calm_from == USEC_NEVER && !w->failed)
        run_until(w, w->now + USEC_SEC);
    run_until(w, (w->now > c->calm_from ? w->now : c->calm_from) + STIR_SEC * USEC_SEC);
    c->is_stirred = false;
    run_until(w, w->now + REST_SEC * USEC_SEC);
    usec_t calm = w->now;
    run_until(w, w->now + WATCH_SEC * USEC_SEC);
    c->is_sourcing = false;
    run_until(w, w->now + SETTLE_SEC * USEC_SEC);
    notes_judge(c, calm);
    wills_judge(c);
    if (!w->failed)
        kept_judge(c);
    if (!w->failed)
        crowd_leaves(c);
    for (unsigned i = 0; i < 2 * PAIRS && !w->failed; i++) {
        snprintf(id, sizeof id, "sim-%c%u", i % 2 ? 's' : 'p', i / 2);
        session_ends(w, clients, id);
    }
    run_until(w, w->now + EMPTY_SEC * USEC_SEC);
    for (unsigned i = 0; i < w->node_count && !w->failed; i++)
        node_left(w, i);
}

static void hosts_fill(struct bench_conf *c)
{
    char text[32];
    for (unsigned i = 0; i < NODES; i++) {
        snprintf(text, sizeof text, "127.0.0.1:%u", i + 1);
        int e = net_address_parse(str_of(text), &c->host[i].address);
        must(e == 0);
    }
    c->host_count = NODES;
}

static bool play(uint64_t seed, bool is_verbose, unsigned canary, struct sim_end *out)
{
    struct world *w = mem_new(sizeof *w);
    struct bench_load *load = mem_new(sizeof *load);
    struct crowd *crowd = mem_new(sizeof *crowd);
    struct bench_conf conf = {.scenario = BENCH_FAILOVER,
                              .version = 5,
                              .qos = (uint8_t)(1 + seed % 2),
                              .sub_qos = (uint8_t)(1 + seed % 2),
                              .publishers = PAIRS,
                              .subscribers = PAIRS,
                              .size = 32,
                              .window = 16,
                              .rate = 60,
                              .seconds = CHAOS_SEC,
                              .drain_sec = DRAIN_SEC,
                              .connect_window = 100,
                              .keep_alive_sec = 10,
                              .prefix = "sim",
                              .is_persistent = true};
    if (seed / 2 % TROUBLE_COUNT == TROUBLE_LONG &&
        seed / (2 * TROUBLE_COUNT) % 2) { /* much under way */
        conf.window = 200;
        conf.rate = 600;
    }
    sim_world = w;
    w->game = &mqtt_game;
    w->seed = seed;
    w->is_verbose = is_verbose;
    w->canary = canary;
    w->is_fifo = true;
    rng_init(&w->rng, seed);
    w->now = USEC_SEC;
    w->node_count = NODES;
    w->slow = (uint32_t)rng_below(&w->rng, 5000);
    hosts_fill(&conf);
    for (unsigned i = 0; i < NODES; i++) {
        w->node[i].fs = engine_fs_mem_new(rng_u64(&w->rng));
        node_up(w, i);
    }
    world_at(w, w->now + 1, members_tick, NULL, w);
    world_at(w, w->now + CALM_USEC, begin_chaos, NULL, w);
    world_at(w, w->now + CALM_USEC + CHAOS_SEC * USEC_SEC, end_chaos, crowd, w);
    struct net_loop *clients = sim_loop_new(w, 0, rng_u64(&w->rng));
    clients->flush = streams_flush;
    crowd_begin(crowd, clients, conf.qos, seed / 2 % TROUBLE_COUNT == TROUBLE_CLIENTS);
    bench_load_play(load, &conf, clients, NULL, NULL);
    const char *why = verdict(load);
    if (why)
        fail(w, why);
    if (!w->failed)
        crowd_play_on(crowd, clients);
    const struct bench_result *r = &load->result;
    out->trace = hash_u64(r->received ^ hash_u64(w->now) ^ hash_u64(r->connections_lost << 20));
    out->now = w->now;
    if (is_verbose)
        printf("seed %llu: qos %u, %llu published, %llu acked, %llu received, %llu lost, %llu "
               "twice, %llu "
               "out of order, %u crashes, trace %016llx\n",
               (unsigned long long)seed, conf.qos, (unsigned long long)r->published,
               (unsigned long long)r->acked, (unsigned long long)r->received,
               (unsigned long long)r->lost, (unsigned long long)r->duplicate,
               (unsigned long long)r->reordered, w->crashes, (unsigned long long)out->trace);
    w->is_over = true;
    bench_load_deinit(load);
    mem_free(load);
    crowd_end(crowd);
    mem_free(crowd);
    world_drop(w);
    sim_loop_settle(clients);
    sim_loop_free(clients);
    bool is_good = !w->failed;
    mem_free(w);
    return is_good;
}

#ifdef BILROST_SANITIZED
/* A node that loses its power frees nothing: what its callers had under way on the link, and their bytes on the
 * wire, are gone with it.  Leaks of the same code are looked for in its unit tests. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

int main(int argc, char **argv)
{
    static const char *const canary[] = {"acknowledging before the disk has it", NULL};
    static const uint64_t found[] = {
        15, 19, /* one node has the subscriptions */
        138,    /* and what waits behind a refused message was not */
        143,    /* exchanges of QoS 2 were answered in another order than they were asked for */
        0};
    static const struct sim_main m = {play, 8, canary, CANARY_SEEDS, found};
    return sim_main(argc, argv, &m);
}
