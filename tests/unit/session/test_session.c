/* What stories do not show well: memory, windows at their bounds, budgets.  SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/rng.h"
#include "session/session.h"
#include "unit/session/suites.h"

struct world {
    struct session *s;
    struct session_settings settings;
    struct session_out out;
    struct buf bytes;
    struct budget budget;
};

static void packet(struct world *w, const void *p, size_t n)
{
    struct codec_mqtt_packet packet;
    ck_assert_int_eq(codec_mqtt_frame(str_view(p, n), 1 << 20, &packet), 0);
    session_packet(w->s, &packet, &w->out);
    session_check(w->s);
}

static void step(struct world *w, const struct session_event *ev)
{
    session_step(w->s, ev, &w->out);
    session_check(w->s);
}

/* An open session; clean and 3.1.1, or persistent. */
static void begin(struct world *w, bool is_persistent)
{
    memset(w, 0, sizeof *w);
    session_settings_init(&w->settings);
    budget_init(&w->budget, NULL, 1 << 20);
    struct session_conf conf = {.settings = &w->settings, .budget = &w->budget, .connect_timeout_usec = USEC_SEC,
                                .connect_len_max = 1000, .queue_bytes_max = 1 << 20};
    w->out.bytes = &w->bytes;
    w->out.bytes_max = 1 << 20;
    w->s = session_new(&conf, 0);
    uint8_t connect[] = "\x10\x0E\0\x04MQTT\x04\x02\0\0\0\x02" "c1";
    if (is_persistent)
        connect[9] = 0;
    packet(w, connect, sizeof connect - 1);
    struct session_event ev = {.type = SESSION_EV_AUTHENTICATED};
    ev.authenticated = (struct session_authenticated){.settings = &w->settings};
    step(w, &ev);
    ev = (struct session_event){.type = SESSION_EV_ATTACHED};
    ev.attached = (struct session_attached){.incarnation = is_persistent, .head_seq = 1};
    step(w, &ev);
    ck_assert_int_eq(session_state_get(w->s), SESSION_ST_OPEN);
    w->bytes.n = 0;
}

static void end(struct world *w)
{
    w->s = session_free(w->s);
    ck_assert_uint_eq(budget_used(&w->budget), 0);
    session_out_deinit(&w->out);
    buf_deinit(&w->bytes);
}

START_TEST(idle_is_small)
{
    struct world w;
    begin(&w, false);
    ck_assert_msg(session_memory(w.s) <= 300, "%zu bytes", session_memory(w.s));
    struct codec_msg m = {.topic = STR("a"), .payload = STR("x")};
    struct session_delivery d = {.msg = &m};
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(session_deliver(w.s, &d, &w.out), 0);
    ck_assert_msg(session_memory(w.s) <= 300, "%zu bytes", session_memory(w.s));
    ck_assert_uint_eq(w.bytes.n, 600);
    end(&w);
}
END_TEST

static uint16_t last_id(const struct world *w)
{
    return (uint16_t)(w->bytes.p[w->bytes.n - 3] << 8 | w->bytes.p[w->bytes.n - 2]);
}

static void ack(struct world *w, uint8_t type, uint16_t id)
{
    const uint8_t p[4] = {type, 2, (uint8_t)(id >> 8), (uint8_t)id};
    packet(w, p, sizeof p);
}

