/* The log on real files with its thread; the hard cases are in tests/sim/engine.c.
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "unit/unit.h"

#define PRODUCERS 4
#define BATCHES 300

struct count {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    uint64_t done, last[PRODUCERS];
    int error;
};

static char dir[32];
static struct count count;
static struct engine_log_conf conf;

static void on_done(void *arg, const struct engine_log_done *d, size_t n)
{
    struct count *c = arg;
    pthread_mutex_lock(&c->mutex);
    for (size_t i = 0; i < n; i++) {
        uint64_t *last = d[i].owner;
        if (last != NULL && d[i].tag != *last + 1)
            c->error = -EPROTO; /* not in order */
        if (last != NULL)
            *last = d[i].tag;
        c->error = d[i].result < 0 ? d[i].result : c->error;
    }
    c->done += n;
    pthread_cond_broadcast(&c->cond);
    pthread_mutex_unlock(&c->mutex);
}

static void wait_done(uint64_t n)
{
    pthread_mutex_lock(&count.mutex);
    while (count.done < n)
        pthread_cond_wait(&count.cond, &count.mutex);
    pthread_mutex_unlock(&count.mutex);
}

static void setup(void)
{
    memcpy(dir, "/tmp/bilrost-log-XXXXXX", 24);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    count = (struct count){.error = 0};
    pthread_mutex_init(&count.mutex, NULL);
    pthread_cond_init(&count.cond, NULL);
    conf = (struct engine_log_conf){.dir = dir,
                                    .fs = engine_fs_posix(),
                                    .node = {{9}},
                                    .segment_bytes = 64 << 10,
                                    .done = on_done,
                                    .arg = &count};
}

static void teardown(void)
{
    struct buf names = {0};
    struct engine_fs fs = engine_fs_posix();
    ck_assert_int_eq(fs.ops->list(NULL, dir, &names), 0);
    for (size_t at = 0; at < names.n; at += strlen((const char *)names.p + at) + 1) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, (const char *)names.p + at);
        ck_assert_int_eq(unlink(path), 0);
    }
    buf_deinit(&names);
    ck_assert_int_eq(rmdir(dir), 0);
}

static void *produce(void *arg)
{
    struct {
        struct engine_log *log;
        uint64_t group;
    } *p = arg;
    for (uint64_t i = 1; i <= BATCHES; i++) {
        struct engine_log_batch *b = engine_log_batch_new();
        char data[128];
        int n = snprintf(data, sizeof data, "group %llu entry %llu", (unsigned long long)p->group,
                         (unsigned long long)i);
        struct engine_log_entry e = {1 + i / 100, 1, str_view(data, (size_t)n)};
        if (i == 1)
            engine_log_put_create(b, p->group, STR("meta"));
        engine_log_put_entries(b, p->group, i, &e, 1);
        if (i % 50 == 0)
            engine_log_put_compact(b, p->group, i - 40, 1 + (i - 40) / 100, STR("config"));
        engine_log_submit(p->log, b, i % 3 != 0, &count.last[p->group - 1], i);
    }
    return NULL;
}

static void expect(struct engine_log *log, uint64_t group)
{
    struct engine_log_group g;
    ck_assert_int_eq(engine_log_group(log, group, &g), 0);
    ck_assert_uint_eq(g.floor_index, BATCHES - 40);
    ck_assert_uint_eq(g.last_index, BATCHES);
    ck_assert_uint_eq(g.last_term, 1 + BATCHES / 100);
    ck_assert(!g.is_damaged);
    ck_str(g.meta, STR("meta"));
    ck_str(g.config, STR("config"));
    engine_log_group_deinit(&g);
    struct engine_log_entry e[100];
    struct buf bytes = {0};
    size_t n;
    struct engine_log_want w = {group, BATCHES - 39, 100, 1 << 20, true};
    ck_assert_int_eq(engine_log_read(log, &w, &bytes, e, &n), 0);
    ck_assert_uint_eq(n, 40);
    char data[128];
    int len =
        snprintf(data, sizeof data, "group %llu entry %d", (unsigned long long)group, BATCHES);
    ck_str(e[39].data, str_view(data, (size_t)len));
    w.from = BATCHES - 40;
    ck_assert_int_eq(engine_log_read(log, &w, &bytes, e, &n), ENGINE_LOG_E_GONE);
    w.from = BATCHES + 1;
    ck_assert_int_eq(engine_log_read(log, &w, &bytes, e, &n), ENGINE_LOG_E_BEYOND);
    w.group = 99;
    ck_assert_int_eq(engine_log_read(log, &w, &bytes, e, &n), ENGINE_LOG_E_NONE);
    buf_deinit(&bytes);
}

