/* The session dict.  SPDX-License-Identifier: Apache-2.0
 *
 * Two parts on every loop.  Claims: what sessions of this loop hold or want, by cookie.  Entries:
 * who owns a client, for the clients whose home is this loop.  They speak by one-way messages, the
 * same bytes to another loop as to another node:
 *
 *     claim side   CLAIM, HELD (again, to a new home), RELEASE, FIND, KILL  -->  home side
 *     claim side   <--  GRANT, REFUSE, QUIT, FOUND                               home side
 *
 * Invariants: an entry has one owner; a waiting claim becomes owner only when the owner released or
 * its node's life has ended; a newer claim refuses an older waiting one.  A lost message costs a
 * claim its deadline, never the rule; a RELEASE that got lost is said again, or the entry would
 * stay for ever. */
#include "stores/stores_priv.h"

#include "base/mem.h"
#include "cluster/cluster.h"
#include "cluster/traffic.h"
#include "stores/dict_wire_priv.h"

#define ANSWER_USEC                                                                                \
    (1 * USEC_SEC) /* matters for failover: a node that takes longer to say that it got a message  \
                      is avoided */
#define AVOID_USEC (10 * USEC_SEC) /* matters little: gossip knows the truth by then */
#define UNSAID_USEC (1 * USEC_SEC) /* does not matter much: pace of what is said again */
#define UNSAID_AGE                                                                                 \
    (300 * USEC_SEC)     /* matters little: an entry that stays costs its home some memory */
#define HASH_SEED 0x5e55 /* the same on all nodes: it picks the home */

enum claim_state {
    CLAIM_ST_PENDING, /* asked for; done not called */
    CLAIM_ST_HELD,
    CLAIM_ST_ASKING, /* not a claim but a question (find, kill) */
};

struct claim {
    uint64_t cookie;
    enum claim_state state;
    struct str tenant, client;
    struct stores_owner home; /* node, epoch, loop where it is registered */
    struct heap_node due;
    stores_done *done;
    stores_dict_found *found;
    void *arg;
};

struct killer {
    struct killer *next;
    struct stores_owner asker;
};

struct entry {
    uint64_t hash;
    struct str tenant, client;
    struct stores_owner owner, waiting; /* cookie 0: nobody */
    struct killer *killer;
};

struct entry_key {
    struct str tenant, client;
};

/* ---- where things are ------------------------------------------------------------------------ */

static struct cluster_seat *seat(const struct stores_client *c)
{
    return c->stores->conf.seat != NULL ? c->stores->conf.seat[c->loop] : NULL;
}

static uint64_t key_hash(struct str tenant, struct str client)
{
    return hash_str(client, hash_str(tenant, HASH_SEED));
}

static struct stores_owner here(const struct stores_client *c, uint64_t cookie)
{
    const struct stores_conf *conf = &c->stores->conf;
    return (struct stores_owner){conf->node, conf->epoch, c->loop, cookie};
}

static bool is_avoided(const struct stores_client *c, const struct uuid *node, uint64_t epoch)
{
    usec_t now = net_loop_now(c->net);
    for (unsigned i = 0; i < STORES_DICT_AVOID_MAX; i++)
        if (c->dict.avoid[i].until > now && c->dict.avoid[i].epoch == epoch &&
            uuid_eq(&c->dict.avoid[i].node, node))
            return true;
    return false;
}

/* This process did not answer: gossip will say in some seconds whether it is dead, clients shall
 * not wait for that. */
static void avoid(struct stores_client *c, const struct uuid *node, uint64_t epoch)
{
    unsigned i = c->dict.avoid_next++ % STORES_DICT_AVOID_MAX;
    c->dict.avoid[i].node = *node;
    c->dict.avoid[i].epoch = epoch;
    c->dict.avoid[i].until = usec_add(net_loop_now(c->net), AVOID_USEC);
    net_timer_set(c->net, &c->dict.settle, c->dict.avoid[i].until);
}

static bool owner_is_live(const struct stores_client *c, const struct stores_owner *o)
{
    const struct stores_conf *conf = &c->stores->conf;
    if (uuid_eq(&o->node, &conf->node))
        return o->epoch == conf->epoch;
    struct cluster_seat *s = seat(c);
    return s != NULL && !is_avoided(c, &o->node, o->epoch) &&
           cluster_is_live(s, &o->node, o->epoch);
}

