/* Calls and casts: ids, deadlines, handlers.  SPDX-License-Identifier: Apache-2.0
 *
 * Each loop has its own connections to each loop of a peer it talks to, because that needs no
 * hand-over between threads on either side, no lock and no queue in between: a frame is appended to
 * the connection's output and leaves with all others of the turn in one write; on the other side it
 * is read on the loop where its handler lives.  The price is more sockets: at most loops x loops x
 * 2 per pair of nodes, and only those that are used are opened.
 *
 * Invariants:
 *   L1  a call is in l->calls and in l->deadlines from its acceptance to its callback.
 *   L2  a call's callback is never called from inside cluster_link_call.
 *   L3  calls of a connection are in its list and counted.
 * Never: carries a request out twice, retries, or waits without a deadline. */
#include "cluster/link_priv.h"

#include "base/hash.h"
#include "base/mem.h"

static bool call_eq(const void *item, const void *key)
{
    return ((const struct link_call *)item)->id == *(const uint64_t *)key;
}

static void arm_deadlines(struct cluster_link *l)
{
    usec_t at = heap_deadline(&l->deadlines);
    if (at == USEC_NEVER)
        net_timer_del(l->conf.loop, &l->deadline_timer);
    else if (!net_timer_is_set(&l->deadline_timer) || l->deadline_timer.node.at > at)
        net_timer_set(l->conf.loop, &l->deadline_timer, at);
}

static void call_unlink(struct cluster_link *l, struct link_call *k)
{
    must(map_del(&l->calls, hash_u64(k->id), k));
    heap_del(&l->deadlines, &k->deadline);
    if (k->conn != NULL)
        k->conn->call_count--;
    list_del(&k->link);
}

void cluster_call_end(struct cluster_link *l, struct link_call *k, int outcome, struct str reply)
{
    cluster_link_reply_cb *cb = k->cb;
    void *arg = k->arg;
    call_unlink(l, k);
    mem_free(k);
    l->stats.timeouts += outcome == CLUSTER_LINK_E_TIMEOUT;
    l->stats.broken += outcome == CLUSTER_LINK_E_UNREACHABLE;
    l->stats.replies += outcome == 0;
    cb(arg, outcome, reply);
}

static void on_deadline(void *arg, usec_t now)
{
    struct cluster_link *l = arg;
    while (heap_deadline(&l->deadlines) <= now)
        cluster_call_end(l, container_of(heap_top(&l->deadlines), struct link_call, deadline),
                         CLUSTER_LINK_E_TIMEOUT, STR(""));
    arm_deadlines(l);
}

static void echo(void *arg, struct cluster_request *rq, const struct cluster_from *from,
                 struct str payload)
{
    (void)arg;
    (void)from;
    if (rq != NULL)
        cluster_request_reply(rq, payload);
}

struct cluster_link *cluster_link_new(const struct link_conf *c)
{
    struct cluster_link *l = mem_new(sizeof *l);
    l->conf = *c;
    l->tls = c->tls != NULL ? net_tls_ref(c->tls) : NULL;
    l->limits = (struct net_stream_limits){
        .out_high_bytes = LINK_QUEUE_BYTES_MAX,
        .out_low_bytes = LINK_QUEUE_BYTES_MAX / 4,
        .keep_bytes_max = CLUSTER_PAYLOAD_MAX + (64 << 10),
    };
    list_init(&l->accepted);
    list_init(&l->failed);
    net_timer_init(&l->deadline_timer, on_deadline, l);
    l->ids = c->epoch << 20;
    cluster_local_init(l);
    cluster_link_serve(l, CLUSTER_SERVICE_ECHO, echo, l);
    return l;
}

void cluster_link_siblings(struct cluster_link *l, struct cluster_link **all)
{
    l->sibling = all;
}

void cluster_link_stop(struct cluster_link *l)
{
    l->is_closing = true;
    memset(l->service, 0, sizeof l->service);
    while (l->conns.count > 0) {
        size_t at = 0;
        cluster_conn_free(map_next(&l->conns, &at));
    }
    list_each(&l->accepted, it) cluster_conn_free(container_of(it, struct link_conn, link));
    while (l->calls.count > 0) {
        size_t at = 0;
        cluster_call_end(l, map_next(&l->calls, &at), CLUSTER_LINK_E_UNREACHABLE, STR(""));
    }
}

struct cluster_link *cluster_link_free(struct cluster_link *l)
{
    if (l == NULL)
        return NULL;
    cluster_link_stop(l);
    cluster_local_deinit(l);
    net_timer_del(l->conf.loop, &l->deadline_timer);
    map_deinit(&l->conns);
    map_deinit(&l->calls);
    heap_deinit(&l->deadlines);
    net_tls_unref(l->tls);
    return mem_free(l);
}

/* --- sending --- */

static uint32_t loop_of(uint32_t shard, uint32_t loops, uint32_t own)
{
    return loops == 0 ? 0 : (shard == CLUSTER_SHARD_ANY ? own : shard) % loops;
}

