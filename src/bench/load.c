/* Scenarios.  SPDX-License-Identifier: Apache-2.0
 *
 *   CONNECT --all ready--> RUN --count or seconds--> DRAIN --all arrived, or its time is up--> DONE
 *
 * Scenarios with two parts (subscribe, retain, offline) go through CONNECT and RUN once more;
 * `round` says which part. */
#include "bench/load.h"

#include <stdio.h>

#include "base/mem.h"
#include "bench/cpu.h"
#include "bench/failover.h"
#include "bench/payload.h"
#include "net/clock.h"

#define CONNECT_USEC_MAX                                                                           \
    (60 * USEC_SEC)               /* a part whose clients are not ready by then has failed         \
                                   */
#define TICK_USEC (1 * USEC_MSEC) /* matters for --rate: how fine the load is spread */
#define LATE_USEC                                                                                  \
    (1 *                                                                                           \
     USEC_SEC) /* matters where messages get lost: what did not come within it no              \
                      longer holds a closed loop back (it still counts when it comes)              \
                    */

/* ---- who talks to whom ----------------------------------------------------------------------- */

static void topic_put(const struct bench_load *l, uint64_t i, struct buf *out)
{
    buf_printf(out, "%s/%llu", l->conf->prefix, (unsigned long long)i);
}

static void filter_of(const struct bench_client *c, uint32_t i, struct buf *out)
{
    const struct bench_load *l = c->arg;
    switch (l->conf->scenario) {
    case BENCH_FANIN:
        buf_printf(out, "%s/+", l->conf->prefix);
        break;
    case BENCH_FANOUT:
        topic_put(l, 0, out);
        break;
    case BENCH_SHARED:
        buf_printf(out, "$share/bench/%s/+", l->conf->prefix);
        break;
    case BENCH_SUBSCRIBE:
        buf_printf(out, "%s/%u/%u", l->conf->prefix, c->index, i);
        break;
    case BENCH_RETAIN:
        buf_printf(out, "%s/retain/#", l->conf->prefix);
        break;
    case BENCH_PAIRS:
    case BENCH_FAILOVER:
    case BENCH_OFFLINE:
    case BENCH_CONN:
    case BENCH_SCENARIO_COUNT:
        topic_put(l, c->index, out);
        break;
    }
}

/* Subscribers that publisher p writes to in turn (offline). */
static uint64_t share_of(const struct bench_load *l, uint32_t p)
{
    const struct bench_conf *c = l->conf;
    return (c->subscribers - p + c->publishers - 1) / c->publishers;
}

/* How many messages of publisher p were sent so far for what track t counts. */
static uint64_t track_expects(const struct bench_load *l, size_t t)
{
    const struct bench_conf *c = l->conf;
    if (c->scenario == BENCH_FANOUT)
        return l->publisher[0].seq;
    if (c->scenario != BENCH_OFFLINE)
        return l->publisher[t].seq;
    uint32_t p = (uint32_t)t % c->publishers;
    uint64_t place = t / c->publishers, n = l->publisher[p].seq, share = share_of(l, p);
    return n / share + (place < n % share);
}

static size_t track_of(const struct bench_load *l, const struct bench_client *sub,
                       uint32_t publisher)
{
    enum bench_scenario s = l->conf->scenario;
    return s == BENCH_FANIN || s == BENCH_SHARED || s == BENCH_RETAIN ? publisher : sub->index;
}

static uint64_t fanout_of(const struct bench_load *l)
{
    return l->conf->scenario == BENCH_FANOUT ? l->conf->subscribers : 1;
}

static bool has_receivers(const struct bench_load *l)
{
    return l->conf->scenario <= BENCH_SHARED || l->conf->scenario == BENCH_FAILOVER;
}

/* Offline and retain: what was published is read after it. */
static bool is_reading(const struct bench_load *l)
{
    return (l->conf->scenario == BENCH_OFFLINE && l->round == 2) ||
           (l->conf->scenario == BENCH_RETAIN && l->round == 1);
}

/* ---- publishing ------------------------------------------------------------------------------ */

