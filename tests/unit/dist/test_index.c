/* The match index: rules of matching, routes and their order, host slot, reload, random operations
 * against a model. SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "unit/dist/dist_unit.h"

static size_t match_count(struct bench_index *b, const char *tenant, struct str topic,
                          struct dist_match *m)
{
    dist_index_match(b->x, str_of(tenant), topic, m);
    return m->count;
}

START_TEST(rules)
{
    static const struct {
        const char *filter, *topic;
        bool is_match;
    } table[] = {
        {"a", "a", true},          {"a", "b", false},        {"a/b", "a/b", true},
        {"a/b", "a", false},       {"a", "a/b", false},      {"+", "a", true},
        {"+", "", false},          {"+", "a/b", false},      {"+/+", "/a", true},
        {"/+", "/a", true},        {"+", "/a", false},       {"#", "a", true},
        {"#", "a/b/c", true},      {"a/#", "a", true},       {"a/#", "a/b/c", true},
        {"a/#", "ab", false},      {"a/+/c", "a/b/c", true}, {"a/+/c", "a//c", true},
        {"a/+/c", "a/b/d", false}, {"+/b/#", "a/b", true},   {"#", "$SYS/a", false},
        {"+/a", "$SYS/a", false},  {"$SYS/#", "$SYS", true}, {"$SYS/+", "$SYS/a", true},
        {"a/+", "a/$x", true},     {"/", "/", true},         {"a//b", "a//b", true},
        {"a/", "a", false},        {"a/", "a/", true},       {"+/+/#", "a/b", true},
    };
    struct dist_match m = {0};
    for (size_t i = 0; i < countof(table); i++) {
        struct bench_index b;
        index_open(&b);
        struct dist_route r = route_node("t", table[i].filter, 1, 1);
        ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), 0);
        ck_assert_msg((match_count(&b, "t", str_of(table[i].topic), &m) == 1) == table[i].is_match,
                      "%s on %s", table[i].filter, table[i].topic);
        ck_assert_uint_eq(match_count(&b, "other", str_of(table[i].topic), &m), 0);
        if (table[i].is_match) {
            char text[DIST_TEXT_MAX];
            dist_index_match(b.x, STR("t"), str_of(table[i].topic), &m);
            ck_str(str_view(text, dist_filter_text(m.filter[0], text)), str_of(table[i].filter));
            ck_str(dist_filter_tenant(m.filter[0]), STR("t"));
            ck_assert_ptr_eq(dist_index_find(b.x, STR("t"), str_of(table[i].filter)), m.filter[0]);
        }
        ck_assert_int_eq(dist_index_del(b.x, 0, &r), 0);
        ck_assert_uint_eq(match_count(&b, "t", str_of(table[i].topic), &m), 0);
        struct dist_index_stat s;
        dist_index_stat(b.x, &s);
        ck_assert_uint_eq(s.trie_nodes + s.filters + s.tenants + s.node_routes, 0);
        index_close(&b);
    }
    dist_match_deinit(&m);
}
END_TEST

START_TEST(refused)
{
    struct bench_index b;
    index_open(&b);
    static const char *const bad[] = {"", "a/#/b", "a#", "#a", "a+", "+a/b", "##", "#/a", "++"};
    for (size_t i = 0; i < countof(bad); i++) {
        struct dist_route r = route_node("t", bad[i], 1, 1);
        ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), DIST_E_INVALID);
        ck_assert_int_eq(dist_index_del(b.x, 0, &r), DIST_E_INVALID);
    }
    struct dist_route r = route_inbox("t", "a", "c", 1);
    r.options = 3;
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), DIST_E_INVALID);
    r = route_inbox("t", "a", "", 1);
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), DIST_E_INVALID);
    r = route_inbox("t", "a", "c", 1);
    r.share = DIST_SHARE_ORDERED;
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), DIST_E_INVALID);
    r = route_inbox("t", "a", "c", 1);
    r.kind = DIST_KIND_MEMBER;
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), DIST_E_INVALID);
    char deep[DIST_LEVEL_MAX + 2];
    memset(deep, '/', sizeof deep);
    r = route_node("t", "a", 1, 1);
    r.filter = str_view(deep, DIST_LEVEL_MAX);
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), DIST_E_INVALID);
    r.filter = str_view(deep, DIST_LEVEL_MAX - 1);
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), 0);
    struct dist_match m = {0};
    ck_assert_uint_eq(match_count(&b, "t", r.filter, &m), 1);
    ck_assert_uint_eq(match_count(&b, "t", str_view(deep, DIST_LEVEL_MAX), &m), 0);
    dist_match_deinit(&m);
    index_close(&b);
}
END_TEST

START_TEST(order)
{
    struct bench_index b;
    index_open(&b);
    struct dist_route r = route_inbox("t", "a", "c", 5);
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), 0);
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), DIST_E_OLD);
    r.incarnation = 4;
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), DIST_E_OLD);
    ck_assert_int_eq(dist_index_del(b.x, 0, &r), DIST_E_OLD);
    r.incarnation = 6;
    r.options = 2;
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), 0);
    struct dist_filter *f = dist_index_find(b.x, STR("t"), STR("a"));
    const struct dist_receiver *c = dist_filter_receivers(f);
    ck_assert_uint_eq(c->options, 2);
    ck_assert_uint_eq(c->incarnation, 6);
    ck_assert_ptr_null(dist_receiver_next(c));
    ck_assert_int_eq(dist_index_del(b.x, 0, &r), 0);
    ck_assert_int_eq(dist_index_del(b.x, 0, &r), DIST_E_NONE);
    ck_assert_ptr_null(dist_index_find(b.x, STR("t"), STR("a")));

    /* two nodes: the second goes to the list, and the first may leave before it */
    struct dist_route n1 = route_node("t", "a", 1, 1), n2 = route_node("t", "a", 2, 1);
    ck_assert_int_eq(dist_index_add(b.x, 0, &n1, 0), 0);
    ck_assert_int_eq(dist_index_add(b.x, 0, &n2, 0), 0);
    ck_assert_int_eq(dist_index_add(b.x, 0, &n2, 0), DIST_E_OLD);
    ck_assert_int_eq(dist_index_del(b.x, 0, &n1), 0);
    ck_assert_int_eq(dist_index_add(b.x, 0, &n2, 0), DIST_E_OLD);
    dist_index_check(b.x);
    f = dist_index_find(b.x, STR("t"), STR("a"));
    ck_assert_ptr_null(dist_filter_node(f));
    c = dist_filter_receivers(f);
    ck_assert(dist_receiver_is_live(c));
    dist_index_node_mark(b.x, &n2.node, n2.epoch, true);
    ck_assert(!dist_receiver_is_live(c));
    ck_assert_int_eq(dist_index_del(b.x, 0, &n2), 0);
    index_close(&b);
}
END_TEST

