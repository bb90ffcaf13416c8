/* The machine of routes: rows equal the index, replay and reload, bounds, collection.
 * SPDX-License-Identifier: Apache-2.0 */
#include "dist/dist.h"
#include "unit/dist/dist_unit.h"
#include "unit/replica.h"

struct world {
    struct bench_index index;
    struct dist_conf conf;
    struct replica r;
};

static void world_open(struct world *w)
{
    index_open(&w->index);
    w->conf.index = w->index.x;
    replica_open(&w->r, dist_machine(), &w->conf);
}

static void world_close(struct world *w)
{
    replica_close(&w->r);
    index_close(&w->index);
}

static uint8_t add(struct world *w, const struct dist_route *r, uint32_t member_max)
{
    struct buf b = {0};
    dist_command_begin(&b);
    dist_command_add(&b, r, member_max);
    struct str reply = replica_apply(&w->r, 1, buf_str(&b), true);
    buf_deinit(&b);
    ck_assert_uint_eq(reply.n, 1);
    return (uint8_t)reply.p[0];
}

START_TEST(commands)
{
    struct world w;
    world_open(&w);
    struct dist_route r = route_inbox("t", "a/+", "c1", 3);
    ck_assert_uint_eq(add(&w, &r, 0), 0);
    ck_assert_uint_eq(w.r.row_count, 1);
    ck_assert_uint_eq(add(&w, &r, 0), DIST_E_OLD);
    ck_assert_uint_eq(w.r.out.row_count, 0);
    r.share = DIST_SHARE_UNORDERED;
    r.group = STR("g");
    ck_assert_uint_eq(add(&w, &r, 1), 0);
    r.client = STR("c2");
    ck_assert_uint_eq(add(&w, &r, 1), DIST_E_FULL);
    ck_assert_uint_eq(w.r.row_count, 2);
    r = route_node("t", "a/#/b", 1, 1);
    ck_assert_uint_eq(add(&w, &r, 1), DIST_E_INVALID);

    struct str bad = replica_apply(&w.r, 1, STR("\xD1\x01\xFF"), true);
    ck_assert_uint_eq(bad.n + w.r.out.row_count, 0);

    struct buf q = {0}, reply = {0};
    dist_query_match(&q, STR("t"), STR("a/b"));
    ck_assert_int_eq(replica_query(&w.r, 0, buf_str(&q), &reply), 0);
    struct dist_reply_cursor c = {.rest = buf_str(&reply)};
    struct dist_route got;
    ck_assert(dist_reply_match(&c, &got));
    ck_str(got.client, STR("c1"));
    ck_assert_uint_eq(got.session, 5);
    ck_assert(dist_reply_match(&c, &got));
    ck_str(got.group, STR("g"));
    ck_str(got.filter, STR("a/+"));
    ck_assert(!dist_reply_match(&c, &got) && !c.is_bad);
    buf_deinit(&q);
    buf_deinit(&reply);
    world_close(&w);
}
END_TEST

START_TEST(collection)
{
    struct world w;
    world_open(&w);
    char text[32];
    for (int i = 0; i < 1000; i++) {
        struct dist_route r = route_node("t", "", (uint8_t)(1 + i % 2), 1);
        r.filter = str_view(text, (size_t)snprintf(text, sizeof text, "f/%d", i));
        ck_assert_uint_eq(add(&w, &r, 0), 0);
    }
    struct uuid dead = {{1}};
    struct buf q = {0}, reply = {0};
    uint64_t at = 0, collected = 0;
    unsigned rounds = 0;
    do {
        struct str command;
        struct dist_collected effect;
        q.n = reply.n = 0;
        dist_query_collect(&q, &dead, 1, at, 100);
        ck_assert_int_eq(replica_query(&w.r, 0, buf_str(&q), &reply), 0);
        ck_assert(dist_reply_collect(buf_str(&reply), &at, &command));
        rounds++;
        if (command.n == 0)
            continue;
        replica_apply(&w.r, 2, command, true);
        ck_assert_uint_eq(w.r.out.effect_count, 1);
        ck_assert(dist_effect_decode(range_out_effect_get(&w.r.out, 0), &effect));
        ck_assert(uuid_eq(&effect.node, &dead) && effect.epoch == 1);
        collected += effect.count;
    } while (at != 0);
    ck_assert_uint_eq(collected, 500);
    ck_assert_uint_gt(rounds, 2);
    ck_assert_uint_eq(w.r.row_count, 500);
    buf_deinit(&q);
    buf_deinit(&reply);
    world_close(&w);
}
END_TEST

struct route_text {
    char filter[64], client[8], group[8];
};

