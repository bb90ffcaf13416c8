/* A table in this process: the machine on loop 0, its rows in memory.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * What one node without a data directory runs on.  Commands are applied in the order they reach
 * loop 0, each at once; answers go back as mails, so a caller is never answered inside its own
 * call. */
#include "stores/port_priv.h"

#include "base/hlc.h"
#include "base/mem.h"
#include "net/loop.h"
#include "stores/rows_priv.h"

#define TICK_USEC USEC_SEC /* range_machine_ops.tick wants about a second */

struct stores_solo {
    struct stores_solo_conf conf;
    void *machine;
    struct stores_rows *rows;
    struct range_out out;
    struct buf command; /* what tick asked for */
    struct hlc hlc;
    uint64_t index;
    struct net_timer tick;
};

/* One proposal or query on its way there and back. */
struct ask {
    struct net_mail mail;
    struct stores_solo *solo;
    unsigned loop;
    bool is_query;
    enum kv_outcome outcome;
    kv_reply_cb *cb;
    void *arg;
    struct buf bytes; /* the command, then the reply */
};

static struct kv_range_view view(const struct stores_solo *s)
{
    return (struct kv_range_view){.is_open = true, .term = 1, .machine = s->machine};
}

static uint64_t now_hlc(struct stores_solo *s)
{
    return hlc_now(&s->hlc, net_loop_wall(s->conf.loop[0]));
}

static void apply(struct stores_solo *s, struct str command)
{
    struct range_apply in = {
        .index = ++s->index, .hlc = now_hlc(s), .command = command, .has_host = true};
    range_out_reset(&s->out);
    s->conf.ops->apply(s->machine, &in, &s->out);
    for (size_t i = 0; i < s->out.row_count; i++) {
        struct range_write w = range_out_row(&s->out, i);
        if (w.is_del)
            stores_rows_del(s->rows, w.key);
        else
            stores_rows_put(s->rows, w.key, w.value);
    }
    const struct kv_host *h = &s->conf.host;
    struct kv_range_view v = view(s);
    for (size_t i = 0; h->effect != NULL && i < s->out.effect_count; i++)
        h->effect(h->arg, &v, range_out_effect_get(&s->out, i));
    if (h->effects_end != NULL && s->out.effect_count > 0)
        h->effects_end(h->arg, &v);
}

/* Applies what the machine wants of itself and asks when it wants to be asked again. */
static void tick(void *arg, usec_t now)
{
    struct stores_solo *s = arg;
    s->command.n = 0;
    (void)s->conf.ops->tick(s->machine, now_hlc(s), &s->command);
    if (s->command.n > 0)
        apply(s, buf_str(&s->command));
    net_timer_set(s->conf.loop[0], &s->tick, now + TICK_USEC);
}

static void query(struct stores_solo *s, struct ask *a)
{
    struct buf reply = {0};
    struct range_scan scan = {0};
    int r = s->conf.ops->query(s->machine, now_hlc(s), buf_str(&a->bytes), &reply, &scan);
    if (r == RANGE_QUERY_E_SCAN)
        stores_rows_scan(s->rows, &scan, &reply);
    a->outcome = r == RANGE_QUERY_E_INVALID ? KV_E_INVALID : KV_OK;
    buf_deinit(&a->bytes);
    a->bytes = reply;
}

static void back(struct net_loop *here, struct net_mail *mail)
{
    struct ask *a = container_of(mail, struct ask, mail);
    (void)here;
    struct kv_reply reply = {.outcome = a->outcome, .bytes = buf_str(&a->bytes), .is_last = true};
    a->cb(a->arg, &reply);
    buf_deinit(&a->bytes);
    mem_free(a);
}

static void there(struct net_loop *here, struct net_mail *mail)
{
    struct ask *a = container_of(mail, struct ask, mail);
    struct stores_solo *s = a->solo;
    if (a->is_query) {
        query(s, a);
    } else {
        apply(s, buf_str(&a->bytes));
        a->bytes.n = 0;
        buf_put_str(&a->bytes, buf_str(&s->out.reply));
    }
    net_loop_post(here, s->conf.loop[a->loop], &a->mail, back);
}

static void ask(struct stores_solo *s, struct ask init, struct str bytes)
{
    struct ask *a = mem_new(sizeof *a);
    *a = init;
    a->solo = s;
    buf_put_str(&a->bytes, bytes);
    net_loop_post(s->conf.loop[a->loop], s->conf.loop[0], &a->mail, there);
}

void stores_solo_propose(struct stores_solo *s, unsigned loop, struct str command, kv_reply_cb *cb,
                         void *arg)
{
    ask(s, (struct ask){.loop = loop, .cb = cb, .arg = arg}, command);
}

void stores_solo_query(struct stores_solo *s, unsigned loop, struct str request, kv_reply_cb *cb,
                       void *arg)
{
    ask(s, (struct ask){.loop = loop, .is_query = true, .cb = cb, .arg = arg}, request);
}

void *stores_solo_machine(struct stores_solo *s)
{
    return s->machine;
}

struct stores_solo *stores_solo_new(const struct stores_solo_conf *conf)
{
    struct stores_solo *s = mem_new(sizeof *s);
    s->conf = *conf;
    s->rows = stores_rows_new(conf->seed);
    s->machine = conf->ops->new (conf->machine_conf);
    struct range_bounds all = {.is_open = true};
    conf->ops->reset(s->machine, &all);
    conf->ops->loaded(s->machine);
    struct kv_range_view v = view(s);
    if (conf->host.ready != NULL)
        conf->host.ready(conf->host.arg, &v, true);
    if (conf->host.leader != NULL)
        conf->host.leader(conf->host.arg, &v, true);
    net_timer_init(&s->tick, tick, s);
    net_timer_set(conf->loop[0], &s->tick, net_loop_now(conf->loop[0]) + TICK_USEC);
    return s;
}

struct stores_solo *stores_solo_free(struct stores_solo *s)
{
    if (s == NULL)
        return NULL;
    net_timer_del(s->conf.loop[0], &s->tick);
    s->conf.ops->free(s->machine);
    s->rows = stores_rows_free(s->rows);
    range_out_deinit(&s->out);
    buf_deinit(&s->command);
    return mem_free(s);
}
