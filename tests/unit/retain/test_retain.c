/* The table of retained messages against a plain array.  SPDX-License-Identifier: Apache-2.0 */
#include "base/hlc.h"
#include "base/mem.h"
#include "base/rng.h"
#include "codec/topic.h"
#include "retain/retain.h"
#include "unit/unit.h"

#define ROWS 2000
#define T STR("acme")

/* What the machine should hold: topics of one tenant, and the rows it wrote. */
struct model {
    struct entry {
        char topic[64], payload[1200];
        size_t payload_n;
        uint64_t hlc;
        uint32_t expiry_sec;
    } entry[ROWS];
    size_t count;
    struct row {
        struct str key, value;
    } row[ROWS];
    size_t row_count;
    void *machine;
    uint64_t index, hlc;
};

static struct model *model_new(void)
{
    struct model *m = mem_new(sizeof *m);
    struct range_bounds all = {.start = STR(""), .end = STR(""), .is_open = true};
    m->machine = retain_machine()->new (NULL);
    retain_machine()->reset(m->machine, &all);
    retain_machine()->loaded(m->machine);
    m->hlc = hlc_of_ms(1000000);
    return m;
}

static void row_put(struct model *m, const struct range_write *w)
{
    for (size_t i = 0; i < m->row_count; i++) {
        if (!str_eq(m->row[i].key, w->key))
            continue;
        mem_free((void *)(uintptr_t)m->row[i].key.p);
        mem_free((void *)(uintptr_t)m->row[i].value.p);
        m->row[i] = m->row[--m->row_count];
        break;
    }
    if (w->is_del)
        return;
    ck_assert_uint_lt(m->row_count, ROWS);
    m->row[m->row_count++] = (struct row){str_dup(w->key), str_dup(w->value)};
}

static void model_free(struct model *m)
{
    retain_machine()->free(m->machine);
    for (size_t i = 0; i < m->row_count; i++) {
        mem_free((void *)(uintptr_t)m->row[i].key.p);
        mem_free((void *)(uintptr_t)m->row[i].value.p);
    }
    mem_free(m);
}

/* Applies a command, keeps the rows, gives the first byte of the reply (255: none). */
static uint8_t apply(struct model *m, struct buf *command)
{
    struct range_out out = {0};
    struct range_apply in = {.index = ++m->index, .hlc = m->hlc, .command = buf_str(command)};
    retain_machine()->apply(m->machine, &in, &out);
    for (size_t i = 0; i < out.row_count; i++) {
        struct range_write w = range_out_row(&out, i);
        row_put(m, &w);
    }
    uint8_t first = out.reply.n > 0 ? out.reply.p[0] : 255;
    range_out_deinit(&out);
    buf_deinit(command);
    *command = (struct buf){0};
    return first;
}

static uint8_t set(struct model *m, struct str topic, struct str payload, uint32_t expiry_sec,
                   uint64_t topic_max)
{
    struct buf b = {0};
    struct retain_message msg = {.topic = topic,
                                 .payload = payload,
                                 .props = STR("\x01\x01"),
                                 .publisher = STR("me"),
                                 .hlc = ++m->hlc,
                                 .expiry_sec = expiry_sec,
                                 .qos = 1};
    retain_command_begin(&b);
    retain_command_set(&b, T, &msg, topic_max, 0);
    return apply(m, &b);
}

static void model_set(struct model *m, struct str topic, struct str payload, uint32_t expiry_sec)
{
    size_t i = 0;
    while (i < m->count && !str_eq(str_of(m->entry[i].topic), topic))
        i++;
    if (payload.n == 0) {
        if (i < m->count)
            m->entry[i] = m->entry[--m->count];
        return;
    }
    if (i == m->count)
        m->count++;
    struct entry *e = &m->entry[i];
    str_copy(e->topic, sizeof e->topic, topic);
    memcpy(e->payload, payload.p, payload.n);
    e->payload_n = payload.n;
    e->hlc = m->hlc;
    e->expiry_sec = expiry_sec;
}

static bool is_alive(const struct model *m, const struct entry *e)
{
    return e->expiry_sec == UINT32_MAX || hlc_ms(e->hlc) + e->expiry_sec * 1000ull > hlc_ms(m->hlc);
}

