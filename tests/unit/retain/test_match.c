/* Retained messages: commands, expiry, and pages of matches where names are prefixes of one
 * another. SPDX-License-Identifier: Apache-2.0 */
#include "base/hlc.h"
#include "base/rng.h"
#include "retain/retain.h"
#include "unit/replica.h"

struct world {
    struct replica r;
    struct buf command, query, reply;
    uint64_t ms;
};

static void world_open(struct world *w)
{
    *w = (struct world){.ms = 1000000};
    replica_open(&w->r, retain_machine(), NULL);
}

static void world_close(struct world *w)
{
    replica_close(&w->r);
    buf_deinit(&w->command);
    buf_deinit(&w->query);
    buf_deinit(&w->reply);
}

static uint8_t set(struct world *w, const struct retain_message *m, uint64_t topic_max,
                   uint64_t byte_max)
{
    w->command.n = 0;
    retain_command_begin(&w->command);
    retain_command_set(&w->command, STR("t"), m, topic_max, byte_max);
    struct str reply = replica_apply(&w->r, hlc_of_ms(w->ms) + 1, buf_str(&w->command), true);
    ck_assert_uint_eq(reply.n, 1);
    return (uint8_t)reply.p[0];
}

static uint8_t put(struct world *w, const char *topic, const char *payload)
{
    return set(w,
               &(struct retain_message){
                   .topic = str_of(topic), .payload = str_of(payload), .expiry_sec = UINT32_MAX},
               0, 0);
}

static enum retain_get get(struct world *w, const char *topic, struct retain_message *out)
{
    w->query.n = w->reply.n = 0;
    retain_query_get(&w->query, STR("t"), str_of(topic));
    ck_assert_int_eq(replica_query(&w->r, hlc_of_ms(w->ms), buf_str(&w->query), &w->reply), 0);
    return retain_reply_get(buf_str(&w->reply), hlc_of_ms(w->ms), out);
}

/* All topics that match, page by page, each followed by a blank, into out; returns the pages. */
static unsigned match(struct world *w, const char *tenant, struct str filter, uint32_t page,
                      struct buf *out)
{
    struct retain_reply r;
    struct retain_message m;
    char after[256];
    struct str from = {after, 0};
    unsigned pages = 0;
    out->n = 0;
    do {
        w->query.n = w->reply.n = 0;
        retain_query_match(&w->query, str_of(tenant), filter, from, page, 1 << 20);
        ck_assert_int_eq(replica_query(&w->r, hlc_of_ms(w->ms), buf_str(&w->query), &w->reply), 0);
        ck_assert(retain_reply_begin(buf_str(&w->reply), &r));
        while (retain_reply_next(&r, &m)) {
            buf_put_str(out, m.topic);
            buf_put_u8(out, ' ');
        }
        ck_assert(!r.is_bad);
        from.n = str_copy(after, sizeof after, r.after);
        pages++;
    } while (from.n > 0);
    return pages;
}

START_TEST(commands)
{
    struct world w;
    struct retain_message got, m = {.topic = STR("a/b"),
                                    .payload = STR("hello"),
                                    .props = STR("\x26props"),
                                    .publisher = STR("u/c"),
                                    .expiry_sec = UINT32_MAX,
                                    .qos = 2};
    world_open(&w);
    ck_assert_uint_eq(set(&w, &m, 0, 0), 0);
    ck_assert_int_eq(get(&w, "a/b", &got), RETAIN_GET_FOUND);
    ck_str(got.topic, m.topic);
    ck_str(got.payload, m.payload);
    ck_str(got.props, m.props);
    ck_str(got.publisher, m.publisher);
    ck_assert_uint_eq(got.qos, 2);
    ck_assert_uint_eq(got.expiry_sec, UINT32_MAX);
    ck_assert_int_eq(get(&w, "a", &got), RETAIN_GET_NONE);
    m.hlc = 5; /* an older one comes late */
    ck_assert_uint_eq(set(&w, &m, 0, 0), RETAIN_E_OLD);
    m.hlc = 0;
    m.payload = STR("");
    ck_assert_uint_eq(set(&w, &m, 0, 0), 0);
    ck_assert_uint_eq(w.r.row_count, 0);
    ck_assert_uint_eq(set(&w, &m, 0, 0), 0);
    static const char *const bad[] = {"", "a/+", "#", "a#"};
    for (size_t i = 0; i < countof(bad); i++)
        ck_assert_uint_eq(put(&w, bad[i], "x"), RETAIN_E_INVALID);
    ck_assert_uint_eq(replica_apply(&w.r, 1, STR("\xE0\x01\xFF"), true).n, 0);
    world_close(&w);
}
END_TEST