static bool may_publish(const struct bench_load *l, const struct bench_client *p)
{
    const struct bench_conf *c = l->conf;
    if (l->phase != BENCH_PHASE_RUN || !bench_client_is_writable(p))
        return false;
    uint64_t most = c->scenario == BENCH_RETAIN ? c->filters : c->count;
    if (most != 0 && p->seq >= most)
        return false;
    uint64_t flying_max = c->window < p->receive_max ? c->window : p->receive_max;
    if (c->qos > 0 && bench_client_flying(p) >= flying_max) /* [MQTT-3.3.4-7] */
        return false;
    return c->rate != 0 || !has_receivers(l) || p->seq < p->delivered / fanout_of(l) + c->window;
}

void bench_load_send(struct bench_load *l, struct bench_client *p, uint64_t seq, bool is_dup)
{
    struct bench_payload head = {net_loop_now(l->loop), l->run, p->index, seq};
    char topic[256];
    uint64_t target = p->index;
    if (l->conf->scenario == BENCH_RETAIN) {
        target = seq;
    } else if (l->conf->scenario == BENCH_OFFLINE) {
        uint64_t share = share_of(l, p->index);
        target = p->index + seq % share * l->conf->publishers;
        head.seq = seq / share;
    }
    const char *form = l->conf->scenario == BENCH_RETAIN ? "%s/retain/%llu" : "%s/%llu";
    snprintf(topic, sizeof topic, form, l->conf->prefix, (unsigned long long)target);
    bench_payload_put(l->payload, &head);
    struct bench_message m = {.seq = seq,
                              .topic = str_of(topic),
                              .payload = str_view(l->payload, l->conf->size),
                              .qos = l->conf->qos,
                              .is_retain = l->conf->scenario == BENCH_RETAIN,
                              .is_dup = is_dup};
    bench_client_publish(p, &m);
}

static void publish(struct bench_load *l, struct bench_client *p)
{
    uint64_t seq = p->seq++;
    bench_load_send(l, p, seq, false);
    l->result.published++;
}

static void go_on(struct bench_load *l, struct bench_client *p)
{
    if (l->conf->rate != 0 || l->phase != BENCH_PHASE_RUN || !list_empty(&p->dirty))
        return;
    list_push_back(&l->dirty, &p->dirty);
    net_loop_defer(l->loop, &l->pump);
}

static void pump(void *arg)
{
    struct bench_load *l = arg;
    for (struct list *x; (x = list_pop_front(&l->dirty)) != NULL;) {
        struct bench_client *p = container_of(x, struct bench_client, dirty);
        while (may_publish(l, p))
            publish(l, p);
    }
}

static void publish_at_rate(struct bench_load *l, usec_t now)
{
    uint64_t due = usec_until(l->run_began, now) * l->conf->rate /
                   USEC_SEC; /* the turn may have begun before */
    for (; l->rate_given < due; l->rate_given++) {
        struct bench_client *p = &l->publisher[l->rate_next];
        l->rate_next = (l->rate_next + 1) % l->conf->publishers;
        if (may_publish(l, p))
            publish(l, p);
    }
}

/* ---- phases ---------------------------------------------------------------------------------- */

static uint32_t client_count(const struct bench_load *l)
{
    if (l->conf->scenario == BENCH_OFFLINE || l->conf->scenario == BENCH_RETAIN)
        return l->round == 0 && l->conf->scenario == BENCH_OFFLINE ? l->conf->subscribers
               : l->conf->scenario == BENCH_RETAIN                 ? 1
               : l->round == 1                                     ? l->conf->publishers
                                                                   : l->conf->subscribers;
    return l->conf->subscribers + l->conf->publishers;
}

/* The i-th client of this round, in the order they connect: subscribers first. */
static struct bench_client *client_at(struct bench_load *l, uint32_t i)
{
    if (l->conf->scenario == BENCH_OFFLINE)
        return l->round == 1 ? &l->publisher[i] : &l->subscriber[i];
    if (l->conf->scenario == BENCH_RETAIN)
        return l->round == 0 ? &l->publisher[0] : &l->subscriber[0];
    return i < l->conf->subscribers ? &l->subscriber[i] : &l->publisher[i - l->conf->subscribers];
}