/* Walks all pages of a filter; checks each message; returns how many there were. */
static size_t match_all(struct model *m, struct str filter, uint32_t page_max)
{
    char after[128] = "";
    size_t found = 0;
    for (;;) {
        struct buf q = {0}, reply = {0};
        struct range_scan scan;
        struct retain_reply r;
        struct retain_message msg;
        retain_query_match(&q, T, filter, str_of(after), page_max, 1 << 20);
        ck_assert_int_eq(retain_machine()->query(m->machine, m->hlc, buf_str(&q), &reply, &scan),
                         0);
        ck_assert(retain_reply_begin(buf_str(&reply), &r));
        while (retain_reply_next(&r, &msg)) {
            size_t i = 0;
            while (i < m->count && !str_eq(str_of(m->entry[i].topic), msg.topic))
                i++;
            ck_assert_msg(i < m->count, "%.*s was never set", STR_ARG(msg.topic));
            ck_assert(is_alive(m, &m->entry[i]));
            if (!msg.is_large)
                ck_str(msg.payload, str_view(m->entry[i].payload, m->entry[i].payload_n));
            found++;
        }
        ck_assert(!r.is_bad);
        str_copy(after, sizeof after, r.after);
        buf_deinit(&q);
        buf_deinit(&reply);
        if (after[0] == 0)
            return found;
    }
}

static size_t model_count(const struct model *m, struct str filter)
{
    size_t n = 0;
    for (size_t i = 0; i < m->count; i++)
        n += is_alive(m, &m->entry[i]) && codec_topic_match(filter, str_of(m->entry[i].topic));
    return n;
}

static void random_topic(struct rng *r, char *out, size_t cap, bool is_filter)
{
    static const char *const level[] = {"a", "b", "a-1", "", "$x", "b0", "ab"};
    size_t n = 0;
    uint64_t levels = rng_between(r, 1, 4);
    for (uint64_t i = 0; i < levels; i++) {
        const char *l = level[rng_below(r, countof(level))];
        if (is_filter && rng_chance(r, 300000))
            l = i + 1 == levels && rng_chance(r, 400000) ? "#" : "+";
        n += (size_t)snprintf(out + n, cap - n, "%s%s", i > 0 ? "/" : "", l);
    }
    if (n == 0)
        snprintf(out, cap, "a");
}

START_TEST(random_sets_and_matches)
{
    struct model *m = model_new();
    struct rng r;
    rng_init(&r, 11);
    char topic[64], filter[64], payload[1200];
    memset(payload, 'p', sizeof payload);
    for (int step = 0; step < 4000; step++) {
        random_topic(&r, topic, sizeof topic, false);
        size_t n = rng_chance(&r, 250000)   ? 0
                   : rng_chance(&r, 200000) ? 1000 + rng_below(&r, 200)
                                            : rng_below(&r, 40) + 1;
        uint32_t expiry = rng_chance(&r, 200000) ? (uint32_t)rng_below(&r, 20) : UINT32_MAX;
        if (m->count + 2 < ROWS || n == 0) {
            ck_assert_uint_eq(set(m, str_of(topic), str_view(payload, n), expiry, 0), 0);
            model_set(m, str_of(topic), str_view(payload, n), expiry);
        }
        m->hlc += rng_below(&r, 1000) << 16;
        random_topic(&r, filter, sizeof filter, true);
        size_t want = model_count(m, str_of(filter));
        size_t got = match_all(m, str_of(filter), (uint32_t)rng_between(&r, 1, 20));
        ck_assert_msg(got == want, "step %d: %s gives %zu of %zu", step, filter, got, want);
    }
    model_free(m);
}
END_TEST

static int row_cmp(const void *a, const void *b)
{
    return str_cmp(((const struct row *)a)->key, ((const struct row *)b)->key);
}

static void *loaded(const struct model *m, const struct range_bounds *b)
{
    void *machine = retain_machine()->new (NULL);
    retain_machine()->reset(machine, b);
    for (size_t i = 0; i < m->row_count; i++)
        if (str_cmp(b->start, m->row[i].key) <= 0 &&
            (b->is_open || str_cmp(m->row[i].key, b->end) < 0))
            retain_machine()->load(machine, m->row[i].key, m->row[i].value);
    retain_machine()->loaded(machine);
    return machine;
}