START_TEST(large)
{
    struct world w;
    struct retain_message got;
    static char big[5000];
    memset(big, 'x', sizeof big - 1);
    world_open(&w);
    ck_assert_uint_eq(put(&w, "big", big), 0);
    ck_assert_int_eq(get(&w, "big", &got), RETAIN_GET_FOUND);
    ck_assert_uint_eq(got.payload.n, sizeof big - 1);
    w.query.n = w.reply.n = 0;
    retain_query_match(&w.query, STR("t"), STR("#"), STR(""), 10, 0);
    ck_assert_int_eq(replica_query(&w.r, hlc_of_ms(w.ms), buf_str(&w.query), &w.reply), 0);
    struct retain_reply r;
    ck_assert(retain_reply_begin(buf_str(&w.reply), &r));
    ck_assert(retain_reply_next(&r, &got));
    ck_assert(got.is_large && got.payload.n == 0);
    ck_str(got.topic, STR("big"));
    ck_assert(!retain_reply_next(&r, &got));
    world_close(&w);
}
END_TEST

START_TEST(limits)
{
    struct world w;
    struct retain_message m = {
        .topic = STR("a"), .payload = STR("12345"), .expiry_sec = UINT32_MAX};
    world_open(&w);
    ck_assert_uint_eq(set(&w, &m, 2, 0), 0);
    m.topic = STR("b");
    ck_assert_uint_eq(set(&w, &m, 2, 0), 0);
    m.topic = STR("c");
    ck_assert_uint_eq(set(&w, &m, 2, 0), RETAIN_E_FULL);
    m.topic = STR("b");
    ck_assert_uint_eq(set(&w, &m, 2, 0), 0);
    struct retain_stat s;
    w.query.n = w.reply.n = 0;
    retain_query_stat(&w.query, STR("t"));
    ck_assert_int_eq(replica_query(&w.r, 0, buf_str(&w.query), &w.reply), 0);
    ck_assert(retain_reply_stat(buf_str(&w.reply), &s));
    ck_assert_uint_eq(s.topics, 2);
    m.payload = STR("123456");
    ck_assert_uint_eq(set(&w, &m, 0, s.bytes), RETAIN_E_FULL);
    m.payload = STR("1234");
    ck_assert_uint_eq(set(&w, &m, 0, s.bytes), 0);
    world_close(&w);
}
END_TEST

START_TEST(expiry)
{
    struct world w;
    struct retain_message got, m = {.topic = STR("a"), .payload = STR("x"), .expiry_sec = 10};
    struct buf seen = {0};
    world_open(&w);
    ck_assert_uint_eq(set(&w, &m, 0, 0), 0);
    ck_assert_uint_eq(put(&w, "b", "x"), 0);
    w.ms += 9999;
    ck_assert_int_eq(get(&w, "a", &got), RETAIN_GET_FOUND);
    w.command.n = 0;
    ck_assert_uint_eq(w.r.ops->tick(w.r.m, hlc_of_ms(w.ms), &w.command), w.ms + 1);
    w.ms += 1;
    ck_assert_int_eq(get(&w, "a", &got), RETAIN_GET_NONE);
    (void)match(&w, "t", STR("#"), 10, &seen);
    ck_str(buf_str(&seen), STR("b "));
    replica_reload(&w.r);
    (void)w.r.ops->tick(w.r.m, hlc_of_ms(w.ms), &w.command);
    ck_assert_uint_gt(w.command.n, 0);
    replica_apply(&w.r, hlc_of_ms(w.ms), buf_str(&w.command), true);
    ck_assert_uint_eq(w.r.row_count, 1);
    w.command.n = 0;
    ck_assert_uint_eq(w.r.ops->tick(w.r.m, hlc_of_ms(w.ms), &w.command), UINT64_MAX);

    for (int i = 0; i < 10; i++) {
        char topic[8];
        snprintf(topic, sizeof topic, "e%d", i);
        ck_assert_uint_eq(put(&w, topic, "x"), 0);
    }
    w.ms += 5000;
    ck_assert_uint_eq(put(&w, "young", "x"), 0);
    for (int i = 0; i < 3; i++) {
        w.command.n = 0;
        retain_command_expire(&w.command, STR("t"), 3, 7);
        replica_apply(&w.r, hlc_of_ms(w.ms), buf_str(&w.command), true);
    }
    (void)match(&w, "t", STR("#"), 10, &seen);
    ck_str(buf_str(&seen), STR("young "));
    buf_deinit(&seen);
    world_close(&w);
}
END_TEST

