/* The data directory: made once, ours or refused.  SPDX-License-Identifier: Apache-2.0 */
#include "engine/dir.h"

#include <errno.h>

#include "unit/unit.h"

static struct engine_fs_mem *disk;

static struct engine_dir_conf conf_of(const char *cluster)
{
    struct engine_dir_conf c = {
        .path = "/data", .fs = engine_fs_mem_fs(disk), .cluster = str_of(cluster)};
    memset(c.random, 7, sizeof c.random);
    return c;
}

static void put_file(const char *name, struct str content)
{
    ck_assert_int_eq(engine_fs_replace(engine_fs_mem_fs(disk), "/data", name, content), 0);
}

static void setup(void)
{
    disk = engine_fs_mem_new(1);
}

static void teardown(void)
{
    disk = engine_fs_mem_free(disk);
}

START_TEST(test_made_and_opened_again)
{
    struct engine_dir_conf c = conf_of("alpha");
    struct engine_dir *d;
    ck_assert_int_eq(engine_dir_open(&c, &d, NULL), 0);
    struct uuid node = engine_dir_node(d);
    ck_assert(engine_dir_is_new(d));
    ck_assert_uint_eq(engine_dir_epoch(d), 1);
    struct engine_dir *second;
    ck_assert_int_eq(engine_dir_open(&c, &second, NULL), ENGINE_DIR_E_LOCKED);
    struct uuid whose;
    ck_assert_int_eq(engine_dir_whose(c.fs, c.path, &whose, NULL), 0); /* asks for no lock */
    ck_assert(uuid_eq(&whose, &node));
    ck_assert_int_eq(engine_dir_whose(c.fs, "/none", &whose, NULL), -ENOENT);
    engine_dir_close(d);
    ck_assert_int_eq(engine_dir_open(&c, &d, NULL), 0);
    struct uuid again = engine_dir_node(d);
    ck_assert(uuid_eq(&node, &again));
    ck_assert(!engine_dir_is_new(d));
    ck_assert_uint_eq(engine_dir_epoch(d), 2);
    engine_dir_close(d);
    c.epoch_min = 1000; /* the clock */
    ck_assert_int_eq(engine_dir_open(&c, &d, NULL), 0);
    ck_assert_uint_eq(engine_dir_epoch(d), 1000);
    engine_dir_close(d);
    c.epoch_min = 900; /* set back */
    ck_assert_int_eq(engine_dir_open(&c, &d, NULL), 0);
    ck_assert_uint_eq(engine_dir_epoch(d), 1001);
    ck_assert_int_eq(engine_dir_join(d, STR("alpha")), 0);
    ck_assert_int_eq(engine_dir_join(d, STR("beta")), ENGINE_DIR_E_FOREIGN);
    engine_dir_close(d);
}
END_TEST

START_TEST(test_refused)
{
    struct engine_dir_conf c = conf_of("alpha");
    struct engine_dir *d;
    struct buf why = {0};
    put_file("holiday.jpg", STR("x"));
    ck_assert_int_eq(engine_dir_open(&c, &d, &why), ENGINE_DIR_E_STRANGE);
    ck_assert(why.n > 0);
    buf_deinit(&why);
    struct engine_fs fs = c.fs;
    ck_assert_int_eq(fs.ops->unlink(fs.arg, "/data/holiday.jpg"), 0);
    ck_assert_int_eq(engine_dir_open(&c, &d, NULL), 0);
    engine_dir_close(d);
    c = conf_of("beta");
    ck_assert_int_eq(engine_dir_open(&c, &d, NULL), ENGINE_DIR_E_FOREIGN);
    c = conf_of("alpha");
    c.node.b[3] = 1;
    ck_assert_int_eq(engine_dir_open(&c, &d, NULL), ENGINE_DIR_E_FOREIGN);
    c = conf_of("alpha");
    put_file("FORMAT", STR("bilrost-data 2\n"));
    uint64_t before = engine_fs_mem_ops(disk);
    ck_assert_int_eq(engine_dir_open(&c, &d, NULL), ENGINE_DIR_E_NEWER);
    ck_assert_uint_le(engine_fs_mem_ops(disk), before + 1); /* mkdir, and nothing was written */
    static const char *const bad[] = {"",
                                      "bilrost-data",
                                      "bilrost-data \n",
                                      "bilrost-data 0\n",
                                      "bilrost-data 1x\n",
                                      "something else\n",
                                      "bilrost-data 1"};
    for (size_t i = 0; i < countof(bad); i++) {
        put_file("FORMAT", str_of(bad[i]));
        ck_assert_int_eq(engine_dir_open(&c, &d, NULL), ENGINE_DIR_E_DAMAGED);
    }
}
END_TEST

START_TEST(test_node_damaged)
{
    struct engine_dir_conf c = conf_of("alpha");
    struct engine_dir *d;
    ck_assert_int_eq(engine_dir_open(&c, &d, NULL), 0);
    engine_dir_close(d);
    for (uint64_t bit = 0; engine_fs_mem_flip(disk, "/data/NODE", bit) == 0; bit++) {
        ck_assert_int_eq(engine_dir_open(&c, &d, NULL), ENGINE_DIR_E_DAMAGED);
        ck_assert_int_eq(engine_fs_mem_flip(disk, "/data/NODE", bit), 0);
    }
    ck_assert_int_eq(engine_dir_open(&c, &d, NULL), 0);
    engine_dir_close(d);
}
END_TEST

/* Power is lost at every operation while it is made and opened: the same node afterwards, the epoch
 * never falls. */
START_TEST(test_crash)
{
    for (uint64_t at = 1; at < 40; at++) {
        struct engine_dir_conf c = conf_of("alpha");
        struct engine_dir *d;
        uint64_t epoch = 0;
        struct uuid node = {{0}};
        engine_fs_mem_set(disk, &(struct engine_fs_mem_fault){.power_off_at = at});
        for (int i = 0; i < 4 && engine_dir_open(&c, &d, NULL) == 0; i++) {
            epoch = engine_dir_epoch(d);
            node = engine_dir_node(d);
            engine_dir_close(d);
        }
        engine_fs_mem_crash(disk, 500000);
        ck_assert_int_eq(engine_dir_open(&c, &d, NULL), 0);
        struct uuid now = engine_dir_node(d);
        ck_assert(epoch == 0 || uuid_eq(&node, &now));
        ck_assert_uint_gt(engine_dir_epoch(d), epoch);
        engine_dir_close(d);
        teardown();
        disk = engine_fs_mem_new(at);
    }
}
END_TEST

Suite *suite_dir(void);
Suite *suite_dir(void)
{
    Suite *s = suite_create("engine dir");
    TCase *t = tcase_create("dir");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_made_and_opened_again);
    tcase_add_test(t, test_refused);
    tcase_add_test(t, test_node_damaged);
    tcase_add_test(t, test_crash);
    suite_add_tcase(s, t);
    return s;
}