static void is_same(void *a, void *b)
{
    const struct range_machine_ops *ops = retain_machine();
    struct buf q = {0}, one = {0}, two = {0};
    struct range_scan scan;
    retain_query_stat(&q, T);
    ck_assert_int_eq(ops->query(a, 0, buf_str(&q), &one, &scan), 0);
    ck_assert_int_eq(ops->query(b, 0, buf_str(&q), &two, &scan), 0);
    ck_str(buf_str(&one), buf_str(&two));
    ck_assert_uint_eq(ops->state_hash(a), ops->state_hash(b));
    ck_assert_uint_eq(ops->tick(a, 0, &q), ops->tick(b, 0, &q));
    buf_deinit(&q);
    buf_deinit(&one);
    buf_deinit(&two);
}

/* Cut anywhere, both halves are what their rows make. */
static void cut(struct model *m, struct str topic)
{
    struct buf key = {0};
    retain_key(&key, T, topic);
    struct range_bounds all = {.start = STR(""), .end = STR(""), .is_open = true},
                        left = {.start = STR(""), .end = buf_str(&key)},
                        right = {.start = buf_str(&key), .end = STR(""), .is_open = true};
    void *one = loaded(m, &all), *left_m = loaded(m, &left), *right_m = loaded(m, &right);
    void *two = retain_machine()->split(one, &left, &right);
    is_same(one, left_m);
    is_same(two, right_m);
    retain_machine()->free(one);
    retain_machine()->free(two);
    retain_machine()->free(left_m);
    retain_machine()->free(right_m);
    buf_deinit(&key);
}

START_TEST(rows_make_the_same_machine)
{
    struct model *m = model_new();
    struct rng r;
    rng_init(&r, 12);
    char topic[64], payload[900];
    memset(payload, 'q', sizeof payload);
    for (int step = 0; step < 300; step++) {
        random_topic(&r, topic, sizeof topic, false);
        (void)set(m, str_of(topic), str_view(payload, rng_below(&r, sizeof payload)), 5, 0);
        m->hlc += rng_below(&r, 100) << 16;
        struct buf command = {0};
        if (retain_machine()->tick(m->machine, m->hlc, &command) <= hlc_ms(m->hlc))
            (void)apply(m, &command);
        buf_deinit(&command);
    }
    qsort(m->row, m->row_count, sizeof m->row[0], row_cmp);
    struct range_bounds all = {.start = STR(""), .end = STR(""), .is_open = true};
    void *copy = loaded(m, &all);
    for (int i = 0; i < 50; i++) {
        random_topic(&r, topic, sizeof topic, false);
        cut(m, str_of(topic));
    }
    ck_assert_uint_eq(retain_machine()->state_hash(copy), retain_machine()->state_hash(m->machine));
    retain_machine()->free(copy);
    model_free(m);
}
END_TEST

/* More is due at one time than a command removes: a replica that came from a snapshot, so that its heap is another
 * one, removes the same. */
START_TEST(replicas_collect_the_same)
{
    struct model *m = model_new();
    struct range_bounds all = {.start = STR(""), .end = STR(""), .is_open = true};
    struct buf command = {0};
    struct range_out out = {0};
    char topic[64];
    for (unsigned i = 0; i < 1500; i++) {
        snprintf(topic, sizeof topic, "t/%u", i * 7919 % 1500);
        ck_assert_uint_eq(set(m, str_of(topic), STR("v"), 5, 0), 0);
    }
    m->hlc += (uint64_t)100 << 16;
    for (unsigned i = 0; i < 300; i++) {
        snprintf(topic, sizeof topic, "later/%u", i);
        ck_assert_uint_eq(set(m, str_of(topic), STR("v"), 5, 0), 0);
    }
    qsort(m->row, m->row_count, sizeof m->row[0], row_cmp);
    void *copy = loaded(m, &all);
    m->hlc += (uint64_t)6000 << 16;
    ck_assert_uint_le(retain_machine()->tick(m->machine, m->hlc, &command), hlc_ms(m->hlc));
    retain_machine()->apply(
        copy, &(struct range_apply){.hlc = m->hlc, .command = buf_str(&command)}, &out);
    (void)apply(m, &command);
    is_same(m->machine, copy);
    ck_assert_uint_eq(m->row_count, 300); /* due later: the next command's */
    range_out_deinit(&out);
    retain_machine()->free(copy);
    model_free(m);
}
END_TEST

