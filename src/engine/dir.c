/* The data directory of a node.  SPDX-License-Identifier: Apache-2.0
 *
 * It is made in this order: LOCK, NODE, FORMAT; a directory without FORMAT was never finished and
 * is made anew.
 *
 * D1 NODE is replaced whole.  D2 the epoch is on the disk before the directory counts as open, and
 * grows with every open. D3 nothing is written into a directory that is not ours, or newer than we
 * are. */
#include "engine/dir.h"

#include <errno.h>
#include <stdio.h>

#include "base/crc.h"
#include "base/err.h"
#include "base/mem.h"
#include "codec/record.h"
#include "engine/dir_priv.h"

#define FORMAT_TEXT "bilrost-data "
#define FILE_MAX 4096u /* matters little: FORMAT and NODE are far smaller */
#define CLUSTER_MAX 255u
#define PATH_BYTES 4096u

enum { KIND_NODE = 1 }; /* matters: the format */
enum { TAG_NODE = 1, TAG_CLUSTER, TAG_EPOCH };

struct engine_dir {
    char *path;
    struct engine_fs fs;
    struct engine_file *lock;
    struct uuid node;
    struct str cluster; /* heap */
    uint64_t epoch;
    bool is_new;
};

/* What to do with a directory that cannot be told from another's any more. */
#define DAMAGED_HINT                                                                               \
    ": put a copy back; a node whose data other nodes have too may be given an empty directory "   \
    "instead"

static void say(struct buf *why, const char *path, const char *what)
{
    if (why != NULL)
        buf_printf(why, "%s: %s", path, what);
}

static int slurp(struct engine_dir *d, const char *name, struct buf *out)
{
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/%s", d->path, name) >= (int)sizeof path)
        return -ENAMETOOLONG;
    return err_trace(engine_fs_slurp(d->fs, path, FILE_MAX, out));
}

/* 0, -ENOENT, -errno, or an outcome. */
static int read_format(struct engine_dir *d, struct buf *why)
{
    struct buf b = {0};
    uint64_t v;
    int r = slurp(d, "FORMAT", &b);
    struct str s = buf_str(&b);
    if (r == 0) {
        bool is_ours = str_has_prefix(s, STR(FORMAT_TEXT)) && s.p[s.n - 1] == '\n';
        s = is_ours ? str_view(s.p + sizeof FORMAT_TEXT - 1, s.n - sizeof FORMAT_TEXT) : STR("");
        if (!is_ours || !str_to_u64(s, &v) || v == 0) {
            say(why, d->path, "the file FORMAT is damaged" DAMAGED_HINT);
            r = ENGINE_DIR_E_DAMAGED;
        } else if (v > ENGINE_DIR_FORMAT) {
            say(why, d->path,
                "the data were written by a newer version; install that version or a later one");
            r = ENGINE_DIR_E_NEWER;
        }
    }
    buf_deinit(&b);
    return r;
}

static int read_node(struct engine_dir *d, struct buf *why)
{
    struct buf b = {0};
    int r = slurp(d, "NODE", &b);
    if (r < 0) {
        buf_deinit(&b);
        return r;
    }
    struct codec_cursor c = codec_cursor_of(buf_str(&b));
    uint32_t crc = codec_cursor_u32(&c);
    uint8_t kind, version;
    bool is_sound = !c.bad && crc == crc_update(0, c.p, codec_cursor_left(&c));
    codec_record_head(&c, &kind, &version);
    is_sound = is_sound && !c.bad && kind == KIND_NODE;
    mem_free((void *)(uintptr_t)d->cluster.p);
    d->cluster = (struct str){0};
    for (struct codec_field f; is_sound && codec_record_next(&c, &f);) {
        if (f.tag == TAG_NODE && f.is_bytes)
            (void)uuid_of_bytes(f.bytes, &d->node);
        else if (f.tag == TAG_CLUSTER && f.bytes.n > 0 && d->cluster.p == NULL)
            d->cluster = str_dup(f.bytes);
        else if (f.tag == TAG_EPOCH && !f.is_bytes)
            d->epoch = f.u64;
    }
    if (!is_sound || c.bad || uuid_is_zero(&d->node)) {
        say(why, d->path, "the file NODE is damaged" DAMAGED_HINT);
        r = ENGINE_DIR_E_DAMAGED;
    }
    buf_deinit(&b);
    return r;
}

