/* Both bodies of the file seam do the same; the one in memory forgets what it may.
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit/unit.h"

static void same(struct engine_fs fs, const char *dir)
{
    char a[64], b[64];
    snprintf(a, sizeof a, "%s/a", dir);
    snprintf(b, sizeof b, "%s/b", dir);
    struct engine_file *f;
    ck_assert_int_eq(fs.ops->open(fs.arg, a, ENGINE_FS_READ, &f), -ENOENT);
    ck_assert_int_eq(fs.ops->open(fs.arg, a, ENGINE_FS_EMPTY, &f), 0);
    struct iovec v[3] = {{(void *)"hel", 3}, {(void *)"", 0}, {(void *)"lo", 2}};
    ck_assert_int_eq(fs.ops->pwritev(f, v, 3, 2), 0);
    ck_assert_int_eq((int)fs.ops->size(f), 7);
    ck_assert_int_eq(fs.ops->fdatasync(f), 0);
    char p[16];
    ck_assert_int_eq((int)fs.ops->pread(f, p, sizeof p, 3), 4);
    ck_assert_int_eq(memcmp(p, "ello", 4), 0);
    ck_assert_int_eq((int)fs.ops->pread(f, p, sizeof p, 99), 0);
    ck_assert_int_eq(fs.ops->allocate(f, 4096), 0);
    ck_assert_int_eq((int)fs.ops->size(f), 4096);
    ck_assert_int_eq(fs.ops->allocate(f, 1 << 20), 0);
    int64_t end = fs.ops->written(f); /* on a real disk, the end of a block */
    ck_assert_int_ge(end, 7);
    ck_assert_int_le(end, 65536);
    v[0] = (struct iovec){(void *)"\0", 1};
    ck_assert_int_eq(fs.ops->pwritev(f, v, 1, 300000), 0);
    ck_assert_int_ge(fs.ops->written(f), 300001); /* zeros that were written count */
    ck_assert_int_lt(fs.ops->written(f), 1 << 20);
    ck_assert_int_eq(fs.ops->lock(f), 0);
    struct engine_file *g;
    ck_assert_int_eq(fs.ops->open(fs.arg, a, ENGINE_FS_WRITE, &g), 0);
    ck_assert_int_eq(fs.ops->lock(g), -EWOULDBLOCK);
    fs.ops->close(g);
    fs.ops->close(f);
    ck_assert_int_eq(fs.ops->rename(fs.arg, a, b), 0);
    ck_assert_int_eq(fs.ops->rename(fs.arg, a, b), -ENOENT);
    struct buf names = {0};
    ck_assert_int_eq(fs.ops->list(fs.arg, dir, &names), 0);
    ck_str(buf_str(&names), str_view("b", 2));
    buf_deinit(&names);
    ck_assert_int_eq(fs.ops->dirsync(fs.arg, dir), 0);
    ck_assert_int_eq(fs.ops->unlink(fs.arg, b), 0);
    ck_assert_int_eq(fs.ops->unlink(fs.arg, b), -ENOENT);
    ck_assert_int_eq(engine_fs_replace(fs, dir, "c", STR("one")), 0);
    ck_assert_int_eq(engine_fs_replace(fs, dir, "c", STR("two")), 0);
    snprintf(a, sizeof a, "%s/c", dir);
    struct buf b2 = {0};
    ck_assert_int_eq(engine_fs_slurp(fs, a, 2, &b2), -EFBIG);
    ck_assert_int_eq(engine_fs_slurp(fs, a, 3, &b2), 0);
    ck_str(buf_str(&b2), STR("two"));
    buf_deinit(&b2);
    ck_assert_int_eq(fs.ops->unlink(fs.arg, a), 0);
}

START_TEST(test_posix)
{
    char dir[] = "/tmp/bilrost-fs-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    same(engine_fs_posix(), dir);
    ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

START_TEST(test_memory)
{
    struct engine_fs_mem *m = engine_fs_mem_new(1);
    same(engine_fs_mem_fs(m), "/dir");
    engine_fs_mem_free(m);
}
END_TEST

START_TEST(test_memory_forgets)
{
    struct engine_fs_mem *m = engine_fs_mem_new(1);
    struct engine_fs fs = engine_fs_mem_fs(m);
    struct engine_file *f;
    ck_assert_int_eq(fs.ops->open(fs.arg, "/d/x", ENGINE_FS_EMPTY, &f), 0);
    struct iovec v = {(void *)"kept", 4};
    ck_assert_int_eq(fs.ops->pwritev(f, &v, 1, 0), 0);
    ck_assert_int_eq(fs.ops->fdatasync(f), 0);
    ck_assert_int_eq(fs.ops->dirsync(fs.arg, "/d"), 0);
    v = (struct iovec){(void *)"lost", 4};
    ck_assert_int_eq(fs.ops->pwritev(f, &v, 1, 0), 0);
    ck_assert_int_eq(fs.ops->rename(fs.arg, "/d/x", "/d/y"), 0);
    engine_fs_mem_crash(m, 0);
    char p[8];
    ck_assert_int_eq((int)fs.ops->pread(f, p, 4, 0), -EIO); /* stale */
    fs.ops->close(f);
    ck_assert_int_eq(fs.ops->open(fs.arg, "/d/y", ENGINE_FS_READ, &f), -ENOENT);
    ck_assert_int_eq(fs.ops->open(fs.arg, "/d/x", ENGINE_FS_READ, &f), 0);
    ck_assert_int_eq((int)fs.ops->pread(f, p, 8, 0), 4);
    ck_assert_int_eq(memcmp(p, "kept", 4), 0);
    fs.ops->close(f);
    engine_fs_mem_free(m);
}
END_TEST

START_TEST(test_memory_fails)
{
    struct engine_fs_mem *m = engine_fs_mem_new(1);
    struct engine_fs fs = engine_fs_mem_fs(m);
    struct engine_file *f;
    ck_assert_int_eq(fs.ops->open(fs.arg, "/d/x", ENGINE_FS_EMPTY, &f), 0);
    engine_fs_mem_set(m, &(struct engine_fs_mem_fault){.space_max = 100});
    ck_assert_int_eq(fs.ops->allocate(f, 101), -ENOSPC);
    ck_assert_int_eq(fs.ops->allocate(f, 100), 0);
    engine_fs_mem_set(m, &(struct engine_fs_mem_fault){.sync_error_per_million = 1000000});
    ck_assert_int_eq(fs.ops->fdatasync(f), -EIO);
    engine_fs_mem_set(m, &(struct engine_fs_mem_fault){.power_off_at = 2});
    ck_assert_int_eq(fs.ops->fdatasync(f), 0);
    ck_assert_int_eq(fs.ops->fdatasync(f), -EIO);
    ck_assert_int_eq(fs.ops->fdatasync(f), -EIO);
    fs.ops->close(f);
    engine_fs_mem_free(m);
}
END_TEST

Suite *suite_fs(void);
Suite *suite_fs(void)
{
    Suite *s = suite_create("engine fs");
    TCase *t = tcase_create("fs");
    tcase_add_test(t, test_posix);
    tcase_add_test(t, test_memory);
    tcase_add_test(t, test_memory_forgets);
    tcase_add_test(t, test_memory_fails);
    suite_add_tcase(s, t);
    return s;
}
