/* The machine's files behind the seam.  SPDX-License-Identifier: Apache-2.0
 *
 * F1 EINTR and short transfers end here.  F2 every descriptor is close-on-exec. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/fs.h"

struct engine_file {
    int fd;
};

static int posix_open(void *fs, const char *path, enum engine_fs_open how, struct engine_file **out)
{
    (void)fs;
    int flags = O_CLOEXEC;
    flags |= how == ENGINE_FS_READ ? O_RDONLY : O_RDWR | O_CREAT;
    flags |= how == ENGINE_FS_EMPTY ? O_TRUNC : 0;
    int fd;
    do
        fd = open(path, flags, 0640);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return err_trace(-errno);
    struct engine_file *f = mem_new(sizeof *f);
    f->fd = fd;
    *out = f;
    return 0;
}

static void posix_close(struct engine_file *f)
{
    close(f->fd);
    mem_free(f);
}

static int64_t posix_pread(struct engine_file *f, void *p, size_t n, uint64_t off)
{
    size_t done = 0;
    while (done < n) {
        ssize_t r = pread(f->fd, (char *)p + done, n - done, (off_t)(off + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_trace(-errno);
        if (r == 0)
            break;
        done += (size_t)r;
    }
    return (int64_t)done;
}

static int posix_pwritev(struct engine_file *f, struct iovec *iov, int count, uint64_t off)
{
    while (count > 0) {
        if (iov->iov_len == 0) {
            iov++;
            count--;
            continue;
        }
        ssize_t r = pwritev(f->fd, iov, count < IOV_MAX ? count : IOV_MAX, (off_t)off);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_trace(-errno);
        if (r == 0)
            return err_trace(-EIO);
        off += (uint64_t)r;
        for (size_t left = (size_t)r; left > 0;) {
            size_t n = iov->iov_len < left ? iov->iov_len : left;
            iov->iov_base = (char *)iov->iov_base + n;
            iov->iov_len -= n;
            left -= n;
            if (iov->iov_len == 0 && count > 0) {
                iov++;
                count--;
            }
        }
    }
    return 0;
}

static int posix_fdatasync(struct engine_file *f)
{
    int r;
    do
        r = fdatasync(f->fd);
    while (r < 0 && errno == EINTR);
    return r < 0 ? err_trace(-errno) : 0;
}

static int posix_allocate(struct engine_file *f, uint64_t n)
{
    int r;
    do
        r = posix_fallocate(f->fd, 0, (off_t)n);
    while (r == EINTR);
    return err_trace(-r);
}

static int64_t posix_size(struct engine_file *f)
{
    struct stat st;
    return fstat(f->fd, &st) < 0 ? err_trace(-errno) : st.st_size;
}

/* Space that was only allocated is a hole (or an unwritten extent, which is answered as one). */
static int64_t posix_written(struct engine_file *f)
{
    off_t size = lseek(f->fd, 0, SEEK_END), end = 0;
    if (size < 0)
        return err_trace(-errno);
    for (off_t at = 0; at < size;) {
        off_t data = lseek(f->fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            return end;
        off_t hole = data < 0 ? -1 : lseek(f->fd, data, SEEK_HOLE);
        if (hole <= data)
            return size; /* a file system that does not know */
        at = end = hole;
    }
    return end;
}

static int posix_rename(void *fs, const char *from, const char *to)
{
    (void)fs;
    return rename(from, to) < 0 ? err_trace(-errno) : 0;
}

static int posix_unlink(void *fs, const char *path)
{
    (void)fs;
    return unlink(path) < 0 ? err_trace(-errno) : 0;
}

static int posix_mkdir(void *fs, const char *path)
{
    (void)fs;
    return mkdir(path, 0750) < 0 && errno != EEXIST ? err_trace(-errno) : 0;
}

static int posix_dirsync(void *fs, const char *path)
{
    (void)fs;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_trace(-errno);
    int r = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return err_trace(r);
}

static int posix_list(void *fs, const char *path, struct buf *out)
{
    (void)fs;
    DIR *d = opendir(path);
    if (d == NULL)
        return err_trace(-errno);
    errno = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL; errno = 0)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            buf_put(out, e->d_name, strlen(e->d_name) + 1);
    int r = -errno;
    closedir(d);
    return err_trace(r);
}

static int64_t posix_space(void *fs, const char *path)
{
    (void)fs;
    struct statvfs v;
    if (statvfs(path, &v) < 0)
        return err_trace(-errno);
    uint64_t n = (uint64_t)v.f_bavail * v.f_frsize;
    return n < INT64_MAX ? (int64_t)n : INT64_MAX;
}

static int posix_lock(struct engine_file *f)
{
    return flock(f->fd, LOCK_EX | LOCK_NB) < 0 ? err_trace(-errno) : 0;
}

static const struct engine_fs_ops posix_ops = {
    .open = posix_open,
    .close = posix_close,
    .pread = posix_pread,
    .pwritev = posix_pwritev,
    .fdatasync = posix_fdatasync,
    .allocate = posix_allocate,
    .size = posix_size,
    .written = posix_written,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .mkdir = posix_mkdir,
    .dirsync = posix_dirsync,
    .list = posix_list,
    .space = posix_space,
    .lock = posix_lock,
};

struct engine_fs engine_fs_posix(void)
{
    return (struct engine_fs){&posix_ops, NULL};
}
