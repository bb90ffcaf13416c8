/* A disk in memory that behaves as badly as it is told.  SPDX-License-Identifier: Apache-2.0
 *
 * Each file has two contents: what a reader sees now, and what is on the platter.  fdatasync copies
 * the one to the other.  A crash goes through the sectors that differ and lets chance decide which
 * of the two survives.  Names are a journal, as in the usual file systems: dirsync makes all
 * changes durable, and at a crash the first few of the changes since then have happened, by chance
 * how many.
 *
 * M1 after power_off nothing changes until the crash.  M2 what was synced before a crash is there
 * after it. It is not a POSIX file system: directories are prefixes of names, and mkdir only
 * remembers that it was called. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "base/list.h"
#include "base/mem.h"
#include "engine/fs.h"

#define SECTOR 512u /* matters: the unit in which disks tear */

struct node { /* the content of a file, whatever its names */
    struct list link;
    struct buf now, disk;
    uint64_t now_end, disk_end; /* nothing was written at or after */
    unsigned refs;              /* names now, names on the disk, open files */
    bool is_locked, is_spoilt;
    uint64_t spoilt_from;
};

struct name {
    struct list link;
    char *path;
    struct node *now, *disk; /* NULL: no such name */
};

struct change { /* of one name, or of two at once (rename) */
    struct name *name[2];
    struct node *to[2];
};

struct engine_fs_mem {
    pthread_mutex_t mutex;
    struct list nodes, names;
    struct change *change; /* of names, not yet on the disk, in order */
    size_t change_count, change_cap;
    struct engine_fs_mem_fault fault;
    uint64_t ops, life; /* life: grows with each crash; older open files are stale */
    bool is_off;
    struct rng rng;
};

struct engine_file {
    struct engine_fs_mem *m;
    struct node *node;
    uint64_t life;
    bool has_lock;
};

struct engine_fs_mem *engine_fs_mem_new(uint64_t seed)
{
    struct engine_fs_mem *m = mem_new(sizeof *m);
    pthread_mutex_init(&m->mutex, NULL);
    list_init(&m->nodes);
    list_init(&m->names);
    rng_init(&m->rng, seed);
    return m;
}

static void node_unref(struct node *n)
{
    if (n == NULL || --n->refs > 0)
        return;
    list_del(&n->link);
    buf_deinit(&n->now);
    buf_deinit(&n->disk);
    mem_free(n);
}

static struct node *node_ref(struct node *n)
{
    if (n != NULL)
        n->refs++;
    return n;
}

static void name_set(struct node **slot, struct node *to)
{
    struct node *old = *slot;
    *slot = node_ref(to);
    node_unref(old);
}

static void name_free(struct name *n)
{
    list_del(&n->link);
    name_set(&n->now, NULL);
    name_set(&n->disk, NULL);
    mem_free(n->path);
    mem_free(n);
}

/* Notes that a name is something else from now on. */
static struct change *change_push(struct engine_fs_mem *m)
{
    m->change = mem_grow(m->change, &m->change_cap, m->change_count + 1, sizeof *m->change);
    m->change[m->change_count] = (struct change){0};
    return &m->change[m->change_count++];
}

static void change_add(struct change *c, int i, struct name *n, struct node *to)
{
    c->name[i] = n;
    c->to[i] = node_ref(to);
    name_set(&n->now, to);
}

/* The first `keep` changes reach the disk, the others never were. */
static void change_settle(struct engine_fs_mem *m, size_t keep)
{
    for (size_t i = 0; i < m->change_count; i++)
        for (int k = 0; k < 2; k++) {
            struct change *c = &m->change[i];
            if (c->name[k] != NULL && i < keep)
                name_set(&c->name[k]->disk, c->to[k]);
            node_unref(c->to[k]);
        }
    m->change_count = 0;
    list_each(&m->names, l)
    {
        struct name *n = container_of(l, struct name, link);
        name_set(&n->now, n->disk);
        if (n->now == NULL)
            name_free(n);
    }
}