static struct dist_route random_route(struct rng *r, struct route_text *at)
{
    struct dist_route d = {.tenant = rng_below(r, 2) ? STR("t1") : STR("t2"),
                           .filter = random_filter(r, at->filter),
                           .incarnation = rng_between(r, 1, 6)};
    d.kind = (enum dist_kind)rng_between(r, 1, 3);
    d.share = d.kind == DIST_KIND_NODE     ? DIST_SHARE_NONE
              : d.kind == DIST_KIND_MEMBER ? (enum dist_share)rng_between(r, 1, 2)
                                           : (enum dist_share)rng_below(r, 3);
    if (d.share != DIST_SHARE_NONE)
        d.group = str_view(at->group, (size_t)snprintf(at->group, 8, "g%d", (int)rng_below(r, 2)));
    if (d.kind != DIST_KIND_NODE)
        d.client =
            str_view(at->client, (size_t)snprintf(at->client, 8, "c%d", (int)rng_below(r, 20)));
    if (d.kind != DIST_KIND_INBOX) {
        d.node.b[0] = (uint8_t)rng_between(r, 1, 3);
        d.epoch = 1;
    }
    if (d.kind != DIST_KIND_NODE)
        d.options = (uint8_t)rng_below(r, 3), d.sub_id = (uint32_t)rng_below(r, 3);
    return d;
}

static void random_command(struct rng *r, struct buf *out)
{
    struct route_text text;
    dist_command_begin(out);
    for (uint64_t n = rng_between(r, 1, 4); n > 0; n--) {
        struct dist_route d = random_route(r, &text);
        if (rng_below(r, 10) < 6)
            dist_command_add(out, &d, 3);
        else
            dist_command_del(out, &d);
    }
}

/* Cut in two that share the index, both halves are what their rows make. */
static void cut(struct rng *r, const struct replica *of)
{
    struct world w, other;
    struct replica right;
    char key[4] = {'t', (char)('1' + rng_below(r, 3)), 0, (char)rng_below(r, 256)};
    index_open(&w.index);
    w.conf.index = w.index.x;
    replica_copy(&w.r, of, &w.conf);
    replica_split(&w.r, &right, str_view(key, sizeof key));
    const struct replica *half[] = {&w.r, &right};
    for (size_t i = 0; i < countof(half); i++) {
        index_open(&other.index);
        other.conf.index = other.index.x;
        replica_copy(&other.r, half[i], &other.conf);
        ck_assert_uint_eq(other.r.ops->state_hash(other.r.m), of->ops->state_hash(half[i]->m));
        world_close(&other);
    }
    replica_close(&right);
    dist_index_check(w.index.x);
    world_close(&w);
}

/* What a host adds and removes on its own account, in the index that a replica writes to. */
static void random_host(struct rng *r, struct dist_index *x)
{
    struct route_text text;
    struct dist_route d = random_route(r, &text);
    int ignored = rng_below(r, 10) < 6 ? dist_index_add(x, DIST_OWNER_HOST, &d, 0)
                                       : dist_index_del(x, DIST_OWNER_HOST, &d);
    (void)ignored;
}

/* Two replicas, one with a host and one without, and a third that is made from rows, agree at every
 * step; the index of the second has routes of the host, too. */
START_TEST(replicas_agree)
{
    struct world a, b;
    struct rng r;
    struct buf command = {0};
    world_open(&a);
    world_open(&b);
    rng_init(&r, (uint64_t)_i + 100);
    for (int step = 0; step < 1500; step++) {
        command.n = 0;
        random_command(&r, &command);
        random_host(&r, b.index.x);
        struct str one = replica_apply(&a.r, 1, buf_str(&command), true);
        struct str two = replica_apply(&b.r, 1, buf_str(&command), false);
        ck_assert(str_eq(one, two));
        if (step % 50 == 0) {
            struct world c;
            index_open(&c.index);
            c.conf.index = c.index.x;
            replica_copy(&c.r, &a.r, &c.conf);
            uint64_t want = a.r.ops->state_hash(a.r.m);
            ck_assert_uint_eq(b.r.ops->state_hash(b.r.m), want);
            ck_assert_uint_eq(c.r.ops->state_hash(c.r.m), want);
            replica_reload(&b.r); /* in place: nothing may change */
            ck_assert_uint_eq(b.r.ops->state_hash(b.r.m), want);
            dist_index_check(b.index.x);
            world_close(&c);
            cut(&r, &a.r);
            index_grace(&a.index);
            index_grace(&b.index);
        }
    }
    buf_deinit(&command);
    world_close(&a);
    world_close(&b);
}
END_TEST

static size_t routes_of(const struct dist_index *x)
{
    struct dist_index_stat s;
    dist_index_stat(x, &s);
    return s.node_routes + s.inbox_routes + s.members;
}

