/* Random commands: replicas agree whatever they lived through, and no message that was taken is
 * lost or doubled. SPDX-License-Identifier: Apache-2.0 */
#include "base/hlc.h"
#include "base/rng.h"
#include "unit/inbox/inbox_unit.h"

#define CLIENTS 6
#define PUBLISHERS 3

/* What a plain model knows of one session. */
struct simple {
    char name[8];
    bool is_there;
    bool is_attached;
    uint64_t incarnation, mod;
    uint64_t acked, next;
    uint64_t text[64]; /* of seq % 64 */
    uint64_t taken;    /* messages that the machine took */
};

struct model {
    struct simple c[CLIENTS];
    uint64_t text; /* last message's number */
    uint64_t exchange[PUBLISHERS];
};

static struct inbox_ref ref_of(struct rng *r, const struct simple *c)
{
    uint64_t stale = rng_below(r, 20) == 0;
    return (struct inbox_ref){STR("t"), str_of(c->name), c->incarnation + stale,
                              c->mod + (rng_below(r, 20) == 0)};
}

static void put_attach(struct rng *r, struct buf *out, const struct simple *c)
{
    struct inbox_attach a = attach_of(c->name, (uint8_t)rng_between(r, 1, 3));
    a.clean_start = rng_below(r, 6) == 0;
    a.expiry_sec = rng_below(r, 3) == 0 ? 0 : (uint32_t)rng_below(r, 100);
    a.limit = (uint32_t)rng_between(r, 1, 20);
    a.byte_max = rng_below(r, 3) == 0 ? 2000 : 0;
    a.window = (uint32_t)rng_between(r, 1, 10);
    a.qos0_drop_oldest = rng_below(r, 2);
    if (rng_below(r, 2) == 0) {
        a.will = STR("will");
        a.will_delay_sec = (uint32_t)rng_below(r, 20);
    }
    inbox_command_attach(out, &a);
}

static void put_insert(struct rng *r, struct buf *out, struct model *m)
{
    char text[300];
    memset(text, '.', sizeof text);
    inbox_command_insert(out);
    for (uint64_t n = rng_between(r, 1, 2); n > 0; n--) {
        size_t p = rng_below(r, PUBLISHERS);
        m->exchange[p] += rng_below(r, 3) > 0; /* else the same again */
        snprintf(text, sizeof text, "%d", (int)++m->text);
        struct inbox_message msg = {.tenant = STR("t"),
                                    .bytes = {text, rng_below(r, 2) ? sizeof text : 10},
                                    .publisher = rng_below(r, 2) ? 100 + p : 0,
                                    .exchange = m->exchange[p],
                                    .floor = m->exchange[p] > 3 ? m->exchange[p] - 3 : 0};
        inbox_command_insert_message(out, &msg);
        for (size_t i = 0; i < CLIENTS; i++) {
            if (rng_below(r, 4) == 0)
                continue;
            struct inbox_ref ref = ref_of(r, &m->c[i]);
            inbox_command_insert_receiver(
                out, &(struct inbox_receiver){.client = ref.client,
                                              .incarnation = ref.incarnation,
                                              .qos = (uint8_t)rng_below(r, 3)});
        }
    }
}

