/* The authentication chain, the password file and the ACL files.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: 1 done comes exactly once for each step;  2 a wrong name costs as much time as a
 * wrong password: of a file with hashes of both kinds, names that are not there look like either,
 * in their proportion. It never logs a password and never compares one itself (net/password.h does,
 * on a worker). */
#include "broker/auth.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/mem.h"
#include "broker/auth_priv.h"
#include "net/password.h"
#include "net/scram.h"

#define FILE_LEN_MAX ((size_t)64 << 20) /* does not matter: a larger file is a mistake */

/* Checked when the name is unknown, so that the answer takes as long: no password fits it. */
#define NOBODY_HASH                                                                                \
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$"                                       \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

#define NOBODY_SCRAM                                                                               \
    "SCRAM-SHA-256$16384:AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"   \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

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
    size_t password_count, password_cap, scram_count;
    uint64_t secret[4];
    struct map by_user;
    struct broker_acl *acl;
    struct tenant_acl *tenant;
    size_t tenant_count;
    struct broker_plugins *plugins;
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
    int e = ferror(f) ? -errno : out->n > FILE_LEN_MAX ? -EFBIG : 0;
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
            bool is_mosquitto =
                str_has_prefix(line, STR("$6$")) || str_has_prefix(line, STR("$7$"));
            snprintf(error, BROKER_AUTH_ERROR_MAX,
                     "%s:%zu: must be name:hash as `bilrostctl passwd` writes it%s", path, number,
                     is_mosquitto ? "; mosquitto's hash cannot be taken over: set it anew" : "");
            return -EINVAL;
        }
        p.hash = line;
        f->scram_count += net_scram_is_stored(line);
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
    memcpy(f->secret, conf->secret, sizeof f->secret);
    f->plugins = conf->plugins;
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
    ask->result = net_password_check(ask->secret, ask->hash);
}

static void secret_free(struct broker_auth_ask *ask)
{
    char *p = (char *)(uintptr_t)ask->secret.p;
    explicit_bzero(p, ask->secret.n);
    mem_free(p);
    ask->secret = str_view(NULL, 0);
}

static void password_done(struct net_worker_job *job)
{
    struct broker_auth_ask *ask = container_of(job, struct broker_auth_ask, job);
    secret_free(ask);
    ask->files = broker_auth_files_unref(ask->files);
    enum broker_auth_outcome outcome = BROKER_AUTH_E_ERROR;
    if (!job->is_cancelled && ask->result == 0)
        outcome = BROKER_AUTH_OK;
    else if (!job->is_cancelled && ask->result == NET_PASSWORD_E_WRONG)
        outcome = BROKER_AUTH_E_BAD_PASS;
    ask->done(ask, outcome);
}

struct str broker_auth_hash_find(const struct broker_auth_files *f, struct str user)
{
    const struct password *p = map_find(&f->by_user, hash_str(user, 0), password_eq, &user);
    return p ? p->hash : str_view(NULL, 0);
}

const uint64_t *broker_auth_secret(const struct broker_auth_files *f)
{
    return f->secret;
}

/* What the password of a name that is not there is compared with. */
static struct str nobody_hash(const struct broker_auth_files *f, struct str user)
{
    bool is_scram =
        f->password_count > 0 && hash_str(user, f->secret[0]) % f->password_count < f->scram_count;
    return is_scram ? STR(NOBODY_SCRAM) : STR(NOBODY_HASH);
}

static void password_begin(struct broker_auth_ask *ask, struct broker_auth_files *files,
                           struct net_worker *worker, struct net_loop *here)
{
    ask->hash = broker_auth_hash_find(files, ask->user);
    if (!ask->hash.p)
        ask->hash = nobody_hash(files, ask->user);
    ask->out_user = ask->user;
    ask->secret = str_dup(ask->password);
    ask->files = broker_auth_files_ref(files);
    if (net_worker_push(worker, here, &ask->job, password_work, password_done)) {
        secret_free(ask);
        ask->files = broker_auth_files_unref(ask->files);
        ask->done(ask, BROKER_AUTH_E_ERROR);
    }
}

/* ---- enhanced authentication ---- */

/* An exchange with a plugin between its steps. */
struct exchange {
    struct buf state;
    size_t at;
};

static void plugin_step(struct broker_auth_ask *ask, struct net_worker *worker,
                        struct net_loop *here);

static void plugin_end(struct broker_auth_ask *ask)
{
    struct exchange *x = ask->exchange;
    if (x)
        buf_deinit(&x->state);
    ask->exchange = mem_free(x);
}

static const struct broker_auth_enhanced *const enhanced[] = {&broker_scram};
static const struct broker_auth_enhanced plugin_method = {
    .method = BROKER_AUTH_PLUGIN, .step = plugin_step, .end = plugin_end};

static void enhanced_begin(struct broker_auth_ask *ask, const struct broker_auth_chain *chain,
                           struct broker_auth_files *files, struct net_worker *worker,
                           struct net_loop *here)
{
    for (size_t i = 0; i < countof(enhanced); i++)
        if ((chain->methods & enhanced[i]->method) &&
            str_eq(ask->method, str_of(enhanced[i]->name)))
            ask->enhanced = enhanced[i];
    if (!ask->enhanced && (chain->methods & BROKER_AUTH_PLUGIN) &&
        broker_plugins_step(files->plugins))
        ask->enhanced = &plugin_method;
    if (!ask->enhanced) {
        ask->done(ask, BROKER_AUTH_E_BAD_METHOD);
        return;
    }
    ask->files = broker_auth_files_ref(files);
    ask->enhanced->step(ask, worker, here);
}