START_TEST(test_many_producers)
{
    struct engine_log *log;
    ck_assert_int_eq(engine_log_open(&conf, &log), 0);
    pthread_t t[PRODUCERS];
    struct {
        struct engine_log *log;
        uint64_t group;
    } p[PRODUCERS];
    for (uint64_t i = 0; i < PRODUCERS; i++) {
        p[i].log = log;
        p[i].group = i + 1;
        ck_assert_int_eq(pthread_create(&t[i], NULL, produce, &p[i]), 0);
    }
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(t[i], NULL);
    wait_done(PRODUCERS * BATCHES);
    ck_assert_int_eq(count.error, 0);
    ck_assert_int_eq(engine_log_admit(log), 0);
    for (uint64_t i = 1; i <= PRODUCERS; i++)
        expect(log, i);
    struct engine_log_stats s;
    engine_log_stats(log, &s);
    ck_assert_uint_eq(s.batches, PRODUCERS * BATCHES);
    ck_assert_uint_le(s.syncs, s.batches);
    engine_log_close(log);
    conf.cache_bytes = 1; /* now from the disk */
    ck_assert_int_eq(engine_log_open(&conf, &log), 0);
    for (uint64_t i = 1; i <= PRODUCERS; i++)
        expect(log, i);
    struct engine_log_entry e;
    struct buf bytes = {0};
    size_t n;
    struct engine_log_want w = {1, BATCHES, 1, 100, false};
    ck_assert_int_eq(engine_log_read(log, &w, &bytes, &e, &n), ENGINE_LOG_E_DISK);
    buf_deinit(&bytes);
    engine_log_close(log);
}
END_TEST

static void submit_big(struct engine_log *log, uint64_t group, uint64_t index, size_t n)
{
    struct engine_log_batch *b = engine_log_batch_new();
    char *p = mem_new(n);
    struct engine_log_entry e = {1, 0, str_view(p, n)};
    if (index == 1)
        engine_log_put_create(b, group, STR(""));
    engine_log_put_entries(b, group, index, &e, 1);
    engine_log_submit(log, b, true, NULL, 0);
    mem_free(p);
}

START_TEST(test_larger_than_a_segment)
{
    struct engine_log *log;
    ck_assert_int_eq(engine_log_open(&conf, &log), 0);
    submit_big(log, 1, 1, 1 << 20);
    submit_big(log, 1, 2, 10);
    wait_done(2);
    engine_log_close(log);
    ck_assert_int_eq(engine_log_open(&conf, &log), 0);
    struct engine_log_group g;
    ck_assert_int_eq(engine_log_group(log, 1, &g), 0);
    ck_assert_uint_eq(g.last_index, 2);
    ck_assert_uint_eq(g.bytes, (1 << 20) + 10);
    engine_log_group_deinit(&g);
    engine_log_close(log);
}
END_TEST