/* 0 and the connection to use (NULL: it has just failed), or an outcome. */
static int pick(struct cluster_link *l, const struct cluster_call *c, struct link_conn **out)
{
    struct link_peer p;
    if (!l->conf.find(l->conf.arg, &c->peer, &p))
        return CLUSTER_LINK_E_UNKNOWN;
    uint32_t loop = loop_of(c->shard, p.loops, l->conf.index);
    *out = cluster_conn_find(l, &c->peer, c->lane, loop);
    if (*out == NULL || (*out)->state == LINK_ST_DOWN)
        *out = cluster_conn_dial(l, &c->peer, &p, c->lane, loop);
    if (*out != NULL && cluster_conn_is_full(*out, c->payload.n)) {
        l->stats.rejected++;
        return CLUSTER_LINK_E_OVERLOADED;
    }
    return 0;
}

static struct link_call *call_new(struct cluster_link *l, const struct cluster_call *c,
                                  cluster_link_reply_cb *cb, void *arg)
{
    struct link_call *k = mem_new(sizeof *k);
    usec_t timeout = usec_min(c->timeout, LINK_TIMEOUT_MAX);
    k->id = ++l->ids;
    k->cb = cb;
    k->arg = arg;
    list_init(&k->link);
    map_put(&l->calls, hash_u64(k->id), k);
    heap_put(&l->deadlines, &k->deadline, net_loop_now(l->conf.loop) + timeout);
    arm_deadlines(l);
    l->stats.calls++;
    return k;
}

static void check_call(const struct cluster_call *c)
{
    must(c->payload.n <= CLUSTER_PAYLOAD_MAX);
    must(c->service > 0 && c->service < CLUSTER_SERVICE_MAX);
    must(c->lane < CLUSTER_LANE_COUNT);
}

static struct link_head head_of(const struct cluster_call *c, uint8_t type, uint64_t id)
{
    return (struct link_head){
        .type = type,
        .service = c->service,
        .id = id,
        .shard = c->shard,
        .timeout_ms = (uint32_t)(usec_min(c->timeout, LINK_TIMEOUT_MAX) / USEC_MSEC),
    };
}

int cluster_link_call(struct cluster_link *l, const struct cluster_call *c,
                      cluster_link_reply_cb *cb, void *arg, uint64_t *out_id)
{
    struct link_conn *conn = NULL;
    check_call(c);
    must(c->timeout > 0);
    if (l->is_closing)
        return CLUSTER_LINK_E_UNKNOWN;
    if (l->calls.count >= LINK_OPEN_CALLS_MAX) {
        l->stats.rejected++;
        return CLUSTER_LINK_E_OVERLOADED;
    }
    bool is_local = uuid_eq(&c->peer, &l->conf.self);
    int r = is_local ? 0 : pick(l, c, &conn);
    if (r != 0)
        return r;
    if (conn != NULL && conn->call_count >= LINK_CALLS_MAX) {
        l->stats.rejected++;
        return CLUSTER_LINK_E_OVERLOADED;
    }
    struct link_call *k = call_new(l, c, cb, arg);
    if (out_id != NULL)
        *out_id = k->id;
    if (is_local) {
        r = cluster_local_send(l, c, k);
        if (r != 0) {
            call_unlink(l, k);
            mem_free(k);
        }
        return r;
    }
    if (conn == NULL) {
        cluster_call_fail_later(l, k);
        return 0;
    }
    k->conn = conn;
    conn->call_count++;
    list_push_back(&conn->calls, &k->link);
    struct link_head h = head_of(c, LINK_FRAME_CALL, k->id);
    cluster_conn_put(conn, &h, c->payload);
    return 0;
}

void cluster_link_cancel(struct cluster_link *l, uint64_t id)
{
    struct link_call *k = map_find(&l->calls, hash_u64(id), call_eq, &id);
    if (k == NULL)
        return;
    call_unlink(l, k);
    mem_free(k);
}

int cluster_link_cast(struct cluster_link *l, const struct cluster_call *c)
{
    struct link_conn *conn = NULL;
    check_call(c);
    l->stats.casts++;
    if (l->is_closing)
        return CLUSTER_LINK_E_UNKNOWN;
    if (uuid_eq(&c->peer, &l->conf.self))
        return cluster_local_send(l, c, NULL);
    int r = pick(l, c, &conn);
    if (r != 0 || conn == NULL)
        return r;
    struct link_head h = head_of(c, LINK_FRAME_CAST, 0);
    cluster_conn_put(conn, &h, c->payload);
    return 0;
}

/* --- serving --- */

void cluster_link_serve(struct cluster_link *l, uint16_t service, cluster_link_handler *handler,
                        void *arg)
{
    must(service > 0 && service < CLUSTER_SERVICE_MAX);
    l->service[service].handler = handler;
    l->service[service].arg = arg;
}

