/* Gossip under loss, cuts, crashes, stalls and crooked clocks.  SPDX-License-Identifier: Apache-2.0
 *
 * Each seed plays one scenario (seed % scenarios) with its own chance; every scenario has a limit
 * that it must keep. */
#include <stdio.h>

#include "base/mem.h"
#include "sim/lib/gossip_net.h"

static struct gossip_net *net; /* of the seed being played; the world's argument */

static bool agree(void *arg)
{
    return gossip_net_agrees(arg);
}

static bool agree_and_same(void *arg)
{
    return gossip_net_agrees(arg) && gossip_net_same_table(arg);
}

static usec_t sec(double s)
{
    return (usec_t)(s * 1e6);
}

/* Runs until done, at most limit; fails otherwise.  Asked every 50 ms of world time. */
static void within(struct gossip_net *n, double limit, bool (*done)(void *arg), const char *what)
{
    usec_t start = n->w->now, end = start + sec(limit);
    while (!done(n) && n->w->failure[0] == 0) {
        if (n->w->now >= end) {
            world_fail(n->w, "%s: not within %.1f s", what, limit);
            return;
        }
        world_run(n->w, n->w->now + 50 * USEC_MSEC < end ? n->w->now + 50 * USEC_MSEC : end, NULL);
    }
    world_trace(n->w, "%s after %.2f s", what, (double)(n->w->now - start) / 1e6);
}

static void run_for(struct gossip_net *n, double s)
{
    world_run(n->w, n->w->now + sec(s), NULL);
}

/* count nodes that know each other. */
static void settle(struct gossip_net *n, unsigned count)
{
    gossip_net_init(n, n->w, count);
    for (unsigned i = 0; i < count; i++)
        gossip_net_start(n, i, 0, 1);
    within(n, 30, agree, "settled");
    run_for(n, 12);
}

static void all_join_one_seed(struct gossip_net *n, unsigned count, double limit)
{
    gossip_net_init(n, n->w, count);
    for (unsigned i = 0; i < count; i++)
        gossip_net_start(n, i, 0, 1);
    within(n, limit, agree, "all joined");
    n->expect_quiet = true;
    run_for(n, 20);
}

static void play_join_50(struct gossip_net *n)
{
    all_join_one_seed(n, 50, 5);
}

static void play_join_200(struct gossip_net *n)
{
    n->check_every = 4096;
    all_join_one_seed(n, 200, 8);
}

static const char *wanted_key;
static struct str wanted_value;

static bool has_row(void *arg)
{
    struct gossip_net *n = arg;
    for (unsigned i = 0; i < n->count; i++) {
        if (n->node[i].g == NULL)
            continue;
        const struct gossip_row *r =
            gossip_table_find(gossip_table_of(n->node[i].g), 1, str_of(wanted_key), NULL);
        if (wanted_value.p == NULL ? r != NULL : r == NULL || !str_eq(r->value, wanted_value))
            return false;
    }
    return true;
}

static void write_and_wait(struct gossip_net *n, unsigned i, const char *key, struct str value,
                           double limit)
{
    gossip_net_put(n, i, 1, key, value);
    wanted_key = key;
    wanted_value = value;
    within(n, limit, has_row, "row everywhere");
}

static void play_rows(struct gossip_net *n)
{
    static const double limit[] = {1.5, 3, 5};
    settle(n, 50);
    for (unsigned k = 0; k < 3; k++) {
        n->loss_million = k == 0 ? 0 : k == 1 ? 100000 : 300000;
        write_and_wait(n, (unsigned)rng_below(&n->w->rng, 50), "service/one", STR("127.0.0.1:8898"),
                       limit[k]);
        char key[2] = {(char)('a' + k), 0};
        write_and_wait(n, (unsigned)rng_below(&n->w->rng, 50), key, STR("a value"), limit[k]);
    }
}

static void play_big_rows(struct gossip_net *n)
{
    static char big[60000];
    settle(n, 20);
    memset(big, 'x', sizeof big);
    write_and_wait(n, 3, "ten", str_view(big, 10000), 4);
    write_and_wait(n, 4, "sixty", str_view(big, sizeof big), 4);
    big[0] = 'y';
    write_and_wait(n, 4, "sixty", str_view(big, sizeof big), 4);
    gossip_net_del(n, 4, 1, "sixty");
    wanted_value.p = NULL;
    within(n, 3, has_row, "row gone everywhere");
}

