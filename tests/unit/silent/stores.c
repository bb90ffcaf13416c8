/* A stores door whose every operation ends as the test wants.  SPDX-License-Identifier: Apache-2.0
 *
 * A function that the broker begins to use and that is missing here brings in the real room, and
 * the linker names both. */
#include "unit/silent/stores.h"

#include "base/err.h"
#include "base/mem.h"
#include "codec/msg.h"
#include "dist/index.h"
#include "net/loop.h"

struct stores {
    struct net_loop *loop;
    struct dist_index *index;
    uint16_t owner;
    enum stores_outcome outcome[SILENT_OP_COUNT];
    uint64_t last; /* incarnations */
    unsigned wills_done;
    unsigned puts, row;
    char topic[64]; /* topic to be retained */
    bool is_held[SILENT_OP_COUNT];
    struct list waiting; /* struct call */
    enum stores_index_state index_state;
    struct buf inserted;
    bool is_stopped;
};

struct stores_client {
    struct stores all;
};

struct call {
    struct net_mail mail;
    struct list link;
    struct stores *stores;
    enum stores_outcome outcome;
    stores_done *done;
    stores_attached_cb *attached;
    stores_inserted_cb *inserted;
    stores_exchange_cb *exchange;
    stores_retained_cb *retained;
    stores_fetched_cb *fetched;
    stores_match_cb *match;
    void *arg;
};

static void on_reclaim(void *arg, void *ptr, void (*fn)(void *ptr))
{
    (void)arg; /* one loop, and it does not read while it writes */
    fn(ptr);
}

static struct dist_index *index_new(void)
{
    struct dist_index_conf conf = {.seed = 1, .reclaim = on_reclaim};
    return dist_index_new(&conf);
}

static void index_add(struct dist_index *x, uint16_t owner, const char *tenant, const char *filter)
{
    struct dist_route r = {.tenant = str_of(tenant),
                           .filter = str_of(filter),
                           .kind = DIST_KIND_INBOX,
                           .client = STR("away"),
                           .session = 1,
                           .incarnation = 1,
                           .options = 2};
    must(dist_index_add(x, owner, &r, 0) == 0);
}

/* Elsewhere somebody wants everything. */
static struct dist_index *index_elsewhere(void)
{
    struct dist_index *x = index_new();
    index_add(x, DIST_OWNER_HOST, "default", "#");
    return x;
}

static void on_end(struct net_loop *here, struct net_mail *mail)
{
    struct call *k = container_of(mail, struct call, mail);
    enum stores_outcome o = k->outcome;
    (void)here;
    if (k->stores->is_stopped) {
        mem_free(k);
        return;
    }
    if (k->done)
        k->done(k->arg, o);
    if (k->attached)
        k->attached(k->arg, &(struct stores_attached){.outcome = o,
                                                      .incarnation = ++k->stores->last,
                                                      .mod = 1,
                                                      .next_seq = 1,
                                                      .qos0_next_seq = 1});
    if (k->inserted)
        k->inserted(k->arg, &(struct stores_inserted){.outcome = o, .stored = 1});
    if (k->exchange)
        k->exchange(k->arg, &(struct stores_exchange){.outcome = o, .exchange = ++k->stores->last});
    if (k->retained)
        k->retained(k->arg, &(struct stores_retained){.outcome = o});
    if (k->fetched)
        k->fetched(k->arg, &(struct stores_fetched){.outcome = o});
    if (k->match)
        k->match(k->arg, o, o == STORES_OK ? index_elsewhere() : NULL);
    mem_free(k);
}

static struct call *call_new(struct stores_client *c, enum silent_op op, void *arg)
{
    struct stores *s = &c->all;
    struct call *k = mem_new(sizeof *k);
    k->stores = s;
    k->outcome = op < SILENT_OP_COUNT ? s->outcome[op] : STORES_OK;
    k->arg = arg;
    if (op < SILENT_OP_COUNT && s->is_held[op])
        list_push_back(&s->waiting, &k->link);
    else
        net_loop_post(s->loop, s->loop, &k->mail, on_end);
    return k;
}

static void end_with(struct stores_client *c, enum silent_op op, stores_done *done, void *arg)
{
    call_new(c, op, arg)->done = done;
}