static void connect_more(struct bench_load *l)
{
    while (l->connect_next < client_count(l) &&
           l->connect_next - l->ready_count < l->conf->connect_window)
        bench_client_connect(client_at(l, l->connect_next++));
}

static void round_begin(struct bench_load *l, uint32_t round)
{
    l->round = round;
    l->phase = BENCH_PHASE_CONNECT;
    l->connect_next = l->ready_count = 0;
    l->round_began = net_clock_now();
    connect_more(l);
}

static void finish(struct bench_load *l)
{
    struct bench_result *r = &l->result;
    if (l->phase == BENCH_PHASE_DONE)
        return;
    l->phase = BENCH_PHASE_DONE;
    for (size_t t = 0; t < l->track_count; t++) {
        uint64_t want = track_expects(l, t);
        uint64_t have = l->track[t].unique + l->track[t].excused;
        r->lost += want > have ? want - have : 0;
        r->duplicate += l->track[t].duplicate;
        if (l->conf->scenario != BENCH_RETAIN) /* topics have no order */
            r->reordered += l->track[t].reordered;
    }
    r->cpu_usec = bench_cpu_of(l->conf->pid, l->conf->pid_count) - l->cpu_at;
    r->cpu_self_usec = net_clock_cpu() - l->cpu_self_at;
    for (uint32_t i = 0; i < l->conf->publishers; i++) {
        r->acked += l->publisher[i].acked;
        r->refused += l->publisher[i].refused;
    }
    net_loop_stop(l->loop);
}

static void fail(struct bench_load *l, const char *why)
{
    if (l->result.error == NULL)
        l->result.error = why;
    finish(l);
}

static bool all_arrived(const struct bench_load *l)
{
    for (uint32_t i = 0; i < l->conf->publishers; i++)
        if (l->conf->qos > 0 && bench_client_flying(&l->publisher[i]) > 0)
            return false;
    uint64_t want = 0, have = 0;
    for (size_t t = 0; t < l->track_count; t++) {
        want += track_expects(l, t);
        have += l->track[t].unique + l->track[t].excused;
    }
    return have >= want || !(has_receivers(l) || is_reading(l));
}

static void drain(struct bench_load *l, usec_t now)
{
    l->phase = BENCH_PHASE_DRAIN;
    l->result.run_usec = usec_until(l->run_began, now); /* the turn may have begun before */
    l->result.received_in_run = l->result.received;
    l->phase_ends = now + l->conf->drain_sec * USEC_SEC;
}

static bool all_published(const struct bench_load *l)
{
    uint64_t most = l->conf->scenario == BENCH_RETAIN ? l->conf->filters : l->conf->count;
    for (uint32_t i = 0; most != 0 && i < l->conf->publishers; i++)
        if (l->publisher[i].seq < most ||
            (l->conf->qos > 0 && bench_client_flying(&l->publisher[i]) > 0))
            return false;
    return most != 0;
}

/* The first part of an offline or retain run is over: on to the reading part. */
static void second_part(struct bench_load *l, usec_t now)
{
    l->result.run_usec = usec_until(l->run_began, now);
    for (uint32_t i = 0; i < l->conf->publishers; i++)
        bench_client_leave(&l->publisher[i]);
    round_begin(l, l->round + 1);
    if (l->conf->scenario == BENCH_OFFLINE || l->conf->scenario == BENCH_RETAIN)
        l->phase_ends = now + l->conf->drain_sec * USEC_SEC;
}

static void run_begin(struct bench_load *l)
{
    usec_t now = net_clock_now();
    l->phase = BENCH_PHASE_RUN;
    if (l->result.connect_usec == 0)
        l->result.connect_usec = now - l->started;
    l->run_began = l->moved_at = now;
    l->run_ends = l->conf->count != 0 || l->conf->scenario == BENCH_RETAIN
                      ? USEC_NEVER
                      : now + l->conf->seconds * USEC_SEC;
    l->cpu_at = bench_cpu_of(l->conf->pid, l->conf->pid_count);
    l->cpu_self_at = net_clock_cpu();
    for (uint32_t i = 0; i < l->conf->publishers; i++)
        go_on(l, &l->publisher[i]);
}

