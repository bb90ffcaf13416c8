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
#include <inttypes.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/mem.h"

#define ANSWER_USEC_MAX (30 * USEC_SEC) /* matters little: clients have given up before */
#define ASKS_MAX 100000                 /* matters: a plugin that never answers fills memory */

struct plugin {
    struct bilrost_host host;  /* first: what the plugin gives back is it */
    struct bilrost_plugin ops; /* what an older number does not have is NULL */
    const struct log *log;
    void *self;
};

struct broker_plugins {
    struct plugin **plugin;
    size_t count, cap;
    struct broker_plugins_conf conf;
    struct list *asks; /* [loop_count]: under way, of each loop */
    _Atomic size_t ask_count;
    bool is_asked, is_stepped, is_told, is_closed;
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
    struct bilrost_step step; /* method.p == NULL: none */
    size_t at;                /* which plugin is asked */
    struct {
        enum bilrost_answer answer;
        bool has_user, has_rules;
        struct buf user, rules, data, state;
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
    log_line(x->log, (enum log_level)l, "plugin", "%s: %s", x->ops.name, sentence);
}

static void host_answer(struct bilrost_ask *a, const struct bilrost_verdict *v);
static void host_reply(struct bilrost_ask *a, const struct bilrost_reply *r);

/* How large struct bilrost_plugin is in a number of the interface; 0: we do not take that one. */
static size_t size_of(uint32_t abi)
{
    return abi == BILROST_PLUGIN_ABI       ? sizeof(struct bilrost_plugin)
           : abi == BILROST_PLUGIN_ABI_MIN ? offsetof(struct bilrost_plugin, step)
                                           : 0;
}

static int constant_check(const struct bilrost_plugin *ops, const char *file,
                          char error[BROKER_PLUGIN_ERROR_MAX])
{
    char why[160];
    if (!size_of(ops->abi)) {
        snprintf(why, sizeof why,
                 "is made for plugin interface %u, and this broker has %d to %d: build it again "
                 "with this version's bilrost/plugin.h",
                 ops->abi, BILROST_PLUGIN_ABI_MIN, BILROST_PLUGIN_ABI);
        return refuse(error, file, why);
    }
    if (ops->size != size_of(ops->abi) || !ops->name || !ops->open || !ops->close)
        return refuse(error, file, "has a bilrost_plugin without size, name, open or close");
    return 0;
}

static int plugin_start(struct plugin *x, const char *file, const char *settings, bool is_trial,
                        char error[BROKER_PLUGIN_ERROR_MAX])
{
    char why[BILROST_PLUGIN_ERROR_MAX + 1] = "";
    int r = x->ops.check ? x->ops.check(settings, why) : 0;
    if (r == 0 && !is_trial)
        r = x->ops.open(&x->host, settings, why, &x->self);
    why[BILROST_PLUGIN_ERROR_MAX] = '\0';
    return r ? refuse(error, file, why[0] ? why : "it does not start and does not say why") : 0;
}

int broker_plugins_take(struct broker_plugins *p, const struct bilrost_plugin *ops,
                        const char *name, const char *settings, bool is_trial,
                        char out_error[BROKER_PLUGIN_ERROR_MAX])
{
    int r = constant_check(ops, name, out_error);
    if (r)
        return r;
    struct plugin *x = mem_new(sizeof *x);
    x->host = (struct bilrost_host){.abi = ops->abi,
                                    .version = p->conf.version,
                                    .answer = host_answer,
                                    .log = host_log,
                                    .reply = host_reply};
    x->log = p->conf.log;
    memcpy(&x->ops, ops, ops->size);
    r = plugin_start(x, name, settings, is_trial, out_error);
    if (r || is_trial) {
        mem_free(x);
        return r;
    }
    p->plugin = mem_grow(p->plugin, &p->cap, p->count + 1, sizeof(struct plugin *));
    p->plugin[p->count++] = x;
    p->is_asked = p->is_asked || x->ops.authenticate;
    p->is_stepped = p->is_stepped || x->ops.step;
    p->is_told = p->is_told || x->ops.event;
    log_line(p->conf.log, LOG_LEVEL_NOTICE, "plugin.open", "plugin %s (%s)", x->ops.name, name);
    return 0;
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
    const struct bilrost_plugin *ops = dlsym(library, "bilrost_plugin");
    int r = ops ? broker_plugins_take(p, ops, file, settings, is_trial, out_error)
                : refuse(out_error, file,
                         "is no plugin: it does not export bilrost_plugin (bilrost/plugin.h)");
    if (is_trial) /* 3 */
        dlclose(library);
    return r;
}

struct broker_plugins *broker_plugins_new(const struct broker_plugins_conf *conf)
{
    struct broker_plugins *p = mem_new(sizeof *p);
    p->conf = *conf;
    if (!p->conf.answer_usec_max)
        p->conf.answer_usec_max = ANSWER_USEC_MAX;
    p->asks = mem_new((conf->loop_count + 1) * sizeof *p->asks);
    for (unsigned i = 0; i < conf->loop_count; i++)
        list_init(&p->asks[i]);
    return p;
}

void broker_plugins_close(struct broker_plugins *p)
{
    if (!p || p->is_closed)
        return;
    p->is_closed = true;
    for (size_t i = 0; i < p->count; i++)
        p->plugin[i]->ops.close(p->plugin[i]->self);
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
    buf_deinit(&a->verdict.data);
    buf_deinit(&a->verdict.state);
    mem_free(a);
}

struct broker_plugins *broker_plugins_free(struct broker_plugins *p)
{
    if (!p)
        return NULL;
    broker_plugins_close(p);
    for (unsigned i = 0; i < p->conf.loop_count; i++)
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

bool broker_plugins_step(const struct broker_plugins *p)
{
    return p && p->is_stepped;
}

bool broker_plugins_listen(const struct broker_plugins *p)
{
    return p && p->is_told;
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* Who asked hears it, once. */
static void ask_settle(struct bilrost_ask *a, enum broker_plugin_outcome outcome,
                       const struct broker_plugin_said *said)
{
    struct broker_plugin_ask *asker = a->asker;
    must(asker);
    a->asker = NULL;
    asker->under_way = NULL;
    net_timer_del(a->here, &a->timer);
    asker->done(asker, outcome, said);
}

static const struct broker_plugin_said nothing;

static void on_late(void *arg, usec_t now)
{
    struct bilrost_ask *a = arg;
    (void)now;
    log_line(a->plugins->conf.log, LOG_LEVEL_WARN, "plugin.late",
             "%s: no answer about a client within %" PRIu64 " ms",
             a->plugins->plugin[a->at]->ops.name, a->plugins->conf.answer_usec_max / USEC_MSEC);
    ask_settle(a, BROKER_PLUGIN_E_ERROR, &nothing);
}

static bool is_step(const struct bilrost_ask *a)
{
    return a->step.method.p != NULL;
}

/* The next plugin that wants to be asked; false: there is none. */
static bool ask_next(struct bilrost_ask *a)
{
    struct broker_plugins *p = a->plugins;
    while (a->at < p->count && !(is_step(a) ? p->plugin[a->at]->ops.step != NULL
                                            : p->plugin[a->at]->ops.authenticate != NULL))
        a->at++;
    if (a->at == p->count || p->is_closed)
        return false;
    struct plugin *x = p->plugin[a->at];
    if (is_step(a))
        x->ops.step(x->self, &a->client, &a->step, a);
    else
        x->ops.authenticate(x->self, &a->client, a);
    return true;
}

/* What the plugin's answer comes to; UNKNOWN: the next one is to be asked. */
static enum broker_plugin_outcome outcome_of(const struct bilrost_ask *a)
{
    switch (a->verdict.answer) {
    case BILROST_LET_IN:
        return BROKER_PLUGIN_OK;
    case BILROST_BAD_PASSWORD:
        return BROKER_PLUGIN_E_BAD_PASS;
    case BILROST_NOT_AUTHORIZED:
        return BROKER_PLUGIN_E_NOT_AUTHORIZED;
    case BILROST_NOT_MINE: /* it was, a step before */
        return a->step.state.p ? BROKER_PLUGIN_E_NOT_AUTHORIZED : BROKER_PLUGIN_E_UNKNOWN;
    case BILROST_CONTINUE:
        return is_step(a) ? BROKER_PLUGIN_E_MORE : BROKER_PLUGIN_E_ERROR;
    case BILROST_UNAVAILABLE:
        break;
    }
    return BROKER_PLUGIN_E_ERROR;
}

/* What goes with a yes or with how to go on; false: it cannot be used. */
static bool said_get(const struct bilrost_ask *a, struct broker_plugin_said *out)
{
    const struct log *log = a->plugins->conf.log;
    const char *name = a->plugins->plugin[a->at]->ops.name, *why = "";
    size_t line = 0;
    *out = (struct broker_plugin_said){
        .data = buf_str(&a->verdict.data), .state = buf_str(&a->verdict.state), .at = a->at};
    if (out->data.n > BILROST_PLUGIN_DATA_MAX) {
        log_line(log, LOG_LEVEL_ERROR, "plugin.data", "%s: %zu bytes for a client are too many",
                 name, out->data.n);
        return false;
    }
    if (a->verdict.answer == BILROST_CONTINUE)
        return true;
    if (a->verdict.has_user)
        out->user = a->verdict.user.n ? buf_str(&a->verdict.user) : str_view("", 0);
    if (a->verdict.has_rules &&
        broker_acl_parse(buf_str(&a->verdict.rules), &out->acl, &line, &why)) {
        log_line(log, LOG_LEVEL_ERROR, "plugin.rules", "%s: line %zu of the rules for a client: %s",
                 name, line, why);
        return false;
    }
    return true;
}

static void answer_arrived(struct net_loop *here, struct net_mail *mail)
{
    struct bilrost_ask *a = container_of(mail, struct bilrost_ask, mail);
    struct broker_plugin_said said = {0};
    enum broker_plugin_outcome outcome = outcome_of(a);
    (void)here;
    if (a->asker && outcome == BROKER_PLUGIN_E_UNKNOWN) {
        a->at++;
        if (ask_next(a))
            return;
    }
    if (a->asker && (outcome == BROKER_PLUGIN_OK || outcome == BROKER_PLUGIN_E_MORE) &&
        !said_get(a, &said))
        outcome = BROKER_PLUGIN_E_ERROR;
    if (a->asker)
        ask_settle(a, outcome, &said);
    ask_free(a);
}

static bool take_over(struct buf *to, struct bilrost_bytes from)
{
    to->n = 0; /* of the plugin before */
    if (from.p)
        buf_put(to, from.p, from.n);
    return from.p != NULL;
}

/* Any thread, also within step: the loop goes on with it in its next turn. */
static void host_reply(struct bilrost_ask *a, const struct bilrost_reply *r)
{
    a->verdict.answer = r->verdict.answer;
    a->verdict.has_user = take_over(&a->verdict.user, r->verdict.user);
    a->verdict.has_rules = take_over(&a->verdict.rules, r->verdict.rules);
    (void)take_over(&a->verdict.data, r->data);
    (void)take_over(&a->verdict.state, r->state);
    net_loop_post(NULL, a->here, &a->mail, answer_arrived);
}

static void host_answer(struct bilrost_ask *a, const struct bilrost_verdict *v)
{
    struct bilrost_reply r = {.verdict = *v};
    host_reply(a, &r);
}

static struct bilrost_bytes copy_of(struct bilrost_ask *a, struct str from)
{
    char *to = from.p ? (char *)a->text.p + a->text.n : NULL;
    if (from.n)
        buf_put(&a->text, from.p, from.n);
    return (struct bilrost_bytes){to, from.n};
}

static void question_copy(struct bilrost_ask *a, const struct broker_plugin_client *client,
                          const struct broker_plugin_step *step)
{
    size_t n = client->tenant.n + client->client_id.n + client->user.n + client->password.n +
               client->certificate.n + client->address.n;
    buf_reserve(&a->text, n + (step ? step->method.n + step->data.n + step->state.n : 0) + 1);
    a->client = (struct bilrost_client){
        copy_of(a, client->tenant),   copy_of(a, client->client_id),   copy_of(a, client->user),
        copy_of(a, client->password), copy_of(a, client->certificate), copy_of(a, client->address)};
    if (!step)
        return;
    a->step = (struct bilrost_step){copy_of(a, step->method), copy_of(a, step->data),
                                    copy_of(a, step->state), step->is_again};
    a->at = step->at;
}

void broker_plugin_begin(struct broker_plugins *p, struct broker_plugin_ask *ask,
                         const struct broker_plugin_client *client,
                         const struct broker_plugin_step *step, struct net_loop *here)
{
    if (atomic_load_explicit(&p->ask_count, memory_order_relaxed) >= ASKS_MAX || p->is_closed) {
        ask->done(ask, BROKER_PLUGIN_E_ERROR, &nothing);
        return;
    }
    struct bilrost_ask *a = mem_new(sizeof *a);
    a->plugins = p;
    a->asker = ask;
    a->here = here;
    atomic_fetch_add_explicit(&p->ask_count, 1, memory_order_relaxed);
    must(net_loop_index(here) < p->conf.loop_count);
    list_init(&a->link);
    list_push_back(&p->asks[net_loop_index(here)], &a->link);
    net_timer_init(&a->timer, on_late, a);
    question_copy(a, client, step);
    ask->under_way = a;
    net_timer_set(here, &a->timer, net_loop_now(here) + p->conf.answer_usec_max);
    if (!ask_next(a)) {
        ask_settle(a, BROKER_PLUGIN_E_UNKNOWN, &nothing);
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
        if (p->plugin[i]->ops.event)
            p->plugin[i]->ops.event(p->plugin[i]->self, &e);
}
