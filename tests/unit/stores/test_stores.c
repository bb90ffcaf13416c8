/* The stores' door over tables in this process, on two loops driven by hand.
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "codec/msg.h"
#include "dist/index.h"
#include "net/clock.h"
#include "net/loop.h"
#include "stores/stores.h"
#include "stores/survey.h"
#include "unit/unit.h"

#define WAIT_USEC (10 * USEC_SEC) /* a test that waits longer has failed */

struct heard { /* what the broker's side of the door was told */
    unsigned quits;
    uint64_t quit_cookie;
    enum stores_quit_why why;
    unsigned deliveries;
    uint64_t seq[16];
    char payload[16][64];
    unsigned backlogs, wills;
    char will_topic[64];
    uint64_t will_id;
};

static struct heard heard;
static struct net_loop *loop[2];
static struct stores *stores;
static struct stores_client *client[2];

static void on_deliver(void *arg, unsigned l, uint64_t cookie, const struct stores_delivery *d,
                       size_t count)
{
    (void)arg;
    (void)l;
    (void)cookie;
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_lt(heard.deliveries, 16);
        heard.seq[heard.deliveries] = d[i].seq;
        str_copy(heard.payload[heard.deliveries++], 64, d[i].msg->payload);
    }
}

static void on_backlog(void *arg, unsigned l, uint64_t cookie, uint64_t next_seq)
{
    (void)arg;
    (void)l;
    (void)cookie;
    (void)next_seq;
    heard.backlogs++;
}

static void on_quit(void *arg, unsigned l, uint64_t cookie, enum stores_quit_why why)
{
    (void)arg;
    (void)l;
    heard.quits++;
    heard.quit_cookie = cookie;
    heard.why = why;
}

static void on_will(void *arg, unsigned l, const struct stores_session *s,
                    const struct codec_msg *will, uint64_t id)
{
    (void)arg;
    (void)l;
    (void)s;
    heard.wills++;
    heard.will_id = id;
    str_copy(heard.will_topic, sizeof heard.will_topic, will->topic);
}

static void setup(void)
{
    heard = (struct heard){0};
    for (unsigned i = 0; i < 2; i++) {
        struct net_loop_conf lc = {.index = i, .seed = i + 1};
        ck_assert_int_eq(net_loop_new(&lc, &loop[i]), 0);
    }
    struct stores_conf conf = {
        .node = {{1}},
        .epoch = 7,
        .loop = loop,
        .loop_count = 2,
        .host = {.deliver = on_deliver, .backlog = on_backlog, .quit = on_quit, .will = on_will},
        .seed = 5,
        .timeout_usec = USEC_SEC};
    ck_assert_int_eq(stores_new(&conf, &stores), 0);
    for (unsigned i = 0; i < 2; i++)
        client[i] = stores_client_get(stores, i);
}

static void turn(void)
{
    net_loop_turn(loop[0], 0);
    net_loop_turn(loop[1], 0);
}

static void teardown(void)
{
    for (unsigned i = 0; i < 4; i++)
        turn(); /* what loops said to each other arrives */
    stores = stores_free(stores);
    for (unsigned i = 0; i < 4; i++)
        turn(); /* what the index unlinked is freed */
    for (unsigned i = 0; i < 2; i++)
        loop[i] = net_loop_free(loop[i]);
}

struct answer {
    bool is_here;
    enum stores_outcome outcome;
    struct stores_attached attached;
    struct stores_inserted inserted;
    unsigned count;
    char payload[8][64];
    uint64_t seq[8];
    bool is_last;
    size_t payload_n;
};

static void wait_for(struct answer *a)
{
    usec_t end = net_clock_now() + WAIT_USEC;
    while (!a->is_here && net_clock_now() < end)
        turn();
    ck_assert_msg(a->is_here, "no answer");
}

static void done(void *arg, enum stores_outcome outcome)
{
    struct answer *a = arg;
    ck_assert(!a->is_here); /* once */
    a->is_here = true;
    a->outcome = outcome;
}

#define ASK(a, call)                                                                               \
    do {                                                                                           \
        (a) = (struct answer){0};                                                                  \
        call;                                                                                      \
        ck_assert_msg(!(a).is_here, "answered inside its own call");                               \
        wait_for(&(a));                                                                            \
    } while (0)

/* ---- the dict -------------------------------------------------------------------------------- */

#define T STR("acme")
#define C STR("sensor")