/* Every client of this round is ready. */
static void all_ready(struct bench_load *l)
{
    usec_t now = net_clock_now();
    switch (l->conf->scenario) {
    case BENCH_CONN:
        run_begin(l);
        l->run_ends = now + l->conf->hold_sec * USEC_SEC;
        break;
    case BENCH_SUBSCRIBE:
        if (l->round == 0) {
            run_begin(l);
            l->round = 1;
            l->phase = BENCH_PHASE_CONNECT;
            l->ready_count = 0;
            for (uint32_t i = 0; i < l->conf->subscribers; i++)
                bench_client_subscribe(&l->subscriber[i]);
        } else {
            l->result.run_usec = now - l->run_began;
            l->result.published = l->result.received =
                (uint64_t)l->conf->subscribers * l->conf->filters;
            finish(l);
        }
        break;
    case BENCH_OFFLINE:
        if (l->round == 0)
            for (uint32_t i = 0; i < l->conf->subscribers; i++)
                bench_client_leave(&l->subscriber[i]);
        else if (l->round == 1)
            run_begin(l);
        else
            l->phase = BENCH_PHASE_DRAIN;
        break;
    case BENCH_RETAIN:
        if (l->round == 0)
            run_begin(l);
        else
            l->phase = BENCH_PHASE_DRAIN;
        break;
    case BENCH_PAIRS:
    case BENCH_FAILOVER:
    case BENCH_FANIN:
    case BENCH_FANOUT:
    case BENCH_SHARED:
    case BENCH_SCENARIO_COUNT:
        run_begin(l);
        break;
    }
}

/* ---- what clients report --------------------------------------------------------------------- */

static void on_ready(void *arg, struct bench_client *c)
{
    struct bench_load *l = arg;
    if (l->conf->scenario == BENCH_FAILOVER)
        bench_failover_ready(l, c);
    if (l->phase != BENCH_PHASE_CONNECT) { /* back again */
        go_on(l, c);
        return;
    }
    l->ready_count++;
    if (l->ready_count ==
        client_count(l) -
            (l->conf->scenario == BENCH_SUBSCRIBE && l->round == 1 ? l->conf->publishers : 0))
        all_ready(l);
    else
        connect_more(l);
}

/* Reads what m carries; false when this run did not send it to this receiver. */
static bool is_expected(const struct bench_load *l, const struct bench_client *c,
                        const struct codec_mqtt_publish *m, struct bench_payload *out)
{
    const struct bench_conf *conf = l->conf;
    if (m->payload.n < BENCH_PAYLOAD_MIN || l->track_count == 0)
        return false;
    *out = bench_payload_get(m->payload.p);
    if (out->run != l->run || out->publisher >= conf->publishers)
        return false;
    if ((conf->scenario == BENCH_PAIRS || conf->scenario == BENCH_FAILOVER ||
         conf->scenario == BENCH_OFFLINE) &&
        out->publisher != c->index % conf->publishers)
        return false;
    return out->seq < track_expects(l, track_of(l, c, out->publisher));
}

static void on_message(void *arg, struct bench_client *c, const struct codec_mqtt_publish *m)
{
    struct bench_load *l = arg;
    struct bench_result *r = &l->result;
    struct bench_payload p;
    if (!is_expected(l, c, m, &p)) {
        r->stray++;
        return;
    }
    usec_t now = net_loop_now(l->loop);
    l->moved_at = now;
    struct bench_track *t = &l->track[track_of(l, c, p.publisher)];
    bool is_new = bench_track_put(t, p.seq);
    if (r->received++ == 0 && l->conf->scenario == BENCH_RETAIN)
        r->first_usec = net_clock_now() - l->round_began;
    if (has_receivers(l)) {
        bench_hist_put(&l->hist, usec_until(p.sent, now));
        struct bench_client *pub = &l->publisher[p.publisher];
        pub->delivered += is_new;
        go_on(l, pub);
        if (l->conf->scenario == BENCH_FAILOVER)
            bench_failover_message(l, p.publisher);
    }
    if (l->conf->scenario == BENCH_RETAIN && t->unique == l->publisher[0].seq) {
        r->drain_usec = net_clock_now() - l->round_began;
        finish(l);
    }
}