struct stores *silent_new(struct net_loop *l)
{
    struct stores *s = mem_new(sizeof *s);
    s->loop = l;
    list_init(&s->waiting);
    s->index = index_new();
    s->owner = dist_index_owner(s->index);
    return s;
}

void silent_stop(struct stores *s)
{
    s->is_stopped = true;
}

struct stores *silent_free(struct stores *s)
{
    for (struct list *x; (x = list_pop_front(&s->waiting));)
        mem_free(container_of(x, struct call, link));
    buf_deinit(&s->inserted);
    dist_index_free(s->index);
    return mem_free(s);
}

void silent_set(struct stores *s, enum silent_op op, enum stores_outcome outcome)
{
    s->outcome[op] = outcome;
}

void silent_hold(struct stores *s, enum silent_op op)
{
    s->is_held[op] = true;
}

bool silent_end_last(struct stores *s)
{
    if (list_empty(&s->waiting))
        return false;
    struct call *k = container_of(s->waiting.prev, struct call, link);
    list_del(&k->link);
    net_loop_post(s->loop, s->loop, &k->mail, on_end);
    return true;
}

unsigned silent_waiting(const struct stores *s)
{
    unsigned n = 0;
    for (const struct list *x = s->waiting.next; x != &s->waiting; x = x->next)
        n++;
    return n;
}

void silent_index(struct stores *s, enum stores_index_state state)
{
    s->index_state = state;
}

struct str silent_inserted(const struct stores *s)
{
    return buf_str(&s->inserted);
}

void silent_subscriber(struct stores *s, const char *tenant, const char *filter)
{
    index_add(s->index, s->owner, tenant, filter);
}

unsigned silent_retain_puts(const struct stores *s)
{
    return s->puts;
}

unsigned silent_retain_row(const struct stores *s, const char *topic)
{
    return str_eq(str_of(topic), str_of(s->topic)) ? s->row : 0;
}

unsigned silent_wills_done(const struct stores *s)
{
    return s->wills_done;
}

/* ---- the door ---- */

struct stores_client *stores_client_get(struct stores *s, unsigned loop)
{
    (void)loop;
    return (struct stores_client *)s;
}

struct dist_index *stores_index(struct stores *s)
{
    return s->index;
}

enum stores_index_state stores_index_state_get(const struct stores_client *c)
{
    return c->all.index_state;
}

void stores_match(struct stores_client *c, struct str tenant, struct str topic, usec_t deadline,
                  stores_match_cb *cb, void *arg)
{
    (void)tenant;
    (void)topic;
    (void)deadline;
    call_new(c, SILENT_MATCH, arg)->match = cb;
}

void stores_dict_claim(struct stores_client *c, struct str tenant, struct str client,
                       uint64_t cookie, stores_done *done, void *arg)
{
    (void)tenant;
    (void)client;
    (void)cookie;
    end_with(c, SILENT_CLAIM, done, arg);
}

void stores_dict_release(struct stores_client *c, struct str tenant, struct str client,
                         uint64_t cookie)
{
    (void)c;
    (void)tenant;
    (void)client;
    (void)cookie;
}

void stores_dict_kill(struct stores_client *c, struct str tenant, struct str client,
                      stores_done *done, void *arg)
{
    (void)tenant;
    (void)client;
    end_with(c, SILENT_OP_COUNT, done, arg);
}

void stores_route_add(struct stores_client *c, const struct stores_route *r, stores_done *done,
                      void *arg)
{
    struct stores *s = &c->all;
    struct dist_route d = {.tenant = r->tenant,
                           .filter = r->filter,
                           .kind = DIST_KIND_NODE,
                           .node = {{1}},
                           .epoch = 7,
                           .incarnation = ++s->last};
    if (s->outcome[SILENT_ROUTE_ADD] == STORES_OK && r->group.n == 0)
        must(dist_index_add(s->index, s->owner, &d, 0) == 0);
    end_with(c, SILENT_ROUTE_ADD, done, arg);
}

void stores_route_del(struct stores_client *c, const struct stores_route *r, stores_done *done,
                      void *arg)
{
    (void)r;
    end_with(c, SILENT_OP_COUNT, done, arg);
}