static void put_random(struct rng *r, struct buf *out, struct model *m, struct world *w)
{
    struct simple *c = &m->c[rng_below(r, CLIENTS)];
    struct inbox_ref ref = ref_of(r, c);
    struct inbox_mark mark[3];
    static const char *const filter[] = {"a", "b/+", "$share/g/c", "#"};
    struct inbox_sub sub = {str_of(filter[rng_below(r, 4)]), (uint8_t)rng_below(r, 3),
                            (uint32_t)rng_below(r, 9)};
    switch (rng_below(r, 12)) {
    case 0:
    case 1:
        put_attach(r, out, c);
        break;
    case 2:
        inbox_command_detach(out, &(struct inbox_detach){ref, (uint32_t)rng_below(r, 100),
                                                         rng_below(r, 2), rng_below(r, 9)});
        break;
    case 3:
        inbox_command_sub(out, &ref, &sub, 3);
        break;
    case 4:
        inbox_command_unsub(out, &ref, sub.filter);
        break;
    case 5:
    case 6:
        for (size_t i = 0; i < countof(mark); i++)
            mark[i] =
                (struct inbox_mark){c->acked + rng_below(r, 8), (uint8_t)rng_between(r, 1, 2)};
        inbox_command_commit(out, &(struct inbox_commit){ref, c->acked + rng_below(r, 4),
                                                         rng_below(r, 20), mark, rng_below(r, 4)});
        break;
    case 7:
        inbox_command_receive(out, &ref, (uint16_t)rng_between(r, 1, 4));
        break;
    case 8:
        inbox_command_release(out, &ref, (uint16_t)rng_between(r, 1, 4));
        break;
    case 9:
        if (rng_below(r, 8) == 0)
            inbox_command_delete(out, &ref);
        else
            (void)w->r.ops->tick(w->r.m, hlc_of_ms(w->ms), out);
        break;
    default:
        put_insert(r, out, m);
    }
    if (out->n == 0)
        put_insert(r, out, m);
}

/* Follows what the reply says about one client. */
static void learn(struct model *m, struct world *w)
{
    struct buf reply = {0};
    for (size_t i = 0; i < CLIENTS; i++) {
        struct inbox_state s;
        w->query.n = reply.n = 0;
        inbox_query_state(&w->query, STR("t"), str_of(m->c[i].name));
        ck_assert_int_eq(replica_query(&w->r, 0, buf_str(&w->query), &reply), 0);
        ck_assert(inbox_reply_state(buf_str(&reply), &s));
        if (s.outcome != INBOX_OK) {
            m->c[i].is_there = false;
            continue;
        }
        if (m->c[i].incarnation == s.incarnation) {
            ck_assert_uint_ge(s.acked, m->c[i].acked);
            ck_assert_uint_ge(s.next, m->c[i].next);
            ck_assert_uint_ge(s.mod, m->c[i].mod);
        }
        m->c[i].is_there = true;
        m->c[i].incarnation = s.incarnation;
        m->c[i].mod = s.mod;
        m->c[i].acked = s.acked;
        m->c[i].next = s.next;
    }
    buf_deinit(&reply);
}

/* Cut anywhere, both halves are what their rows make. */
static void cut(struct rng *r, const struct replica *of)
{
    struct replica left, right, copy;
    char key[3] = {(char)('s' + rng_below(r, 3)), 0, (char)(rng_below(r, 16) << 4)};
    replica_copy(&left, of, NULL);
    replica_split(&left, &right, str_view(key, sizeof key));
    const struct replica *half[] = {&left, &right};
    for (size_t i = 0; i < countof(half); i++) {
        inbox_machine_check(half[i]->m);
        replica_copy(&copy, half[i], NULL);
        ck_assert_uint_eq(copy.ops->state_hash(copy.m), copy.ops->state_hash(half[i]->m));
        ck_assert_uint_eq(copy.ops->tick(copy.m, 1, &copy.out.reply),
                          copy.ops->tick(half[i]->m, 1, &copy.out.reply));
        replica_close(&copy);
    }
    replica_close(&right);
    replica_close(&left);
}