static void on_acked(void *arg, struct bench_client *c)
{
    struct bench_load *l = arg;
    l->moved_at = net_loop_now(l->loop);
    go_on(l, c);
}

/* Nobody waits for it. */
static void on_refused(void *arg, struct bench_client *c, uint64_t seq)
{
    struct bench_load *l = arg;
    bench_track_refused(&l->track[c->index], seq); /* failover: a pair each */
    c->delivered++;
    on_acked(l, c);
}

static void on_lost(void *arg, struct bench_client *c, const char *why)
{
    struct bench_load *l = arg;
    l->result.connections_lost++;
    if (l->conf->scenario == BENCH_FAILOVER && l->phase != BENCH_PHASE_DONE)
        bench_failover_lost(l, c);
    else if (l->phase != BENCH_PHASE_DONE)
        fail(l, why);
}

static void on_left(void *arg, struct bench_client *c)
{
    struct bench_load *l = arg;
    if (l->conf->scenario != BENCH_OFFLINE || l->round != 0 || c->is_publisher)
        return;
    if (--l->ready_count == 0)
        round_begin(l, 1);
}

static const struct bench_client_ops ops = {.ready = on_ready,
                                            .message = on_message,
                                            .acked = on_acked,
                                            .refused = on_refused,
                                            .writable = on_acked,
                                            .lost = on_lost,
                                            .left = on_left};

/* Those who only receive, or wait, say that they are there: each within half its keep alive time.
 */
static void ping(struct bench_load *l, usec_t now)
{
    const struct bench_conf *c = l->conf;
    uint32_t total = c->subscribers + c->publishers, spread = c->keep_alive_sec / 2;
    if (c->keep_alive_sec == 0 || now < l->ping_at)
        return;
    l->ping_at = now + USEC_SEC / 2;
    for (uint32_t i = 0; i < total / (2 * (spread ? spread : 1)) + 1; i++) {
        uint32_t at = l->ping_next++ % total;
        bench_client_ping(at < c->subscribers ? &l->subscriber[at]
                                              : &l->publisher[at - c->subscribers]);
    }
}

/* A closed loop where messages got lost goes on without them. */
static void go_on_without(struct bench_load *l, usec_t now)
{
    if (!has_receivers(l) || l->conf->rate != 0 ||
        now < (l->moved_at > l->late_at ? l->moved_at : l->late_at) + LATE_USEC)
        return;
    l->late_at = now;
    for (uint32_t i = 0; i < l->conf->publishers; i++) {
        struct bench_client *p = &l->publisher[i];
        if (p->delivered < p->seq * fanout_of(l))
            p->delivered = p->seq * fanout_of(l);
        go_on(l, p);
    }
}

/* True when a run that ends by count hears nothing any more; outages are what failover is for. */
static bool is_stuck(const struct bench_load *l, usec_t now)
{
    usec_t patience = l->conf->drain_sec * USEC_SEC +
                      (l->conf->scenario == BENCH_FAILOVER ? CONNECT_USEC_MAX : LATE_USEC);
    return l->run_ends == USEC_NEVER && now > l->moved_at + patience;
}

static void tick(void *arg, usec_t now)
{
    struct bench_load *l = arg;
    net_timer_set(l->loop, &l->timer, now + TICK_USEC);
    ping(l, now);
    if (l->phase == BENCH_PHASE_CONNECT && now > l->round_began + CONNECT_USEC_MAX)
        fail(l, "not all clients could connect");
    if (l->phase == BENCH_PHASE_RUN) {
        if (l->conf->rate != 0)
            publish_at_rate(l, now);
        go_on_without(l, now);
        if (is_stuck(l, now)) {
            l->result.error = "the broker answers nothing any more";
            drain(l, now);
            return;
        }
        if (now < l->run_ends && !all_published(l))
            return;
        if (l->conf->scenario == BENCH_OFFLINE || l->conf->scenario == BENCH_RETAIN)
            second_part(l, now);
        else
            drain(l, now);
    } else if (l->phase == BENCH_PHASE_DRAIN) {
        if (!all_arrived(l) && now < l->phase_ends)
            return;
        if (is_reading(l))
            l->result.drain_usec = usec_until(l->round_began, now);
        finish(l);
    }
}