/* 200,000 messages, acknowledged in random order: ids of what is in flight never meet, the window holds. */
START_TEST(ids_never_meet)
{
    struct world w;
    struct rng r;
    uint16_t flying[SESSION_WINDOW_MAX];
    size_t count = 0;
    uint8_t *used = mem_new(65536);
    begin(&w, false);
    rng_init(&r, 7);
    struct codec_msg m = {.topic = STR("a"), .payload = STR("x"), .qos = 1};
    struct session_delivery d = {.msg = &m, .qos = 1};
    for (int i = 0; i < 200000; i++) {
        w.bytes.n = 0;
        if (count < SESSION_WINDOW_MAX && rng_below(&r, 100) < 55) {
            ck_assert_int_eq(session_deliver(w.s, &d, &w.out), 0);
            uint16_t id = last_id(&w);
            ck_assert(id != 0 && !used[id]);
            used[id] = 1;
            flying[count++] = id;
        } else if (count > 0) {
            size_t k = rng_below(&r, count);
            const uint8_t p[4] = {0x40, 2, (uint8_t)(flying[k] >> 8), (uint8_t)flying[k]};
            struct codec_mqtt_packet packet;
            ck_assert_int_eq(codec_mqtt_frame(str_view(p, 4), 100, &packet), 0);
            session_packet(w.s, &packet, &w.out);
            used[flying[k]] = 0;
            flying[k] = flying[--count];
        }
        ck_assert_uint_eq(session_inflight_count(w.s), count);
        ck_assert_uint_eq(session_capacity(w.s, &w.out), SESSION_WINDOW_MAX - count);
    }
    session_check(w.s);
    mem_free(used);
    end(&w);
}
END_TEST

/* One client that takes a message each `each` and answers in order after `delay`; the publisher always has more. */
struct slow {
    struct world w;
    usec_t due[SESSION_WINDOW_MAX + 1];
    uint16_t id[SESSION_WINDOW_MAX + 1];
    usec_t free_at;
    size_t at, count;
};

/* The largest number in flight and the longest wait of the second half of `usec`. */
static void serve(struct slow *c, usec_t usec, usec_t each, usec_t delay, uint32_t *out_inflight, usec_t *out_wait)
{
    struct codec_msg m = {.topic = STR("a"), .payload = STR("x"), .qos = 1};
    struct session_delivery d = {.msg = &m, .qos = 1};
    usec_t half = c->w.out.now + usec / 2, end = c->w.out.now + usec;
    *out_inflight = 0;
    *out_wait = 0;
    while (c->w.out.now < end) {
        while (session_capacity(c->w.s, &c->w.out) > 0) {
            c->w.bytes.n = 0;
            ck_assert_int_eq(session_deliver(c->w.s, &d, &c->w.out), 0);
            size_t k = (c->at + c->count++) % (SESSION_WINDOW_MAX + 1);
            usec_t now = c->w.out.now + delay / 2;
            c->free_at = (c->free_at > now ? c->free_at : now) + each;
            c->id[k] = last_id(&c->w);
            c->due[k] = c->free_at + delay / 2;
            if (c->w.out.now >= half) {
                *out_wait = c->due[k] - c->w.out.now > *out_wait ? c->due[k] - c->w.out.now : *out_wait;
                *out_inflight = c->count > *out_inflight ? (uint32_t)c->count : *out_inflight;
            }
        }
        c->w.out.now = c->due[c->at];
        ack(&c->w, 0x40, c->id[c->at]);
        c->at = (c->at + 1) % (SESSION_WINDOW_MAX + 1);
        c->count--;
    }
}

/* The send window follows what the client takes: never under MinSendPerSec, never a queue of seconds on its side. */
START_TEST(window_follows)
{
    struct slow *c = mem_new(sizeof *c);
    uint32_t inflight;
    usec_t wait;
    begin(&c->w, false);
    c->w.out.now = USEC_SEC;
    serve(c, 5 * USEC_SEC, 20, 1000, &inflight, &wait); /* 50,000 a second: it keeps up and has all it can hold */
    ck_assert_uint_eq(inflight, SESSION_WINDOW_MAX);
    serve(c, 60 * USEC_SEC, 10000, 1000, &inflight, &wait); /* 100 a second: what it takes in half a second */
    ck_assert_msg(inflight >= 25 && inflight <= 70, "%u", inflight);
    ck_assert_uint_le(wait, USEC_SEC);
    serve(c, 60 * USEC_SEC, 250000, 1000, &inflight, &wait); /* 4 a second: the floor */
    ck_assert_uint_eq(inflight, 8);
    c->w.settings.min_send_per_sec = 40;
    serve(c, 60 * USEC_SEC, 250000, 1000, &inflight, &wait);
    ck_assert_uint_eq(inflight, 40);
    c->w.settings.min_send_per_sec = 8;
    serve(c, 20 * USEC_SEC, 20, 1000, &inflight, &wait); /* quick again */
    ck_assert_uint_eq(inflight, SESSION_WINDOW_MAX);
    serve(c, 60 * USEC_SEC, 100, 300000, &inflight, &wait); /* far away, not slow: nothing is held back */
    ck_assert_uint_eq(inflight, SESSION_WINDOW_MAX);
    end(&c->w);
    mem_free(c);
}
END_TEST