static void kill_one(struct gossip_net *n, unsigned count, double limit)
{
    settle(n, count);
    gossip_net_put(n, 1, 1, "service", STR("here"));
    run_for(n, 3);
    gossip_net_kill(n, 1);
    within(n, limit, agree, "death known everywhere");
    wanted_key = "service";
    wanted_value.p = NULL;
    if (!has_row(n))
        world_fail(n->w, "rows of a dead node are visible");
    n->expect_quiet = true;
    run_for(n, 60);
    if (!agree(n))
        world_fail(n->w, "the dead came back");
}

static void play_kill_3(struct gossip_net *n)
{
    kill_one(n, 3, 8);
}

static void play_kill_10(struct gossip_net *n)
{
    kill_one(n, 10, 10);
}

static void play_kill_50(struct gossip_net *n)
{
    kill_one(n, 50, 15);
}

static void play_loss(struct gossip_net *n)
{
    settle(n, 10);
    n->loss_million = 100000;
    n->expect_quiet = true;
    run_for(n, 3600);
    within(n, 5, agree, "still together");
}

static void play_loss_50(struct gossip_net *n)
{
    settle(n, 50);
    n->loss_million = 100000;
    n->check_every = 4096;
    n->expect_quiet = true;
    run_for(n, 3600);
    within(n, 5, agree, "still together");
}

static void cut_in_parts(struct gossip_net *n, unsigned parts)
{
    for (unsigned i = 0; i < n->count; i++)
        n->node[i].group = i % parts;
}

static void heal_all(struct gossip_net *n)
{
    for (unsigned i = 0; i < n->count; i++)
        n->node[i].group = 0;
}

static void partition(struct gossip_net *n, unsigned count, double duration, double limit)
{
    n->check_every = 512;
    settle(n, count);
    for (unsigned i = 0; i < count && count < 10; i++) { /* few find each other without seeds too */
        struct gossip_event none = {.kind = GOSSIP_EV_SEEDS};
        gossip_net_step(n, i, &none);
    }
    gossip_net_put(n, 0, 1, "doomed", STR("x"));
    gossip_net_put(n, 1, 200, "shared", STR("old"));
    gossip_net_put(n, 1, 200, "shared-doomed", STR("x"));
    within(n, 5, agree_and_same, "rows everywhere");
    cut_in_parts(n, 2);
    within(n, 45, agree, "each side alone");
    gossip_net_del(n, 0, 1, "doomed");
    gossip_net_del(n, 0, 200, "shared-doomed");
    gossip_net_put(n, 0, 200, "shared", STR("of even"));
    run_for(n, duration);
    gossip_net_put(n, 1, 200, "shared", STR("of odd"));
    run_for(n, 2);
    heal_all(n);
    within(n, limit, agree_and_same, "merged");
    for (unsigned i = 0; i < count; i++) {
        const struct gossip_table *t = gossip_table_of(n->node[i].g);
        const struct gossip_row *r = gossip_table_find(t, 200, STR("shared"), NULL);
        if (gossip_table_find(t, 1, STR("doomed"), NULL) != NULL ||
            gossip_table_find(t, 200, STR("shared-doomed"), NULL) != NULL)
            world_fail(n->w, "a deleted row came back on %u", i);
        if (r == NULL || !str_eq(r->value, STR("of odd")))
            world_fail(n->w, "the last writer did not win on %u", i);
    }
}

static void play_partition_60s(struct gossip_net *n)
{
    partition(n, 50, 60, 25);
}

static void play_partition_20min(struct gossip_net *n)
{
    partition(n, 50, 1200, 25);
}

/* Node 0 is cut off now and then: only it may be called dead, and only it may call others so, until
 * all agree again. */
static void watch_bystanders(struct gossip_net *n, unsigned i, const struct gossip_effect *e)
{
    bool is_about_0 = uuid_eq(&e->uuid, &n->node[0].uuid);
    if (e->kind != GOSSIP_OUT_DEAD || is_about_0 || (i == 0 && n->is_merging))
        return;
    world_fail(n->w, "node %u called one dead that was never cut off", i);
}

static void play_brief_cuts(struct gossip_net *n)
{
    static const unsigned size[] = {4, 5, 10, 20};
    settle(n, size[rng_below(&n->w->rng, 4)]);
    n->watch = watch_bystanders;
    for (unsigned k = 0; k < 60 && n->w->failure[0] == 0; k++) {
        n->node[0].group = 1;
        n->is_merging = true;
        run_for(n, 5 + (double)rng_below(&n->w->rng, 40000) / 1000);
        n->node[0].group = 0;
        within(n, 25, agree, "merged");
        n->is_merging = false;
        run_for(n, 5);
    }
}

