/* The authentication chain, the password file and the ACL files.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: 1 done comes exactly once;  2 a wrong name costs as much time as a wrong password.
 * It never logs a password and never compares one itself (net/password.h does, on a worker). */
#include "broker/auth.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/mem.h"
#include "net/password.h"

#define FILE_LEN_MAX ((size_t)64 << 20) /* does not matter: a larger file is a mistake */

/* Checked when the name is unknown, so that the answer takes as long: no password fits it. */
#define NOBODY_HASH                                                                                \
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$"                                       \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

struct password {
    struct str user, hash;
};

struct tenant_acl {
    struct str tenant;
    struct broker_acl *acl;
};

struct broker_auth_files {
    _Atomic uint32_t refs;
    bool has_passwords;
    struct buf text; /* of the password file: names and hashes are views into it */
    struct password *password;
    size_t password_count, password_cap;
    struct map by_user;
    struct broker_acl *acl;
    struct tenant_acl *tenant;
    size_t tenant_count;
};

static bool password_eq(const void *item, const void *key)
{
    return str_eq(((const struct password *)item)->user, *(const struct str *)key);
}

static int file_read(const char *path, struct buf *out, char error[BROKER_AUTH_ERROR_MAX])
{
    FILE *f = fopen(path, "re");
    if (!f) {
        int e = errno;
        snprintf(error, BROKER_AUTH_ERROR_MAX, "%s: cannot be opened: %s", path, strerror(e));
        return -e;
    }
    size_t n = 0;
    do {
        n = fread(buf_reserve(out, 65536), 1, 65536, f);
        out->n += n;
    } while (n > 0 && out->n <= FILE_LEN_MAX);
    int e = ferror(f) ? -EIO : out->n > FILE_LEN_MAX ? -EFBIG : 0;
    (void)fclose(f);
    if (e)
        snprintf(error, BROKER_AUTH_ERROR_MAX, "%s: cannot be read: %s", path, strerror(-e));
    return e;
}

static int acl_read(const char *path, struct broker_acl **out, char error[BROKER_AUTH_ERROR_MAX])
{
    struct buf text = {0};
    size_t line = 0;
    const char *why = "";
    int r = file_read(path, &text, error);
    if (r == 0 && broker_acl_parse(buf_str(&text), out, &line, &why)) {
        snprintf(error, BROKER_AUTH_ERROR_MAX, "%s:%zu: %s", path, line, why);
        r = -EINVAL;
    }
    buf_deinit(&text);
    return r;
}

static int passwords_read(struct broker_auth_files *f, const char *path,
                          char error[BROKER_AUTH_ERROR_MAX])
{
    int r = file_read(path, &f->text, error);
    if (r)
        return r;
    f->has_passwords = true;
    struct str left = buf_str(&f->text), line;
    for (size_t number = 1; str_next(&left, '\n', &line); number++) {
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        if (line.n == 0 || line.p[0] == '#')
            continue;
        struct password p;
        if (!str_next(&line, ':', &p.user) || p.user.n == 0 || !line.p ||
            !net_password_is_hash(line)) {
            snprintf(error, BROKER_AUTH_ERROR_MAX,
                     "%s:%zu: must be name:hash as `bilrostctl passwd` writes it", path, number);
            return -EINVAL;
        }
        p.hash = line;
        f->password = mem_grow(f->password, &f->password_cap, f->password_count + 1, sizeof(p));
        f->password[f->password_count++] = p;
    }
    for (size_t i = 0; i < f->password_count; i++) {
        struct str *user = &f->password[i].user;
        uint64_t h = hash_str(*user, 0);
        void *old = map_find(&f->by_user, h, password_eq, user);
        if (old) /* the last line of a name counts, as a text editor would make one think */
            map_del(&f->by_user, h, old);
        map_put(&f->by_user, h, &f->password[i]);
    }
    return 0;
}

