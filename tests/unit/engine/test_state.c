/* The applied state: LevelDB and memory do the same, and what survives a power loss is a prefix.
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/state.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/state_priv.h"
#include "unit/unit.h"

#define KEYS 200

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static uint64_t done, synced;
static int error;
static struct engine_view *last_view;

enum { TAG_WRITE, TAG_SYNC, TAG_VIEW };

static void on_done(void *arg, const struct engine_state_done *d, size_t n)
{
    (void)arg;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < n; i++) {
        error = d[i].result < 0 ? d[i].result : error;
        synced = d[i].tag >> 2 > 0 && (d[i].tag & 3) == TAG_SYNC && d[i].result == 0 ? d[i].tag >> 2
                                                                                     : synced;
        last_view = d[i].view != NULL ? d[i].view : last_view;
    }
    done += n;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&mutex);
}

/* Waits until n completions came; an inline state is stepped. */
static void wait_done(struct engine_state *s, bool is_inline, uint64_t n)
{
    while (is_inline && engine_state_step(s))
        ;
    pthread_mutex_lock(&mutex);
    while (done < n)
        pthread_cond_wait(&cond, &mutex);
    pthread_mutex_unlock(&mutex);
}

static struct engine_fs_mem *disk;

static void say(void *arg, enum log_level level, const char *event, struct str text,
                const struct log_field *field, size_t field_count)
{
    (void)arg, (void)level, (void)event, (void)field, (void)field_count;
    fprintf(stderr, "%.*s\n", STR_ARG(text));
}

static const struct log sink = {LOG_LEVEL_ERROR, say, NULL};

static void setup(void)
{
    disk = engine_fs_mem_new(3);
    done = synced = 0;
    error = 0;
    last_view = NULL;
}

static void teardown(void)
{
    disk = engine_fs_mem_free(disk);
}

static struct engine_state_conf conf_of(bool is_level)
{
    return (struct engine_state_conf){.dir = is_level ? "/state" : NULL,
                                      .fs = engine_fs_mem_fs(disk),
                                      .write_buffer_bytes = 64 << 10,
                                      .drop_bytes_per_sec = 1 << 30,
                                      .is_inline = !is_level,
                                      .log = &sink,
                                      .done = on_done};
}

struct seen {
    struct buf b;
    size_t rows;
};

static bool on_row(void *arg, struct str key, struct str value)
{
    struct seen *s = arg;
    buf_put_str(&s->b, key);
    buf_put_u8(&s->b, '=');
    buf_put_str(&s->b, value);
    buf_put_u8(&s->b, ' ');
    s->rows++;
    return true;
}

static struct str scan(struct engine_state *st, const struct engine_view *v, struct engine_scan q,
                       int want)
{
    static struct seen s;
    s.b.n = 0;
    s.rows = 0;
    q.row = on_row;
    q.arg = &s;
    ck_assert_int_eq(engine_state_scan(st, v, &q), want);
    return buf_str(&s.b);
}

static void put3(struct engine_state *s, uint64_t space, const char *value)
{
    struct engine_batch *b = engine_batch_new();
    engine_batch_put(b, space, STR("a"), str_of(value));
    engine_batch_put(b, space, STR("b"), str_of(value));
    engine_batch_put(b, space, STR("c"), str_of(value));
    engine_batch_put_meta(b, STR("applied"), str_of(value));
    engine_state_write(s, b, NULL, TAG_WRITE);
}