void cluster_link_serve_stream(struct cluster_link *l, uint16_t service,
                               cluster_link_accept *accept, void *arg)
{
    must(service > 0 && service < CLUSTER_SERVICE_MAX);
    l->service[service].accept = accept;
    l->service[service].accept_arg = arg;
}

static struct cluster_from from_of(const struct link_conn *c, const struct link_head *h)
{
    usec_t now = net_loop_now(c->l->conf.loop);
    return (struct cluster_from){
        .peer = c->peer,
        .epoch = c->epoch,
        .lane = c->lane,
        .shard = h->shard,
        .deadline = h->type == LINK_FRAME_CAST ? USEC_NEVER : now + h->timeout_ms * USEC_MSEC,
    };
}

static void refuse(struct link_conn *c, uint64_t id)
{
    struct link_head h = {.type = LINK_FRAME_REFUSE, .id = id};
    cluster_conn_put(c, &h, STR(""));
}

static void on_call(struct link_conn *c, const struct link_head *h, struct str payload)
{
    const struct link_service *sv =
        h->service < CLUSTER_SERVICE_MAX ? &c->l->service[h->service] : NULL;
    if (sv == NULL || sv->handler == NULL || c->request_count >= LINK_REQUESTS_MAX) {
        if (h->type == LINK_FRAME_CALL)
            refuse(c, h->id);
        return;
    }
    struct cluster_from from = from_of(c, h);
    struct cluster_request *rq = NULL;
    if (h->type == LINK_FRAME_CALL) {
        rq = mem_new(sizeof *rq);
        rq->conn = c;
        rq->l = c->l;
        rq->id = h->id;
        list_push_back(&c->requests, &rq->link);
        c->request_count++;
    }
    sv->handler(sv->arg, rq, &from, payload);
}

static void request_end(struct cluster_request *rq, uint8_t type, struct str payload)
{
    struct link_conn *c = rq->conn;
    must(payload.n <= CLUSTER_PAYLOAD_MAX);
    if (rq->from != NULL) {
        cluster_local_reply(rq, type == LINK_FRAME_REPLY ? 0 : CLUSTER_LINK_E_NO_SERVICE, payload);
        return;
    }
    if (c != NULL) {
        struct link_head h = {.type = type, .id = rq->id};
        list_del(&rq->link);
        c->request_count--;
        cluster_conn_put(c, &h, payload);
    }
    mem_free(rq);
}

void cluster_request_reply(struct cluster_request *rq, struct str payload)
{
    request_end(rq, LINK_FRAME_REPLY, payload);
}

void cluster_request_refuse(struct cluster_request *rq)
{
    request_end(rq, LINK_FRAME_REFUSE, STR(""));
}

void cluster_requests_forget(struct link_conn *c)
{
    list_each(&c->requests, it)
    {
        struct cluster_request *rq = container_of(it, struct cluster_request, link);
        list_del(it);
        rq->conn = NULL; /* its reply vanishes */
    }
    c->request_count = 0;
}

static void on_reply(struct link_conn *c, const struct link_head *h, struct str payload)
{
    struct link_call *k = map_find(&c->l->calls, hash_u64(h->id), call_eq, &h->id);
    if (k == NULL || k->conn != c)
        return; /* too late, or cancelled */
    bool ok = h->type == LINK_FRAME_REPLY;
    cluster_call_end(c->l, k, ok ? 0 : CLUSTER_LINK_E_NO_SERVICE, ok ? payload : STR(""));
}

void cluster_link_on_frame(struct link_conn *c, const struct link_head *h, struct str payload)
{
    switch ((enum link_frame)h->type) {
    case LINK_FRAME_CALL:
    case LINK_FRAME_CAST:
        if (!c->is_dialer)
            on_call(c, h, payload);
        break;
    case LINK_FRAME_REPLY:
    case LINK_FRAME_REFUSE:
        on_reply(c, h, payload);
        break;
    case LINK_FRAME_PING: {
        struct link_head pong = {.type = LINK_FRAME_PONG, .id = h->id};
        cluster_conn_put(c, &pong, STR(""));
        break;
    }
    case LINK_FRAME_OPEN:
    case LINK_FRAME_ACCEPT:
    case LINK_FRAME_DATA:
    case LINK_FRAME_CREDIT:
    case LINK_FRAME_END:
    case LINK_FRAME_FINISH:
    case LINK_FRAME_ABORT:
        cluster_stream_on_frame(c, h, payload);
        break;
    case LINK_FRAME_PONG:
    case LINK_FRAME_HELLO:
    case LINK_FRAME_WELCOME:
    case LINK_FRAME_BYE:
        break;
    }
}

uint32_t cluster_link_loop(const struct cluster_link *l)
{
    return l->conf.index;
}

uint32_t cluster_link_loop_count(const struct cluster_link *l)
{
    return l->conf.count;
}

void cluster_link_stats_get(const struct cluster_link *l, struct cluster_link_stats *out)
{
    *out = l->stats;
}