static int write_node(struct engine_dir *d)
{
    struct buf rec = {0}, b = {0};
    codec_record_begin(&rec, KIND_NODE, 1);
    codec_record_bytes(&rec, TAG_NODE, str_view(d->node.b, sizeof d->node.b));
    if (d->cluster.n > 0)
        codec_record_bytes(&rec, TAG_CLUSTER, d->cluster);
    codec_record_u64(&rec, TAG_EPOCH, d->epoch);
    buf_put_u32(&b, crc_update(0, rec.p, rec.n));
    buf_put_str(&b, buf_str(&rec));
    int r = engine_fs_replace(d->fs, d->path, "NODE", buf_str(&b));
    buf_deinit(&rec);
    buf_deinit(&b);
    return err_trace(r);
}

/* May a directory without FORMAT become ours?  Only what we ourselves leave behind half-way may be
 * in it. */
static int check_empty(struct engine_dir *d, struct buf *why)
{
    static const char *const fine[] = {"LOCK", "NODE", "NODE.new", "FORMAT.new", "lost+found"};
    struct buf names = {0};
    int r = d->fs.ops->list(d->fs.arg, d->path, &names);
    for (size_t at = 0; r == 0 && at < names.n;) {
        const char *name = (const char *)names.p + at;
        at += strlen(name) + 1;
        bool is_fine = false;
        for (size_t i = 0; i < countof(fine); i++)
            is_fine = is_fine || strcmp(name, fine[i]) == 0;
        if (!is_fine) {
            say(why, d->path,
                "the directory is not empty and holds no data of ours; name another or empty it");
            r = ENGINE_DIR_E_STRANGE;
        }
    }
    buf_deinit(&names);
    return r;
}

static int take_lock(struct engine_dir *d, struct buf *why)
{
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/LOCK", d->path) >= (int)sizeof path)
        return -ENAMETOOLONG;
    int r = d->fs.ops->open(d->fs.arg, path, ENGINE_FS_WRITE, &d->lock);
    if (r < 0) {
        d->lock = NULL;
        return err_trace(r);
    }
    r = d->fs.ops->lock(d->lock);
    if (r == -EWOULDBLOCK) {
        say(why, d->path, "another process is using it");
        r = ENGINE_DIR_E_LOCKED;
    }
    return r;
}

static int make(struct engine_dir *d, const struct engine_dir_conf *conf)
{
    d->is_new = true;
    d->node = uuid_is_zero(&conf->node) ? uuid_from_random(conf->random) : conf->node;
    d->cluster = conf->cluster.n > 0 ? str_dup(conf->cluster) : (struct str){0};
    d->epoch = conf->epoch_min > 1 ? conf->epoch_min : 1;
    int r = write_node(d);
    char text[64];
    int n = snprintf(text, sizeof text, FORMAT_TEXT "%u\n", ENGINE_DIR_FORMAT);
    if (r == 0)
        r = engine_fs_replace(d->fs, d->path, "FORMAT", str_view(text, (size_t)n));
    return err_trace(r);
}

static int enter(struct engine_dir *d, const struct engine_dir_conf *conf, struct buf *why)
{
    int r = read_node(d, why);
    if (r == -ENOENT) {
        say(why, d->path, "the file NODE is missing" DAMAGED_HINT);
        return ENGINE_DIR_E_DAMAGED;
    }
    if (r != 0)
        return r;
    if (!uuid_is_zero(&conf->node) && !uuid_eq(&conf->node, &d->node)) {
        say(why, d->path,
            "the data belong to another node; each node needs a directory of its own");
        return ENGINE_DIR_E_FOREIGN;
    }
    if (conf->cluster.n > 0 && d->cluster.n > 0 && !str_eq(conf->cluster, d->cluster)) {
        if (why != NULL)
            buf_printf(why,
                       "%s: the data belong to the cluster \"%.*s\", not to \"%.*s\"; correct the "
                       "cluster's name or the directory",
                       d->path, STR_ARG(d->cluster), STR_ARG(conf->cluster));
        return ENGINE_DIR_E_FOREIGN;
    }
    if (conf->cluster.n > 0 && d->cluster.n == 0)
        d->cluster = str_dup(conf->cluster);
    d->epoch++;
    if (d->epoch < conf->epoch_min)
        d->epoch = conf->epoch_min;
    return err_trace(write_node(d));
}