START_TEST(test_rows)
{
    bool is_level = _i == 1;
    struct engine_state_conf c = conf_of(is_level);
    struct engine_state *s;
    ck_assert_int_eq(engine_state_open(&c, &s), 0);
    uint64_t one = engine_state_space(s), two = engine_state_space(s);
    ck_assert_uint_ne(one, two);
    put3(s, one, "1");
    put3(s, two, "2");
    engine_state_view(s, NULL, TAG_VIEW);
    put3(s, one, "9");
    wait_done(s, !is_level, 4);
    struct engine_view *v = last_view;
    ck_str(scan(s, NULL, (struct engine_scan){.space = one}, 0), STR("a=9 b=9 c=9 "));
    ck_str(scan(s, v, (struct engine_scan){.space = one}, 0), STR("a=1 b=1 c=1 "));
    ck_str(scan(s, v, (struct engine_scan){.space = two, .is_reverse = true}, 0),
           STR("c=2 b=2 a=2 "));
    ck_str(scan(s, v, (struct engine_scan){.space = two, .from = STR("b"), .to = STR("c")}, 0),
           STR("b=2 "));
    ck_str(scan(s, v, (struct engine_scan){.space = two, .row_max = 2}, ENGINE_STATE_E_MORE),
           STR("a=2 b=2 "));
    ck_str(scan(s, v, (struct engine_scan){.space = two, .is_reverse = true, .to = STR("c")}, 0),
           STR("b=2 a=2 "));
    ck_str(scan(s, NULL, (struct engine_scan){.is_meta = true}, 0), STR("applied=9 "));
    ck_str(scan(s, NULL, (struct engine_scan){.space = 77}, 0), STR(""));
    struct engine_iter *it = engine_iter_new(s, v, one, STR("b"), STR(""));
    struct str key, value;
    ck_assert_int_eq(engine_iter_next(it, &key, &value), 0);
    ck_str(key, STR("b"));
    ck_assert_int_eq(engine_iter_next(it, &key, &value), 0);
    ck_str(value, STR("1"));
    ck_assert_int_eq(engine_iter_next(it, &key, &value), ENGINE_STATE_E_NONE);
    engine_iter_free(it);
    engine_view_free(s, v);
    struct buf b = {0};
    ck_assert_int_eq(engine_state_get(s, NULL, one, STR("a"), &b), 0);
    ck_assert_int_eq(engine_state_get(s, NULL, one, STR("x"), &b), ENGINE_STATE_E_NONE);
    ck_assert_int_eq(engine_state_get_meta(s, STR("applied"), &b), 0);
    ck_str(buf_str(&b), STR("99"));
    buf_deinit(&b);
    ck_assert_int_eq(engine_state_stall(s), 0);
    engine_state_close(s);
}
END_TEST

START_TEST(test_drop)
{
    bool is_level = _i == 1;
    struct engine_mem *mem = engine_mem_new();
    struct engine_state_conf c = conf_of(is_level);
    c.mem = is_level ? NULL : mem;
    struct engine_state *s;
    ck_assert_int_eq(engine_state_open(&c, &s), 0);
    struct engine_batch *b = engine_batch_new();
    for (int i = 0; i < 3000; i++) {
        char k[16];
        int n = snprintf(k, sizeof k, "%06d", i);
        engine_batch_put(b, 5, str_view(k, (size_t)n), STR("x"));
        engine_batch_put(b, 6, str_view(k, (size_t)n), STR("y"));
    }
    engine_batch_drop(b, 5, STR(""), STR("002000"));
    engine_batch_drop(b, 5, STR("002500"), STR(""));
    engine_state_write(s, b, NULL, TAG_WRITE);
    if (!is_level)
        (void)engine_state_step(s); /* applied, the removal has hardly begun */
    else
        wait_done(s, false, 1);
    engine_state_close(s);
    ck_assert_int_eq(engine_state_open(&c, &s), 0);
    struct engine_scan all = {.space = 5};
    for (int i = 0; i < 10000000; i++) { /* it ends by itself: give it time, not a deadline */
        (void)(!is_level && engine_state_step(s));
        size_t n = scan(s, NULL, all, 0).n;
        if (n == 500 * 9)
            break;
    }
    ck_assert_uint_eq(scan(s, NULL, all, 0).n, 500 * 9);
    all.space = 6;
    ck_assert_uint_eq(scan(s, NULL, all, 0).n, 3000 * 9);
    engine_state_close(s);
    engine_mem_free(mem);
}
END_TEST

/* The two bodies under the same random work. */
START_TEST(test_model)
{
    struct engine_state_conf c[2] = {conf_of(false), conf_of(true)};
    struct engine_state *s[2];
    struct rng rng;
    rng_init(&rng, 11);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(engine_state_open(&c[i], &s[i]), 0);
    for (int round = 0; round < 60; round++) {
        for (int n = 0; n < 20; n++) {
            struct engine_batch *b[2] = {engine_batch_new(), engine_batch_new()};
            for (int k = 0; k < 10; k++) {
                char key[16], value[200] = {0};
                int kn = snprintf(key, sizeof key, "k%u", (unsigned)rng_below(&rng, KEYS));
                size_t vn = (size_t)rng_below(&rng, sizeof value);
                bool is_del = rng_chance(&rng, 300000);
                for (int i = 0; i < 2; i++)
                    if (is_del)
                        engine_batch_del(b[i], 1, str_view(key, (size_t)kn));
                    else
                        engine_batch_put(b[i], 1, str_view(key, (size_t)kn), str_view(value, vn));
            }
            for (int i = 0; i < 2; i++)
                engine_state_write(s[i], b[i], NULL, TAG_WRITE);
        }
        while (engine_state_step(s[0]))
            ;
        wait_done(s[1], false, (uint64_t)(round + 1) * 40);
        struct engine_scan q = {.space = 1, .is_reverse = round % 2 == 1};
        struct str a = scan(s[0], NULL, q, 0);
        struct str copy = str_dup(a);
        ck_str(scan(s[1], NULL, q, 0), copy);
        mem_free((void *)(uintptr_t)copy.p);
    }
    for (int i = 0; i < 2; i++)
        engine_state_close(s[i]);
}
END_TEST