START_TEST(large_messages_are_read_from_their_row)
{
    struct model *m = model_new();
    char payload[1000];
    memset(payload, 'z', sizeof payload);
    (void)set(m, STR("a/b"), str_view(payload, sizeof payload), UINT32_MAX, 0);
    (void)set(m, STR("a/c"), STR("short"), UINT32_MAX, 0);
    struct retain_message msg;
    struct range_scan scan;
    struct buf q = {0}, reply = {0};
    retain_query_get(&q, T, STR("a/b"));
    ck_assert_int_eq(retain_machine()->query(m->machine, m->hlc, buf_str(&q), &reply, &scan),
                     RANGE_QUERY_E_SCAN);
    ck_str(scan.from, m->row[0].key);
    ck_assert_int_lt(str_cmp(scan.from, scan.to), 0);
    buf_put_varint(&reply, m->row[0].key.n);
    buf_put_str(&reply, m->row[0].key);
    buf_put_varint(&reply, m->row[0].value.n);
    buf_put_str(&reply, m->row[0].value);
    ck_assert_int_eq(retain_reply_get(buf_str(&reply), m->hlc, &msg), RETAIN_GET_FOUND);
    ck_str(msg.topic, STR("a/b"));
    ck_str(msg.payload, str_view(payload, sizeof payload));
    ck_str(msg.props, STR("\x01\x01"));
    ck_assert_uint_eq(msg.qos, 1);
    q.n = reply.n = 0;
    retain_query_get(&q, T, STR("a/c"));
    ck_assert_int_eq(retain_machine()->query(m->machine, m->hlc, buf_str(&q), &reply, &scan), 0);
    ck_assert_int_eq(retain_reply_get(buf_str(&reply), m->hlc, &msg), RETAIN_GET_FOUND);
    ck_str(msg.payload, STR("short"));
    q.n = reply.n = 0;
    retain_query_get(&q, STR("acm"), STR("a/c"));
    ck_assert_int_eq(retain_machine()->query(m->machine, m->hlc, buf_str(&q), &reply, &scan), 0);
    ck_assert_int_eq(retain_reply_get(buf_str(&reply), m->hlc, &msg), RETAIN_GET_NONE);
    buf_deinit(&q);
    buf_deinit(&reply);
    model_free(m);
}
END_TEST

START_TEST(limits_order_and_bounds)
{
    struct model *m = model_new();
    ck_assert_uint_eq(set(m, STR("a"), STR("1"), UINT32_MAX, 2), 0);
    ck_assert_uint_eq(set(m, STR("b"), STR("1"), UINT32_MAX, 2), 0);
    ck_assert_uint_eq(set(m, STR("c"), STR("1"), UINT32_MAX, 2), RETAIN_E_FULL);
    ck_assert_uint_eq(set(m, STR("b"), STR("2"), UINT32_MAX, 2), 0); /* replacing is no new topic */
    struct buf b = {0};
    struct retain_message old = {
        .topic = STR("b"), .payload = STR("0"), .hlc = 5, .expiry_sec = UINT32_MAX};
    retain_command_begin(&b);
    retain_command_set(&b, T, &old, 0, 0);
    ck_assert_uint_eq(apply(m, &b), RETAIN_E_OLD);
    buf_put_str(&b, STR("junk"));
    ck_assert_uint_eq(apply(m, &b), 255);
    struct range_bounds half = {.start = STR("acme"), .end = STR("acme\0b"), .is_open = false};
    half.end.n = 6;
    retain_machine()->reset(m->machine, &half);
    ck_assert_uint_eq(set(m, STR("a"), STR("1"), UINT32_MAX, 0), 0);
    ck_assert_uint_eq(set(m, STR("b"), STR("1"), UINT32_MAX, 0), RETAIN_E_MOVED);
    retain_command_expire(&b, T, 0, 10);
    m->hlc += (uint64_t)5000 << 16;
    ck_assert_uint_eq(apply(m, &b), 1); /* one removed */
    model_free(m);
}
END_TEST

Suite *match_suite(void);

Suite *unit_suites(int i)
{
    if (i > 0)
        return i == 1 ? match_suite() : NULL;
    Suite *s = suite_create("retain");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, random_sets_and_matches);
    tcase_add_test(t, rows_make_the_same_machine);
    tcase_add_test(t, replicas_collect_the_same);
    tcase_add_test(t, large_messages_are_read_from_their_row);
    tcase_add_test(t, limits_order_and_bounds);
    suite_add_tcase(s, t);
    return s;
}