static bool can_be_home(void *arg, const struct cluster_member *m)
{
    return m->loops > 0 && !is_avoided(arg, &m->uuid, m->epoch);
}

/* The live node that the rules about this tenant and its hash choose; its loop by the key. */
static struct stores_owner home_of(struct stores_client *c, struct str tenant, struct str client)
{
    const struct stores_conf *conf = &c->stores->conf;
    uint64_t hash = key_hash(tenant, client);
    struct cluster_seat *s = seat(c);
    const struct cluster_member *m =
        s != NULL ? cluster_traffic_pick(s, STR("session.dict"), tenant, hash, can_be_home, c)
                  : NULL;
    if (m == NULL)
        return (struct stores_owner){conf->node, conf->epoch, (uint32_t)(hash % conf->loop_count),
                                     0};
    return (struct stores_owner){m->uuid, m->epoch, (uint32_t)(hash % m->loops), 0};
}

/* ---- messages -------------------------------------------------------------------------------- */

struct letter {
    struct net_mail mail;
    struct stores_client *to;
    struct buf bytes;
};

static void arrive(struct net_loop *net, struct net_mail *mail)
{
    struct letter *l = container_of(mail, struct letter, mail);
    (void)net;
    stores_dict_receive(l->to, buf_str(&l->bytes));
    buf_deinit(&l->bytes);
    mem_free(l);
}

/* A CLAIM or QUIT that another node has to confirm at once that it got, a RELEASE that it has to
 * confirm some time. */
struct receipt {
    struct net_mail mail;
    struct list link; /* RELEASE: of dict.unsaid while it waits to be sent again */
    usec_t since;     /* RELEASE: first sent */
    struct stores_client *client;
    enum stores_dict_kind kind;
    struct stores_owner to;
    uint64_t token; /* CLAIM, RELEASE: the claim's cookie; QUIT: the owner's */
    struct str tenant, name;
};

static void receipt_free(struct receipt *r)
{
    mem_free((void *)(uintptr_t)r->tenant.p);
    mem_free((void *)(uintptr_t)r->name.p);
    mem_free(r);
}

static void claim_moves(struct stores_client *c, uint64_t cookie);
static void owner_is_gone(struct stores_client *c, const struct receipt *r);

/* A RELEASE that nobody confirmed. */
static void unsaid(struct stores_client *c, struct receipt *r)
{
    if (c->dict.unsaid_count >= STORES_DICT_UNSAID_MAX) {
        receipt_free(r);
        return;
    }
    c->dict.unsaid_count++;
    list_push_back(&c->dict.unsaid, &r->link);
    if (c->dict.unsaid_count == 1)
        net_timer_set(c->net, &c->dict.again, usec_add(net_loop_now(c->net), UNSAID_USEC));
}

static void received(void *arg, int outcome, struct str reply)
{
    struct receipt *r = arg;
    (void)reply;
    if (outcome != 0 && r->kind == STORES_DICT_RELEASE) {
        unsaid(r->client, r);
        return;
    }
    if (outcome != 0) {
        avoid(r->client, &r->to.node, r->to.epoch);
        if (r->kind == STORES_DICT_CLAIM)
            claim_moves(r->client, r->token);
        else
            owner_is_gone(r->client, r);
    }
    receipt_free(r);
}

static void not_sent(struct net_loop *net, struct net_mail *mail)
{
    (void)net;
    received(container_of(mail, struct receipt, mail), CLUSTER_LINK_E_UNREACHABLE, STR(""));
}

/* since: when it was first sent. */
static void send_since(struct stores_client *c, const struct stores_owner *to,
                       const struct stores_dict_message *m, usec_t since)
{
    struct stores *s = c->stores;
    if (uuid_eq(&to->node, &s->conf.node)) {
        if (to->loop >= s->conf.loop_count)
            return;
        struct letter *l = mem_new(sizeof *l);
        l->to = &s->client[to->loop];
        stores_dict_encode(&l->bytes, m);
        net_loop_post(c->net, l->to->net, &l->mail, arrive);
        return;
    }
    if (seat(c) == NULL)
        return;
    c->command.n = 0;
    stores_dict_encode(&c->command, m);
    struct cluster_call call = {.peer = to->node,
                                .service = CLUSTER_SERVICE_SESSION,
                                .lane = CLUSTER_LANE_CONTROL,
                                .shard = to->loop,
                                .payload = buf_str(&c->command)};
    if (m->kind != STORES_DICT_CLAIM && m->kind != STORES_DICT_QUIT &&
        m->kind != STORES_DICT_RELEASE) {
        /* What cannot be sent is as good as lost: the claim's deadline answers. */
        (void)!cluster_link_cast(cluster_seat_link(seat(c)), &call);
        return;
    }
    struct receipt *r = mem_new(sizeof *r);
    *r = (struct receipt){.client = c,
                          .since = since,
                          .kind = m->kind,
                          .to = *to,
                          .token = m->kind == STORES_DICT_QUIT ? m->token : m->owner.cookie};
    list_init(&r->link);
    r->tenant = str_dup(m->tenant);
    r->name = str_dup(m->client);
    call.timeout = ANSWER_USEC;
    int refused = cluster_link_call(cluster_seat_link(seat(c)), &call, received, r, NULL);
    if (refused != 0)
        net_loop_post(c->net, c->net, &r->mail, not_sent);
}