void stores_attach(struct stores_client *c, const struct stores_attach *a, stores_attached_cb *cb,
                   void *arg)
{
    (void)a;
    call_new(c, SILENT_ATTACH, arg)->attached = cb;
}

void stores_detach(struct stores_client *c, const struct stores_session *s,
                   const struct stores_detach *d, stores_done *done, void *arg)
{
    (void)s;
    (void)d;
    end_with(c, SILENT_OP_COUNT, done, arg);
}

void stores_sub(struct stores_client *c, const struct stores_session *s,
                const struct stores_sub *sub, stores_done *done, void *arg)
{
    (void)s;
    (void)sub;
    end_with(c, SILENT_SUB, done, arg);
}

void stores_unsub(struct stores_client *c, const struct stores_session *s,
                  const struct stores_sub *sub, stores_done *done, void *arg)
{
    (void)s;
    (void)sub;
    end_with(c, SILENT_UNSUB, done, arg);
}

void stores_insert(struct stores_client *c, struct str tenant, const struct codec_msg *msg,
                   const struct stores_origin *from, const struct stores_receiver *r, size_t count,
                   stores_inserted_cb *cb, void *arg)
{
    (void)tenant;
    (void)from;
    (void)r;
    (void)count;
    buf_put(&c->all.inserted, msg->payload.p, msg->payload.n > 0);
    call_new(c, SILENT_INSERT, arg)->inserted = cb;
}

void stores_commit(struct stores_client *c, const struct stores_session *s, uint64_t acked_seq,
                   uint64_t qos0_acked_seq, const struct stores_mark *mark, size_t mark_count,
                   stores_done *done, void *arg)
{
    (void)s;
    (void)acked_seq;
    (void)qos0_acked_seq;
    (void)mark;
    (void)mark_count;
    end_with(c, SILENT_OP_COUNT, done, arg);
}

void stores_receive(struct stores_client *c, const struct stores_session *s, uint16_t packet_id,
                    uint64_t lane, stores_exchange_cb *cb, void *arg)
{
    (void)s;
    (void)packet_id;
    (void)lane;
    call_new(c, SILENT_RECEIVE, arg)->exchange = cb;
}

void stores_cancel(struct stores_client *c, uint64_t lane)
{
    (void)c;
    (void)lane;
}

void stores_release(struct stores_client *c, const struct stores_session *s, uint16_t packet_id,
                    stores_done *done, void *arg)
{
    (void)s;
    (void)packet_id;
    end_with(c, SILENT_OP_COUNT, done, arg);
}

void stores_fetch(struct stores_client *c, const struct stores_session *s, bool is_qos0,
                  uint64_t seq, uint32_t count_max, stores_fetched_cb *cb, void *arg)
{
    (void)s;
    (void)is_qos0;
    (void)seq;
    (void)count_max;
    call_new(c, SILENT_OP_COUNT, arg)->fetched = cb;
}

void stores_will_done(struct stores_client *c, struct str tenant, struct str client,
                      uint64_t will_id)
{
    (void)tenant;
    (void)client;
    (void)will_id;
    c->all.wills_done++;
}

void stores_clear(struct stores_client *c, struct str tenant, struct str client, stores_done *done,
                  void *arg)
{
    (void)tenant;
    (void)client;
    end_with(c, SILENT_CLEAR, done, arg);
}

void stores_retain_put(struct stores_client *c, struct str tenant, const struct codec_msg *msg,
                       uint64_t topic_max, uint64_t byte_max, stores_done *done, void *arg)
{
    (void)tenant;
    (void)topic_max;
    (void)byte_max;
    struct stores *s = &c->all;
    s->puts++;
    s->row = str_eq(msg->topic, str_of(s->topic)) ? s->row + 1 : 1;
    str_copy(s->topic, sizeof s->topic, msg->topic);
    end_with(c, SILENT_RETAIN_PUT, done, arg);
}

void stores_retain_match(struct stores_client *c, struct str tenant, struct str filter,
                         struct str after, uint32_t count_max, stores_retained_cb *cb, void *arg)
{
    (void)tenant;
    (void)filter;
    (void)after;
    (void)count_max;
    call_new(c, SILENT_RETAIN_MATCH, arg)->retained = cb;
}