START_TEST(rules)
{
    struct world w;
    struct buf seen = {0};
    static const char *const topics[] = {"a",  "a/b", "a/b/c", "a b",    "$SYS/x", "a//c",
                                         "/a", "b",   "b/",    "a/bb/c", "c/b/c"};
    static const char *const table[][2] = {
        {"#", "/a a a b a//c a/b a/b/c a/bb/c b b/ c/b/c "},
        {"+", "a a b b "},
        {"a/#", "a a//c a/b a/b/c a/bb/c "},
        {"a/+/c", "a//c a/b/c a/bb/c "},
        {"+/b/c", "a/b/c c/b/c "},
        {"$SYS/#", "$SYS/x "},
        {"$SYS/+", "$SYS/x "},
        {"+/x", ""},
        {"/+", "/a "},
        {"b/+", "b/ "},
        {"a", "a "},
        {"+/+", "/a a/b b/ "},
        {"zz/+", ""},
        {"+//c", "a//c "},
    };
    world_open(&w);
    for (size_t i = 0; i < countof(topics); i++)
        ck_assert_uint_eq(put(&w, topics[i], "x"), 0);
    for (size_t i = 0; i < countof(table); i++) {
        for (uint32_t page = 1; page < 5; page++) {
            (void)match(&w, "t", str_of(table[i][0]), page, &seen);
            ck_str(buf_str(&seen), str_of(table[i][1]));
        }
        (void)match(&w, "other", str_of(table[i][0]), 1, &seen);
        ck_assert_uint_eq(seen.n, 0);
    }
    buf_deinit(&seen);
    world_close(&w);
}
END_TEST

/* --- model
 * -------------------------------------------------------------------------------------------- */

static bool naive_match(struct str filter, struct str topic)
{
    if (topic.p[0] == '$' && (filter.p[0] == '+' || filter.p[0] == '#'))
        return false;
    struct str f, t;
    while (str_next(&filter, '/', &f)) {
        if (str_eq(f, STR("#")))
            return true;
        if (!str_next(&topic, '/', &t))
            return false;
        if (!str_eq(f, STR("+")) && !str_eq(f, t))
            return false;
    }
    return topic.p == NULL;
}

static struct str random_path(struct rng *r, char *at, bool is_filter)
{
    static const char *const level[] = {"a", "b", "ab", "a!", "", "$s", "a0"};
    size_t n = 0;
    uint64_t levels = rng_between(r, 1, 4);
    for (uint64_t i = 0; i < levels; i++) {
        const char *l = level[rng_below(r, countof(level))];
        if (is_filter && rng_below(r, 3) == 0)
            l = "+";
        if (is_filter && i + 1 == levels && rng_below(r, 4) == 0)
            l = "#";
        if (i > 0)
            at[n++] = '/';
        memcpy(at + n, l, strlen(l));
        n += strlen(l);
    }
    if (n == 0)
        at[n++] = 'a';
    return str_view(at, n);
}

/* What the rows say must match, in order. */
static void naive_all(const struct replica *r, struct str filter, struct buf *out)
{
    out->n = 0;
    for (size_t i = 0; i < r->row_count; i++) {
        struct str topic = str_view(r->row[i].key.p + 2, r->row[i].key.n - 2);
        if (naive_match(filter, topic)) {
            buf_put_str(out, topic);
            buf_put_u8(out, ' ');
        }
    }
}