static void send(struct stores_client *c, const struct stores_owner *to,
                 const struct stores_dict_message *m)
{
    send_since(c, to, m, net_loop_now(c->net));
}

static void tell(struct stores_client *c, const struct stores_owner *to, enum stores_dict_kind kind,
                 const struct entry *e, uint64_t value)
{
    struct stores_dict_message m = {.kind = kind,
                                    .tenant = e->tenant,
                                    .client = e->client,
                                    .owner = e->owner,
                                    .token = to->cookie,
                                    .value = value};
    send(c, to, &m);
}

/* ---- home side ------------------------------------------------------------------------------- */

static bool entry_eq(const void *item, const void *key)
{
    const struct entry *e = item;
    const struct entry_key *k = key;
    return str_eq(e->client, k->client) && str_eq(e->tenant, k->tenant);
}

static struct entry *entry_find(struct stores_client *c, struct str tenant, struct str client)
{
    struct entry_key key = {tenant, client};
    return map_find(&c->dict.entry, key_hash(tenant, client), entry_eq, &key);
}

static void entry_free(struct stores_client *c, struct entry *e)
{
    map_del(&c->dict.entry, e->hash, e);
    for (struct killer *k = e->killer, *next; k != NULL; k = next) {
        next = k->next;
        tell(c, &k->asker, STORES_DICT_FOUND, e, STORES_OK);
        mem_free(k);
    }
    mem_free((void *)(uintptr_t)e->tenant.p);
    mem_free((void *)(uintptr_t)e->client.p);
    mem_free(e);
}

/* The owner is gone: the waiting one follows, or the entry ends. */
static void entry_vacate(struct stores_client *c, struct entry *e)
{
    e->owner = e->waiting;
    e->waiting.cookie = 0;
    if (e->owner.cookie == 0)
        entry_free(c, e);
    else
        tell(c, &e->owner, STORES_DICT_GRANT, e, 0);
}

static bool owner_eq(const struct stores_owner *a, const struct stores_owner *b)
{
    return a->cookie == b->cookie && a->epoch == b->epoch && uuid_eq(&a->node, &b->node);
}

static void owner_is_gone(struct stores_client *c, const struct receipt *r)
{
    struct entry *e = entry_find(c, r->tenant, r->name);
    struct stores_owner owner = r->to;
    owner.cookie = r->token;
    if (e != NULL && owner_eq(&e->owner, &owner))
        entry_vacate(c, e);
}

static void home_claim(struct stores_client *c, const struct stores_dict_message *m)
{
    struct entry *e = entry_find(c, m->tenant, m->client);
    if (e == NULL) {
        e = mem_new(sizeof *e);
        e->tenant = str_dup(m->tenant);
        e->client = str_dup(m->client);
        e->owner = m->owner;
        e->hash = key_hash(m->tenant, m->client);
        map_put(&c->dict.entry, e->hash, e);
    }
    if (owner_eq(&e->owner, &m->owner)) {
        tell(c, &e->owner, STORES_DICT_GRANT, e, 0);
        return;
    }
    if (m->kind ==
        STORES_DICT_HELD) { /* somebody was granted it here meanwhile: the older one goes */
        tell(c, &m->owner, STORES_DICT_QUIT, e, STORES_QUIT_TAKEOVER);
        return;
    }
    if (e->waiting.cookie != 0 && !owner_eq(&e->waiting, &m->owner))
        tell(c, &e->waiting, STORES_DICT_REFUSE, e, STORES_E_CONFLICT);
    e->waiting = m->owner;
    if (owner_is_live(c, &e->owner))
        tell(c, &e->owner, STORES_DICT_QUIT, e, STORES_QUIT_TAKEOVER);
    else
        entry_vacate(c, e);
}

