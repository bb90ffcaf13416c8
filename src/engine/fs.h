/* The few file operations this room stands on, as a seam.  SPDX-License-Identifier: Apache-2.0
 *
 * Two bodies: the real files (engine_fs_posix) and a disk in memory that forgets, tears and lies as
 * disks do (engine_fs_mem_fs), so that every crash point of the log can be tried.  Paths are plain
 * strings; a body never keeps one.
 *
 * All calls answer 0 (or a count) or -errno.  EINTR and short transfers never leave the body: a
 * call did all of it or failed.  Any thread may call; one file is written by one thread. */
#pragma once

#include <sys/uio.h>

#include "base/buf.h"
#include "base/rng.h"

struct engine_file; /* an open file of some body */

enum engine_fs_open {
    ENGINE_FS_READ = 0,  /* must exist */
    ENGINE_FS_WRITE = 1, /* read and write, made when missing */
    ENGINE_FS_EMPTY = 2, /* read and write, made anew and empty */
};

struct engine_fs_ops {
    int (*open)(void *fs, const char *path, enum engine_fs_open how, struct engine_file **out);
    void (*close)(struct engine_file *f);
    /* Reads up to n bytes at off into p: bytes read (short only at the end of the file). */
    int64_t (*pread)(struct engine_file *f, void *p, size_t n, uint64_t off);
    /* Writes all of iov at off.  iov may be changed. */
    int (*pwritev)(struct engine_file *f, struct iovec *iov, int iov_count, uint64_t off);
    int (*fdatasync)(struct engine_file *f);
    /* Space for [0, n) with real blocks behind it; the size becomes at least n. */
    int (*allocate)(struct engine_file *f, uint64_t n);
    int64_t (*size)(struct engine_file *f);
    /* Nothing was ever written at or after this place, so it reads as zeros up to the end of the
     * file; the size where that cannot be told. */
    int64_t (*written)(struct engine_file *f);
    int (*rename)(void *fs, const char *from, const char *to);
    int (*unlink)(void *fs, const char *path);
    int (*mkdir)(void *fs, const char *path); /* 0 also when it is there */
    /* Makes names in this directory durable. */
    int (*dirsync)(void *fs, const char *path);
    /* The names in a directory, each ended by NUL, in no order; -ENOENT when there is none. */
    int (*list)(void *fs, const char *path, struct buf *out);
    /* Bytes that can still be written below this directory. */
    int64_t (*space)(void *fs, const char *path);
    /* One process at a time: 0, or -EWOULDBLOCK.  Held until the file is closed. */
    int (*lock)(struct engine_file *f);
};

struct engine_fs {
    const struct engine_fs_ops *ops;
    void *arg;
};

/* The machine's files. */
struct engine_fs engine_fs_posix(void);

/* Reads a whole file onto out: 0 or -errno; -EFBIG above max. */
must_use int engine_fs_slurp(struct engine_fs fs, const char *path, size_t max, struct buf *out);

/* Replaces a file so that after a crash the old or the new content is there, whole: temporary name,
 * fdatasync, rename, dirsync. */
must_use int engine_fs_replace(struct engine_fs fs, const char *dir, const char *name,
                               struct str content);

/* -- The disk in memory.  Not for production data: it is gone with the process. */

struct engine_fs_mem;

struct engine_fs_mem *engine_fs_mem_new(uint64_t seed);
struct engine_fs_mem *engine_fs_mem_free(struct engine_fs_mem *m);
struct engine_fs engine_fs_mem_fs(struct engine_fs_mem *m);

/* How the disk misbehaves from now on; all zero is a good disk. */
struct engine_fs_mem_fault {
    /* Operations that change something (pwritev, fdatasync, allocate, rename, unlink, mkdir,
     * dirsync, making open) are counted; when the count reaches this one (1 is the next), power
     * fails: this and every later call answers -EIO until engine_fs_mem_crash.  The failing pwritev
     * may have reached the disk in any part.  0: never. */
    uint64_t power_off_at;
    uint32_t sync_error_per_million;  /* fdatasync answers -EIO once and forgets what it should have
                                         kept */
    uint32_t write_error_per_million; /* pwritev answers -EIO, a part of it written */
    uint64_t space_max;               /* bytes of all files; beyond it -ENOSPC.  0: no limit */
};
void engine_fs_mem_set(struct engine_fs_mem *m, const struct engine_fs_mem_fault *fault);

/* Power fails now: every call answers -EIO until engine_fs_mem_crash.  Close what is open before
 * that, or a program that should be dead goes on writing. */
void engine_fs_mem_off(struct engine_fs_mem *m);

/* Power was lost and is back.  Of what was not synced, each 512-byte sector of each file is kept or
 * lost by chance (keep_per_million; a lost sector shows what was there before), and of the changes
 * of names a first few are kept.  Open files are stale: they answer -EIO, close them. */
void engine_fs_mem_crash(struct engine_fs_mem *m, uint32_t keep_per_million);

/* Changing operations so far. */
uint64_t engine_fs_mem_ops(struct engine_fs_mem *m);

/* Reading anything of a file at or after off answers -EIO, until something is written there: 0,
 * -ENOENT. */
must_use int engine_fs_mem_spoil(struct engine_fs_mem *m, const char *path, uint64_t off);

/* Flips one bit of a file, durably: 0, -ENOENT, -ERANGE. */
must_use int engine_fs_mem_flip(struct engine_fs_mem *m, const char *path, uint64_t bit);
