/* What dead processes left behind.  SPDX-License-Identifier: Apache-2.0
 *
 * A process (node, epoch) is dead when the cluster says so, when its node lives in a later epoch,
 * or when nobody has heard of it for a while after we began to look.  That is a judgement of this
 * node; the commands it leads to are fenced: a session that was attached again meanwhile is not
 * touched, and the routes of one that may only be cut off are kept for ROUTES_KEPT_USEC.
 *
 * One command at a time per range; the next one when that is answered. */
#include "stores/orphan_priv.h"

#include "base/mem.h"
#include "cluster/cluster.h"
#include "dist/dist.h"
#include "inbox/inbox.h"
#include "stores/op_priv.h"
#include "stores/stores_priv.h"

#define LOOK_USEC (30 * USEC_SEC)  /* does not matter much: for what an event did not bring */
#define KNOWN_USEC (60 * USEC_SEC) /* matters: members that are alive are known long before */
#define ROUTES_KEPT_USEC (600 * USEC_SEC) /* matters: longer than most cuts */
#define SWEEP_USEC (60 * USEC_SEC) /* does not matter much: a replica has loaded long before */
#define SESSIONS_MAX 1000u         /* in one command: some milliseconds of applying */
#define ROUTES_MAX 1000u

struct led {
    struct list link;
    struct stores_client *client;
    enum stores_table table;
    struct kv_range_id id;
    void *machine;
    struct str start;
    bool is_busy;                 /* a command is under way */
    bool is_gone;                 /* leads no more: free when the answer is there */
    struct inbox_owner dist_dead; /* dist: whose routes are being collected */
    uint64_t dist_at;             /* where collecting goes on; 0: from the start */
};

bool stores_orphans_is_dead(const struct stores_client *c, const struct uuid *node, uint64_t epoch)
{
    const struct stores_conf *conf = &c->stores->conf;
    if (uuid_eq(node, &conf->node))
        return epoch != conf->epoch;
    if (conf->seat == NULL)
        return true;
    const struct cluster_member *m = cluster_member_find(conf->seat[c->loop], node);
    if (m == NULL)
        return net_loop_now(c->net) >= c->orphans.known_at &&
               cluster_is_joined(conf->seat[c->loop]);
    return m->epoch > epoch || (m->epoch == epoch && m->state >= CLUSTER_ST_DEAD);
}

/* Routes of a dead process do not count for matching, so there is no hurry to remove them: one that
 * was only cut off finds them where they were when it comes back. */
static bool routes_are_over(const struct stores_client *c, const struct uuid *node, uint64_t epoch)
{
    const struct stores_conf *conf = &c->stores->conf;
    const struct cluster_member *m =
        conf->seat != NULL ? cluster_member_find(conf->seat[c->loop], node) : NULL;
    bool may_come_back = m != NULL && m->epoch == epoch && m->state == CLUSTER_ST_DEAD &&
                         net_loop_now(c->net) < usec_add(m->since, ROUTES_KEPT_USEC);
    return !may_come_back && stores_orphans_is_dead(c, node, epoch);
}

static void led_free(struct led *l)
{
    list_del(&l->link);
    mem_free((void *)(uintptr_t)l->start.p);
    mem_free(l);
}

struct cleanup {
    struct stores_op op;
    struct led *led;
};

static void led_look(struct led *l);

static void cleaned(struct stores_op *op, enum stores_outcome outcome, const struct kv_reply *reply)
{
    struct led *l = container_of(op, struct cleanup, op)->led;
    (void)reply;
    stores_op_free(op);
    l->is_busy = false;
    if (l->is_gone)
        led_free(l);
    else if (outcome == STORES_OK)
        led_look(l);
}

static void led_propose(struct led *l, struct str command)
{
    struct cleanup *x = stores_op_new(l->client, l->table, sizeof *x, cleaned);
    x->led = l;
    l->is_busy = true;
    buf_put_str(&x->op.key, l->start);
    buf_put_str(&x->op.bytes, command);
    stores_op_send(&x->op);
}

/* Asks the local machine, whose loop this is. */
static bool ask(struct led *l, const struct range_machine_ops *ops, struct buf *request,
                struct buf *reply)
{
    struct range_scan scan;
    reply->n = 0;
    return ops->query(l->machine, stores_hlc(l->client), buf_str(request), reply, &scan) == 0 &&
           reply->n > 0;
}