static void play_partition_of_4(struct gossip_net *n)
{
    partition(n, 4, 1200, 25);
}

static void play_three_ways(struct gossip_net *n)
{
    settle(n, 60); /* each sees more dead than it can knock at in a round */
    cut_in_parts(n, 3);
    within(n, 60, agree, "three islands");
    for (unsigned i = 0; i < n->count; i++)
        n->node[i].group = n->node[i].group == 2 ? 2 : 0;
    within(n, 60, agree, "two islands");
    heal_all(n);
    within(n, 60, agree_and_same, "one");
}

static void play_pair_cut(struct gossip_net *n)
{
    settle(n, 10);
    n->cut[0] = true;
    n->cut_a = 2;
    n->cut_b = 7;
    n->expect_quiet = true;
    run_for(n, 3600);
}

static bool x_is_dead(void *arg)
{
    struct gossip_net *n = arg;
    bool known;
    for (unsigned i = 1; i < n->count; i++)
        if (gossip_net_view(n, i, 0, &known) != GOSSIP_ST_DEAD)
            return false;
    return true;
}

static void play_mute(struct gossip_net *n)
{
    settle(n, 20);
    n->node[0].is_mute = true;
    within(n, 60, x_is_dead, "the mute one is dead everywhere");
    for (unsigned i = 1; i < n->count; i++)
        for (unsigned j = 1; j < n->count; j++) {
            bool known;
            if (i != j && gossip_net_view(n, i, j, &known) >= GOSSIP_ST_DEAD)
                world_fail(n->w, "%u died because of the mute one", j);
        }
    run_for(n, 20);
    if (n->node[0].isolated_seen == 0)
        world_fail(n->w, "the mute one does not know that it is isolated");
    n->node[0].is_mute = false;
    within(n, 30, agree, "back");
}

/* It hears nothing, and what it says arrives: that others are silent. */
static void play_deaf(struct gossip_net *n)
{
    settle(n, 20);
    n->node[0].is_deaf = true;
    within(n, 60, x_is_dead, "the deaf one is dead everywhere");
    for (unsigned i = 1; i < n->count; i++)
        for (unsigned j = 1; j < n->count; j++) {
            bool known;
            if (i != j && gossip_net_view(n, i, j, &known) >= GOSSIP_ST_DEAD)
                world_fail(n->w, "%u died because of the deaf one", j);
        }
    run_for(n, 20);
    if (n->node[0].isolated_seen == 0)
        world_fail(n->w, "the deaf one does not know that it is isolated");
    n->node[0].is_deaf = false;
    within(n, 30, agree, "back");
}

/* What a node sends when nothing happens, with the host's head and tag and those of UDP and IP. */
static void play_idle(struct gossip_net *n)
{
    static struct gossip_stats before[50], after;
    const double seconds = 120;
    settle(n, 50);
    for (unsigned i = 0; i < n->count; i++)
        for (unsigned k = 0; k < 6; k++) { /* as many facts as a node has */
            char key[16];
            snprintf(key, sizeof key, "fact/%u", k);
            gossip_net_put(n, i, 1, key,
                           STR("sixty four bytes or so, as most of the facts of a node"));
        }
    run_for(n, 60);
    for (unsigned i = 0; i < n->count; i++)
        gossip_stats_get(n->node[i].g, &before[i]);
    run_for(n, seconds);
    for (unsigned i = 0; i < n->count; i++) {
        gossip_stats_get(n->node[i].g, &after);
        double packets = (double)(after.packets_out - before[i].packets_out);
        double bytes = (double)(after.bytes_out - before[i].bytes_out) + packets * (56 + 28);
        double kbit = bytes * 8 / 1000 / seconds;
        if (i == 0)
            world_trace(n->w, "%.1f kbit/s, %.1f packets/s", kbit, packets / seconds);
        if (kbit > 30)
            world_fail(n->w, "node %u sends %.1f kbit/s while nothing happens", i, kbit);
    }
}

static bool seven_is_dead(void *arg)
{
    struct gossip_net *n = arg;
    bool known;
    for (unsigned i = 0; i < n->count; i++)
        if (i != 7 && gossip_net_view(n, i, 7, &known) != GOSSIP_ST_DEAD)
            return false;
    return true;
}