static void home_release(struct stores_client *c, const struct stores_dict_message *m)
{
    struct entry *e = entry_find(c, m->tenant, m->client);
    if (e == NULL)
        return;
    if (owner_eq(&e->waiting, &m->owner))
        e->waiting.cookie = 0;
    else if (owner_eq(&e->owner, &m->owner))
        entry_vacate(c, e);
}

static void home_find(struct stores_client *c, const struct stores_dict_message *m)
{
    struct entry *e = entry_find(c, m->tenant, m->client);
    struct entry nobody = {.tenant = m->tenant, .client = m->client};
    tell(c, &m->owner, STORES_DICT_FOUND, e != NULL ? e : &nobody,
         e != NULL ? STORES_OK : STORES_E_NO_SESSION);
}

static void home_kill(struct stores_client *c, const struct stores_dict_message *m)
{
    struct entry *e = entry_find(c, m->tenant, m->client);
    if (e == NULL) {
        home_find(c, m);
        return;
    }
    struct killer *k = mem_new(sizeof *k);
    k->asker = m->owner;
    k->next = e->killer;
    e->killer = k;
    tell(c, &e->owner, STORES_DICT_QUIT, e, STORES_QUIT_KILL);
}

/* ---- claim side ------------------------------------------------------------------------------ */

static bool claim_eq(const void *item, const void *key)
{
    return ((const struct claim *)item)->cookie == *(const uint64_t *)key;
}

static struct claim *claim_find(struct stores_client *c, uint64_t cookie)
{
    return map_find(&c->dict.claim, hash_u64(cookie), claim_eq, &cookie);
}

static void claim_arm(struct stores_client *c)
{
    net_timer_set(c->net, &c->dict.timer, heap_deadline(&c->dict.due));
}

static struct claim *claim_new(struct stores_client *c, struct str tenant, struct str client,
                               uint64_t cookie)
{
    struct claim *x = mem_new(sizeof *x);
    must(cookie != 0 && claim_find(c, cookie) == NULL);
    x->cookie = cookie;
    x->tenant = str_dup(tenant);
    x->client = str_dup(client);
    x->home = home_of(c, tenant, client);
    map_put(&c->dict.claim, hash_u64(cookie), x);
    heap_put(&c->dict.due, &x->due, usec_add(net_loop_now(c->net), c->stores->conf.timeout_usec));
    claim_arm(c);
    return x;
}

static void claim_free(struct stores_client *c, struct claim *x)
{
    map_del(&c->dict.claim, hash_u64(x->cookie), x);
    heap_del(&c->dict.due, &x->due);
    mem_free((void *)(uintptr_t)x->tenant.p);
    mem_free((void *)(uintptr_t)x->client.p);
    mem_free(x);
}

static void claim_send(struct stores_client *c, const struct claim *x, enum stores_dict_kind kind)
{
    struct stores_dict_message m = {
        .kind = kind, .tenant = x->tenant, .client = x->client, .owner = here(c, x->cookie)};
    send(c, &x->home, &m);
}

/* The home did not answer: the next one is asked. */
static void claim_moves(struct stores_client *c, uint64_t cookie)
{
    struct claim *x = claim_find(c, cookie);
    if (x == NULL || x->state != CLAIM_ST_PENDING)
        return;
    struct stores_owner former = x->home;
    x->home = home_of(c, x->tenant, x->client);
    if (!uuid_eq(&former.node, &x->home.node) || former.epoch != x->home.epoch) {
        struct stores_dict_message m = {.kind = STORES_DICT_RELEASE,
                                        .tenant = x->tenant,
                                        .client = x->client,
                                        .owner = here(c, x->cookie)};
        send(c, &former, &m); /* the claim may yet arrive there */
    }
    claim_send(c, x, STORES_DICT_CLAIM);
}

/* Ends a question or a pending claim with an answer; the claim is gone unless it is held from now
 * on. */