int broker_auth_files_new(const struct broker_auth_conf *conf,
                          char out_error[BROKER_AUTH_ERROR_MAX],
                          struct broker_auth_files **out_files)
{
    struct broker_auth_files *f = mem_new(sizeof(*f));
    atomic_init(&f->refs, 1);
    int r = conf->password_file ? passwords_read(f, conf->password_file, out_error) : 0;
    if (r == 0 && conf->acl_file)
        r = acl_read(conf->acl_file, &f->acl, out_error);
    f->tenant = mem_new((conf->acl_count + 1) * sizeof(*f->tenant));
    for (size_t i = 0; i < conf->acl_count && r == 0; i++) {
        f->tenant[i].tenant = str_dup(str_of(conf->acl[i].tenant));
        f->tenant_count = i + 1;
        r = acl_read(conf->acl[i].file, &f->tenant[i].acl, out_error);
    }
    if (r) {
        broker_auth_files_unref(f);
        return err_trace(r);
    }
    *out_files = f;
    return 0;
}

struct broker_auth_files *broker_auth_files_ref(struct broker_auth_files *f)
{
    atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    return f;
}

struct broker_auth_files *broker_auth_files_unref(struct broker_auth_files *f)
{
    if (!f || atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) > 1)
        return NULL;
    for (size_t i = 0; i < f->tenant_count; i++) {
        mem_free((void *)(uintptr_t)f->tenant[i].tenant.p);
        broker_acl_free(f->tenant[i].acl);
    }
    mem_free(f->tenant);
    broker_acl_free(f->acl);
    map_deinit(&f->by_user);
    mem_free(f->password);
    buf_deinit(&f->text);
    return mem_free(f);
}

const struct broker_acl *broker_auth_acl_find(const struct broker_auth_files *f, struct str tenant)
{
    for (size_t i = 0; i < f->tenant_count; i++)
        if (str_eq(f->tenant[i].tenant, tenant))
            return f->tenant[i].acl;
    return f->acl;
}

static void password_work(struct net_worker_job *job)
{
    struct broker_auth_ask *ask = container_of(job, struct broker_auth_ask, job);
    ask->result = net_password_check(ask->password, ask->hash);
}

static void password_done(struct net_worker_job *job)
{
    struct broker_auth_ask *ask = container_of(job, struct broker_auth_ask, job);
    ask->files = broker_auth_files_unref(ask->files);
    enum broker_auth_outcome outcome = BROKER_AUTH_E_ERROR;
    if (!job->is_cancelled && ask->result == 0)
        outcome = BROKER_AUTH_OK;
    else if (!job->is_cancelled && ask->result == NET_PASSWORD_E_WRONG)
        outcome = BROKER_AUTH_E_BAD_PASS;
    ask->done(ask, outcome);
}

static void password_begin(struct broker_auth_ask *ask, struct broker_auth_files *files,
                           struct net_worker *worker, struct net_loop *here)
{
    const struct password *p =
        map_find(&files->by_user, hash_str(ask->user, 0), password_eq, &ask->user);
    ask->hash = p ? p->hash : STR(NOBODY_HASH);
    ask->out_user = ask->user;
    ask->files = broker_auth_files_ref(files);
    if (net_worker_push(worker, here, &ask->job, password_work, password_done)) {
        ask->files = broker_auth_files_unref(ask->files);
        ask->done(ask, BROKER_AUTH_E_ERROR);
    }
}

void broker_auth_begin(struct broker_auth_ask *ask, const struct broker_auth_chain *chain,
                       struct broker_auth_files *files, struct net_worker *worker,
                       struct net_loop *here)
{
    ask->out_user = str_view("", 0);
    if ((chain->methods & BROKER_AUTH_CERTIFICATE) && ask->certificate.n) {
        ask->out_user = ask->certificate;
        ask->done(ask, BROKER_AUTH_OK);
    } else if ((chain->methods & BROKER_AUTH_PASSWORD) && files->has_passwords && ask->user.n) {
        password_begin(ask, files, worker, here);
    } else if ((chain->methods & BROKER_AUTH_ANONYMOUS) && ask->user.n == 0) {
        ask->done(ask, BROKER_AUTH_OK);
    } else if ((chain->methods & BROKER_AUTH_ANONYMOUS) &&
               !(chain->methods & BROKER_AUTH_PASSWORD)) {
        ask->done(
            ask,
            BROKER_AUTH_OK); /* any name may come in, and as nobody checked it, it is not his */
    } else {
        ask->done(ask, BROKER_AUTH_E_NOT_AUTHORIZED);
    }
}