START_TEST(model)
{
    struct world a, b;
    struct rng r;
    struct buf seen = {0}, want = {0};
    world_open(&a);
    world_open(&b);
    rng_init(&r, (uint64_t)_i + 1);
    for (int step = 0; step < 3000; step++) {
        char at[64];
        static char payload[700];
        memset(payload, 'x', sizeof payload);
        struct retain_message m = {
            .topic = random_path(&r, at, false),
            .payload = {payload, rng_below(&r, 5) == 0 ? 0 : rng_between(&r, 1, sizeof payload)},
            .expiry_sec = UINT32_MAX,
            .hlc = rng_below(&r, 10) == 0 ? hlc_of_ms(a.ms - rng_below(&r, 3000)) : 0,
            .qos = (uint8_t)rng_below(&r, 3)};
        a.ms += rng_below(&r, 1000);
        a.command.n = 0;
        retain_command_begin(&a.command);
        retain_command_set(&a.command, STR("t"), &m, 200, 100000);
        struct str one = replica_apply(&a.r, hlc_of_ms(a.ms), buf_str(&a.command), true);
        struct str two = replica_apply(&b.r, hlc_of_ms(a.ms), buf_str(&a.command), false);
        ck_assert(str_eq(one, two));
        struct str filter = random_path(&r, at, true);
        (void)match(&a, "t", filter, (uint32_t)rng_between(&r, 1, 20), &seen);
        naive_all(&a.r, filter, &want);
        ck_str(buf_str(&seen), buf_str(&want));
        if (step % 50 == 0) {
            struct replica c;
            replica_copy(&c, &a.r, NULL);

            ck_assert_uint_eq(c.ops->state_hash(c.m), a.r.ops->state_hash(a.r.m));
            ck_assert_uint_eq(b.r.ops->state_hash(b.r.m), a.r.ops->state_hash(a.r.m));
            replica_close(&c);
            replica_reload(&b.r);
        }
    }
    buf_deinit(&seen);
    buf_deinit(&want);
    world_close(&a);
    world_close(&b);
}
END_TEST

/* Many chunks; a wildcard over all stops at its page and goes on. */
START_TEST(many)
{
    struct world w;
    struct buf seen = {0};
    char topic[32];
    world_open(&w);
    struct rng r;
    rng_init(&r, 4);
    for (int i = 0; i < 20000; i++) {
        snprintf(topic, sizeof topic, "x/%d/%d", (int)rng_below(&r, 1000000), i % 2);
        w.command.n = 0;
        retain_command_begin(&w.command);
        struct retain_message m = {
            .topic = str_of(topic), .payload = STR("p"), .expiry_sec = UINT32_MAX};
        retain_command_set(&w.command, STR("t"), &m, 0, 0);
        range_out_reset(&w.r.out);
        w.r.ops->apply(w.r.m,
                       &(struct range_apply){
                           .index = (uint64_t)i, .hlc = 1000, .command = buf_str(&w.command)},
                       &w.r.out);
    }

    unsigned pages = match(&w, "t", STR("+/none"), 10, &seen);
    ck_assert_uint_eq(seen.n, 0);
    ck_assert_uint_le(pages, 2); /* x/none is not there: one seek */
    pages = match(&w, "t", STR("x/+/2"), 10, &seen);
    ck_assert_uint_eq(seen.n, 0);
    ck_assert_uint_ge(pages, 4); /* bounded steps per page */
    (void)match(&w, "t", STR("x/+/1"), 1000, &seen);
    unsigned count = 0;
    for (size_t i = 0; i < seen.n; i++)
        count += seen.p[i] == ' ';
    ck_assert_uint_gt(count, 9800);
    for (int i = 0; i < 30000; i++) { /* empty it from the middle */
        w.command.n = 0;
        retain_command_expire(&w.command, STR("t"), 0, 997);
        range_out_reset(&w.r.out);
        w.r.ops->apply(w.r.m,
                       &(struct range_apply){
                           .index = 1, .hlc = hlc_of_ms(w.ms), .command = buf_str(&w.command)},
                       &w.r.out);
        if (w.r.out.row_count == 0)
            break;
    }
    buf_deinit(&seen);
    world_close(&w);
}
END_TEST

Suite *match_suite(void);

Suite *match_suite(void)
{
    Suite *s = suite_create("retain matching");
    TCase *t = tcase_create("matching");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, commands);
    tcase_add_test(t, large);
    tcase_add_test(t, limits);
    tcase_add_test(t, expiry);
    tcase_add_test(t, rules);
    tcase_add_loop_test(t, model, 0, 4);
    tcase_add_test(t, many);
    suite_add_tcase(s, t);
    return s;
}