START_TEST(groups)
{
    struct bench_index b;
    index_open(&b);
    struct dist_route r = route_inbox("t", "a/+", "c1", 1);
    r.share = DIST_SHARE_UNORDERED;
    r.group = STR("g");
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 2), 0);
    r.client = STR("c2");
    r.kind = DIST_KIND_MEMBER;
    r.node.b[0] = 3;
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 2), 0);
    r.client = STR("c3");
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 2), DIST_E_FULL);
    r.share = DIST_SHARE_ORDERED; /* another group, though of the same name */
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 2), 0);
    const struct dist_group *g = dist_filter_groups(dist_index_find(b.x, STR("t"), STR("a/+")));
    ck_assert_uint_eq(g->share, DIST_SHARE_ORDERED);
    g = dist_group_next(g);
    ck_assert_uint_eq(dist_group_members(g)->count, 2);
    ck_assert_ptr_null(dist_group_next(g));
    unsigned first = 0;
    for (uint64_t i = 0; i < 100; i++)
        first += str_eq(str_of("c1"), str_view(dist_group_pick(g, i, NULL, NULL)->client, 2));
    ck_assert_uint_eq(first, 50);
    dist_index_node_mark(b.x, &r.node, r.epoch, true);
    for (uint64_t i = 0; i < 100; i++)
        ck_str(str_view(dist_group_pick(g, i, NULL, NULL)->client, 2), STR("c1"));
    dist_index_node_mark(b.x, &r.node, r.epoch, false);
    ck_assert_int_eq(dist_index_del(b.x, 0, &r), 0);
    r.share = DIST_SHARE_UNORDERED;
    r.client = STR("c2");
    ck_assert_int_eq(dist_index_del(b.x, 0, &r), 0);
    r = route_inbox("t", "a/+", "c1", 1);
    ck_assert_int_eq(dist_index_del(b.x, 0, &r), DIST_E_NONE); /* a member is not a plain receiver */
    r.share = DIST_SHARE_UNORDERED;
    r.group = STR("g");
    ck_assert_int_eq(dist_index_del(b.x, 0, &r), 0);
    ck_assert_ptr_null(dist_index_find(b.x, STR("t"), STR("a/+")));
    index_close(&b);
}
END_TEST