/* ---- a run ----------------------------------------------------------------------------------- */

static void client_init(struct bench_load *l, struct bench_client *c, uint32_t index,
                        bool is_publisher)
{
    const struct bench_conf *conf = l->conf;
    *c = (struct bench_client){.conf = conf,
                               .ops = &ops,
                               .arg = l,
                               .loop = l->loop,
                               .tls = l->tls,
                               .index = index,
                               .is_publisher = is_publisher,
                               .is_clean = !conf->is_persistent ||
                                           (is_publisher && conf->scenario != BENCH_FAILOVER),
                               .filter = filter_of};
    list_init(&c->dirty);
    if (is_publisher || conf->scenario == BENCH_CONN)
        return;
    c->filter_count = conf->scenario == BENCH_SUBSCRIBE ? conf->filters : 1;
    c->is_subscribed = conf->scenario == BENCH_SUBSCRIBE; /* later, all at once */
}

struct progress_timer {
    struct net_timer timer;
    struct bench_load *load;
    void (*progress)(const struct bench_load *l);
};

static void progress_fn(void *arg, usec_t now)
{
    struct progress_timer *p = arg;
    p->progress(p->load);
    net_timer_set(p->load->loop, &p->timer, now + USEC_SEC);
}

void bench_load_play(struct bench_load *l, const struct bench_conf *conf, struct net_loop *loop,
                     struct net_tls *tls, void (*progress)(const struct bench_load *l))
{
    *l = (struct bench_load){
        .conf = conf, .loop = loop, .tls = tls, .run = (uint32_t)rng_u64(net_loop_rng(loop))};
    list_init(&l->dirty);
    net_defer_init(&l->pump, pump, l);
    net_timer_init(&l->timer, tick, l);
    l->publisher = mem_new(conf->publishers * sizeof *l->publisher);
    l->subscriber = mem_new(conf->subscribers * sizeof *l->subscriber);
    for (uint32_t i = 0; i < conf->publishers; i++)
        client_init(l, &l->publisher[i], i, true);
    for (uint32_t i = 0; i < conf->subscribers; i++)
        client_init(l, &l->subscriber[i], i, false);
    if (has_receivers(l) || conf->scenario == BENCH_OFFLINE || conf->scenario == BENCH_RETAIN)
        l->track_count = conf->scenario == BENCH_FANIN || conf->scenario == BENCH_SHARED ||
                                 conf->scenario == BENCH_RETAIN
                             ? conf->publishers
                             : conf->subscribers;
    l->track = mem_new(l->track_count * sizeof *l->track);
    l->payload = mem_new(conf->size);
    if (conf->scenario == BENCH_FAILOVER)
        bench_failover_init(l);
    struct progress_timer p = {.load = l, .progress = progress};
    net_timer_init(&p.timer, progress_fn, &p);
    usec_t now = net_clock_now();
    l->started = now;
    net_timer_set(loop, &l->timer, now + TICK_USEC);
    if (progress != NULL)
        net_timer_set(loop, &p.timer, now + USEC_SEC);
    round_begin(l, 0);
    if (l->phase != BENCH_PHASE_DONE && net_loop_run(loop) != 0)
        fail(l, "the event loop could not run");
    net_timer_del(loop, &p.timer);
    net_timer_del(loop, &l->timer);
}

void bench_load_end(struct bench_load *l)
{
    if (l->phase == BENCH_PHASE_RUN)
        l->run_ends = 0;
}

void bench_load_deinit(struct bench_load *l)
{
    bench_failover_deinit(l);
    for (uint32_t i = 0; i < l->conf->publishers; i++)
        bench_client_deinit(&l->publisher[i]);
    for (uint32_t i = 0; i < l->conf->subscribers; i++)
        bench_client_deinit(&l->subscriber[i]);
    for (size_t t = 0; t < l->track_count; t++)
        bench_track_deinit(&l->track[t]);
    l->track = mem_free(l->track);
    l->publisher = mem_free(l->publisher);
    l->subscriber = mem_free(l->subscriber);
    l->payload = mem_free(l->payload);
}