/* Batch i writes row i and the counter row; after a power loss with counter n exactly the rows 1 to
 * n are there, and n is not before the last sync.  Returns false when there is a hole. */
static bool power_loss(uint64_t seed, bool is_unordered)
{
    setup();
    engine_fs_mem_free(disk);
    disk = engine_fs_mem_new(seed);
    struct rng rng;
    rng_init(&rng, seed);
    struct engine_state_conf c = conf_of(true);
    struct engine_state *s;
    c.is_unordered = is_unordered;
    c.hold_usec = seed % 2 == 0 ? 0 : USEC_MSEC; /* batches one by one, or several as one write */
    c.hold_bytes_max = rng_between(&rng, 1, 20000);
    ck_assert_int_eq(engine_state_open(&c, &s), 0);
    engine_fs_mem_set(disk,
                      &(struct engine_fs_mem_fault){.power_off_at = rng_between(&rng, 20, 3000)});
    char value[2000] = {0};
    for (uint64_t i = 1; i <= 400; i++) {
        struct engine_batch *b = engine_batch_new();
        char k[16];
        int n = snprintf(k, sizeof k, "%06u", (unsigned)i);
        engine_batch_put(b, 1, str_view(k, (size_t)n), str_view(value, sizeof value));
        engine_batch_put_meta(b, STR("n"), str_view(k, (size_t)n));
        engine_state_write(s, b, NULL, TAG_WRITE);
        if (rng_chance(&rng, 30000))
            engine_state_sync(s, NULL, i << 2 | TAG_SYNC);
    }
    if (rng_chance(&rng, 500000))
        wait_done(s, false, 400);
    engine_fs_mem_off(disk);
    engine_state_close(s);
    engine_fs_mem_crash(disk, seed % 3 == 0 ? 0 : 700000);
    uint64_t kept = 0, last_sync = synced;
    int r = engine_state_open(&c, &s);
    if (r < 0) {
        ck_assert(is_unordered);
        teardown();
        return false;
    }
    struct buf b = {0};
    r = engine_state_get_meta(s, STR("n"), &b);
    if (r == 0)
        ck_assert(str_to_u64(buf_str(&b), &kept));
    buf_deinit(&b);
    size_t rows = scan(s, NULL, (struct engine_scan){.space = 1}, 0).n / (6 + 2 + sizeof value);
    bool is_prefix = rows == kept && kept >= last_sync;
    if (!is_prefix && !is_unordered)
        fprintf(stderr, "seed %llu: %zu rows, counter %llu, synced %llu\n",
                (unsigned long long)seed, rows, (unsigned long long)kept,
                (unsigned long long)last_sync);
    engine_state_close(s);
    teardown();
    return is_prefix;
}

START_TEST(test_prefix)
{
    for (uint64_t seed = 1; seed <= 60; seed++)
        ck_assert_msg(power_loss(seed, false), "seed %llu lost something in the middle",
                      (unsigned long long)seed);
}
END_TEST

/* What LevelDB does when it is left alone: the test above must be able to see it. */
START_TEST(test_hole_is_seen)
{
    int holes = 0;
    for (uint64_t seed = 1; seed <= 60; seed++)
        holes += !power_loss(seed, true);
    ck_assert_int_gt(holes, 0);
}
END_TEST

START_TEST(test_disk_error)
{
    struct engine_state_conf c = conf_of(true);
    struct engine_state *s;
    ck_assert_int_eq(engine_state_open(&c, &s), 0);
    engine_fs_mem_set(disk, &(struct engine_fs_mem_fault){.sync_error_per_million = 1000000});
    put3(s, 1, "1");
    engine_state_sync(s, NULL, TAG_SYNC);
    put3(s, 1, "2");
    wait_done(s, false, 3);
    ck_assert_int_lt(error, 0);
    ck_assert_int_lt(engine_state_stall(s), 0);
    engine_state_close(s);
}
END_TEST