/* A publisher of $oshare keeps its member when another one leaves. */
START_TEST(ordered_group_is_sticky)
{
    struct bench_index b;
    index_open(&b);
    char name[8];
    struct dist_route r = route_inbox("t", "a", "", 1);
    r.share = DIST_SHARE_ORDERED;
    r.group = STR("g");
    for (int i = 0; i < 10; i++) {
        r.client = str_view(name, (size_t)snprintf(name, sizeof name, "c%d", i));
        ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), 0);
    }
    char was[100][4];
    const struct dist_group *g = dist_filter_groups(dist_index_find(b.x, STR("t"), STR("a")));
    for (uint64_t i = 0; i < 100; i++)
        memcpy(was[i], dist_group_pick(g, i, NULL, NULL)->client, 2);
    r.client = STR("c4");
    ck_assert_int_eq(dist_index_del(b.x, 0, &r), 0);
    for (uint64_t i = 0; i < 100; i++) {
        if (was[i][1] != '4')
            ck_assert_mem_eq(was[i], dist_group_pick(g, i, NULL, NULL)->client, 2);
    }
    index_close(&b);
}
END_TEST

START_TEST(host_slot)
{
    struct bench_index b;
    index_open(&b);
    int mine = 0;
    struct dist_route r = route_node("t", "a/b", 1, 1);
    ck_assert_int_eq(dist_index_add(b.x, 0, &r, 0), 0);
    struct dist_filter *f = dist_index_find(b.x, STR("t"), STR("a/b"));
    ck_assert_int_eq(dist_filter_host_set(f, NULL, &mine), 0);
    ck_assert_int_eq(dist_filter_host_set(f, NULL, &b), DIST_E_CHANGED);
    ck_assert_ptr_eq(dist_filter_host(f), &mine);
    ck_assert_int_eq(dist_index_del(b.x, 0, &r), 0);
    ck_assert_ptr_eq(dist_index_find(b.x, STR("t"), STR("a/b")), f); /* the host holds it */
    dist_index_release(b.x, STR("t"), STR("a/b"));
    ck_assert_ptr_eq(dist_index_find(b.x, STR("t"), STR("a/b")), f);
    ck_assert_int_eq(dist_filter_host_set(f, &mine, NULL), 0);
    dist_index_release(b.x, STR("t"), STR("a/b"));
    ck_assert_ptr_null(dist_index_find(b.x, STR("t"), STR("a/b")));
    ck_assert_int_eq(dist_filter_host_set(f, NULL, &mine),
                     DIST_E_GONE); /* a reader may still hold it */
    ck_assert_ptr_null(dist_filter_host(f));
    index_close(&b);
}
END_TEST

static bool below_m(void *arg, struct str tenant, struct str filter)
{
    (void)arg;
    (void)tenant;
    return filter.p[0] < 'm';
}

START_TEST(reload)
{
    struct bench_index b;
    index_open(&b);
    uint16_t one = dist_index_owner(b.x), two = dist_index_owner(b.x);
    struct dist_route a = route_node("t", "a", 1, 1), c = route_inbox("t", "c/+", "x", 1),
                      z = route_inbox("t", "z/#", "x", 1);
    ck_assert_int_eq(dist_index_add(b.x, one, &a, 0), 0);
    ck_assert_int_eq(dist_index_add(b.x, one, &c, 0), 0);
    ck_assert_int_eq(dist_index_add(b.x, one, &z, 0), 0);
    dist_index_reload_begin(b.x, one);
    ck_assert_int_eq(dist_index_add(b.x, one, &c, 0), DIST_E_OLD);
    ck_assert_ptr_nonnull(dist_index_find(b.x, STR("t"), STR("a"))); /* no gap */
    dist_index_reload_end(b.x, one, below_m, NULL);
    ck_assert_ptr_null(dist_index_find(b.x, STR("t"), STR("a")));
    ck_assert_ptr_nonnull(dist_index_find(b.x, STR("t"), STR("c/+")));
    ck_assert_ptr_nonnull(dist_index_find(b.x, STR("t"), STR("z/#"))); /* an orphan */
    dist_index_reload_begin(b.x, two);
    ck_assert_int_eq(dist_index_add(b.x, two, &z, 0), DIST_E_OLD);
    dist_index_reload_end(b.x, two, NULL, NULL);
    dist_index_sweep_orphans(b.x);
    ck_assert_ptr_nonnull(dist_index_find(b.x, STR("t"), STR("z/#"))); /* adopted */
    dist_index_owner_end(b.x, two);
    ck_assert_ptr_null(dist_index_find(b.x, STR("t"), STR("z/#")));
    ck_assert_uint_eq(dist_index_owner(b.x), two);
    index_close(&b);
}
END_TEST

