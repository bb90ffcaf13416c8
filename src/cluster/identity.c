/* Identity and small files.  SPDX-License-Identifier: Apache-2.0
 *
 * node.id: two lines, "uuid ..." and "epoch ...".  The epoch on disk is the one in use, written and
 * synced before any packet leaves, so that a restarted node is always newer than every rumour about
 * its past. Never: starts with an identity that another process on this machine holds. */
#include "cluster/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/random.h"

#define PATH_LEN 4096
#define ID_FILE "node.id"
#define LOCK_FILE "node.lock"

static void join_path(char out[PATH_LEN], const char *dir, const char *name, const char *suffix)
{
    (void)snprintf(out, PATH_LEN, "%s/%s%s", dir, name, suffix);
}

static int sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return r;
}

static int write_all(int fd, struct str s)
{
    while (s.n > 0) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        s.p += n;
        s.n -= (size_t)n;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

int cluster_file_write(const char *path, const char *name, struct str content)
{
    char tmp[PATH_LEN], real[PATH_LEN];
    join_path(tmp, path, name, ".new");
    join_path(real, path, name, "");
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int r = write_all(fd, content);
    close(fd);
    if (r == 0 && rename(tmp, real) < 0)
        r = -errno;
    return r == 0 ? sync_dir(path) : r;
}

int cluster_file_read(const char *path, const char *name, size_t max, struct buf *out)
{
    char real[PATH_LEN];
    join_path(real, path, name, "");
    int fd = open(real, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = 0;
    out->n = 0;
    while (out->n <= max) {
        uint8_t *p = buf_reserve(out, 4096);
        ssize_t n = read(fd, p, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            r = -errno;
        if (n <= 0)
            break;
        out->n += (size_t)n;
    }
    close(fd);
    return r == 0 && out->n > max ? -EFBIG : r;
}

static int lock_dir(const char *path, int *out_fd, char error[CLUSTER_ERROR_MAX])
{
    char name[PATH_LEN];
    join_path(name, path, LOCK_FILE, "");
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        int r = -errno;
        (void)snprintf(error, CLUSTER_ERROR_MAX, "%.200s: cannot be opened (%s)", name,
                       strerrordesc_np(-r));
        return r;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        close(fd);
        (void)snprintf(error, CLUSTER_ERROR_MAX, "%s: another process uses this data directory",
                       path);
        return -EBUSY;
    }
    *out_fd = fd;
    return 0;
}

/* Lines of "name value". */
static bool parse(struct str text, struct uuid *uuid, uint64_t *epoch)
{
    struct str line;
    bool has_uuid = false, has_epoch = false;
    while (str_next(&text, '\n', &line)) {
        if (str_has_prefix(line, STR("uuid ")))
            has_uuid = uuid_parse(str_view(line.p + 5, line.n - 5), uuid);
        if (str_has_prefix(line, STR("epoch ")))
            has_epoch = str_to_u64(str_view(line.p + 6, line.n - 6), epoch);
    }
    return has_uuid && has_epoch;
}

static int load(const char *path, struct cluster_identity *id, char error[CLUSTER_ERROR_MAX])
{
    struct buf b = {0};
    int r = cluster_file_read(path, ID_FILE, 4096, &b);
    if (r == -ENOENT) {
        id->uuid = net_random_uuid();
        id->epoch = 0;
        r = 0;
    } else if (r == 0 && !parse(buf_str(&b), &id->uuid, &id->epoch)) {
        r = -EINVAL;
    }
    buf_deinit(&b);
    if (r != 0)
        (void)snprintf(error, CLUSTER_ERROR_MAX, "%s/%s: %s", path, ID_FILE,
                       r == -EINVAL ? "is damaged" : strerrordesc_np(-r));
    return r;
}

static int save(const char *path, const struct cluster_identity *id, char error[CLUSTER_ERROR_MAX])
{
    char text[128], uuid[UUID_TEXT];
    uuid_format(&id->uuid, uuid);
    int n =
        snprintf(text, sizeof text, "uuid %s\nepoch %llu\n", uuid, (unsigned long long)id->epoch);
    int r = cluster_file_write(path, ID_FILE, str_view(text, (size_t)n));
    if (r != 0)
        (void)snprintf(error, CLUSTER_ERROR_MAX, "%s/%s: cannot be written (%s)", path, ID_FILE,
                       strerrordesc_np(-r));
    return r;
}

int cluster_identity_open(const char *path, uint64_t wall_ms, struct cluster_identity *out,
                          char error[CLUSTER_ERROR_MAX])
{
    *out = (struct cluster_identity){.lock = -1};
    if (path == NULL) {
        out->uuid = net_random_uuid();
        out->epoch = wall_ms;
        return 0;
    }
    int r = lock_dir(path, &out->lock, error);
    if (r != 0)
        return r;
    r = load(path, out, error);
    if (r == 0) {
        out->epoch = out->epoch + 1 > wall_ms ? out->epoch + 1 : wall_ms;
        r = save(path, out, error);
    }
    if (r != 0)
        cluster_identity_close(out);
    return r;
}

void cluster_identity_close(struct cluster_identity *id)
{
    if (id->lock >= 0)
        close(id->lock);
    id->lock = -1;
}