START_TEST(one_owner_at_a_time)
{
    struct answer a, b = {0}, c = {0}, k = {0};
    ASK(a, stores_dict_claim(client[0], T, C, 1, done, &a));
    ck_assert_int_eq(a.outcome, STORES_OK);
    stores_dict_claim(client[1], T, C, 2, done, &b);
    for (int i = 0; i < 5; i++)
        turn();
    ck_assert(!b.is_here); /* not before the first one let go */
    ck_assert_uint_eq(heard.quits, 1);
    ck_assert_uint_eq(heard.quit_cookie, 1);
    ck_assert_int_eq(heard.why, STORES_QUIT_TAKEOVER);
    stores_dict_claim(client[0], T, C, 3, done, &c); /* a newer one wins over the waiting one */
    wait_for(&b);
    ck_assert_int_eq(b.outcome, STORES_E_CONFLICT);
    ck_assert(!c.is_here);
    stores_dict_release(client[0], T, C, 1);
    wait_for(&c);
    ck_assert_int_eq(c.outcome, STORES_OK);
    stores_dict_kill(client[1], T, C, done, &k);
    for (int i = 0; i < 5; i++)
        turn();
    ck_assert_uint_eq(heard.quit_cookie, 3);
    ck_assert_int_eq(heard.why, STORES_QUIT_KILL);
    ck_assert(!k.is_here);
    stores_dict_release(client[0], T, C, 3);
    wait_for(&k);
    ck_assert_int_eq(k.outcome, STORES_OK);
    ASK(k, stores_dict_kill(client[1], T, C, done, &k));
    ck_assert_int_eq(k.outcome, STORES_E_NO_SESSION);
}
END_TEST

START_TEST(an_owner_that_does_not_let_go)
{
    struct answer a, b;
    ASK(a, stores_dict_claim(client[0], T, C, 1, done, &a));
    ASK(b, stores_dict_claim(client[1], T, C, 2, done, &b));
    ck_assert_int_eq(b.outcome, STORES_E_UNAVAILABLE);
    stores_dict_release(client[0], T, C, 1);
    ASK(b, stores_dict_claim(client[1], T, C, 4, done, &b));
    ck_assert_int_eq(b.outcome, STORES_OK);
    stores_dict_release(client[1], T, C, 4);
}
END_TEST

START_TEST(tenants_do_not_meet_in_the_dict)
{
    struct answer a, b;
    ASK(a, stores_dict_claim(client[0], T, C, 1, done, &a));
    ASK(b, stores_dict_claim(client[1], STR("other"), C, 2, done, &b));
    ck_assert_int_eq(b.outcome, STORES_OK);
    ck_assert_uint_eq(heard.quits, 0);
}
END_TEST

/* ---- routes ---------------------------------------------------------------------------------- */

static size_t matches(struct str topic)
{
    struct dist_match m = {0};
    dist_index_match(stores_index(stores), T, topic, &m);
    size_t n = m.count;
    dist_match_deinit(&m);
    return n;
}

START_TEST(routes_are_matched_when_they_are_answered)
{
    struct answer a;
    struct stores_route r = {.tenant = T, .filter = STR("a/+")};
    ASK(a, stores_route_add(client[1], &r, done, &a));
    ck_assert_int_eq(a.outcome, STORES_OK);
    ck_assert_uint_eq(matches(STR("a/b")), 1);
    ck_assert_uint_eq(matches(STR("b/b")), 0);
    ASK(a, stores_route_del(client[0], &r, done, &a));
    ck_assert_uint_eq(matches(STR("a/b")), 0);
    struct stores_route g = {
        .tenant = T, .filter = STR("a/+"), .group = STR("g"), .cookie = 9, .member_max = 1};
    ASK(a, stores_route_add(client[0], &g, done, &a));
    ck_assert_int_eq(a.outcome, STORES_OK);
    g.cookie = 10;
    ASK(a, stores_route_add(client[0], &g, done, &a));
    ck_assert_int_eq(a.outcome, STORES_E_LIMIT);
}
END_TEST

/* ---- sessions -------------------------------------------------------------------------------- */

static void attached(void *arg, const struct stores_attached *r)
{
    struct answer *a = arg;
    a->attached = *r;
    done(a, r->outcome);
}

static void inserted(void *arg, const struct stores_inserted *r)
{
    struct answer *a = arg;
    a->inserted = *r;
    done(a, r->outcome);
}

static void fetched(void *arg, const struct stores_fetched *f)
{
    struct answer *a = arg;
    for (size_t i = 0; i < f->count && a->count < 8; i++) {
        a->seq[a->count] = f->delivery[i].seq;
        str_copy(a->payload[a->count++], 64, f->delivery[i].msg->payload);
    }
    done(a, f->outcome);
}