START_TEST(test_pins_and_recycling)
{
    struct engine_log *log;
    struct engine_log_stats s;
    ck_assert_int_eq(engine_log_open(&conf, &log), 0);
    uint64_t sent = 0, group[4], index[4];
    for (uint64_t i = 1; i <= 40; i++, sent++)
        submit_big(log, 7, i, 20000);
    wait_done(sent);
    engine_log_stats(log, &s);
    ck_assert_uint_gt(s.segments, 10);
    ck_assert_uint_eq(engine_log_pins(log, group, index, 4), 1);
    ck_assert_uint_eq(group[0], 7);
    ck_assert_uint_ge(index[0], 2);
    struct engine_log_batch *b = engine_log_batch_new();
    engine_log_put_compact(b, 7, 40, 1, STR(""));
    engine_log_submit(log, b, true, NULL, 0);
    for (uint64_t i = 41; i < 60; i++)
        submit_big(log, 7, i, 100);
    wait_done(sent + 20);
    engine_log_close(log);
    ck_assert_int_eq(engine_log_open(&conf, &log), 0);
    engine_log_stats(log, &s);
    ck_assert_uint_le(s.segments, 3);
    engine_log_close(log);
}
END_TEST

static struct buf heard;

static void hear(void *arg, enum log_level level, const char *event, struct str text,
                 const struct log_field *field, size_t n)
{
    (void)arg, (void)level, (void)event, (void)field, (void)n;
    buf_put_str(&heard, text);
    buf_put_u8(&heard, '\n');
}

/* A middle segment is gone: the log opens, names it, and only who wrote there is damaged. */
START_TEST(test_missing_segment)
{
    static const struct log ear = {LOG_LEVEL_WARN, hear, NULL};
    static char big[3000];
    struct engine_log *log;
    struct engine_log_group g;
    char path[80];
    conf.segment_bytes = 16384;
    conf.segment_soft_max = 100;
    conf.is_inline = true;
    conf.done = NULL;
    conf.log = &ear;
    ck_assert_int_eq(engine_log_open(&conf, &log), 0);
    for (uint64_t i = 1; i <= 24; i++) { /* groups 1 to 4, one after another */
        struct engine_log_batch *b = engine_log_batch_new();
        struct engine_log_entry e = {1, 0, str_view(big, sizeof big)};
        uint64_t group = (i + 5) / 6, index = (i - 1) % 6 + 1;
        if (index == 1)
            engine_log_put_create(b, group, STR("meta"));
        engine_log_put_entries(b, group, index, &e, 1);
        engine_log_submit(log, b, true, NULL, 0);
        while (engine_log_step(log))
            ;
    }
    engine_log_close(log);
    snprintf(path, sizeof path, "%s/0000000000000003.rlog", dir);
    ck_assert_int_eq(unlink(path), 0);
    heard.n = 0;
    ck_assert_int_eq(engine_log_open(&conf, &log), 0);
    buf_put_u8(&heard, 0);
    ck_assert_ptr_nonnull(strstr((const char *)heard.p, "0000000000000003.rlog"));
    ck_assert_ptr_nonnull(strstr((const char *)heard.p, "missing"));
    ck_assert_ptr_nonnull(strstr((const char *)heard.p, "put it back"));
    size_t damaged = 0;
    for (uint64_t i = 1; i <= 4; i++) {
        ck_assert_int_eq(engine_log_group(log, i, &g), 0);
        damaged += g.is_damaged;
        ck_assert(i > 1 || !g.is_damaged); /* was all in the first two */
        ck_assert(g.is_damaged || g.last_index == 6);
        engine_log_group_deinit(&g);
    }
    ck_assert_uint_ge(damaged, 1);
    ck_assert_uint_le(damaged, 3);
    engine_log_close(log);
    buf_deinit(&heard);
}
END_TEST

START_TEST(test_foreign_and_newer)
{
    struct engine_log *log;
    ck_assert_int_eq(engine_log_open(&conf, &log), 0);
    submit_big(log, 1, 1, 10);
    engine_log_close(log);
    conf.node.b[0] = 8;
    ck_assert_int_eq(engine_log_open(&conf, &log), ENGINE_LOG_E_FOREIGN);
}
END_TEST

Suite *suite_log(void);
Suite *suite_log(void)
{
    Suite *s = suite_create("engine log");
    TCase *t = tcase_create("log");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_many_producers);
    tcase_add_test(t, test_larger_than_a_segment);
    tcase_add_test(t, test_pins_and_recycling);
    tcase_add_test(t, test_missing_segment);
    tcase_add_test(t, test_foreign_and_newer);
    suite_add_tcase(s, t);
    return s;
}