START_TEST(test_full_disk)
{
    struct engine_state_conf c = conf_of(true);
    struct engine_state *s;
    ck_assert_int_eq(engine_state_open(&c, &s), 0);
    put3(s, 1, "1");
    wait_done(s, false, 1);
    engine_fs_mem_set(disk, &(struct engine_fs_mem_fault){.space_max = 200 << 10});
    put3(s, 1, "2");
    while (engine_state_stall(s) != 100)
        sched_yield();
    ck_str(scan(s, NULL, (struct engine_scan){.space = 1}, 0), STR("a=1 b=1 c=1 "));
    ck_assert_uint_eq(done, 1);
    engine_fs_mem_set(disk, &(struct engine_fs_mem_fault){0});
    wait_done(s, false, 2);
    ck_assert_int_eq(error, 0);
    ck_assert_int_eq(engine_state_stall(s), 0);
    ck_str(scan(s, NULL, (struct engine_scan){.space = 1}, 0), STR("a=2 b=2 c=2 "));
    engine_state_close(s);
}
END_TEST

static void ck_value(struct engine_state *s, const char *key, const char *want)
{
    struct buf b = {0};
    int r = engine_state_get(s, NULL, 1, str_of(key), &b);
    ck_assert_int_eq(r, want == NULL ? ENGINE_STATE_E_NONE : 0);
    if (want != NULL)
        ck_str(buf_str(&b), str_of(want));
    buf_deinit(&b);
}

static void put1(struct engine_state *s, const char *key, const char *value, void *owner)
{
    struct engine_batch *b = engine_batch_new();
    if (value != NULL)
        engine_batch_put(b, 1, str_of(key), str_of(value));
    else
        engine_batch_del(b, 1, str_of(key));
    engine_state_write(s, b, owner, TAG_WRITE);
}

/* Held for an hour: only what presses has batches written. */
START_TEST(test_hold)
{
    struct engine_state_conf c = conf_of(true);
    c.hold_usec = 3600 * USEC_SEC;
    c.hold_bytes_max = 1000;
    struct engine_state *s;
    ck_assert_int_eq(engine_state_open(&c, &s), 0);
    put1(s, "a", "1", NULL);
    ck_value(s, "a", NULL);
    put1(s, "a", "2", NULL);
    put1(s, "b", "1", NULL);
    put1(s, "b", NULL, NULL);
    engine_state_view(s, NULL, TAG_VIEW);
    wait_done(s, false, 5);
    ck_value(s, "a", "2");
    ck_value(s, "b", NULL);
    engine_view_free(s, last_view);
    put1(s, "a", "3", NULL);
    engine_state_sync(s, NULL, TAG_SYNC);
    wait_done(s, false, 7);
    ck_value(s, "a", "3");
    put1(s, "a", "4", NULL);
    put1(s, "c", "1", s); /* somebody waits for it */
    wait_done(s, false, 9);
    ck_value(s, "a", "4");
    char big[1001] = {0};
    memset(big, 'x', 1000);
    put1(s, "d", big, NULL); /* too much to be held */
    wait_done(s, false, 10);
    ck_value(s, "d", big);
    put1(s, "e", "1", NULL);
    ck_assert_int_eq(engine_state_stall(s), 0);
    engine_state_close(s); /* writes what it holds */
    ck_assert_int_eq(error, 0);
    ck_assert_int_eq(engine_state_open(&c, &s), 0);
    ck_value(s, "e", "1");
    engine_state_close(s);
}
END_TEST

START_TEST(test_hold_ends)
{
    struct engine_state_conf c = conf_of(true);
    c.hold_usec = 5 * USEC_MSEC;
    struct engine_state *s;
    ck_assert_int_eq(engine_state_open(&c, &s), 0);
    put1(s, "a", "1", NULL);
    wait_done(s, false, 1);
    ck_value(s, "a", "1");
    engine_state_close(s);
}
END_TEST