static struct stores_session attach(uint64_t cookie, bool is_clean, struct answer *a)
{
    struct stores_attach at = {.tenant = T,
                               .client = C,
                               .cookie = cookie,
                               .is_clean = is_clean,
                               .expiry_sec = 100,
                               .receive_max = 10,
                               .queue_len_max = 100};
    ASK(*a, stores_attach(client[1], &at, attached, a));
    ck_assert_int_eq(a->outcome, STORES_OK);
    return (struct stores_session){T, C, a->attached.incarnation, a->attached.mod};
}

static void subscribe(const struct stores_session *s, enum stores_outcome want)
{
    struct answer a;
    struct stores_sub sub = {.options = 1, .sub_max = 10};
    ck_assert_int_eq(codec_topic_filter_parse(STR("a/#"), NULL, &sub.filter), 0);
    ASK(a, stores_sub(client[1], s, &sub, done, &a));
    ck_assert_int_eq(a.outcome, want);
}

static void insert(const struct stores_session *s, struct str payload, struct answer *a)
{
    struct codec_msg m = {.topic = STR("a/b"), .payload = payload, .qos = 1};
    struct stores_receiver r = {.client = C, .incarnation = s->incarnation, .qos = 1, .options = 1};
    ASK(*a, stores_insert(client[0], T, &m, &(struct stores_origin){0}, &r, 1, inserted, a));
    ck_assert_int_eq(a->outcome, STORES_OK);
}

START_TEST(a_session_keeps_what_it_was_sent)
{
    struct answer a;
    struct stores_session s = attach(1, false, &a);
    ck_assert(!a.attached.is_present);
    subscribe(&s, STORES_OK);
    subscribe(&s, STORES_E_EXISTS);
    ck_assert_uint_eq(matches(STR("a/b/c")), 1);
    insert(&s, STR("online"), &a);
    turn();
    turn();
    ck_assert_uint_eq(heard.deliveries, 1);
    ck_assert_uint_eq(heard.seq[0], 1);
    ck_assert_str_eq(heard.payload[0], "online");
    ASK(a, stores_commit(client[1], &s, 1, 0, NULL, 0, done, &a));
    ck_assert_int_eq(a.outcome, STORES_OK);
    ASK(a, stores_detach(client[1], &s, &(struct stores_detach){100, true, 0}, done, &a));
    ck_assert_int_eq(a.outcome, STORES_OK);
    struct codec_msg m = {.topic = STR("a/b"), .payload = STR("passed by"), .qos = 1};
    struct stores_receiver r = {.client = C, .incarnation = s.incarnation, .qos = 1};
    struct stores_origin held_only = {.is_for_held = true};
    ASK(a, stores_insert(client[0], T, &m, &held_only, &r, 1, inserted, &a));
    ck_assert_int_eq(a.outcome, STORES_OK);
    ck_assert_uint_eq(a.inserted.away, 1);
    insert(&s, STR("away"), &a);
    ck_assert_uint_eq(a.inserted.stored, 1);
    ck_assert_uint_eq(heard.deliveries, 1);
    struct stores_session s2 = attach(2, false, &a);
    ck_assert(a.attached.is_present);
    ck_assert_uint_eq(a.attached.acked_seq, 1);
    ck_assert_uint_eq(a.attached.next_seq, 3);
    ck_assert_uint_gt(s2.mod, s.mod);
    ASK(a, stores_fetch(client[1], &s2, false, 2, 10, fetched, &a));
    ck_assert_uint_eq(a.count, 1);
    ck_assert_uint_eq(a.seq[0], 2);
    ck_assert_str_eq(a.payload[0], "away");
    ASK(a, stores_commit(client[1], &s, 2, 0, NULL, 0, done, &a)); /* the former owner is fenced */
    ck_assert_int_eq(a.outcome, STORES_E_CONFLICT);
    struct stores_session s3 = attach(3, true, &a); /* Clean Start: another life */
    ck_assert(!a.attached.is_present);
    ck_assert_uint_ne(s3.incarnation, s2.incarnation);
    for (int i = 0; i < 6; i++)
        turn();
    ck_assert_uint_eq(matches(STR("a/b/c")), 0); /* its routes went with it */
}
END_TEST