static void claim_answer(struct stores_client *c, struct claim *x, enum stores_outcome outcome,
                         const struct stores_owner *owner)
{
    struct claim was = *x;
    if (outcome == STORES_OK && x->state == CLAIM_ST_PENDING) {
        x->state = CLAIM_ST_HELD;
        heap_del(&c->dict.due, &x->due);
    } else {
        claim_free(c, x);
    }
    claim_arm(c);
    if (was.found != NULL)
        was.found(was.arg, outcome, outcome == STORES_OK ? owner : NULL);
    else
        was.done(was.arg, outcome);
}

/* Not when it is registered there again meanwhile, nor to a process that has ended. */
static bool is_to_be_said(struct stores_client *c, const struct receipt *r, usec_t now)
{
    const struct claim *x = claim_find(c, r->token);
    const struct cluster_member *m =
        seat(c) != NULL ? cluster_member_find(seat(c), &r->to.node) : NULL;
    return m != NULL && m->epoch == r->to.epoch && now < usec_add(r->since, UNSAID_AGE) &&
           (x == NULL || !uuid_eq(&x->home.node, &r->to.node) || x->home.epoch != r->to.epoch);
}

static void say_again(void *arg, usec_t now)
{
    struct stores_client *c = arg;
    struct list all;
    list_init(&all);
    for (struct list *x; (x = list_pop_front(&c->dict.unsaid)) != NULL;)
        list_push_back(&all, x);
    c->dict.unsaid_count = 0;
    for (struct list *x; (x = list_pop_front(&all)) != NULL;) {
        struct receipt *r = container_of(x, struct receipt, link);
        struct stores_dict_message m = {.kind = STORES_DICT_RELEASE,
                                        .tenant = r->tenant,
                                        .client = r->name,
                                        .owner = here(c, r->token)};
        if (is_to_be_said(c, r, now))
            send_since(c, &r->to, &m, r->since);
        receipt_free(r);
    }
}

static void timer_fn(void *arg, usec_t now)
{
    struct stores_client *c = arg;
    for (struct heap_node *n; (n = heap_top(&c->dict.due)) != NULL && n->at <= now;) {
        struct claim *x = container_of(n, struct claim, due);
        if (x->state == CLAIM_ST_PENDING)
            claim_send(c, x, STORES_DICT_RELEASE);
        claim_answer(c, x, STORES_E_UNAVAILABLE, NULL);
    }
    claim_arm(c);
}

static void claim_granted(struct stores_client *c, const struct stores_dict_message *m)
{
    struct claim *x = claim_find(c, m->token);
    if (x != NULL && x->state == CLAIM_ST_PENDING) {
        claim_answer(c, x, STORES_OK, NULL);
    } else if (x == NULL) { /* given up meanwhile */
        struct claim gone = {.cookie = m->token, .tenant = m->tenant, .client = m->client};
        gone.home = home_of(c, m->tenant, m->client);
        claim_send(c, &gone, STORES_DICT_RELEASE);
    }
}

static void claim_quit(struct stores_client *c, const struct stores_dict_message *m)
{
    const struct claim *x = claim_find(c, m->token);
    const struct stores_host *h = &c->stores->conf.host;
    if (x != NULL && x->state == CLAIM_ST_HELD) {
        h->quit(h->arg, c->loop, m->token, (enum stores_quit_why)m->value);
    } else if (x == NULL) { /* it has released and the message crossed, or never knew */
        struct claim gone = {.cookie = m->token, .tenant = m->tenant, .client = m->client};
        gone.home = home_of(c, m->tenant, m->client);
        claim_send(c, &gone, STORES_DICT_RELEASE);
    }
}

void stores_dict_receive(struct stores_client *c, struct str message)
{
    struct stores_dict_message m;
    if (!stores_dict_decode(message, &m))
        return;
    struct claim *x;
    switch (m.kind) {
    case STORES_DICT_CLAIM:
    case STORES_DICT_HELD:
        home_claim(c, &m);
        break;
    case STORES_DICT_RELEASE:
        home_release(c, &m);
        break;
    case STORES_DICT_FIND:
        home_find(c, &m);
        break;
    case STORES_DICT_KILL:
        home_kill(c, &m);
        break;
    case STORES_DICT_GRANT:
        claim_granted(c, &m);
        break;
    case STORES_DICT_QUIT:
        claim_quit(c, &m);
        break;
    case STORES_DICT_REFUSE:
    case STORES_DICT_FOUND:
        x = claim_find(c, m.token);
        if (x != NULL &&
            x->state == (m.kind == STORES_DICT_REFUSE ? CLAIM_ST_PENDING : CLAIM_ST_ASKING))
            claim_answer(c, x, (enum stores_outcome)m.value, &m.owner);
        break;
    default:
        break;
    }
}