/* A thousand changes of rows a second must not delay the news of a death. */
static void play_flood(struct gossip_net *n)
{
    usec_t dead_at = 0;
    settle(n, 50);
    n->check_every = 4096;
    gossip_net_kill(n, 7);
    usec_t killed = n->w->now;
    for (unsigned k = 0; k < 2000 && n->w->failure[0] == 0; k++) {
        char key[16];
        for (unsigned i = 0; i < 10; i++) {
            snprintf(key, sizeof key, "row/%u", (unsigned)rng_below(&n->w->rng, 500));
            gossip_net_put(n, 1, 1, key, str_view(&k, sizeof k));
        }
        run_for(n, 0.01);
        if (dead_at == 0 && seven_is_dead(n))
            dead_at = n->w->now;
    }
    if (dead_at == 0 || dead_at - killed > sec(15))
        world_fail(n->w, "a death drowned in the flood");
    within(n, 15, agree_and_same, "all rows everywhere");
}

static void play_400(struct gossip_net *n)
{
    static const double limit[] = {2, 3, 5};
    n->check_every = 1 << 20;
    gossip_net_init(n, n->w, 400);
    for (unsigned i = 0; i < n->count; i++)
        gossip_net_start(n, i, 0, 4);
    within(n, 60, agree, "400 joined");
    run_for(n, 60);
    for (unsigned k = 0; k < 3; k++) {
        char key[2] = {(char)('a' + k), 0};
        n->loss_million = k == 0 ? 0 : k == 1 ? 100000 : 300000;
        write_and_wait(n, (unsigned)rng_below(&n->w->rng, 400), key, STR("a value"), limit[k]);
    }
    n->loss_million = 0;
    gossip_net_kill(n, 7);
    within(n, 20, seven_is_dead, "death known everywhere");
    within(n, 5, agree, "nobody else died");
    for (unsigned i = 0; i < n->count; i++)
        if (n->node[i].g != NULL)
            gossip_net_kill(n, i);
    for (unsigned i = 0; i < n->count; i++)
        gossip_net_start(n, (i * 7) % 400, 0, 4);
    within(n, 60, agree, "400 restarted");
}

static void play_lossy_node(struct gossip_net *n)
{
    settle(n, 50);
    n->node[4].loss_million = 500000;
    n->check_every = 4096;
    run_for(n, 3600);
    if (n->false_deaths > 1)
        world_fail(n->w, "%llu false deaths", (unsigned long long)n->false_deaths);
}

static void play_udp_blocked(struct gossip_net *n)
{
    settle(n, 10);
    n->udp_blocked = true;
    n->cut_a = 3;
    n->expect_quiet = true;
    run_for(n, 300);
}

static void play_stalls(struct gossip_net *n)
{
    settle(n, 10);
    n->expect_quiet = true;
    for (unsigned k = 0; k < 30; k++) { /* 2 s in every 10 */
        n->node[6].stalled_until = n->w->now + 2 * USEC_SEC;
        run_for(n, 10);
    }
    n->expect_quiet = false;
    uint64_t epoch = n->node[6].epoch;
    n->node[6].stalled_until = n->w->now + 30 * USEC_SEC;
    run_for(n, 29);
    bool known;
    if (gossip_net_view(n, 0, 6, &known) != GOSSIP_ST_DEAD)
        world_fail(n->w, "30 s of silence are not noticed");
    uint64_t before = n->false_deaths;
    run_for(n, 1);
    within(n, 5, agree, "back after 30 s");
    if (n->node[6].epoch != epoch || n->false_deaths != before)
        world_fail(n->w, "the one that slept took others for dead");
}

static void play_skew(struct gossip_net *n)
{
    settle(n, 5);
    n->node[0].skew = 3600 * (int64_t)USEC_SEC;
    n->node[1].skew = -3600 * (int64_t)USEC_SEC;
    gossip_net_put(n, 0, 200, "rule", STR("from the future"));
    run_for(n, 15);
    gossip_net_put(n, 2, 200, "rule", STR("now"));
    run_for(n, 15);
    for (unsigned i = 2; i < n->count; i++) {
        const struct gossip_row *r =
            gossip_table_find(gossip_table_of(n->node[i].g), 200, STR("rule"), NULL);
        if (r == NULL || !str_eq(r->value, STR("now")))
            world_fail(n->w, "a clock an hour ahead wins on %u", i);
        if (r != NULL && hlc_ms(r->version) > (1700000000ull + 1000 + 3000) * 1000)
            world_fail(n->w, "the clock of %u was pulled along", i);
    }
}

