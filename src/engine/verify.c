/* Looks over a data directory: its identity, the log, each store.
 * SPDX-License-Identifier: Apache-2.0
 *
 * It holds the lock of the directory meanwhile and does not count as an opening: the epoch stays.
 */
#include "engine/verify.h"

#include <errno.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/dir.h"
#include "engine/dir_priv.h"
#include "engine/log.h"
#include "engine/state.h"

struct verify {
    const struct engine_verify_conf *conf;
    size_t count;
};

static void tell(struct verify *v, struct buf *sentence)
{
    v->count++;
    v->conf->found(v->conf->arg, buf_str(sentence));
    buf_deinit(sentence);
}

static void on_damage(void *arg, const struct engine_log_damage *d)
{
    struct buf b = {0};
    if (d->file == NULL)
        buf_printf(&b, "log/: the replica of group %llu must be made anew from its peers",
                   (unsigned long long)d->group);
    else
        buf_printf(&b, "log/%s at byte %llu: %s", d->file, (unsigned long long)d->offset, d->what);
    if (d->file != NULL && d->group != UINT64_MAX)
        buf_printf(&b, " (group %llu)", (unsigned long long)d->group);
    tell(arg, &b);
}

static int verify_log(struct verify *v, struct engine_dir *d)
{
    char *path;
    int r = engine_dir_sub(d, "log", &path);
    if (r < 0)
        return err_trace(r);
    size_t count = 0;
    struct engine_log_conf c = {.dir = path, .fs = v->conf->fs, .node = engine_dir_node(d)};
    r = engine_log_verify(&c, on_damage, v, &count);
    if (r == -ENOENT)
        r = 0; /* it never had a log */
    if (r > 0 || r == -EBADMSG) {
        struct buf b = {0};
        buf_printf(&b, "log/: %s",
                   r == ENGINE_LOG_E_NEWER     ? "written by a newer version"
                   : r == ENGINE_LOG_E_FOREIGN ? "segments of another node"
                                               : "segments are missing");
        tell(v, &b);
        r = 0;
    }
    mem_free(path);
    return err_trace(r);
}

static int verify_store(struct verify *v, struct engine_dir *d, const char *name)
{
    struct buf sub = {0}, what = {0};
    char *path;
    buf_printf(&sub, "state/%s", name);
    buf_put_u8(&sub, 0);
    int r = engine_dir_sub(d, (const char *)sub.p, &path);
    if (r == 0) {
        struct engine_state_conf c = {.dir = path, .fs = v->conf->fs};
        r = engine_state_verify(&c, &what);
        mem_free(path);
    }
    if (r < 0) {
        struct buf b = {0};
        buf_printf(&b,
                   "%s: %.*s; remove this directory and the node fetches the store from its peers",
                   (const char *)sub.p, STR_ARG(buf_str(&what)));
        tell(v, &b);
    }
    buf_deinit(&sub);
    buf_deinit(&what);
    return 0;
}

static int verify_stores(struct verify *v, struct engine_dir *d)
{
    struct buf names = {0};
    char *path;
    int r = engine_dir_sub(d, "state", &path);
    if (r < 0)
        return err_trace(r);
    r = v->conf->fs.ops->list(v->conf->fs.arg, path, &names);
    for (size_t at = 0; r == 0 && at < names.n; at += strlen((const char *)names.p + at) + 1)
        r = verify_store(v, d, (const char *)names.p + at);
    buf_deinit(&names);
    mem_free(path);
    return err_trace(r);
}

int engine_verify(const struct engine_verify_conf *conf)
{
    struct verify v = {.conf = conf};
    struct engine_dir *d;
    struct buf why = {0};
    int r = engine_dir_peek(conf->fs, conf->path, &d, &why);
    if (r > 0) {
        tell(&v, &why);
        return r == ENGINE_DIR_E_DAMAGED ? ENGINE_VERIFY_E_DAMAGED : ENGINE_VERIFY_E_REFUSED;
    }
    buf_deinit(&why);
    if (r < 0)
        return err_trace(r);
    r = verify_log(&v, d);
    if (r == 0)
        r = verify_stores(&v, d);
    engine_dir_close(d);
    if (r < 0)
        return err_trace(r);
    return v.count > 0 ? ENGINE_VERIFY_E_DAMAGED : 0;
}