/* A client that sleeps with little in flight is not slow. */
START_TEST(window_of_a_sleeper)
{
    struct world w;
    begin(&w, false);
    struct codec_msg m = {.topic = STR("a"), .payload = STR("x"), .qos = 1};
    struct session_delivery d = {.msg = &m, .qos = 1};
    for (int i = 0; i < 100; i++) {
        w.bytes.n = 0;
        ck_assert_int_eq(session_deliver(w.s, &d, &w.out), 0);
        w.out.now += i % 10 == 0 ? 1000 : 30 * USEC_SEC;
        ack(&w, 0x40, last_id(&w));
        ck_assert_uint_eq(session_capacity(w.s, &w.out), SESSION_WINDOW_MAX);
    }
    end(&w);
}
END_TEST

/* The oldest is never acknowledged: the numbers must not run around it. */
START_TEST(stuck_head)
{
    struct world w;
    begin(&w, false);
    struct codec_msg m = {.topic = STR("a"), .payload = STR("x"), .qos = 1};
    struct session_delivery d = {.msg = &m, .qos = 1};
    int sent = 0;
    ck_assert_int_eq(session_deliver(w.s, &d, &w.out), 0);
    for (int i = 0; i < 70000; i++) {
        w.bytes.n = 0;
        if (session_deliver(w.s, &d, &w.out) != 0)
            break;
        sent++;
        const uint16_t id = last_id(&w);
        const uint8_t p[4] = {0x40, 2, (uint8_t)(id >> 8), (uint8_t)id};
        struct codec_mqtt_packet packet;
        ck_assert_int_eq(codec_mqtt_frame(str_view(p, 4), 100, &packet), 0);
        session_packet(w.s, &packet, &w.out);
    }
    ck_assert_int_eq(sent, 65533);
    session_check(w.s);
    w.bytes.n = 0;
    ack(&w, 0x40, 1); /* now they may */
    ck_assert_uint_gt(w.bytes.n, 0);
    end(&w);
}
END_TEST

/* What is queued for many shares the message. */
START_TEST(queue_shares)
{
    struct world w;
    begin(&w, false);
    w.out.bytes_max = 0;
    struct codec_msg m = {.topic = STR("a"), .payload = STR("x"), .qos = 1};
    struct codec_msg *kept = codec_msg_keep(&m);
    struct session_delivery d = {.msg = kept, .qos = 1};
    ck_assert_int_eq(session_deliver(w.s, &d, &w.out), SESSION_DELIVER_E_QUEUED);
    ck_assert_uint_eq(kept->refs, 2);
    ck_assert_uint_eq(budget_used(&w.budget), codec_msg_cost(kept));
    w.out.bytes_max = 1000;
    struct session_event ev = {.type = SESSION_EV_WRITABLE};
    step(&w, &ev);
    ck_assert_uint_eq(kept->refs, 1);
    ck_assert_uint_eq(budget_used(&w.budget), 0);
    codec_msg_unref(kept);
    end(&w);
}
END_TEST

/* When memory is short: QoS 0 is queued up to a mark, what waits is given up when told so; QoS 1
 * stays. */