static bool left_everywhere(void *arg)
{
    struct gossip_net *n = arg;
    bool known;
    for (unsigned i = 0; i < n->count; i++)
        if (i != 1 && gossip_net_view(n, i, 1, &known) != GOSSIP_ST_LEFT)
            return false;
    return true;
}

static void play_leave(struct gossip_net *n)
{
    settle(n, 30);
    n->expect_quiet = true;
    struct gossip_event ev = {.kind = GOSSIP_EV_LEAVE};
    gossip_net_step(n, 1, &ev);
    within(n, 1, left_everywhere, "good-bye everywhere");
    run_for(n, 2);
    if (n->node[1].gone_seen == 0)
        world_fail(n->w, "it does not know that it may go");
    gossip_net_kill(n, 1);
    run_for(n, 120);
    if (!left_everywhere(n))
        world_fail(n->w, "one that left is healed");
}

static void play_restarts(struct gossip_net *n)
{
    settle(n, 10);
    for (unsigned i = 0; i < 10; i++) { /* a rolling restart: same identity, same address */
        gossip_net_kill(n, i);
        run_for(n, 0.5);
        gossip_net_start(n, i, (i + 1) % 9, 1);
        within(n, 3, agree, "new epoch everywhere");
        run_for(n, 2);
    }
    /* a new identity at the address of a dead one */
    gossip_net_kill(n, 2);
    struct uuid old = n->node[2].uuid;
    n->node[2].uuid.b[0] ^= 0x55;
    gossip_net_start(n, 2, 5, 1);
    run_for(n, 4);
    for (unsigned i = 0; i < n->count; i++) {
        const struct gossip_member *m = gossip_member_find(n->node[i].g, &old);
        if (i != 2 && (m == NULL || m->state != GOSSIP_ST_DEAD))
            world_fail(n->w, "%u still believes in the one whose address was taken", i);
    }
    within(n, 3, agree, "new identity everywhere");
    /* the same identity at another address */
    gossip_net_kill(n, 3);
    n->node[3].addr.port = 9999;
    gossip_net_start(n, 3, 5, 1);
    within(n, 3, agree, "new address everywhere");
    run_for(n, 60);
    if (!agree(n))
        world_fail(n->w, "ghosts after restarts");
}

static void play_seed_island(struct gossip_net *n)
{
    settle(n, 3);
    gossip_net_kill(n, 0);
    run_for(n, 30);
    gossip_net_start(n, 0, 0, 0); /* the seed node itself has no seeds */
    within(n, 40, agree, "the seed is found again");
}

static void play_duplicate(struct gossip_net *n)
{
    settle(n, 4);
    n->node[3].uuid = n->node[1].uuid; /* a copied data directory, started elsewhere */
    gossip_net_kill(n, 3);
    gossip_net_start(n, 3, 0, 1);
    run_for(n, 10);
    if (n->node[1].duplicate_seen == 0 || n->node[3].duplicate_seen != 0)
        world_fail(n->w, "two lives of one identity: the older one must notice");
}

/* Both copies were started in the same life: the epoch does not tell which is the older. */
static void play_twins(struct gossip_net *n)
{
    settle(n, 4);
    gossip_net_kill(n, 3);
    n->node[3].uuid = n->node[1].uuid;
    n->node[3].epoch = n->node[1].epoch - 1;
    n->node[3].skew = -60 * (int64_t)USEC_SEC; /* so that the clock does not make it newer */
    n->node[3].addr = n->node[1].addr;         /* on one machine */
    n->node[3].addr.port = rng_chance(&n->w->rng, 500000) ? 1 : 9999;
    gossip_net_start(n, 3, (unsigned)rng_below(&n->w->rng, 3), 1);
    for (unsigned k = 0; k < 3000 && n->w->failure[0] == 0; k++) {
        run_for(n, 0.01);
        for (unsigned i = 1; i <= 3; i += 2) /* it stops at once */
            if (n->node[i].duplicate_seen > 0 && n->node[i].g != NULL)
                gossip_net_kill(n, i);
    }
    if ((n->node[1].g == NULL) == (n->node[3].g == NULL))
        world_fail(n->w, "of twins exactly one must notice: %s did",
                   n->node[1].g == NULL ? "both" : "none");
}

