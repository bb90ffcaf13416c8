/* The host of plugins.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. A question lives until its plugin has answered, whoever gave it up meanwhile; the answer
 *    crosses to the loop that asked as a mail.
 * 2. done comes exactly once, unless it was cancelled.
 * 3. A shared object is unloaded after a trial only: nobody knows what of it still runs.
 *
 * Never: waits for a plugin; keeps a password longer than its question. */
#include "broker/plugin.h"

#include <bilrost/plugin.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/mem.h"

#define ANSWER_USEC_MAX (30 * USEC_SEC) /* matters little: clients have given up before */
#define ASKS_MAX 100000                 /* matters: a plugin that never answers fills memory */

struct plugin {
    struct bilrost_host host; /* first: what the plugin gives back is it */
    const struct bilrost_plugin *ops;
    const struct log *log;
    void *library, *self;
};

struct broker_plugins {
    struct plugin **plugin;
    size_t count, cap;
    const char *version;
    const struct log *log;
    struct list *asks; /* [loop_count]: under way, of each loop */
    unsigned loop_count;
    _Atomic size_t ask_count;
    bool is_asked, is_told, is_closed;
};

struct bilrost_ask {
    struct net_mail mail;
    struct list link; /* in asks of its loop */
    struct broker_plugins *plugins;
    struct broker_plugin_ask *asker; /* NULL: nobody waits any more */
    struct net_loop *here;
    struct net_timer timer;
    struct buf text; /* what client views */
    struct bilrost_client client;
    size_t at; /* which plugin is asked */
    struct {
        enum bilrost_answer answer;
        bool has_user, has_rules;
        struct buf user, rules;
    } verdict;
};

/* ---- loading --------------------------------------------------------------------------------- */

static int refuse(char error[BROKER_PLUGIN_ERROR_MAX], const char *file, const char *why)
{
    snprintf(error, BROKER_PLUGIN_ERROR_MAX, "plugins: \"%s\": %s", file, why);
    return -EINVAL;
}

static void host_log(const struct bilrost_host *host, enum bilrost_level level,
                     const char *sentence)
{
    const struct plugin *x = container_of(host, struct plugin, host);
    enum bilrost_level l = level < BILROST_ERROR   ? BILROST_ERROR
                           : level > BILROST_DEBUG ? BILROST_DEBUG
                                                   : level;
    log_line(x->log, (enum log_level)l, "plugin", "%s: %s", x->ops->name, sentence);
}

static void host_answer(struct bilrost_ask *a, const struct bilrost_verdict *v);

/* The constant of a shared object, or NULL with the sentence. */
static const struct bilrost_plugin *constant_of(void *library, const char *file,
                                                char error[BROKER_PLUGIN_ERROR_MAX])
{
    const struct bilrost_plugin *ops = dlsym(library, "bilrost_plugin");
    char why[160];
    if (!ops) {
        (void)refuse(error, file,
                     "is no plugin: it does not export bilrost_plugin (bilrost/plugin.h)");
    } else if (ops->abi != BILROST_PLUGIN_ABI) {
        snprintf(why, sizeof why,
                 "is made for plugin interface %u, and this broker has %u: build it again with "
                 "this version's bilrost/plugin.h",
                 ops->abi, BILROST_PLUGIN_ABI);
        (void)refuse(error, file, why);
    } else if (ops->size != sizeof *ops || !ops->name || !ops->open || !ops->close) {
        (void)refuse(error, file, "has a bilrost_plugin without size, name, open or close");
    } else {
        return ops;
    }
    return NULL;
}

static int plugin_start(struct plugin *x, const char *file, const char *settings, bool is_trial,
                        char error[BROKER_PLUGIN_ERROR_MAX])
{
    char why[BILROST_PLUGIN_ERROR_MAX + 1] = "";
    int r = x->ops->check ? x->ops->check(settings, why) : 0;
    if (r == 0 && !is_trial)
        r = x->ops->open(&x->host, settings, why, &x->self);
    why[BILROST_PLUGIN_ERROR_MAX] = '\0';
    return r ? refuse(error, file, why[0] ? why : "it does not start and does not say why") : 0;
}