START_TEST(queue_sheds_qos0)
{
    struct world w;
    begin(&w, false);
    w.out.bytes_max = 0;
    struct codec_msg m = {.topic = STR("a"), .payload = STR("x"), .qos = 1};
    struct session_delivery d = {.msg = &m, .qos = 1};
    ck_assert_int_eq(session_deliver(w.s, &d, &w.out), SESSION_DELIVER_E_QUEUED);
    size_t cost = session_queue_bytes(w.s);
    d.qos = 0;
    w.out.qos0_bytes_max = 2 * cost + 1;
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(session_deliver(w.s, &d, &w.out), SESSION_DELIVER_E_QUEUED);
    ck_assert_int_eq(session_deliver(w.s, &d, &w.out), SESSION_DELIVER_E_DROPPED);
    ck_assert_uint_eq(w.out.counts.dropped_budget[0], 1);
    ck_assert_uint_eq(session_queue_shed(w.s, &w.out), 2);
    ck_assert_uint_eq(w.out.counts.dropped_budget[0], 3);
    ck_assert_uint_eq(session_queue_bytes(w.s), cost);
    ck_assert_uint_eq(budget_used(&w.budget), cost);
    ck_assert_uint_eq(session_queue_shed(w.s, &w.out), 0);
    end(&w);
}
END_TEST

/* Effects of the call before stay while deliveries are made. */
START_TEST(deliver_leaves_effects)
{
    struct world w;
    begin(&w, false);
    packet(&w, "\x30\x04\0\x01" "ax", 6);
    ck_assert_uint_eq(w.out.effect_count, 1);
    ck_assert_int_eq(w.out.effect[0].type, SESSION_FX_PUBLISH);
    struct session_delivery d = {.msg = &w.out.effect[0].publish.msg};
    ck_assert_int_eq(session_deliver(w.s, &d, &w.out), 0);
    ck_assert_uint_eq(w.out.effect_count, 1);
    ck_str(buf_str(&w.bytes), STR("\x30\x04\0\x01" "ax"));
    end(&w);
}
END_TEST

/* Received QoS 2 ids: many, in random order, each answered as it must be. */
START_TEST(many_received)
{
    struct world w;
    struct rng r;
    uint8_t *known = mem_new(65536);
    begin(&w, false);
    rng_init(&r, 3);
    for (int i = 0; i < 20000; i++) {
        uint16_t id = (uint16_t)rng_between(&r, 1, 500);
        w.bytes.n = 0;
        if (rng_below(&r, 2) == 0) {
            const uint8_t p[8] = {0x34, 6, 0, 1, 'a', (uint8_t)(id >> 8), (uint8_t)id, 'x'};
            packet(&w, p, sizeof p);
            ck_assert_uint_eq(w.out.effect_count, known[id] ? 0 : 1);
            if (!known[id])
                session_published(w.s, w.out.effect[0].publish.token, 0, &w.out);
            ck_assert_uint_eq(w.bytes.p[0], 0x50);
            known[id] = 1;
        } else {
            ack(&w, 0x62, id);
            ck_assert_uint_eq(w.bytes.p[0], 0x70);
            known[id] = 0;
        }
        ck_assert_uint_eq(w.bytes.n, 4);
    }
    mem_free(known);
    end(&w);
}
END_TEST


START_TEST(end_names)
{
    ck_assert_str_eq(session_end_name(SESSION_END_KICKED), "KICKED");
    ck_assert_str_eq(session_end_name(SESSION_END_COUNT), "?");
}
END_TEST

Suite *suite_session(void)
{
    Suite *s = suite_create("session");
    TCase *t = tcase_create("session");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, idle_is_small);
    tcase_add_test(t, ids_never_meet);
    tcase_add_test(t, window_follows);
    tcase_add_test(t, window_of_a_sleeper);
    tcase_add_test(t, stuck_head);
    tcase_add_test(t, queue_shares);
    tcase_add_test(t, queue_sheds_qos0);
    tcase_add_test(t, deliver_leaves_effects);
    tcase_add_test(t, many_received);
    tcase_add_test(t, end_names);
    suite_add_tcase(s, t);
    return s;
}