static int open_dir(struct engine_dir *d, const struct engine_dir_conf *conf, struct buf *why)
{
    int r = d->fs.ops->mkdir(d->fs.arg, d->path);
    if (r < 0)
        return err_trace(r);
    r = read_format(d, why);
    bool is_new = r == -ENOENT;
    if (is_new)
        r = check_empty(d, why);
    if (r == 0)
        r = take_lock(d, why);
    if (r != 0)
        return r;
    return is_new ? make(d, conf) : enter(d, conf, why);
}

int engine_dir_open(const struct engine_dir_conf *conf, struct engine_dir **out,
                    struct buf *out_why)
{
    must(conf->cluster.n <= CLUSTER_MAX);
    struct engine_dir *d = mem_new(sizeof *d);
    d->fs = conf->fs;
    d->path = mem_dup(conf->path, strlen(conf->path));
    int r = open_dir(d, conf, out_why);
    if (r != 0) {
        if (r < 0)
            log_line(conf->log, LOG_LEVEL_ERROR, "engine.dir.open", "%s: errno %d", conf->path, -r);
        engine_dir_close(d);
        return r;
    }
    *out = d;
    return 0;
}

int engine_dir_peek(struct engine_fs fs, const char *path, struct engine_dir **out,
                    struct buf *out_why)
{
    struct engine_dir *d = mem_new(sizeof *d);
    d->fs = fs;
    d->path = mem_dup(path, strlen(path));
    int r = read_format(d, out_why);
    if (r == 0)
        r = take_lock(d, out_why);
    if (r == 0)
        r = read_node(d, out_why);
    if (r != 0) {
        engine_dir_close(d);
        return r;
    }
    *out = d;
    return 0;
}

int engine_dir_whose(struct engine_fs fs, const char *path, struct uuid *out, struct buf *out_why)
{
    struct engine_dir *d = mem_new(sizeof *d);
    d->fs = fs;
    d->path = mem_dup(path, strlen(path));
    int r = read_format(d, out_why);
    if (r == 0)
        r = read_node(d, out_why);
    if (r == 0)
        *out = d->node;
    engine_dir_close(d);
    return r;
}

struct engine_dir *engine_dir_close(struct engine_dir *d)
{
    if (d == NULL)
        return NULL;
    if (d->lock != NULL)
        d->fs.ops->close(d->lock);
    mem_free((void *)(uintptr_t)d->cluster.p);
    mem_free(d->path);
    return mem_free(d);
}

struct uuid engine_dir_node(const struct engine_dir *d)
{
    return d->node;
}

uint64_t engine_dir_epoch(const struct engine_dir *d)
{
    return d->epoch;
}

bool engine_dir_is_new(const struct engine_dir *d)
{
    return d->is_new;
}

int engine_dir_join(struct engine_dir *d, struct str cluster)
{
    must(cluster.n > 0 && cluster.n <= CLUSTER_MAX);
    if (d->cluster.n > 0)
        return str_eq(d->cluster, cluster) ? 0 : ENGINE_DIR_E_FOREIGN;
    d->cluster = str_dup(cluster);
    return err_trace(write_node(d));
}

int engine_dir_sub(struct engine_dir *d, const char *sub, char **out)
{
    struct buf b = {0};
    buf_printf(&b, "%s/%s", d->path, sub);
    buf_put_u8(&b, 0);
    int r = d->fs.ops->mkdir(d->fs.arg, (const char *)b.p);
    if (r < 0) {
        buf_deinit(&b);
        return err_trace(r);
    }
    *out = (char *)b.p;
    return 0;
}
