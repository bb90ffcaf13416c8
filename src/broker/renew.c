/* Settings that change reach the clients that are connected.  SPDX-License-Identifier: Apache-2.0
 *
 * A connection holds a snapshot of its tenant's settings.  When those change it gets another one,
 * in which what was agreed at CONNECT stays (session_settings_renew).  Connections that had one
 * snapshot in common have one in common after it.
 *
 * 1. No turn looks at more than STEP_MAX connections; the next one is held, so that it stays.
 * 2. A change during the walk begins it anew: who has the new settings is left alone.
 * It never changes what stores hold: a queue gets its size when its client connects. */
#include "broker/renew_priv.h"

#include <string.h>

#include "broker/durability_priv.h"
#include "broker/tenant.h"

#define STEP_MAX 1000 /* matters a little: a turn takes no longer than some hundred microseconds   \
                       */

struct renewal { /* from one snapshot to another under a tenant's new one; all counted */
    struct broker_settings *from, *by, *to;
};

void broker_renew_rates(struct broker_conn *c)
{
    const struct session_settings *s = &c->settings->value;
    net_stream_set_rate(c->stream, (uint64_t)s->in_bound_band_width);
    net_stream_set_write_rate(c->stream, (uint64_t)s->out_bound_band_width);
}

static void renewal_end(struct renewal *r)
{
    broker_settings_unref(r->from);
    broker_settings_unref(r->by);
    broker_settings_unref(r->to);
    *r = (struct renewal){0};
}

/* What `from` becomes, borrowed; the last one is remembered. */
static struct broker_settings *renewed(struct renewal *r, struct broker_settings *from,
                                       struct broker_settings *by)
{
    if (r->from == from && r->by == by)
        return r->to;
    renewal_end(r);
    struct session_settings s;
    session_settings_renew(&from->value, &by->value, &s);
    r->from = broker_settings_ref(from);
    r->by = broker_settings_ref(by);
    r->to = memcmp(&s, &by->value, sizeof s) == 0     ? broker_settings_ref(by)
            : memcmp(&s, &from->value, sizeof s) == 0 ? broker_settings_ref(from)
                                                      : broker_settings_new(&s);
    return r->to;
}

static void renew(struct broker_conn *c, struct renewal *r)
{
    struct broker_settings *by = c->tenant->loop[c->loop->index].settings, *was = c->settings;
    enum session_state st = session_state_get(c->session);
    /* who has not been let in yet gets the tenant's when it is */
    if (was == by || !c->stream || (st != SESSION_ST_ATTACH && st != SESSION_ST_OPEN))
        return;
    struct broker_settings *now = renewed(r, was, by);
    if (now == was)
        return;
    c->settings = broker_settings_ref(now);
    struct session_event ev = {.type = SESSION_EV_SETTINGS};
    struct buf user = {0};
    broker_durability_user_put(c->loop->broker, &now->value, &user);
    ev.renewed.settings = &now->value;
    ev.renewed.ack_user = buf_str(&user);
    broker_conn_step(c, &ev);
    buf_deinit(&user);
    broker_settings_unref(was);
    if (c->is_open && c->stream)
        broker_renew_rates(c);
}

static void go_to(struct broker_loop *l, struct broker_conn *at)
{
    struct broker_conn *was = l->renew.at;
    l->renew.at = at;
    if (at)
        broker_conn_hold(at);
    if (was)
        broker_conn_done(was);
}

void broker_renew_begin(struct broker_loop *l)
{
    go_to(l, NULL);
    net_timer_set(l->net, &l->renew.timer, broker_loop_now(l));
}

void broker_renew_tick(void *arg, usec_t now)
{
    struct broker_loop *l = arg;
    struct list *it = l->renew.at ? &l->renew.at->link : l->conns.next;
    struct renewal r = {0};
    for (unsigned n = 0; it != &l->conns && n < STEP_MAX; n++) {
        struct broker_conn *c = container_of(it, struct broker_conn, link);
        it = it->next;
        renew(c, &r);
    }
    renewal_end(&r);
    go_to(l, it != &l->conns ? container_of(it, struct broker_conn, link) : NULL);
    if (l->renew.at)
        net_timer_set(l->net, &l->renew.timer, now);
}