struct engine_fs_mem *engine_fs_mem_free(struct engine_fs_mem *m)
{
    if (m == NULL)
        return NULL;
    change_settle(m, 0);
    mem_free(m->change);
    list_each(&m->names, l) name_free(container_of(l, struct name, link));
    must(list_empty(&m->nodes)); /* an open file outlived its disk */
    pthread_mutex_destroy(&m->mutex);
    return mem_free(m);
}

/* One changing operation: 0, or -EIO when there is no power (any more). */
static int spend(struct engine_fs_mem *m)
{
    if (m->is_off)
        return -EIO;
    m->ops++;
    if (m->fault.power_off_at > 0 && --m->fault.power_off_at == 0) {
        m->is_off = true;
        return -EIO;
    }
    return 0;
}

static struct name *name_find(struct engine_fs_mem *m, const char *path)
{
    list_each(&m->names, l)
    {
        struct name *n = container_of(l, struct name, link);
        if (strcmp(n->path, path) == 0)
            return n;
    }
    return NULL;
}

static struct name *name_make(struct engine_fs_mem *m, const char *path)
{
    struct name *n = name_find(m, path);
    if (n != NULL)
        return n;
    n = mem_new(sizeof *n);
    n->path = mem_dup(path, strlen(path));
    list_push_back(&m->names, &n->link);
    return n;
}

static bool is_stale(const struct engine_file *f)
{
    return f->life != f->m->life || f->m->is_off;
}

static uint64_t space_used(const struct engine_fs_mem *m)
{
    uint64_t sum = 0;
    list_each(&m->nodes, l) sum += container_of(l, struct node, link)->now.n;
    return sum;
}

static int grow(struct engine_fs_mem *m, struct node *n, uint64_t size)
{
    if (size <= n->now.n)
        return 0;
    uint64_t more = size - n->now.n;
    if (m->fault.space_max > 0 && space_used(m) + more > m->fault.space_max)
        return -ENOSPC;
    memset(buf_reserve(&n->now, more), 0, more);
    n->now.n += more;
    return 0;
}

static int open_locked(struct engine_fs_mem *m, const char *path, enum engine_fs_open how,
                       struct engine_file **out)
{
    struct name *n = name_find(m, path);
    bool is_there = n != NULL && n->now != NULL;
    if (m->is_off)
        return -EIO;
    if (how == ENGINE_FS_READ && !is_there)
        return -ENOENT;
    if (how != ENGINE_FS_READ && (!is_there || how == ENGINE_FS_EMPTY)) {
        int r = spend(m);
        if (r < 0)
            return r;
    }
    if (!is_there) {
        struct node *made = mem_new(sizeof *made);
        list_push_back(&m->nodes, &made->link);
        n = name_make(m, path);
        change_add(change_push(m), 0, n, made);
    } else if (how == ENGINE_FS_EMPTY) {
        n->now->now.n = n->now->now_end = 0;
    }
    struct engine_file *f = mem_new(sizeof *f);
    *f = (struct engine_file){m, node_ref(n->now), m->life, false};
    *out = f;
    return 0;
}

static int disk_open(void *fs, const char *path, enum engine_fs_open how, struct engine_file **out)
{
    struct engine_fs_mem *m = fs;
    pthread_mutex_lock(&m->mutex);
    int r = open_locked(m, path, how, out);
    pthread_mutex_unlock(&m->mutex);
    return r;
}

static void disk_close(struct engine_file *f)
{
    struct engine_fs_mem *m = f->m;
    pthread_mutex_lock(&m->mutex);
    if (f->has_lock)
        f->node->is_locked = false;
    node_unref(f->node);
    pthread_mutex_unlock(&m->mutex);
    mem_free(f);
}