void broker_auth_continue(struct broker_auth_ask *ask, struct net_worker *worker,
                          struct net_loop *here)
{
    must(ask->enhanced);
    ask->out_data.n = 0;
    ask->enhanced->step(ask, worker, here);
}

void broker_auth_end(struct broker_auth_ask *ask)
{
    if (ask->plugin.under_way) {
        broker_plugin_cancel(&ask->plugin);
        ask->files = broker_auth_files_unref(ask->files);
    }
    ask->out_acl = broker_acl_free(ask->out_acl);
    buf_deinit(&ask->named);
    if (!ask->enhanced)
        return;
    ask->enhanced->end(ask);
    ask->enhanced = NULL;
    ask->files = broker_auth_files_unref(ask->files);
    buf_deinit(&ask->out_data);
}

/* ---- the chain ---- */

/* What comes after certificates and plugins. */
static void chain_rest(struct broker_auth_ask *ask, const struct broker_auth_chain *chain,
                       struct broker_auth_files *files, struct net_worker *worker,
                       struct net_loop *here)
{
    if ((chain->methods & BROKER_AUTH_PASSWORD) && files->has_passwords && ask->user.n) {
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

static void plugin_more(struct broker_auth_ask *ask, const struct broker_plugin_said *said)
{
    struct exchange *x = ask->exchange;
    if (!x)
        x = ask->exchange = mem_new(sizeof *x);
    x->at = said->at;
    x->state.n = 0;
    buf_put_str(&x->state, said->state);
    buf_put_str(&ask->out_data, said->data);
    ask->done(ask, BROKER_AUTH_E_MORE);
}

static void plugin_yes(struct broker_auth_ask *ask, const struct broker_plugin_said *said)
{
    buf_put_str(&ask->named, said->user.p ? said->user : ask->user);
    ask->out_user = buf_str(&ask->named);
    ask->out_acl = said->acl;
    if (ask->enhanced)
        buf_put_str(&ask->out_data, said->data);
    ask->done(ask, BROKER_AUTH_OK);
}

static void plugin_done(struct broker_plugin_ask *plugin, enum broker_plugin_outcome outcome,
                        const struct broker_plugin_said *said)
{
    struct broker_auth_ask *ask = container_of(plugin, struct broker_auth_ask, plugin);
    struct broker_auth_files *files = NULL;
    if (!ask->enhanced) { /* whose steps keep them to the end */
        files = ask->files;
        ask->files = NULL;
    }
    switch (outcome) {
    case BROKER_PLUGIN_OK:
        plugin_yes(ask, said);
        break;
    case BROKER_PLUGIN_E_MORE:
        plugin_more(ask, said);
        break;
    case BROKER_PLUGIN_E_BAD_PASS:
        ask->done(ask, BROKER_AUTH_E_BAD_PASS);
        break;
    case BROKER_PLUGIN_E_NOT_AUTHORIZED:
        ask->done(ask, BROKER_AUTH_E_NOT_AUTHORIZED);
        break;
    case BROKER_PLUGIN_E_UNKNOWN:
        if (ask->enhanced)
            ask->done(ask, BROKER_AUTH_E_BAD_METHOD);
        else
            chain_rest(ask, ask->chain, files, ask->worker, ask->here);
        break;
    case BROKER_PLUGIN_E_ERROR:
        ask->done(ask, BROKER_AUTH_E_ERROR);
        break;
    }
    broker_auth_files_unref(files);
}

static void plugin_ask(struct broker_auth_ask *ask, struct broker_plugins *plugins,
                       const struct broker_plugin_step *step, struct net_loop *here)
{
    struct broker_plugin_client client = {ask->tenant,   ask->client_id,   ask->user,
                                          ask->password, ask->certificate, ask->address};
    ask->plugin.done = plugin_done;
    broker_plugin_begin(plugins, &ask->plugin, &client, step, here);
}

static void plugin_begin(struct broker_auth_ask *ask, const struct broker_auth_chain *chain,
                         struct broker_auth_files *files, struct net_worker *worker,
                         struct net_loop *here)
{
    ask->chain = chain;
    ask->worker = worker;
    ask->here = here;
    ask->files = broker_auth_files_ref(files);
    plugin_ask(ask, files->plugins, NULL, here);
}

static void plugin_step(struct broker_auth_ask *ask, struct net_worker *worker,
                        struct net_loop *here)
{
    const struct exchange *x = ask->exchange;
    struct broker_plugin_step step = {
        .method = ask->method, .data = ask->data, .is_again = ask->is_again};
    (void)worker;
    if (x) {
        step.state = x->state.n ? buf_str(&x->state) : str_view("", 0);
        step.at = x->at;
    }
    plugin_ask(ask, ask->files->plugins, &step, here);
}

void broker_auth_begin(struct broker_auth_ask *ask, const struct broker_auth_chain *chain,
                       struct broker_auth_files *files, struct net_worker *worker,
                       struct net_loop *here)
{
    ask->out_user = str_view("", 0);
    if (ask->method.p) {
        enhanced_begin(ask, chain, files, worker, here);
    } else if ((chain->methods & BROKER_AUTH_CERTIFICATE) && ask->certificate.n) {
        ask->out_user = ask->certificate;
        ask->done(ask, BROKER_AUTH_OK);
    } else if ((chain->methods & BROKER_AUTH_PLUGIN) && broker_plugins_ask(files->plugins)) {
        plugin_begin(ask, chain, files, worker, here);
    } else if ((chain->methods & BROKER_AUTH_PLUGIN) && !broker_plugins_step(files->plugins)) {
        ask->done(ask,
                  BROKER_AUTH_E_ERROR); /* configured since the start: it has not been loaded */
    } else {
        chain_rest(ask, chain, files, worker, here);
    }
}