static void play_dead_seeds(struct gossip_net *n)
{
    gossip_net_init(n, n->w, 101);
    for (unsigned i = 0; i < 100; i += 2)
        gossip_net_start(n, i, 0, 1);
    within(n, 30, agree, "fifty are together");
    run_for(n, 12);
    gossip_net_start(n, 100, 0, 100);
    within(n, 2, agree, "the newcomer and all others know each other");
}

static void chaos_step(struct gossip_net *n)
{
    struct rng *r = &n->w->rng;
    unsigned i = (unsigned)rng_below(r, n->count);
    char key[8];
    snprintf(key, sizeof key, "k%u", (unsigned)rng_below(r, 20));
    switch (rng_below(r, 10)) {
    case 0:
        if (n->node[i].g != NULL)
            gossip_net_kill(n, i);
        break;
    case 1:
    case 2:
        if (n->node[i].g == NULL)
            gossip_net_start(n, i, (unsigned)rng_below(r, n->count - 2), 3);
        break;
    case 3:
        n->node[i].group = (unsigned)rng_below(r, 2);
        break;
    case 4:
        heal_all(n);
        break;
    case 5:
        n->loss_million = (uint32_t)rng_below(r, 300000);
        break;
    case 6:
        n->node[i].stalled_until = n->w->now + rng_below(r, 20 * USEC_SEC);
        break;
    case 7:
        gossip_net_del(n, i, rng_chance(r, 500000) ? 1 : 200, key);
        break;
    default:
        gossip_net_put(n, i, rng_chance(r, 500000) ? 1 : 200, key, str_view(key, rng_below(r, 3)));
        break;
    }
}

static void play_chaos(struct gossip_net *n)
{
    static const unsigned size[] = {3, 5, 10, 20};
    unsigned count = size[rng_below(&n->w->rng, 4)];
    n->check_every = 16;
    settle(n, count);
    for (unsigned k = 0; k < 300 && n->w->failure[0] == 0; k++) {
        chaos_step(n);
        run_for(n, (double)rng_below(&n->w->rng, 5000) / 1000);
    }
    heal_all(n);
    n->loss_million = 0;
    for (unsigned i = 0; i < n->count; i++)
        if (n->node[i].g == NULL)
            gossip_net_start(n, i, 0, 3);
    run_for(n, 20);
    within(n, 60, agree_and_same, "after the chaos");
}

static const struct scenario {
    const char *name;
    void (*play)(struct gossip_net *n);
} scenario[] = {
    {"chaos", play_chaos},
    {"join 50", play_join_50},
    {"rows", play_rows},
    {"kill 1 of 3", play_kill_3},
    {"kill 1 of 10", play_kill_10},
    {"kill 1 of 50", play_kill_50},
    {"loss, 1 h", play_loss},
    {"partition, 60 s", play_partition_60s},
    {"three ways", play_three_ways},
    {"pair cut, 1 h", play_pair_cut},
    {"mute", play_mute},
    {"deaf", play_deaf},
    {"idle", play_idle},
    {"flood", play_flood},
    {"lossy node", play_lossy_node},
    {"datagrams blocked", play_udp_blocked},
    {"stalls", play_stalls},
    {"skew", play_skew},
    {"leave", play_leave},
    {"restarts", play_restarts},
    {"seed island", play_seed_island},
    {"duplicate identity", play_duplicate},
    {"twins", play_twins},
    {"big rows", play_big_rows},
    {"loss, 50 nodes", play_loss_50},
    {"partition, 20 min", play_partition_20min},
    {"join 200", play_join_200},
    {"400 nodes", play_400},
    {"partition of 4, 20 min", play_partition_of_4},
    {"brief cuts", play_brief_cuts},
    {"a hundred seeds, half of them dead", play_dead_seeds},
};

static void play(struct world *w, uint64_t seed)
{
    const struct scenario *s = &scenario[seed % countof(scenario)];
    net = mem_new(sizeof *net);
    world_init(w, seed, net);
    net->w = w;
    net->is_one_host =
        (seed + seed / countof(scenario)) % 2; /* every scenario in both ways, in turn */
    world_trace(w, "%s%s", s->name, net->is_one_host ? ", on one host" : "");
    s->play(net);
    char why[512];
    if (w->failure[0] != 0) {
        str_copy(why, sizeof why, str_of(w->failure));
        snprintf(w->failure, sizeof w->failure, "%s: %.400s", s->name, why);
    }
    world_trace(w, "%llu packets", (unsigned long long)net->packets);
    gossip_net_deinit(net);
    net = mem_free(net);
}

int main(int argc, char **argv)
{
    return world_main(argc, argv, countof(scenario), play);
}