static int64_t disk_pread(struct engine_file *f, void *p, size_t n, uint64_t off)
{
    pthread_mutex_lock(&f->m->mutex);
    int64_t r = -EIO;
    if (!is_stale(f)) {
        const struct buf *now = &f->node->now;
        size_t left = off < now->n ? now->n - off : 0;
        r = (int64_t)(n < left ? n : left);
        if (f->node->is_spoilt && off + (uint64_t)r > f->node->spoilt_from)
            r = -EIO;
        if (r > 0)
            memcpy(p, now->p + off, (size_t)r);
    }
    pthread_mutex_unlock(&f->m->mutex);
    return r;
}

static void put(struct engine_file *f, const struct iovec *iov, int count, uint64_t off,
                uint64_t max)
{
    for (int i = 0; i < count && max > 0; i++) {
        size_t n = iov[i].iov_len < max ? iov[i].iov_len : max;
        if (n > 0)
            memcpy(f->node->now.p + off, iov[i].iov_base, n);
        off += n;
        max -= n;
    }
    f->node->now_end = off > f->node->now_end ? off : f->node->now_end;
}

static int disk_pwritev(struct engine_file *f, struct iovec *iov, int count, uint64_t off)
{
    struct engine_fs_mem *m = f->m;
    uint64_t total = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    pthread_mutex_lock(&m->mutex);
    bool was_on = !is_stale(f);
    int r = was_on ? spend(m) : -EIO;
    if (r == 0 && m->fault.write_error_per_million > 0 &&
        rng_chance(&m->rng, m->fault.write_error_per_million))
        r = -EIO;
    if (was_on) {
        int full = grow(m, f->node, off + total);
        f->node->is_spoilt = f->node->is_spoilt && off + total <= f->node->spoilt_from;
        if (full == 0)
            put(f, iov, count, off, r == 0 ? total : rng_below(&m->rng, total + 1));
        r = r < 0 ? r : full;
    }
    pthread_mutex_unlock(&m->mutex);
    return r;
}

static void copy(struct buf *to, const struct buf *from)
{
    to->n = 0;
    buf_put(to, from->p, from->n);
}

static int disk_fdatasync(struct engine_file *f)
{
    struct engine_fs_mem *m = f->m;
    pthread_mutex_lock(&m->mutex);
    int r = is_stale(f) ? -EIO : spend(m);
    if (r == 0 && m->fault.sync_error_per_million > 0 &&
        rng_chance(&m->rng, m->fault.sync_error_per_million)) {
        r = -EIO; /* as Linux does: the dirty pages are dropped or marked clean, the next sync is
                     happy */
        copy(&f->node->now, &f->node->disk);
        f->node->now_end = f->node->disk_end;
    }
    if (r == 0) {
        copy(&f->node->disk, &f->node->now);
        f->node->disk_end = f->node->now_end;
    }
    pthread_mutex_unlock(&m->mutex);
    return r;
}

static int disk_allocate(struct engine_file *f, uint64_t n)
{
    struct engine_fs_mem *m = f->m;
    pthread_mutex_lock(&m->mutex);
    int r = is_stale(f) ? -EIO : spend(m);
    if (r == 0)
        r = grow(m, f->node, n);
    pthread_mutex_unlock(&m->mutex);
    return r;
}

static int64_t disk_size(struct engine_file *f)
{
    pthread_mutex_lock(&f->m->mutex);
    int64_t r = is_stale(f) ? -EIO : (int64_t)f->node->now.n;
    pthread_mutex_unlock(&f->m->mutex);
    return r;
}

static int64_t disk_written(struct engine_file *f)
{
    pthread_mutex_lock(&f->m->mutex);
    uint64_t end = (f->node->now_end + SECTOR - 1) / SECTOR * SECTOR, size = f->node->now.n;
    int64_t r = is_stale(f) ? -EIO : (int64_t)(end < size ? end : size);
    pthread_mutex_unlock(&f->m->mutex);
    return r;
}