/* --- model
 * ------------------------------------------------------------------------------------------------------
 */

struct entry {
    char tenant[4], filter[64], client[8];
    uint8_t kind, node;
    uint64_t incarnation;
};

struct model {
    struct entry at[512];
    size_t count;
};

static struct dist_route route_of(const struct entry *e)
{
    return e->kind == DIST_KIND_NODE ? route_node(e->tenant, e->filter, e->node, e->incarnation)
                                     : route_inbox(e->tenant, e->filter, e->client, e->incarnation);
}

static struct entry random_entry(struct rng *r)
{
    struct entry e = {.kind = rng_below(r, 2) ? DIST_KIND_NODE : DIST_KIND_INBOX,
                      .incarnation = rng_between(r, 1, 4)};
    char at[64];
    struct str f = random_filter(r, at);
    str_copy(e.filter, sizeof e.filter, f);
    snprintf(e.tenant, sizeof e.tenant, "t%d", (int)rng_below(r, 2));
    if (e.kind == DIST_KIND_NODE)
        e.node = (uint8_t)rng_between(r, 1, 3);
    else
        snprintf(e.client, sizeof e.client, "c%d", (int)rng_below(r, 40));
    return e;
}

static struct entry *model_find(struct model *m, const struct entry *e)
{
    for (size_t i = 0; i < m->count; i++) {
        struct entry *o = &m->at[i];
        if (o->kind == e->kind && o->node == e->node && strcmp(o->tenant, e->tenant) == 0 &&
            strcmp(o->filter, e->filter) == 0 && strcmp(o->client, e->client) == 0)
            return o;
    }
    return NULL;
}

static size_t routes_of(const struct dist_filter *f)
{
    size_t n = dist_filter_node(f) != NULL;
    for (const struct dist_receiver *c = dist_filter_receivers(f); c != NULL;
         c = dist_receiver_next(c))
        n++;
    return n;
}

START_TEST(model)
{
    struct bench_index b;
    struct model m = {.count = 0};
    struct rng r;
    struct dist_match got = {0};
    index_open(&b);
    rng_init(&r, (uint64_t)_i + 1);
    for (int step = 0; step < 4000; step++) {
        struct entry e = random_entry(&r);
        struct dist_route route = route_of(&e);
        struct entry *o = model_find(&m, &e);
        if (rng_below(&r, 100) < (step % 1000 < 600 ? 60u : 30u) && m.count < countof(m.at)) {
            int want = o != NULL && o->incarnation >= e.incarnation ? DIST_E_OLD : 0;
            ck_assert_int_eq(dist_index_add(b.x, 0, &route, 0), want);
            if (want == 0)
                *(o != NULL ? o : &m.at[m.count++]) = e;
        } else {
            int want = o == NULL ? DIST_E_NONE : o->incarnation > e.incarnation ? DIST_E_OLD : 0;
            ck_assert_int_eq(dist_index_del(b.x, 0, &route), want);
            if (want == 0)
                *o = m.at[--m.count];
        }
        char topic_at[64];
        struct str topic = random_topic(&r, topic_at);
        size_t want = 0, have = 0;
        for (size_t i = 0; i < m.count; i++)
            want += m.at[i].tenant[1] == '1' && naive_match(str_of(m.at[i].filter), topic);
        dist_index_match(b.x, STR("t1"), topic, &got);
        for (size_t i = 0; i < got.count; i++)
            have += routes_of(got.filter[i]);
        ck_assert_uint_eq(have, want);
        if (step % 64 == 0) {
            dist_index_check(b.x);
            index_grace(&b);
        }
    }
    while (m.count > 0) {
        struct dist_route route = route_of(&m.at[--m.count]);
        ck_assert_int_eq(dist_index_del(b.x, 0, &route), 0);
    }
    struct dist_index_stat s;
    dist_index_stat(b.x, &s);
    ck_assert_uint_eq(s.tenants + s.filters + s.trie_nodes, 0);
    dist_match_deinit(&got);
    index_close(&b);
}
END_TEST

Suite *index_suite(void)
{
    Suite *s = suite_create("dist index");
    TCase *t = tcase_create("index");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, rules);
    tcase_add_test(t, refused);
    tcase_add_test(t, order);
    tcase_add_test(t, groups);
    tcase_add_test(t, ordered_group_is_sticky);
    tcase_add_test(t, host_slot);
    tcase_add_test(t, reload);
    tcase_add_loop_test(t, model, 0, 5);
    suite_add_tcase(s, t);
    return s;
}