/* The routes of this process outlive a range that goes, until it is certain that no table has them. */
START_TEST(ours_outlive_their_range)
{
    struct world w;
    world_open(&w);
    dist_index_node_local(w.index.x, &(struct uuid){{1}}, 1);
    struct dist_route own = route_node("t", "a", 1, 1), other = route_node("t", "a", 2, 1),
                      session = route_inbox("t", "a", "c", 1), gone = route_node("t", "b", 1, 1);
    ck_assert_uint_eq(add(&w, &own, 0), 0);
    ck_assert_uint_eq(add(&w, &other, 0), 0);
    ck_assert_uint_eq(add(&w, &session, 0), 0);
    ck_assert_uint_eq(add(&w, &gone, 0), 0);
    struct replica again;
    replica_copy(&again, &w.r, &w.conf);
    w.r.ops->free(w.r.m);
    ck_assert_uint_eq(routes_of(w.index.x), 4); /* the second has them all */
    again.ops->free(again.m);
    ck_assert_uint_eq(routes_of(w.index.x), 2);
    ck_assert_int_eq(dist_index_del(w.index.x, 0, &gone), DIST_E_NONE); /* in no table */
    /* the range comes back without one of them */
    again.m = again.ops->new (&w.conf);
    replica_write(&again, &(struct range_write){again.row[again.row_count - 1].key, STR(""), true});
    replica_reload(&again);
    ck_assert_uint_eq(routes_of(w.index.x), 4);
    dist_index_host_settle(w.index.x);
    ck_assert_uint_eq(routes_of(w.index.x), 3);
    ck_assert_ptr_null(dist_index_find(w.index.x, STR("t"), STR("b")));
    replica_close(&again);
    w.r.m = w.r.ops->new (&w.conf);
    world_close(&w);
}
END_TEST

/* What lies in a row's key before the receiver is the same for all receivers of a filter, and no other's. */
START_TEST(receivers)
{
    static const struct {
        const char *key;
        size_t n, name;
    } c[] = {
        {"t\0\7a/b\0nxyz", 11, 7},
        {"t\0\0a/b\0pclient", 14, 7},
        {"t\0\7a/b\0sgroup\0pc", 16, 0},
        {"t\0\7a/b\0", 7, 0},
        {"t\0\7a/b", 6, 0},
        {"t\0", 2, 0},
        {"t", 1, 0},
        {"", 0, 0},
    };
    for (size_t i = 0; i < countof(c); i++)
        ck_assert_uint_eq(dist_machine()->receiver(str_view(c[i].key, c[i].n)), c[i].name);
    struct world w;
    world_open(&w);
    struct dist_route r = route_inbox("t", "a/b", "one", 1), o = route_inbox("t", "a/b", "two", 1);
    ck_assert_uint_eq(add(&w, &r, 0), 0);
    ck_assert_uint_eq(add(&w, &o, 0), 0);
    struct str one = w.r.row[0].key, two = w.r.row[1].key;
    size_t n = dist_machine()->receiver(one);
    ck_assert_uint_eq(n, 7);
    ck_assert_uint_eq(dist_machine()->receiver(two), n);
    ck_assert_int_eq(memcmp(one.p, two.p, n), 0);
    world_close(&w);
}
END_TEST

/* One range is cut in two that share the index: nothing stops matching meanwhile. */
START_TEST(split)
{
    struct world w;
    struct replica right;
    char text[32];
    struct buf wish = {0}, key = {0};
    world_open(&w);
    for (int i = 0; i < 200; i++) {
        struct dist_route r = route_inbox("t", "", "c", 1);
        r.filter = str_view(text, (size_t)snprintf(text, sizeof text, "f/%d", i));
        ck_assert_uint_eq(add(&w, &r, 0), 0);
    }
    buf_put_str(&wish, w.r.row[100].key);
    w.r.ops->split_key(w.r.m, buf_str(&wish), &key);
    ck_assert_uint_eq(key.n, 3);
    ck_assert(str_has_prefix(buf_str(&wish), buf_str(&key)));
    buf_put_str(&w.r.end, buf_str(&key));
    w.r.is_open = false;
    replica_reload(&w.r);
    struct dist_index_stat s;
    dist_index_stat(w.index.x, &s);
    ck_assert_uint_eq(s.inbox_routes, 200);
    right = (struct replica){.ops = dist_machine(), .is_open = true};
    right.m = right.ops->new (&w.conf);
    buf_put_str(&right.start, buf_str(&key));
    for (size_t i = 0; i < w.r.row_count; i++)
        replica_write(&right, &(struct range_write){w.r.row[i].key, w.r.row[i].value, false});
    replica_reload(&right);
    dist_index_sweep_orphans(w.index.x);
    dist_index_stat(w.index.x, &s);
    ck_assert_uint_eq(s.inbox_routes, 200);
    size_t moved = 0;
    for (int i = 0; i < 200; i++) {
        struct dist_route r = route_inbox("t", "", "c", 2);
        r.filter = str_view(text, (size_t)snprintf(text, sizeof text, "f/%d", i));
        moved += add(&w, &r, 0) == DIST_REPLY_MOVED;
    }
    ck_assert_uint_gt(moved, 50);
    ck_assert_uint_lt(moved, 150);
    replica_close(&right);
    dist_index_stat(w.index.x, &s);
    ck_assert_uint_eq(s.inbox_routes, 200 - moved);
    buf_deinit(&wish);
    buf_deinit(&key);
    world_close(&w);
}
END_TEST

Suite *dist_suite(void)
{
    Suite *s = suite_create("dist machine");
    TCase *t = tcase_create("machine");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, commands);
    tcase_add_test(t, collection);
    tcase_add_loop_test(t, replicas_agree, 0, 4);
    tcase_add_test(t, ours_outlive_their_range);
    tcase_add_test(t, receivers);
    tcase_add_test(t, split);
    suite_add_tcase(s, t);
    return s;
}