static int disk_rename(void *fs, const char *from, const char *to)
{
    struct engine_fs_mem *m = fs;
    pthread_mutex_lock(&m->mutex);
    int r = spend(m);
    struct name *a = name_find(m, from);
    if (r == 0 && (a == NULL || a->now == NULL))
        r = -ENOENT;
    if (r == 0) {
        struct change *c = change_push(m);
        change_add(c, 0, name_make(m, to), a->now);
        change_add(c, 1, a, NULL);
    }
    pthread_mutex_unlock(&m->mutex);
    return r;
}

static int disk_unlink(void *fs, const char *path)
{
    struct engine_fs_mem *m = fs;
    pthread_mutex_lock(&m->mutex);
    int r = spend(m);
    struct name *a = name_find(m, path);
    if (r == 0 && (a == NULL || a->now == NULL))
        r = -ENOENT;
    if (r == 0)
        change_add(change_push(m), 0, a, NULL);
    pthread_mutex_unlock(&m->mutex);
    return r;
}

static int disk_mkdir(void *fs, const char *path)
{
    struct engine_fs_mem *m = fs;
    (void)path;
    pthread_mutex_lock(&m->mutex);
    int r = spend(m);
    pthread_mutex_unlock(&m->mutex);
    return r;
}

/* The name right below dir that path leads through; empty when it does not. */
static struct str name_in(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    if (strncmp(path, dir, n) != 0 || path[n] != '/')
        return (struct str){0};
    struct str rest = str_of(path + n + 1), first = {0};
    (void)str_next(&rest, '/', &first);
    return first;
}

static bool is_listed(const struct buf *names, struct str name)
{
    for (size_t at = 0; at < names->n; at += strlen((const char *)names->p + at) + 1)
        if (str_eq(str_of((const char *)names->p + at), name))
            return true;
    return false;
}

static int disk_dirsync(void *fs, const char *path)
{
    struct engine_fs_mem *m = fs;
    (void)path;
    pthread_mutex_lock(&m->mutex);
    int r = spend(m);
    if (r == 0)
        change_settle(m, m->change_count);
    pthread_mutex_unlock(&m->mutex);
    return r;
}

static int disk_list(void *fs, const char *path, struct buf *out)
{
    struct engine_fs_mem *m = fs;
    pthread_mutex_lock(&m->mutex);
    list_each(&m->names, l)
    {
        struct name *n = container_of(l, struct name, link);
        struct str in = n->now != NULL ? name_in(n->path, path) : (struct str){0};
        if (in.n > 0 && !is_listed(out, in)) {
            buf_put_str(out, in);
            buf_put_u8(out, 0);
        }
    }
    int r = m->is_off ? -EIO : 0;
    pthread_mutex_unlock(&m->mutex);
    return r;
}

static int64_t disk_space(void *fs, const char *path)
{
    struct engine_fs_mem *m = fs;
    (void)path;
    pthread_mutex_lock(&m->mutex);
    uint64_t used = space_used(m), max = m->fault.space_max;
    pthread_mutex_unlock(&m->mutex);
    if (max == 0)
        return INT64_MAX;
    return used < max ? (int64_t)(max - used) : 0;
}

static int disk_lock(struct engine_file *f)
{
    pthread_mutex_lock(&f->m->mutex);
    int r = is_stale(f) ? -EIO : f->node->is_locked ? -EWOULDBLOCK : 0;
    if (r == 0)
        f->has_lock = f->node->is_locked = true;
    pthread_mutex_unlock(&f->m->mutex);
    return r;
}

static const struct engine_fs_ops disk_ops = {
    .open = disk_open,
    .close = disk_close,
    .pread = disk_pread,
    .pwritev = disk_pwritev,
    .fdatasync = disk_fdatasync,
    .allocate = disk_allocate,
    .size = disk_size,
    .written = disk_written,
    .rename = disk_rename,
    .unlink = disk_unlink,
    .mkdir = disk_mkdir,
    .dirsync = disk_dirsync,
    .list = disk_list,
    .space = disk_space,
    .lock = disk_lock,
};