START_TEST(test_merge)
{
    struct engine_batch *b[3] = {engine_batch_new(), engine_batch_new(), engine_batch_new()};
    struct engine_merge m = {0};
    char key[8];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "%u", i);
        engine_batch_put(b[i % 2], 1, str_of(key), str_of(key));
        if (i % 3 == 0)
            engine_batch_del(b[2], 1, str_of(key));
        else if (i % 3 == 1)
            engine_batch_put(b[2], 1, str_of(key), STR("new"));
    }
    engine_batch_put(b[2], 2, STR("1"), STR("other space"));
    for (int i = 0; i < 3; i++)
        engine_merge_add(&m, b[i]);
    ck_assert_uint_eq(m.count, 1001);
    size_t kinds[4] = {0};
    for (size_t i = 0; i < m.count; i++) {
        bool is_old =
            str_eq(m.change[i].value, str_view(m.change[i].key.p + 9, m.change[i].key.n - 9));
        kinds[m.change[i].is_del                      ? 0
              : str_eq(m.change[i].value, STR("new")) ? 1
              : is_old                                ? 2
                                                      : 3]++;
    }
    ck_assert(kinds[0] == 334 && kinds[1] == 333 && kinds[2] == 333 && kinds[3] == 1);
    engine_merge_deinit(&m);
    for (int i = 0; i < 3; i++)
        engine_batch_free(b[i]);
}
END_TEST

START_TEST(test_mem_crash)
{
    struct engine_mem *mem = engine_mem_new();
    struct engine_state_conf c = conf_of(false);
    c.mem = mem;
    for (uint64_t keep = 0; keep <= 3; keep++) {
        struct engine_state *s;
        ck_assert_int_eq(engine_state_open(&c, &s), 0);
        put3(s, 1, "base");
        engine_state_sync(s, NULL, TAG_SYNC);
        put3(s, 1, "one");
        put3(s, 1, "two");
        while (engine_state_step(s))
            ;
        ck_assert_uint_eq(engine_mem_unsynced(mem), 2);
        engine_state_close(s);
        engine_mem_crash(mem, keep);
        ck_assert_int_eq(engine_state_open(&c, &s), 0);
        struct buf b = {0};
        ck_assert_int_eq(engine_state_get(s, NULL, 1, STR("b"), &b), 0);
        ck_str(buf_str(&b), keep == 0 ? STR("base") : keep == 1 ? STR("one") : STR("two"));
        buf_deinit(&b);
        engine_state_close(s);
    }
    engine_mem_free(mem);
}
END_TEST

START_TEST(test_spaces)
{
    struct engine_state_conf c = conf_of(true);
    uint64_t last = 0;
    for (int i = 0; i < 5; i++) {
        struct engine_state *s;
        ck_assert_int_eq(engine_state_open(&c, &s), 0);
        for (int k = 0; k < 1500; k++) {
            uint64_t n = engine_state_space(s);
            ck_assert_uint_gt(n, last);
            last = n;
        }
        engine_state_close(s);
    }
}
END_TEST

START_TEST(test_verify)
{
    struct engine_state_conf c = conf_of(true);
    struct engine_state *s;
    struct buf what = {0};
    ck_assert_int_eq(engine_state_open(&c, &s), 0);
    put3(s, 1, "1");
    engine_state_close(s);
    ck_assert_int_eq(engine_state_verify(&c, &what), 0);
    for (uint64_t bit = 0; bit < 80; bit += 8)
        ck_assert_int_eq(engine_fs_mem_flip(disk, "/state/CURRENT", bit), 0);
    ck_assert_int_lt(engine_state_verify(&c, &what), 0);
    ck_assert_uint_gt(what.n, 0);
    buf_deinit(&what);
}
END_TEST

Suite *suite_state(void);
Suite *suite_state(void)
{
    Suite *s = suite_create("engine state");
    TCase *t = tcase_create("state"), *loss = tcase_create("power loss");
    tcase_set_timeout(t, 120);
    tcase_set_timeout(loss, 240);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, test_rows, 0, 2);
    tcase_add_loop_test(t, test_drop, 0, 2);
    tcase_add_test(t, test_model);
    tcase_add_test(t, test_disk_error);
    tcase_add_test(t, test_full_disk);
    tcase_add_test(t, test_hold);
    tcase_add_test(t, test_hold_ends);
    tcase_add_test(t, test_merge);
    tcase_add_test(t, test_mem_crash);
    tcase_add_test(t, test_spaces);
    tcase_add_test(t, test_verify);
    tcase_add_test(loss, test_prefix);
    tcase_add_test(loss, test_hole_is_seen);
    suite_add_tcase(s, t);
    suite_add_tcase(s, loss);
    return s;
}