START_TEST(a_client_that_begins_anew_has_no_session_left)
{
    struct answer a;
    struct stores_session s = attach(1, false, &a);
    subscribe(&s, STORES_OK);
    ASK(a, stores_detach(client[1], &s, &(struct stores_detach){100, true, 0}, done, &a));
    ck_assert_int_eq(a.outcome, STORES_OK);
    ASK(a, stores_clear(client[1], STR("t"), STR("nobody"), done, &a));
    ck_assert_int_eq(a.outcome, STORES_OK);
    ck_assert_uint_eq(matches(STR("a/b/c")), 1);
    ASK(a, stores_clear(client[1], s.tenant, s.client, done, &a));
    ck_assert_int_eq(a.outcome, STORES_OK);
    for (int i = 0; i < 6; i++)
        turn();
    ck_assert_uint_eq(matches(STR("a/b/c")), 0);
    attach(2, false, &a);
    ck_assert(!a.attached.is_present);
}
END_TEST

START_TEST(large_payloads_come_back_whole)
{
    struct answer a;
    char *big = mem_new(100000);
    memset(big, 'x', 100000);
    struct stores_session s = attach(1, false, &a);
    ASK(a, stores_detach(client[1], &s, &(struct stores_detach){100, true, 0}, done, &a));
    insert(&s, str_view(big, 100000), &a);
    s = attach(2, false, &a);
    ASK(a, stores_fetch(client[1], &s, false, 1, 10, fetched, &a));
    ck_assert_uint_eq(a.count, 1);
    ck_assert_uint_eq(strlen(a.payload[0]), 63);
    mem_free(big);
}
END_TEST

START_TEST(exchanges_are_numbered_once)
{
    struct answer a;
    struct stores_session s = attach(1, false, &a);
    ASK(a, stores_release(client[1], &s, 5, done, &a));
    ck_assert_int_eq(a.outcome, STORES_E_NO_SUB);
}
END_TEST

START_TEST(a_will_of_a_lost_session_fires_once)
{
    struct answer a;
    struct codec_msg will = {.topic = STR("w"), .payload = STR("gone"), .qos = 1};
    struct stores_attach at = {.tenant = T,
                               .client = C,
                               .cookie = 1,
                               .expiry_sec = 0,
                               .receive_max = 10,
                               .queue_len_max = 10,
                               .will = &will};
    ASK(a, stores_attach(client[1], &at, attached, &a));
    struct stores_session s = {T, C, a.attached.incarnation, a.attached.mod};
    ASK(a, stores_detach(client[1], &s, &(struct stores_detach){0, false, 0}, done, &a));
    usec_t end = net_clock_now() + WAIT_USEC;
    while (heard.wills == 0 && net_clock_now() < end)
        turn();
    ck_assert_uint_eq(heard.wills, 1);
    ck_assert_str_eq(heard.will_topic, "w");
    stores_will_done(client[1], T, C, heard.will_id);
    for (int i = 0; i < 10; i++)
        turn();
    ck_assert_uint_eq(heard.wills, 1);
}
END_TEST

/* ---- retained -------------------------------------------------------------------------------- */

static void page(void *arg, const struct stores_retained *r)
{
    struct answer *a = arg;
    for (size_t i = 0; i < r->msg_count; i++) {
        a->payload_n = r->msg[i].payload.n;
        if (a->count < 8)
            str_copy(a->payload[a->count], 64, r->msg[i].topic);
        a->count++;
    }
    a->is_last = r->after.n == 0;
    done(a, r->outcome);
}

static void retain(struct str topic, struct str payload)
{
    struct answer a;
    struct codec_msg m = {.topic = topic, .payload = payload, .qos = 1, .is_retain = true};
    ASK(a, stores_retain_put(client[0], T, &m, 0, 0, done, &a));
    ck_assert_int_eq(a.outcome, STORES_OK);
}

START_TEST(retained_messages_are_found_and_cleared)
{
    struct answer a;
    char *big = mem_new(5000);
    memset(big, 'y', 5000);
    retain(STR("r/1"), STR("one"));
    retain(STR("r/2"), str_view(big, 5000));
    retain(STR("$SYS/r"), STR("hidden"));
    ASK(a, stores_retain_match(client[1], T, STR("r/1"), STR(""), 10, page, &a));
    ck_assert_uint_eq(a.count, 1);
    ck_assert(a.is_last);
    ASK(a, stores_retain_match(client[1], T, STR("r/2"), STR(""), 10, page, &a));
    ck_assert_uint_eq(a.payload_n, 5000);
    ASK(a, stores_retain_match(client[1], T, STR("#"), STR(""), 10, page, &a));
    ck_assert_uint_eq(a.count, 2); /* [MQTT-4.7.2-1] */
    retain(STR("r/1"), STR(""));
    ASK(a, stores_retain_match(client[1], T, STR("r/+"), STR(""), 10, page, &a));
    ck_assert_uint_eq(a.count, 1);
    ck_assert_str_eq(a.payload[0], "r/2");
    ASK(a, stores_retain_match(client[1], STR("other"), STR("#"), STR(""), 10, page, &a));
    ck_assert_uint_eq(a.count, 0);
    mem_free(big);
}
END_TEST