void stores_dict_members_changed(struct stores_client *c)
{
    size_t at = 0;
    for (struct claim *x; (x = map_next(&c->dict.claim, &at)) != NULL;) {
        struct stores_owner home = home_of(c, x->tenant, x->client);
        if (x->state == CLAIM_ST_ASKING ||
            (uuid_eq(&home.node, &x->home.node) && home.epoch == x->home.epoch &&
             home.loop == x->home.loop))
            continue;
        claim_send(c, x, STORES_DICT_RELEASE); /* to the old home, which may still live */
        x->home = home;
        claim_send(c, x, x->state == CLAIM_ST_HELD ? STORES_DICT_HELD : STORES_DICT_CLAIM);
    }
    for (bool again = true;
         again;) { /* entries change while they are vacated: look again until none is dead */
        again = false;
        at = 0;
        for (struct entry *e; !again && (e = map_next(&c->dict.entry, &at)) != NULL;) {
            if (owner_is_live(c, &e->owner))
                continue;
            entry_vacate(c, e);
            again = true;
        }
    }
}

/* ---- the door -------------------------------------------------------------------------------- */

void stores_dict_claim(struct stores_client *c, struct str tenant, struct str client,
                       uint64_t cookie, stores_done *done, void *arg)
{
    struct claim *x = claim_new(c, tenant, client, cookie);
    x->done = done;
    x->arg = arg;
    claim_send(c, x, STORES_DICT_CLAIM);
}

void stores_dict_release(struct stores_client *c, struct str tenant, struct str client,
                         uint64_t cookie)
{
    struct claim *x = claim_find(c, cookie);
    must(x != NULL && str_eq(x->tenant, tenant) && str_eq(x->client, client));
    claim_send(c, x, STORES_DICT_RELEASE);
    claim_free(c, x);
    claim_arm(c);
}

/* Questions share the claims' table: a cookie of its own kind, the top bit set. */
static struct claim *question(struct stores_client *c, struct str tenant, struct str client,
                              enum stores_dict_kind kind)
{
    uint64_t token;
    do
        token = rng_u64(net_loop_rng(c->net)) | (uint64_t)1 << 63;
    while (claim_find(c, token) != NULL);
    struct claim *x = claim_new(c, tenant, client, token);
    x->state = CLAIM_ST_ASKING;
    claim_send(c, x, kind);
    return x;
}

void stores_dict_kill(struct stores_client *c, struct str tenant, struct str client,
                      stores_done *done, void *arg)
{
    struct claim *x = question(c, tenant, client, STORES_DICT_KILL);
    x->done = done;
    x->arg = arg;
}

void stores_dict_find(struct stores_client *c, struct str tenant, struct str client,
                      stores_dict_found *cb, void *arg)
{
    struct claim *x = question(c, tenant, client, STORES_DICT_FIND);
    x->found = cb;
    x->arg = arg;
}

/* Nobody is avoided any more: claims go to the homes that everybody would choose. */
static void settle(void *arg, usec_t now)
{
    struct stores_client *c = arg;
    (void)now;
    stores_dict_members_changed(c);
}

void stores_dict_init(struct stores_client *c)
{
    net_timer_init(&c->dict.settle, settle, c);
    net_timer_init(&c->dict.timer, timer_fn, c);
    net_timer_init(&c->dict.again, say_again, c);
    list_init(&c->dict.unsaid);
}

void stores_dict_stop(struct stores_client *c)
{
    size_t at = 0;
    for (struct claim *x; (x = map_next(&c->dict.claim, &at)) != NULL; at = 0)
        claim_free(c, x);
}

void stores_dict_deinit(struct stores_client *c)
{
    net_timer_del(c->net, &c->dict.timer);
    net_timer_del(c->net, &c->dict.settle);
    net_timer_del(c->net, &c->dict.again);
    stores_dict_stop(c);
    for (struct list *x; (x = list_pop_front(&c->dict.unsaid)) != NULL;)
        receipt_free(container_of(x, struct receipt, link));
    size_t at = 0;
    for (struct entry *e; (e = map_next(&c->dict.entry, &at)) != NULL; at = 0) {
        e->killer = NULL;
        entry_free(c, e);
    }
    map_deinit(&c->dict.entry);
    map_deinit(&c->dict.claim);
    heap_deinit(&c->dict.due);
}