struct engine_fs engine_fs_mem_fs(struct engine_fs_mem *m)
{
    return (struct engine_fs){&disk_ops, m};
}

void engine_fs_mem_set(struct engine_fs_mem *m, const struct engine_fs_mem_fault *fault)
{
    pthread_mutex_lock(&m->mutex);
    m->fault = *fault;
    pthread_mutex_unlock(&m->mutex);
}

/* After a crash each sector is the synced one or the later one, by chance. */
static void node_crash(struct engine_fs_mem *m, struct node *n, uint32_t keep)
{
    bool is_longer_kept = n->now.n > n->disk.n && rng_chance(&m->rng, keep);
    size_t size = is_longer_kept ? n->now.n : n->disk.n;
    if (n->now.n < n->disk.n && rng_chance(&m->rng, keep))
        size = n->now.n; /* a truncation that reached the disk */
    if (size > n->disk.n) {
        memset(buf_reserve(&n->disk, size - n->disk.n), 0, size - n->disk.n);
        n->disk.n = size;
    }
    for (size_t at = 0; at < size && at < n->now.n; at += SECTOR) {
        size_t end = at + SECTOR < size ? at + SECTOR : size;
        end = end < n->now.n ? end : n->now.n;
        if (memcmp(n->now.p + at, n->disk.p + at, end - at) != 0 && rng_chance(&m->rng, keep)) {
            memcpy(n->disk.p + at, n->now.p + at, end - at);
            n->disk_end = end > n->disk_end ? end : n->disk_end;
        }
    }
    n->disk.n = size;
    n->disk_end = n->disk_end < size ? n->disk_end : size;
    n->now_end = n->disk_end;
    copy(&n->now, &n->disk);
    n->is_locked = false;
}

void engine_fs_mem_off(struct engine_fs_mem *m)
{
    pthread_mutex_lock(&m->mutex);
    m->is_off = true;
    pthread_mutex_unlock(&m->mutex);
}

void engine_fs_mem_crash(struct engine_fs_mem *m, uint32_t keep_per_million)
{
    pthread_mutex_lock(&m->mutex);
    m->is_off = false;
    m->life++;
    m->fault = (struct engine_fs_mem_fault){0};
    size_t kept = 0;
    while (kept < m->change_count && rng_chance(&m->rng, keep_per_million))
        kept++;
    change_settle(m, kept);
    list_each(&m->nodes, l) node_crash(m, container_of(l, struct node, link), keep_per_million);
    pthread_mutex_unlock(&m->mutex);
}

uint64_t engine_fs_mem_ops(struct engine_fs_mem *m)
{
    pthread_mutex_lock(&m->mutex);
    uint64_t n = m->ops;
    pthread_mutex_unlock(&m->mutex);
    return n;
}

int engine_fs_mem_spoil(struct engine_fs_mem *m, const char *path, uint64_t off)
{
    pthread_mutex_lock(&m->mutex);
    struct name *n = name_find(m, path);
    bool is_there = n != NULL && n->now != NULL;
    if (is_there) {
        n->now->is_spoilt = true;
        n->now->spoilt_from = off;
    }
    pthread_mutex_unlock(&m->mutex);
    return is_there ? 0 : -ENOENT;
}

int engine_fs_mem_flip(struct engine_fs_mem *m, const char *path, uint64_t bit)
{
    pthread_mutex_lock(&m->mutex);
    struct name *n = name_find(m, path);
    int r = n == NULL || n->now == NULL ? -ENOENT : bit / 8 >= n->now->now.n ? -ERANGE : 0;
    if (r == 0) {
        n->now->now.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        if (bit / 8 < n->now->disk.n)
            n->now->disk.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    pthread_mutex_unlock(&m->mutex);
    return r;
}