static struct buf surveyed_names;

static void surveyed(void *arg, const struct stores_survey *s)
{
    struct answer *a = arg;
    struct buf *b = &surveyed_names;
    b->n = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct str rest = s->session[i].filters;
        struct stores_stored_filter f;
        buf_put_str(b, s->session[i].client);
        buf_put_u8(b, s->session[i].detached_ms ? '-' : '+');
        while (stores_stored_filter(&rest, &f))
            buf_put_str(b, f.filter);
    }
    if (s->is_more)
        buf_put_str(b, STR("..."));
    done(a, s->outcome);
}

static void stored(void *arg, enum stores_outcome outcome, const struct stores_stored *s)
{
    struct answer *a = arg;
    a->count = (unsigned)s->queue_count;
    a->is_last = s->detached_ms == 0;
    done(a, outcome);
}

static void expired(void *arg, enum stores_outcome outcome, uint64_t count)
{
    struct answer *a = arg;
    a->count = (unsigned)count;
    done(a, outcome);
}

START_TEST(sessions_are_surveyed_and_expired)
{
    struct answer a;
    struct stores_survey_query q = {
        .tenant = T, .prefix = STR(""), .after = STR(""), .count_max = 5};
    ASK(a, stores_stored_find(client[0], T, C, stored, &a));
    ck_assert_int_eq(a.outcome, STORES_E_NO_SESSION);
    struct stores_session s = attach(1, false, &a);
    subscribe(&s, STORES_OK);
    ASK(a, stores_survey_sessions(client[0], &q, surveyed, &a));
    ck_assert_int_eq(a.outcome, STORES_OK);
    ck_str(buf_str(&surveyed_names), STR("sensor+a/#"));
    insert(&s, STR("waits"), &a);
    ASK(a, stores_stored_find(client[0], T, C, stored, &a));
    ck_assert_int_eq(a.outcome, STORES_OK);
    ck_assert_uint_eq(a.count, 1);
    ck_assert(a.is_last);
    ASK(a, stores_expire_sessions(client[0], T, 0, expired, &a));
    ck_assert_uint_eq(a.count, 0); /* it is connected */
    ASK(a, stores_detach(client[1], &s, &(struct stores_detach){100, true, 0}, done, &a));
    ASK(a, stores_survey_sessions(client[1], &q, surveyed, &a));
    ck_str(buf_str(&surveyed_names), STR("sensor-a/#"));
    ASK(a, stores_expire_sessions(client[0], T, 3600, expired, &a));
    ck_assert_uint_eq(a.count, 0); /* too young */
    ASK(a, stores_expire_sessions(client[0], T, 0, expired, &a));
    ck_assert_int_eq(a.outcome, STORES_OK);
    ck_assert_uint_eq(a.count, 1);
    ASK(a, stores_survey_sessions(client[0], &q, surveyed, &a));
    ck_str(buf_str(&surveyed_names), STR(""));
    retain(STR("r/1"), STR("one"));
    retain(STR("r/2"), STR("two"));
    ASK(a, stores_expire_retained(client[0], STR("other"), 0, expired, &a));
    ck_assert_uint_eq(a.count, 0);
    for (int i = 0; i < 20; i++)
        turn();
    ASK(a, stores_expire_retained(client[0], T, 3600, expired, &a));
    ck_assert_uint_eq(a.count, 0);
    buf_deinit(&surveyed_names);
    surveyed_names = (struct buf){0};
}
END_TEST

Suite *unit_suites(int i)
{
    if (i > 0)
        return NULL;
    Suite *s = suite_create("stores");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, one_owner_at_a_time);
    tcase_add_test(t, an_owner_that_does_not_let_go);
    tcase_add_test(t, tenants_do_not_meet_in_the_dict);
    tcase_add_test(t, routes_are_matched_when_they_are_answered);
    tcase_add_test(t, a_session_keeps_what_it_was_sent);
    tcase_add_test(t, a_client_that_begins_anew_has_no_session_left);
    tcase_add_test(t, large_payloads_come_back_whole);
    tcase_add_test(t, exchanges_are_numbered_once);
    tcase_add_test(t, a_will_of_a_lost_session_fires_once);
    tcase_add_test(t, retained_messages_are_found_and_cleared);
    tcase_add_test(t, sessions_are_surveyed_and_expired);
    suite_add_tcase(s, t);
    return s;
}