static void look_inbox(struct led *l, struct buf *request, struct buf *reply)
{
    struct inbox_owner owner;
    uint64_t sessions;
    inbox_query_owners(request);
    if (!ask(l, inbox_machine(), request, reply))
        return;
    struct buf dead = {0};
    struct str rest = buf_str(reply);
    while (!l->is_busy && inbox_reply_owner(&rest, &owner, &sessions)) {
        if (sessions == 0 || !stores_orphans_is_dead(l->client, &owner.node, owner.epoch))
            continue;
        request->n = 0;
        inbox_query_dead(request, &owner, SESSIONS_MAX);
        if (ask(l, inbox_machine(), request, &dead))
            led_propose(l, buf_str(&dead));
    }
    buf_deinit(&dead);
}

/* The next process with routes that is dead; false: none. */
static bool dist_find_dead(struct led *l)
{
    size_t at = 0;
    if (l->dist_at != 0)
        return true;
    for (const struct dist_node *n;
         (n = dist_index_node_next(l->client->stores->index, &at)) != NULL;) {
        if (n->route_count == 0 || !routes_are_over(l->client, &n->uuid, n->epoch))
            continue;
        l->dist_dead = (struct inbox_owner){n->uuid, n->epoch, 0};
        return true;
    }
    return false;
}

static void look_dist(struct led *l, struct buf *request, struct buf *reply)
{
    while (!l->is_busy && dist_find_dead(l)) {
        struct str command;
        request->n = 0;
        dist_query_collect(request, &l->dist_dead.node, l->dist_dead.epoch, l->dist_at, ROUTES_MAX);
        if (!ask(l, dist_machine(), request, reply) ||
            !dist_reply_collect(buf_str(reply), &l->dist_at, &command)) {
            l->dist_at = 0;
            return;
        }
        if (command.n > 0)
            led_propose(l, command);
        else if (l->dist_at == 0)
            return; /* what is left belongs to other ranges */
    }
}

static void led_look(struct led *l)
{
    struct buf request = {0}, reply = {0};
    if (!l->is_busy && !l->is_gone) {
        if (l->table == STORES_TABLE_INBOX)
            look_inbox(l, &request, &reply);
        else
            look_dist(l, &request, &reply);
    }
    buf_deinit(&request);
    buf_deinit(&reply);
}

static void look_all(void *arg, usec_t now)
{
    struct stores_client *c = arg;
    list_each(&c->orphans.led, it) led_look(container_of(it, struct led, link));
    net_timer_set(c->net, &c->orphans.timer, now + LOOK_USEC);
}

static void sweep(void *arg, usec_t now)
{
    struct stores_client *c = arg;
    (void)now;
    if (c->loop != c->stores->dist_loop)
        return;
    dist_index_sweep_orphans(c->stores->index);
    if (!stores_own_settle(c))
        stores_orphans_sweep(c);
}

void stores_orphans_sweep(struct stores_client *c)
{
    net_timer_set(c->net, &c->orphans.sweep, net_loop_now(c->net) + SWEEP_USEC);
}

void stores_orphans_look(struct stores_client *c)
{
    net_timer_set(c->net, &c->orphans.timer, net_loop_now(c->net));
}

void stores_orphans_leader(struct stores_client *c, enum stores_table table,
                           const struct kv_range_view *r, bool is_leader)
{
    list_each(&c->orphans.led, it)
    {
        struct led *l = container_of(it, struct led, link);
        if (l->table != table || l->id.epoch != r->id.epoch || l->id.id != r->id.id || l->is_gone)
            continue;
        l->is_gone = true;
        if (!l->is_busy)
            led_free(l);
    }
    if (!is_leader)
        return;
    struct led *l = mem_new(sizeof *l);
    l->client = c;
    l->table = table;
    l->id = r->id;
    l->machine = r->machine;
    l->start = str_dup(r->start);
    list_push_back(&c->orphans.led, &l->link);
    stores_orphans_look(c);
}

void stores_orphans_init(struct stores_client *c)
{
    list_init(&c->orphans.led);
    net_timer_init(&c->orphans.timer, look_all, c);
    net_timer_init(&c->orphans.sweep, sweep, c);
    c->orphans.known_at = usec_add(net_loop_now(c->net), KNOWN_USEC);
}

void stores_orphans_deinit(struct stores_client *c)
{
    net_timer_del(c->net, &c->orphans.timer);
    net_timer_del(c->net, &c->orphans.sweep);
    list_each(&c->orphans.led, it) led_free(container_of(it, struct led, link));
}