int broker_plugins_add(struct broker_plugins *p, const char *file, const char *settings,
                       bool is_trial, char out_error[BROKER_PLUGIN_ERROR_MAX])
{
    if (file[0] != '/')
        return refuse(out_error, file, "must be a whole path, beginning with /");
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror(); /* begins with the file */
        snprintf(out_error, BROKER_PLUGIN_ERROR_MAX, "plugins: %s", why ? why : file);
        return -EINVAL;
    }
    struct plugin *x = mem_new(sizeof *x);
    x->host = (struct bilrost_host){
        .abi = BILROST_PLUGIN_ABI, .version = p->version, .answer = host_answer, .log = host_log};
    x->log = p->log;
    x->library = library;
    x->ops = constant_of(library, file, out_error);
    int r = x->ops ? plugin_start(x, file, settings, is_trial, out_error) : -EINVAL;
    if (r || is_trial) {
        if (is_trial) /* 3 */
            dlclose(library);
        mem_free(x);
        return r;
    }
    p->plugin = mem_grow(p->plugin, &p->cap, p->count + 1, sizeof(struct plugin *));
    p->plugin[p->count++] = x;
    p->is_asked = p->is_asked || x->ops->authenticate;
    p->is_told = p->is_told || x->ops->event;
    log_line(p->log, LOG_LEVEL_NOTICE, "plugin.open", "plugin %s (%s)", x->ops->name, file);
    return 0;
}

struct broker_plugins *broker_plugins_new(unsigned loop_count, const char *version,
                                          const struct log *log)
{
    struct broker_plugins *p = mem_new(sizeof *p);
    p->version = version;
    p->log = log;
    p->loop_count = loop_count;
    p->asks = mem_new((loop_count + 1) * sizeof *p->asks);
    for (unsigned i = 0; i < loop_count; i++)
        list_init(&p->asks[i]);
    return p;
}

void broker_plugins_close(struct broker_plugins *p)
{
    if (!p || p->is_closed)
        return;
    p->is_closed = true;
    for (size_t i = 0; i < p->count; i++)
        p->plugin[i]->ops->close(p->plugin[i]->self);
}

static void ask_free(struct bilrost_ask *a)
{
    net_timer_del(a->here, &a->timer);
    list_del(&a->link);
    atomic_fetch_sub_explicit(&a->plugins->ask_count, 1, memory_order_relaxed);
    if (a->text.n)
        explicit_bzero(a->text.p, a->text.n);
    buf_deinit(&a->text);
    buf_deinit(&a->verdict.user);
    buf_deinit(&a->verdict.rules);
    mem_free(a);
}

struct broker_plugins *broker_plugins_free(struct broker_plugins *p)
{
    if (!p)
        return NULL;
    broker_plugins_close(p);
    for (unsigned i = 0; i < p->loop_count; i++)
        while (!list_empty(&p->asks[i])) /* its plugin broke its word */
            ask_free(container_of(p->asks[i].next, struct bilrost_ask, link));
    for (size_t i = 0; i < p->count; i++)
        mem_free(p->plugin[i]);
    mem_free(p->plugin);
    mem_free(p->asks);
    return mem_free(p);
}

bool broker_plugins_ask(const struct broker_plugins *p)
{
    return p && p->is_asked;
}

