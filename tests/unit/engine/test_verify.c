/* A whole data directory is looked over.  SPDX-License-Identifier: Apache-2.0 */
#include "engine/verify.h"

#include <errno.h>

#include "base/mem.h"
#include "engine/dir.h"
#include "engine/log.h"
#include "engine/state.h"
#include "unit/unit.h"

static struct engine_fs_mem *disk;
static struct buf said;

static void on_found(void *arg, struct str sentence)
{
    (void)arg;
    buf_put_str(&said, sentence);
    buf_put_u8(&said, '\n');
}

static int verify(void)
{
    struct engine_verify_conf c = {
        .path = "/data", .fs = engine_fs_mem_fs(disk), .found = on_found};
    said.n = 0;
    return engine_verify(&c);
}

static bool was_said(const char *what)
{
    buf_put_u8(&said, 0);
    return strstr((const char *)said.p, what) != NULL;
}

/* A directory with one group of three entries and one store with some rows. */
static void make(void)
{
    struct engine_dir_conf dc = {
        .path = "/data", .fs = engine_fs_mem_fs(disk), .random = {1, 2, 3}};
    struct engine_dir *d;
    ck_assert_int_eq(engine_dir_open(&dc, &d, NULL), 0);
    char *path, *state;
    ck_assert_int_eq(engine_dir_sub(d, "log", &path), 0);
    struct engine_log_conf lc = {.dir = path,
                                 .fs = dc.fs,
                                 .node = engine_dir_node(d),
                                 .segment_bytes = 16384,
                                 .seed = 5,
                                 .is_inline = true};
    struct engine_log *log;
    ck_assert_int_eq(engine_log_open(&lc, &log), 0);
    struct engine_log_batch *b = engine_log_batch_new();
    struct engine_log_entry e[3] = {{1, 0, STR("one")}, {1, 0, STR("two")}, {1, 0, STR("three")}};
    engine_log_put_create(b, 42, STR("meta"));
    engine_log_put_entries(b, 42, 1, e, 3);
    engine_log_submit(log, b, true, NULL, 0);
    engine_log_close(log);
    ck_assert_int_eq(engine_dir_sub(d, "state/inbox", &state), 0);
    struct engine_state_conf sc = {.dir = state, .fs = dc.fs};
    struct engine_state *s;
    ck_assert_int_eq(engine_state_open(&sc, &s), 0);
    struct engine_batch *sb = engine_batch_new();
    engine_batch_put(sb, 1, STR("key"), STR("value"));
    engine_state_write(s, sb, NULL, 0);
    engine_state_close(s);
    mem_free(path);
    mem_free(state);
    engine_dir_close(d);
}

START_TEST(test_sound_and_damaged)
{
    disk = engine_fs_mem_new(1);
    ck_assert_int_eq(verify(), -ENOENT);
    make();
    ck_assert_int_eq(verify(), 0);
    ck_assert_uint_eq(said.n, 0);
    const char *segment = "/data/log/0000000000000001.rlog";
    const uint64_t roll = 32 + 16 + 8; /* the first frame: a roll of nobody */
    const uint64_t bit =
        (4096 + roll + 32 + 2 * 16 + 10) * 8; /* in the first record or the second */
    ck_assert_int_eq(engine_fs_mem_flip(disk, segment, bit), 0);
    ck_assert_int_eq(verify(), ENGINE_VERIFY_E_DAMAGED);
    ck_assert(was_said("group 42"));
    ck_assert_int_eq(engine_fs_mem_flip(disk, segment, bit), 0);
    ck_assert_int_eq(verify(), 0);
    struct engine_dir_conf dc = {.path = "/data", .fs = engine_fs_mem_fs(disk)};
    struct engine_dir *d;
    ck_assert_int_eq(engine_dir_open(&dc, &d, NULL), 0);
    ck_assert_uint_eq(engine_dir_epoch(d), 2); /* looking did not count */
    ck_assert_int_eq(verify(), ENGINE_VERIFY_E_REFUSED);
    ck_assert(was_said("another process"));
    engine_dir_close(d);
    ck_assert_int_eq(engine_fs_mem_flip(disk, "/data/state/inbox/CURRENT", 3), 0);
    ck_assert_int_eq(verify(), ENGINE_VERIFY_E_DAMAGED);
    ck_assert(was_said("state/inbox"));
    buf_deinit(&said);
    engine_fs_mem_free(disk);
}
END_TEST

Suite *suite_verify(void);
Suite *suite_verify(void)
{
    Suite *s = suite_create("engine verify");
    TCase *t = tcase_create("verify");
    tcase_add_test(t, test_sound_and_damaged);
    suite_add_tcase(s, t);
    return s;
}
