/* The memory limit of a control group, as both versions show it.  SPDX-License-Identifier:
 * Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "main/memory.h"
#include "unit/unit.h"

static char top[64], proc[128];

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", top, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_ne(f, NULL);
    fputs(text, f);
    fclose(f);
}

static void dir(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", top, name);
    ck_assert_int_eq(mkdir(path, 0700), 0);
}

static void setup(void)
{
    snprintf(top, sizeof top, "/tmp/bilrost-memory-XXXXXX");
    ck_assert_ptr_ne(mkdtemp(top), NULL);
    snprintf(proc, sizeof proc, "%s/proc", top);
    dir("s.slice");
    dir("s.slice/b.service");
    dir("memory");
    dir("memory/s.slice");
}

static void teardown(void)
{
    static const char *const file[] = {"proc",
                                       "s.slice/memory.max",
                                       "s.slice/b.service/memory.max",
                                       "memory/memory.limit_in_bytes",
                                       "memory/s.slice/memory.limit_in_bytes",
                                       "s.slice/b.service",
                                       "s.slice",
                                       "memory/s.slice",
                                       "memory"};
    char path[256];
    for (size_t i = 0; i < countof(file); i++) {
        snprintf(path, sizeof path, "%s/%s", top, file[i]);
        (void)remove(path);
    }
    (void)rmdir(top);
}

START_TEST(version_2_is_read)
{
    put("proc", "0::/s.slice/b.service\n");
    put("s.slice/b.service/memory.max", "400000000\n");
    ck_assert_uint_eq(main_memory_limit(proc, top), 400000000);
}
END_TEST

START_TEST(a_slice_above_counts)
{
    put("proc", "0::/s.slice/b.service\n");
    put("s.slice/b.service/memory.max", "max\n");
    put("s.slice/memory.max", "1000000\n");
    ck_assert_uint_eq(main_memory_limit(proc, top), 1000000);
}
END_TEST

START_TEST(version_1_is_read)
{
    put("proc", "12:cpu,cpuacct:/x\n9:memory:/s.slice\n1:name=systemd:/s.slice\n0::/s.slice\n");
    put("memory/s.slice/memory.limit_in_bytes", "5000000\n");
    put("memory/memory.limit_in_bytes", "9223372036854771712\n");
    ck_assert_uint_eq(main_memory_limit(proc, top), 5000000);
}
END_TEST

START_TEST(no_limit_is_none)
{
    ck_assert_uint_eq(main_memory_limit(proc, top), 0);
    put("proc", "rubbish\n0::/s.slice/b.service\n9:memory:/s.slice\n");
    put("s.slice/b.service/memory.max", "max\n");
    put("memory/s.slice/memory.limit_in_bytes", "9223372036854771712\n");
    ck_assert_uint_eq(main_memory_limit(proc, top), 0);
}
END_TEST

Suite *memory_suite(void)
{
    Suite *s = suite_create("memory");
    TCase *t = tcase_create("memory");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, version_2_is_read);
    tcase_add_test(t, a_slice_above_counts);
    tcase_add_test(t, version_1_is_read);
    tcase_add_test(t, no_limit_is_none);
    suite_add_tcase(s, t);
    return s;
}