bool broker_plugins_listen(const struct broker_plugins *p)
{
    return p && p->is_told;
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* Who asked hears it, once. */
static void ask_settle(struct bilrost_ask *a, enum broker_plugin_outcome outcome, struct str user,
                       struct broker_acl *acl)
{
    struct broker_plugin_ask *asker = a->asker;
    must(asker);
    a->asker = NULL;
    asker->under_way = NULL;
    net_timer_del(a->here, &a->timer);
    asker->done(asker, outcome, user, acl);
}

static void on_late(void *arg, usec_t now)
{
    struct bilrost_ask *a = arg;
    (void)now;
    log_line(a->plugins->log, LOG_LEVEL_WARN, "plugin.late",
             "%s: no answer about a client within 30 s", a->plugins->plugin[a->at]->ops->name);
    ask_settle(a, BROKER_PLUGIN_E_ERROR, str_view(NULL, 0), NULL);
}

/* The next plugin that wants to be asked; false: there is none. */
static bool ask_next(struct bilrost_ask *a)
{
    struct broker_plugins *p = a->plugins;
    while (a->at < p->count && !p->plugin[a->at]->ops->authenticate)
        a->at++;
    if (a->at == p->count || p->is_closed)
        return false;
    struct plugin *x = p->plugin[a->at];
    x->ops->authenticate(x->self, &a->client, a);
    return true;
}

static void let_in(struct bilrost_ask *a)
{
    struct broker_acl *acl = NULL;
    size_t line = 0;
    const char *why = "";
    if (a->verdict.has_rules && broker_acl_parse(buf_str(&a->verdict.rules), &acl, &line, &why)) {
        log_line(a->plugins->log, LOG_LEVEL_ERROR, "plugin.rules",
                 "%s: line %zu of the rules for a client: %s", a->plugins->plugin[a->at]->ops->name,
                 line, why);
        ask_settle(a, BROKER_PLUGIN_E_ERROR, str_view(NULL, 0), NULL);
        return;
    }
    ask_settle(a, BROKER_PLUGIN_OK,
               a->verdict.has_user ? buf_str(&a->verdict.user) : str_view(NULL, 0), acl);
}

static void answer_arrived(struct net_loop *here, struct net_mail *mail)
{
    struct bilrost_ask *a = container_of(mail, struct bilrost_ask, mail);
    (void)here;
    if (a->asker && a->verdict.answer == BILROST_NOT_MINE) {
        a->at++;
        if (ask_next(a))
            return;
        ask_settle(a, BROKER_PLUGIN_E_UNKNOWN, str_view(NULL, 0), NULL);
    } else if (a->asker && a->verdict.answer == BILROST_LET_IN) {
        let_in(a);
    } else if (a->asker) {
        ask_settle(a,
                   a->verdict.answer == BILROST_BAD_PASSWORD     ? BROKER_PLUGIN_E_BAD_PASS
                   : a->verdict.answer == BILROST_NOT_AUTHORIZED ? BROKER_PLUGIN_E_NOT_AUTHORIZED
                                                                 : BROKER_PLUGIN_E_ERROR,
                   str_view(NULL, 0), NULL);
    }
    ask_free(a);
}

/* Any thread, also within authenticate: the loop goes on with it in its next turn. */
static void host_answer(struct bilrost_ask *a, const struct bilrost_verdict *v)
{
    a->verdict.answer = v->answer;
    a->verdict.user.n = a->verdict.rules.n = 0; /* of the plugin before */
    a->verdict.has_user = v->user.p != NULL;
    a->verdict.has_rules = v->rules.p != NULL;
    if (v->user.p)
        buf_put(&a->verdict.user, v->user.p, v->user.n);
    if (v->rules.p)
        buf_put(&a->verdict.rules, v->rules.p, v->rules.n);
    net_loop_post(NULL, a->here, &a->mail, answer_arrived);
}

static struct bilrost_bytes copy_of(struct bilrost_ask *a, struct str from)
{
    char *to = from.p ? (char *)a->text.p + a->text.n : NULL;
    if (from.n)
        buf_put(&a->text, from.p, from.n);
    return (struct bilrost_bytes){to, from.n};
}

void broker_plugin_begin(struct broker_plugins *p, struct broker_plugin_ask *ask,
                         const struct broker_plugin_client *client, struct net_loop *here)
{
    if (atomic_load_explicit(&p->ask_count, memory_order_relaxed) >= ASKS_MAX || p->is_closed) {
        ask->done(ask, BROKER_PLUGIN_E_ERROR, str_view(NULL, 0), NULL);
        return;
    }
    struct bilrost_ask *a = mem_new(sizeof *a);
    a->plugins = p;
    a->asker = ask;
    a->here = here;
    atomic_fetch_add_explicit(&p->ask_count, 1, memory_order_relaxed);
    must(net_loop_index(here) < p->loop_count);
    list_init(&a->link);
    list_push_back(&p->asks[net_loop_index(here)], &a->link);
    net_timer_init(&a->timer, on_late, a);
    buf_reserve(&a->text, client->tenant.n + client->client_id.n + client->user.n +
                              client->password.n + client->certificate.n + client->address.n + 1);
    a->client = (struct bilrost_client){
        copy_of(a, client->tenant),   copy_of(a, client->client_id),   copy_of(a, client->user),
        copy_of(a, client->password), copy_of(a, client->certificate), copy_of(a, client->address)};
    ask->under_way = a;
    net_timer_set(here, &a->timer, net_loop_now(here) + ANSWER_USEC_MAX);
    if (!ask_next(a)) {
        ask_settle(a, BROKER_PLUGIN_E_UNKNOWN, str_view(NULL, 0), NULL);
        ask_free(a);
    }
}

void broker_plugin_cancel(struct broker_plugin_ask *ask)
{
    struct bilrost_ask *a = ask->under_way;
    if (!a)
        return;
    net_timer_del(a->here, &a->timer);
    a->asker = NULL;
    ask->under_way = NULL;
}

/* ---- telling --------------------------------------------------------------------------------- */

static struct bilrost_bytes bytes_of(struct str s)
{
    return (struct bilrost_bytes){s.p, s.n};
}

void broker_plugins_tell(struct broker_plugins *p, enum broker_event_id id, enum log_level level,
                         const struct broker_event_who *who, struct str text)
{
    struct bilrost_event e = {.name = broker_event_name(id),
                              .level = (enum bilrost_level)level, /* both are syslog's */
                              .tenant = bytes_of(who->tenant),
                              .client_id = bytes_of(who->client_id),
                              .user = bytes_of(who->user),
                              .address = bytes_of(who->address),
                              .text = bytes_of(text)};
    for (size_t i = 0; i < p->count && !p->is_closed; i++)
        if (p->plugin[i]->ops->event)
            p->plugin[i]->ops->event(p->plugin[i]->self, &e);
}