START_TEST(replicas_agree)
{
    struct world a, b;
    struct model m = {.text = 0};
    struct rng r;
    world_open(&a);
    world_open(&b);
    rng_init(&r, (uint64_t)_i + 1);
    for (size_t i = 0; i < CLIENTS; i++)
        snprintf(m.c[i].name, sizeof m.c[i].name, "c%d", (int)i);
    for (int step = 0; step < 3000; step++) {
        a.ms += rng_below(&r, 3000);
        put_random(&r, &b.command, &m, &a);
        uint64_t hlc = hlc_of_ms(a.ms) + (uint64_t)step % 60000;
        struct str one = replica_apply(&a.r, hlc, buf_str(&b.command), true);
        struct str two = replica_apply(&b.r, hlc, buf_str(&b.command), false);
        b.command.n = 0;
        ck_assert(str_eq(one, two));
        for (size_t i = 0; i < a.r.out.effect_count; i++) {
            struct inbox_effect e;
            ck_assert(inbox_effect_decode(range_out_effect_get(&a.r.out, i), &e));
            if (e.kind == INBOX_EFFECT_WILL && rng_below(&r, 3) == 0) {
                struct buf done = {0};
                inbox_command_will_done(&done, e.tenant, e.client, e.will_id);
                replica_apply(&b.r, hlc, buf_str(&done), false);
                replica_apply(&a.r, hlc, buf_str(&done), true);
                buf_deinit(&done);
                break; /* the effects of before are gone */
            }
        }
        inbox_machine_check(a.r.m);
        uint64_t want = a.r.ops->state_hash(a.r.m);
        ck_assert_uint_eq(b.r.ops->state_hash(b.r.m), want);
        learn(&m, &a);
        if (step % 16 == 0) {
            struct replica c;
            replica_copy(&c, &b.r, NULL);
            inbox_machine_check(c.m);
            ck_assert_uint_eq(c.ops->state_hash(c.m), want);
            replica_close(&c);
            cut(&r, &b.r);
            if (rng_below(&r, 3) == 0)
                replica_reload(&b.r);
        }
    }
    world_close(&a);
    world_close(&b);
}
END_TEST

/* One subscriber, a careless world: resumes, reloads, acks in any order.  Every message that was
 * answered with OK arrives, in order, and none twice once its phase says it was received. */
START_TEST(nothing_lost)
{
    struct world w;
    struct rng r;
    world_open(&w);
    rng_init(&r, (uint64_t)_i + 50);
    struct inbox_attach a = attach_of("c", 1);
    a.limit = 1000;
    a.window = 10;
    struct inbox_ref ref = attach(&w, &a);
    uint64_t stored = 0, seen = 0;
    for (int step = 0; step < 2000; step++) {
        char text[32];
        uint64_t kind = rng_below(&r, 10);
        if (kind < 5) {
            snprintf(text, sizeof text, "%d", (int)stored + 1);
            if (insert(&w, &ref, 1, text, 0, 0) == INBOX_OK)
                stored++;
        } else if (kind < 6) {
            replica_reload(&w.r);
        } else if (kind < 7) {
            a.owner.node.b[0] = (uint8_t)rng_between(&r, 1, 3);
            ref = attach(&w, &a);
            ck_assert(w.reply.is_present);
            ck_assert_uint_eq(w.reply.acked, seen);
            ck_assert_uint_eq(w.reply.next, stored + 1);
        } else if (seen < stored) {
            struct str got = backlog(&w, &ref, false, 0);
            for (uint64_t take = rng_between(&r, 1, 5); take > 0 && seen < stored; take--) {
                struct str one;
                ck_assert(str_next(&got, '|', &one));
                snprintf(text, sizeof text, "%d:%d", (int)seen + 1, (int)seen + 1);
                ck_str(one, str_of(text));
                seen++;
                if (got.p == NULL)
                    break;
            }
            ck_assert_uint_eq(commit(&w, &ref, seen, 0, 0), INBOX_OK);
        }
    }
    ck_assert_uint_gt(stored, 900);
    world_close(&w);
}
END_TEST

Suite *model_suite(void)
{
    Suite *s = suite_create("inbox model");
    TCase *t = tcase_create("model");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, replicas_agree, 0, 6);
    tcase_add_loop_test(t, nothing_lost, 0, 3);
    suite_add_tcase(s, t);
    return s;
}
