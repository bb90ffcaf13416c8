/* Each command of the inbox: outcomes, fences, queues, phases, wills, bodies.
 * SPDX-License-Identifier: Apache-2.0 */
#include "unit/inbox/inbox_unit.h"

START_TEST(attach_and_fence)
{
    struct world w;
    world_open(&w);
    struct inbox_attach a = attach_of("c", 1);
    struct inbox_ref one = attach(&w, &a);
    ck_assert(!w.reply.is_present);
    ck_assert_uint_eq(one.mod, 1);
    ck_assert_uint_eq(w.reply.next, 1);

    a.owner.node.b[0] = 2;
    struct inbox_effect e;
    struct inbox_ref two = attach(&w, &a);
    ck_assert(w.reply.is_present);
    ck_assert_uint_eq(two.incarnation, one.incarnation);
    ck_assert_uint_eq(two.mod, 2);
    ck_assert_uint_eq(w.reply.old.node.b[0], 1);
    ck_assert_uint_eq(w.reply.old.shard, 3);
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_TAKEN, &e), 1);
    ck_assert_uint_eq(e.owner.node.b[0], 1);

    ck_assert_uint_eq(detach(&w, &one, 100, true), INBOX_E_CONFLICT);
    ck_assert_uint_eq(commit(&w, &one, 0, 0, 0), INBOX_E_CONFLICT);
    inbox_command_receive(&w.command, &one, 1);
    ck_assert_uint_eq(apply(&w), INBOX_E_CONFLICT);
    struct inbox_sub sub = {STR("a/+"), 1, 5};
    inbox_command_sub(&w.command, &one, &sub, 0);
    ck_assert_uint_eq(apply(&w), INBOX_E_CONFLICT);

    a.clean_start = true;
    struct inbox_ref three = attach(&w, &a);
    ck_assert(!w.reply.is_present);
    ck_assert(three.incarnation != two.incarnation);
    ck_assert_uint_eq(detach(&w, &two, 100, true), INBOX_E_NONE);
    ck_assert_uint_eq(insert(&w, &two, 1, "x", 0, 0), INBOX_E_NONE);
    ck_assert_uint_eq(detach(&w, &three, 0, false), INBOX_OK);
    ck_assert_uint_eq(w.r.row_count, 0);
    ck_assert_uint_eq(detach(&w, &three, 0, false), INBOX_E_NONE);

    a.limit = 0;
    inbox_command_attach(&w.command, &a);
    ck_assert_uint_eq(apply(&w), INBOX_E_INVALID);
    a.limit = 1;
    a.client = STR("");
    inbox_command_attach(&w.command, &a);
    ck_assert_uint_eq(apply(&w), INBOX_E_INVALID);
    a.client = str_view("a\0b", 3);
    inbox_command_attach(&w.command, &a);
    ck_assert_uint_eq(apply(&w), INBOX_E_INVALID);
    buf_put_str(&w.command, STR("\xB0"));
    ck_assert_uint_eq(apply(&w), INBOX_E_INVALID);
    world_close(&w);
}
END_TEST

START_TEST(subscriptions)
{
    struct world w;
    world_open(&w);
    struct inbox_attach a = attach_of("c", 1);
    struct inbox_ref ref = attach(&w, &a);
    struct inbox_sub sub = {STR("a/+"), 1, 5};
    inbox_command_sub(&w.command, &ref, &sub, 2);
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    uint64_t first = w.reply.hlc;
    sub.options = 2;
    inbox_command_sub(&w.command, &ref, &sub, 1); /* at the limit, but it was there */
    ck_assert_uint_eq(apply(&w), INBOX_E_EXISTS);
    ck_assert_uint_eq(w.reply.options, 1);
    ck_assert_uint_gt(w.reply.hlc, first);
    sub.filter = STR("$share/g/b");
    inbox_command_sub(&w.command, &ref, &sub, 1);
    ck_assert_uint_eq(apply(&w), INBOX_E_FULL);
    inbox_command_sub(&w.command, &ref, &sub, 2);
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    inbox_command_unsub(&w.command, &ref, STR("zzz"));
    ck_assert_uint_eq(apply(&w), INBOX_E_NO_SUB);
    inbox_command_unsub(&w.command, &ref, STR("a/+"));
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    ck_assert_uint_eq(w.reply.options, 2);
    replica_reload(&w.r);
    inbox_command_delete(&w.command, &(struct inbox_ref){ref.tenant, ref.client, 0, 0});
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    struct inbox_effect e;
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_GONE, &e), 1);
    ck_assert(inbox_effect_filter(&e.rest, &sub));
    ck_str(sub.filter, STR("$share/g/b"));
    ck_assert(!inbox_effect_filter(&e.rest, &sub));
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_TAKEN, &e), 1);
    ck_assert_uint_eq(w.r.row_count, 0);
    world_close(&w);
}
END_TEST

START_TEST(queue_and_phases)
{
    struct world w;
    world_open(&w);
    struct inbox_attach a = attach_of("c", 1);
    struct inbox_ref ref = attach(&w, &a);
    struct inbox_effect e;
    struct inbox_push p;
    ck_assert_uint_eq(insert(&w, &ref, 1, "m1", 0, 0), INBOX_OK);
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_PUSH, &e), 1);
    ck_str(e.message, STR("m1"));
    ck_assert_uint_eq(e.owner.shard, 3);
    ck_assert(inbox_effect_push(&e.rest, &p));
    ck_assert_uint_eq(p.seq, 1);
    ck_assert_uint_eq(p.mod, ref.mod);
    ck_assert_uint_eq(p.sub_id[1], 70000);
    ck_assert(!inbox_effect_push(&e.rest, &p));
    for (int i = 2; i <= 10; i++) {
        char m[8];
        snprintf(m, sizeof m, "m%d", i);
        ck_assert_uint_eq(insert(&w, &ref, 2, m, 0, 0), INBOX_OK);
        ck_assert_uint_eq(effects(&w, INBOX_EFFECT_PUSH, &e), i <= 5);
        ck_assert_uint_eq(effects(&w, INBOX_EFFECT_MORE, &e), i == 6);
    }
    ck_assert_uint_eq(insert(&w, &ref, 1, "m11", 0, 0), INBOX_E_DROPPED);
    ck_str(backlog(&w, &ref, false, 8), STR("8:m8|9:m9|10:m10"));
    ck_assert_uint_eq(commit(&w, &ref, 2, 4, INBOX_PHASE_RECEIVED), INBOX_OK);
    ck_assert_uint_eq(w.reply.acked, 2);
    ck_assert_uint_eq(w.reply.next, 11);
    ck_assert_uint_eq(commit(&w, &ref, 1, 5, INBOX_PHASE_DONE),
                      INBOX_OK); /* acked never goes back */
    ck_assert_uint_eq(w.reply.acked, 2);
    ck_assert_uint_eq(commit(&w, &ref, 0, 5, INBOX_PHASE_RECEIVED),
                      INBOX_OK); /* nor does a phase */
    ck_str(backlog(&w, &ref, false, 0), STR("3:m3|6:m6|7:m7|8:m8|9:m9|10:m10"));
    uint64_t hash = w.r.ops->state_hash(w.r.m);
    replica_reload(&w.r);
    ck_assert_uint_eq(w.r.ops->state_hash(w.r.m), hash);
    a.owner.node.b[0] = 2;
    ref = attach(&w, &a);
    struct inbox_mark mark;
    ck_assert(inbox_reply_mark(&w.reply.marks, &mark));
    ck_assert_uint_eq(mark.seq, 4);
    ck_assert_uint_eq(mark.phase, INBOX_PHASE_RECEIVED);
    ck_assert(inbox_reply_mark(&w.reply.marks, &mark));
    ck_assert_uint_eq(mark.seq, 5);
    ck_assert_uint_eq(mark.phase, INBOX_PHASE_DONE);
    ck_assert(!inbox_reply_mark(&w.reply.marks, &mark));
    ck_assert_uint_eq(commit(&w, &ref, 1000, 0, 0), INBOX_OK); /* beyond what was given: all */
    ck_assert_uint_eq(w.reply.acked, 10);
    ck_str(backlog(&w, &ref, false, 0), STR(""));
    replica_reload(&w.r);
    ck_assert_uint_eq(insert(&w, &ref, 1, "n", 0, 0), INBOX_OK);
    ck_str(backlog(&w, &ref, false, 0),
           STR("11:n")); /* seqs go on, so packet ids do not come again */
    world_close(&w);
}
END_TEST

START_TEST(qos0)
{
    struct world w;
    world_open(&w);
    struct inbox_attach a = attach_of("c", 1);
    struct inbox_effect e;
    struct inbox_push p;
    a.limit = 3;
    struct inbox_ref ref = attach(&w, &a);
    size_t rows = w.r.row_count;
    ck_assert_uint_eq(insert(&w, &ref, 0, "online", 0, 0), INBOX_E_PUSHED);
    ck_assert_uint_eq(w.r.row_count, rows);
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_PUSH, &e), 1);
    ck_assert(inbox_effect_push(&e.rest, &p));
    ck_assert_uint_eq(p.seq, 0);
    ck_assert_uint_eq(detach(&w, &ref, 100, true), INBOX_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_uint_eq(insert(&w, &ref, 0, "o", 0, 0), INBOX_OK);
    ck_assert_uint_eq(insert(&w, &ref, 0, "x", 0, 0), INBOX_E_DROPPED);
    a.qos0_drop_oldest = true;
    ref = attach(&w, &a);
    ck_assert_uint_eq(w.reply.qos0_next, 4);
    ck_assert_uint_eq(detach(&w, &ref, 100, true), INBOX_OK);
    ck_assert_uint_eq(insert(&w, &ref, 0, "x", 0, 0), INBOX_E_DISPLACED);
    ck_str(backlog(&w, &ref, true, 0), STR("2:o|3:o|4:x"));
    uint64_t hash = w.r.ops->state_hash(w.r.m);
    replica_reload(&w.r);
    ck_assert_uint_eq(w.r.ops->state_hash(w.r.m), hash);
    ref = attach(&w, &a);
    ck_assert_uint_eq(insert(&w, &ref, 0, "y", 0, 0), INBOX_E_DISPLACED); /* behind the backlog */
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_PUSH, &e), 1);
    ck_assert(inbox_effect_push(&e.rest, &p));
    ck_assert_uint_eq(p.seq, 5);
    inbox_command_commit(&w.command, &(struct inbox_commit){.ref = ref, .qos0_acked = 5});
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    ck_assert_uint_eq(insert(&w, &ref, 0, "z", 0, 0), INBOX_E_PUSHED);
    world_close(&w);
}
END_TEST

START_TEST(byte_limit)
{
    struct world w;
    world_open(&w);
    struct inbox_attach a = attach_of("c", 1);
    a.byte_max = 10;
    a.qos0_drop_oldest = true;
    struct inbox_ref ref = attach(&w, &a);
    ck_assert_uint_eq(insert(&w, &ref, 1, "12345678", 0, 0), INBOX_OK);
    ck_assert_uint_eq(insert(&w, &ref, 1, "123", 0, 0), INBOX_E_DROPPED);
    ck_assert_uint_eq(insert(&w, &ref, 1, "12", 0, 0), INBOX_OK);
    ck_assert_uint_eq(commit(&w, &ref, 0, 1, INBOX_PHASE_RECEIVED), INBOX_OK);
    ck_assert_uint_eq(insert(&w, &ref, 1, "123", 0, 0), INBOX_OK); /* a released one has no bytes */
    ck_assert_uint_eq(detach(&w, &ref, 100, true), INBOX_OK);
    ck_assert_uint_eq(insert(&w, &ref, 0, "12345", 0, 0), INBOX_OK);
    ck_assert_uint_eq(insert(&w, &ref, 0, "123456789", 0, 0),
                      INBOX_E_DROPPED); /* and drops the other in vain */
    uint64_t hash = w.r.ops->state_hash(w.r.m);
    replica_reload(&w.r);
    ck_assert_uint_eq(w.r.ops->state_hash(w.r.m), hash);
    world_close(&w);
}
END_TEST

/* A member of a shared subscription that is away: another one can take it. */
START_TEST(only_who_is_connected)
{
    struct world w;
    world_open(&w);
    struct inbox_attach a = attach_of("c", 1);
    struct inbox_ref ref = attach(&w, &a);
    ck_assert_uint_eq(insert_for_held(&w, &ref, 1, "here"), INBOX_OK);
    ck_assert_uint_eq(insert_for_held(&w, &ref, 0, "here"), INBOX_E_PUSHED);
    ck_assert_uint_eq(detach(&w, &ref, 100, true), INBOX_OK);
    uint64_t hash = w.r.ops->state_hash(w.r.m);
    ck_assert_uint_eq(insert_for_held(&w, &ref, 1, "away"), INBOX_E_AWAY);
    ck_assert_uint_eq(insert_for_held(&w, &ref, 0, "away"), INBOX_E_AWAY);
    ck_assert_uint_eq(w.r.ops->state_hash(w.r.m), hash);
    ck_assert_uint_eq(insert(&w, &ref, 1, "nobody else", 0, 0), INBOX_OK);
    ref = attach(&w, &a);
    ck_assert_uint_eq(w.reply.next, 3);
    ck_assert_uint_eq(insert_for_held(&w, &ref, 1, "back"), INBOX_OK);
    world_close(&w);
}
END_TEST

START_TEST(inbound_qos2)
{
    struct world w;
    world_open(&w);
    struct inbox_attach a = attach_of("c", 1);
    struct inbox_ref ref = attach(&w, &a);
    inbox_command_receive(&w.command, &ref, 9);
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    ck_assert_uint_eq(w.reply.exchange, 1);
    ck_assert_uint_eq(w.reply.floor, 1);
    inbox_command_receive(&w.command, &ref, 9);
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    ck_assert_uint_eq(w.reply.exchange, 1);
    ck_assert(w.reply.is_present);
    inbox_command_receive(&w.command, &ref, 8);
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    ck_assert_uint_eq(w.reply.exchange, 2);
    a.owner.node.b[0] = 2;
    replica_reload(&w.r);
    ref = attach(&w, &a);
    uint16_t id;
    uint64_t exchange, sum = 0;
    while (inbox_reply_received(&w.reply.received, &id, &exchange))
        sum += id * exchange;
    ck_assert_uint_eq(sum, 9 * 1 + 8 * 2);
    inbox_command_release(&w.command, &ref, 9);
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    ck_assert(w.reply.is_present);
    ck_assert_uint_eq(w.reply.floor, 2);
    inbox_command_release(&w.command, &ref, 9);
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    ck_assert(!w.reply.is_present);
    inbox_command_release(&w.command, &ref, 8);
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    replica_reload(&w.r);
    inbox_command_receive(&w.command, &ref, 9);
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    ck_assert_uint_eq(w.reply.exchange, 3); /* never a number twice */
    inbox_command_receive(&w.command, &ref, 0);
    ck_assert_uint_eq(apply(&w), INBOX_E_INVALID);
    world_close(&w);
}
END_TEST

START_TEST(duplicates)
{
    struct world w;
    world_open(&w);
    struct inbox_attach a = attach_of("c", 1);
    struct inbox_ref ref = attach(&w, &a);
    ck_assert_uint_eq(insert(&w, &ref, 2, "m", 77, 1), INBOX_OK);
    ck_assert_uint_eq(insert(&w, &ref, 2, "m", 77, 1), INBOX_E_DUPLICATE);
    ck_assert_uint_eq(insert(&w, &ref, 2, "m", 78, 1), INBOX_OK);
    ck_assert_uint_eq(commit(&w, &ref, 2, 0, 0), INBOX_OK);
    ck_assert_uint_eq(insert(&w, &ref, 2, "m", 77, 1), INBOX_E_DUPLICATE);
    ck_assert_uint_eq(insert(&w, &ref, 0, "m", 77, 2), INBOX_E_PUSHED);
    ck_assert_uint_eq(insert(&w, &ref, 0, "m", 77, 2), INBOX_E_DUPLICATE);
    ck_assert_uint_eq(insert(&w, &ref, 2, "m", 77, 3), INBOX_OK);
    ck_assert_uint_eq(commit(&w, &ref, 0, 3, INBOX_PHASE_RECEIVED), INBOX_OK);
    replica_reload(&w.r);
    ck_assert_uint_eq(insert(&w, &ref, 2, "m", 77, 1), INBOX_E_DUPLICATE);
    ck_assert_uint_eq(insert(&w, &ref, 2, "m", 77, 2), INBOX_E_DUPLICATE);
    ck_assert_uint_eq(insert(&w, &ref, 2, "m", 77, 3), INBOX_E_DUPLICATE);
    ck_assert_uint_eq(insert(&w, &ref, 1, "m", 0, 3), INBOX_OK);
    world_close(&w);
}
END_TEST

START_TEST(wills)
{
    struct world w;
    struct inbox_effect e;
    world_open(&w);
    struct inbox_attach a = attach_of("c", 1);
    a.will = STR("bye");
    a.will_delay_sec = 10;
    struct inbox_ref ref = attach(&w, &a);
    ck_assert_uint_eq(detach(&w, &ref, 100, true), INBOX_OK);
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_WILL, &e), 0);
    ck_assert_uint_eq(pass(&w, 9999), 0);
    replica_reload(&w.r); /* a new leader */
    ck_assert_uint_eq(pass(&w, 1), 1);
    replica_reload(&w.r); /* and another: nobody has confirmed */
    ck_assert_uint_eq(pass(&w, 0), 1);
    ck_assert_uint_eq(pass(&w, INBOX_WILL_RETRY_MS - 1), 0);
    ck_assert_uint_eq(pass(&w, 1), 1);
    w.ms += INBOX_WILL_RETRY_MS;
    (void)w.r.ops->tick(w.r.m, (w.ms << 16) + 5, &w.command);
    apply(&w);
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_WILL, &e), 1);
    ck_str(e.message, STR("bye"));
    ck_assert_uint_eq(e.incarnation, ref.incarnation);
    inbox_command_will_done(&w.command, e.tenant, e.client, e.will_id);
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    ck_assert_uint_eq(pass(&w, INBOX_WILL_RETRY_MS), 0);
    ck_assert_uint_eq(pass(&w, 200000), 0); /* the session has ended too */
    ck_assert_uint_eq(w.r.row_count, 0);

    ref = attach(&w, &a); /* a resume in time cancels a delayed will */
    ck_assert_uint_eq(detach(&w, &ref, 100, true), INBOX_OK);
    w.ms += 9999;
    ref = attach(&w, &a);
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_WILL, &e), 0);
    ck_assert_uint_eq(detach(&w, &ref, 100, false), INBOX_OK); /* a normal DISCONNECT too */
    ck_assert_uint_eq(pass(&w, 50000), 0);

    a.will_delay_sec = 0;
    ref = attach(&w, &a);
    a.owner.node.b[0] = 2;
    ref = attach(&w, &a); /* taken over: the old connection's will is due now */
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_WILL, &e), 1);
    uint64_t id = e.will_id;
    a.clean_start = true;
    ref = attach(&w, &a); /* the session ends */
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_WILL, &e), 1);
    ck_assert(e.will_id != id);
    ck_assert_uint_eq(detach(&w, &ref, 0, true),
                      INBOX_OK); /* expiry 0: now, and nothing is left but the wills */
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_WILL, &e), 1);
    ck_assert_uint_eq(w.r.row_count, 3);

    a.will_delay_sec = 1000; /* the session's end comes first */
    ref = attach(&w, &a);
    ck_assert_uint_eq(detach(&w, &ref, 20, true), INBOX_OK);
    ck_assert_uint_eq(pass(&w, 0), 0);
    w.ms += 20000;
    w.command.n = 0;
    (void)w.r.ops->tick(w.r.m, w.ms << 16, &w.command);
    apply(&w);
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_GONE, &e), 1);
    world_close(&w);
}
END_TEST

/* Without expiry a session ends with its connection: who takes it over finds none, and a delayed will is due. */
START_TEST(taken_over_without_expiry)
{
    struct world w;
    struct inbox_effect e;
    world_open(&w);
    struct inbox_attach a = attach_of("c", 1);
    a.expiry_sec = 0;
    a.will = STR("bye");
    a.will_delay_sec = 10;
    struct inbox_ref ref = attach(&w, &a);
    ck_assert_uint_eq(insert(&w, &ref, 1, "x", 0, 0), INBOX_OK);
    a.owner.node.b[0] = 2;
    struct inbox_ref next = attach(&w, &a);
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_WILL, &e), 1);
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_GONE, &e), 1);
    ck_assert(next.incarnation != ref.incarnation);
    ck_assert_uint_eq(insert(&w, &ref, 1, "x", 0, 0), INBOX_E_NONE);
    ck_assert_uint_eq(insert(&w, &next, 1, "x", 0, 0), INBOX_OK);
    world_close(&w);
}
END_TEST

START_TEST(expiry)
{
    struct world w;
    world_open(&w);
    struct inbox_attach a = attach_of("c", 1), never = attach_of("d", 1);
    struct inbox_ref ref = attach(&w, &a), ever = attach(&w, &never);
    ck_assert_uint_eq(detach(&w, &ref, 100, true), INBOX_OK);
    ck_assert_uint_eq(detach(&w, &ever, INBOX_NEVER, true), INBOX_OK);
    pass(&w, 99999);
    ck_assert_uint_eq(insert(&w, &ref, 1, "x", 0, 0), INBOX_OK);
    pass(&w, 1);
    ck_assert_uint_eq(insert(&w, &ref, 1, "x", 0, 0), INBOX_E_NONE);
    pass(&w, UINT64_C(1) << 40);
    ck_assert_uint_eq(insert(&w, &ever, 1, "x", 0, 0), INBOX_OK);
    w.query.n = w.command.n = 0;
    inbox_query_expire(&w.query, STR("t"), 10, 100);
    ck_assert_int_eq(replica_query(&w.r, w.ms << 16, buf_str(&w.query), &w.command), 0);
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    ck_assert_uint_eq(w.r.row_count, 0);
    /* an attach behind the expiry finds a new session, even if nobody has collected the old one */
    ref = attach(&w, &a);
    ck_assert_uint_eq(detach(&w, &ref, 100, true), INBOX_OK);
    w.ms += 100000;
    ref = attach(&w, &a);
    ck_assert(!w.reply.is_present);
    world_close(&w);
}
END_TEST

START_TEST(dead_owner)
{
    struct world w;
    struct inbox_effect e;
    char name[8];
    world_open(&w);
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "c%d", i);
        struct inbox_attach a = attach_of(name, (uint8_t)(1 + i % 2));
        a.owner.shard = (uint32_t)i % 3;
        a.will = STR("bye");
        attach(&w, &a);
    }
    struct inbox_owner dead = {.node = {{1}}, .epoch = 1};
    unsigned offered = 0, rounds = 0;
    for (;; rounds++) {
        w.query.n = w.command.n = 0;
        inbox_query_dead(&w.query, &dead, 4);
        ck_assert_int_eq(replica_query(&w.r, 0, buf_str(&w.query), &w.command), 0);
        if (w.command.n == 0)
            break;
        ck_assert_uint_eq(apply(&w), INBOX_OK);
        offered += effects(&w, INBOX_EFFECT_WILL, &e);
    }
    ck_assert_uint_eq(offered, 15);
    ck_assert_uint_eq(rounds, 4);
    struct buf reply = {0};
    struct inbox_owner o;
    uint64_t count, sum = 0;
    w.query.n = 0;
    inbox_query_owners(&w.query);
    ck_assert_int_eq(replica_query(&w.r, 0, buf_str(&w.query), &reply), 0);
    for (struct str rest = buf_str(&reply); inbox_reply_owner(&rest, &o, &count); sum += count)
        ck_assert_uint_eq(o.node.b[0], 2);
    ck_assert_uint_eq(sum, 15);
    struct inbox_stat stat;
    w.query.n = reply.n = 0;
    inbox_query_stat(&w.query, STR("t"));
    ck_assert_int_eq(replica_query(&w.r, 0, buf_str(&w.query), &reply), 0);
    ck_assert(inbox_reply_stat(buf_str(&reply), &stat));
    ck_assert_uint_eq(stat.sessions, 30);
    ck_assert_uint_eq(stat.attached, 15);
    buf_deinit(&reply);
    world_close(&w);
}
END_TEST

START_TEST(bodies)
{
    struct world w;
    struct inbox_ref ref[200];
    char name[200][8], big[300];
    world_open(&w);
    memset(big, 'b', sizeof big);
    for (int i = 0; i < 200; i++) {
        snprintf(name[i], sizeof name[i], "c%d", i);
        struct inbox_attach a = attach_of(name[i], 1);
        ref[i] = attach(&w, &a);
    }
    size_t rows = w.r.row_count;
    inbox_command_insert(&w.command);
    for (int k = 0; k < 2; k++) {
        static const uint32_t ids[] = {7, 70000};
        inbox_command_insert_message(
            &w.command, &(struct inbox_message){.tenant = STR("t"), .bytes = {big, sizeof big}});
        for (int i = 0; i < 200; i++)
            inbox_command_insert_receiver(
                &w.command,
                &(struct inbox_receiver){ref[i].client, ref[i].incarnation, 1, 8, 2, ids});
    }
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    ck_assert_uint_eq(w.reply.results.n, 400);
    ck_assert_uint_eq(w.r.row_count, rows + 400 + 2 * 16);
    struct inbox_effect e;
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_PUSH, &e), 2); /* one for the owner and message */
    ck_str(backlog(&w, &ref[3], false, 0), STR("1:bbbbbbbb|2:bbbbbbbb"));
    uint64_t hash = w.r.ops->state_hash(w.r.m);
    replica_reload(&w.r);
    ck_assert_uint_eq(w.r.ops->state_hash(w.r.m), hash);
    inbox_machine_check(w.r.m);
    for (int i = 0; i < 200; i++) {
        if (i % 2 == 0)
            ck_assert_uint_eq(commit(&w, &ref[i], 2, 0, 0), INBOX_OK);
        else
            ck_assert_uint_eq(detach(&w, &ref[i], 0, true), INBOX_OK);
        inbox_machine_check(w.r.m);
    }
    ck_assert_uint_eq(w.r.row_count, 100 * 3); /* m, i and k of those that stay; no body */
    world_close(&w);
}
END_TEST

/* An owner hears of what was not pushed with every commit, from a new leader, and again while
 * nothing moves. */
START_TEST(owners_are_told)
{
    struct world w;
    struct inbox_effect e;
    world_open(&w);
    struct inbox_attach a = attach_of("c", 1);
    a.window = 2;
    struct inbox_ref ref = attach(&w, &a);
    for (int i = 0; i < 6; i++)
        ck_assert_uint_eq(insert(&w, &ref, 1, "m", 0, 0), INBOX_OK);
    for (uint64_t acked = 1; acked <= 3; acked++) { /* 5, 4 and 3 are left: more than was pushed */
        ck_assert_uint_eq(commit(&w, &ref, acked, 0, 0), INBOX_OK);
        ck_assert_uint_eq(effects(&w, INBOX_EFFECT_MORE, &e), 1);
        ck_assert_uint_eq(e.next, 7);
    }
    ck_assert_uint_eq(commit(&w, &ref, 4, 0, 0), INBOX_OK); /* from 3 to 2: it fits from now on */
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_MORE, &e), 1);
    ck_assert_uint_eq(commit(&w, &ref, 5, 0, 0), INBOX_OK);
    ck_assert_uint_eq(effects(&w, INBOX_EFFECT_MORE, &e), 0);
    replica_reload(&w.r);
    unsigned told = 0;
    for (uint64_t ms = 0; ms < 4 * INBOX_NUDGE_MS; ms += 100) {
        w.ms += 100;
        w.command.n = 0;
        (void)w.r.ops->tick(w.r.m, w.ms << 16, &w.command);
        if (w.command.n == 0)
            continue;
        apply(&w);
        told += effects(&w, INBOX_EFFECT_MORE, &e);
    }
    ck_assert_uint_ge(told, 3); /* at once, and every INBOX_NUDGE_MS */
    ck_assert_uint_le(told, 5);
    ck_assert_uint_eq(commit(&w, &ref, 6, 0, 0), INBOX_OK);
    w.command.n = 0;
    ck_assert_uint_eq(w.r.ops->tick(w.r.m, w.ms << 16, &w.command), UINT64_MAX);
    world_close(&w);
}
END_TEST

START_TEST(state_query)
{
    struct world w;
    world_open(&w);
    struct inbox_attach a = attach_of("c", 1);
    a.will = STR("bye");
    struct inbox_ref ref = attach(&w, &a);
    struct inbox_sub sub = {STR("a/+"), 1, 5};
    inbox_command_sub(&w.command, &ref, &sub, 2);
    ck_assert_uint_eq(apply(&w), INBOX_OK);
    struct buf reply = {0};
    struct inbox_state s;
    inbox_query_state(&w.query, STR("t"), STR("c"));
    ck_assert_int_eq(replica_query(&w.r, 0, buf_str(&w.query), &reply), 0);
    ck_assert(inbox_reply_state(buf_str(&reply), &s));
    ck_assert_uint_eq(s.outcome, INBOX_OK);
    ck_assert_uint_eq(s.incarnation, ref.incarnation);
    ck_assert_uint_eq(s.sub_count, 1);
    ck_assert(s.has_will);
    ck_str(s.info, STR("info"));
    ck_assert(inbox_effect_filter(&s.filters, &sub));
    ck_str(sub.filter, STR("a/+"));
    w.query.n = reply.n = 0;
    inbox_query_state(&w.query, STR("t"), STR("nobody"));
    ck_assert_int_eq(replica_query(&w.r, 0, buf_str(&w.query), &reply), 0);
    ck_assert(inbox_reply_state(buf_str(&reply), &s));
    ck_assert_uint_eq(s.outcome, INBOX_E_NONE);
    ref.incarnation++;
    ck_str(backlog(&w, &ref, false, 0), STR("outcome 1"));
    buf_deinit(&reply);
    world_close(&w);
}
END_TEST

/* The page behind `after` with this prefix: names separated by ' ', "+" when there are more. */
static struct str listed(struct world *w, const char *prefix, const char *after, uint32_t max)
{
    static char text[256];
    struct inbox_list l;
    struct inbox_state s;
    struct str client;
    struct buf reply = {0};
    text[0] = 0;
    w->query.n = 0;
    inbox_query_list(&w->query, STR("t"), str_of(prefix), str_of(after), max);
    ck_assert_int_eq(replica_query(&w->r, 0, buf_str(&w->query), &reply), 0);
    ck_assert(inbox_list_begin(buf_str(&reply), &l));
    while (inbox_list_next(&l, &client, &s)) {
        ck_assert_uint_gt(s.incarnation, 0);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%.*s ", STR_ARG(client));
    }
    ck_assert(!l.is_bad);
    if (l.is_more)
        snprintf(text + strlen(text), sizeof text - strlen(text), "+");
    buf_deinit(&reply);
    return str_of(text);
}

START_TEST(sessions_are_listed_in_order_and_by_pages)
{
    struct world w;
    world_open(&w);
    ck_str(listed(&w, "", "", 10), STR(""));
    static const char *const name[] = {"d", "a2", "b", "a1", "c", "a"};
    for (size_t i = 0; i < countof(name); i++) {
        struct inbox_attach a = attach_of(name[i], 1);
        (void)attach(&w, &a);
    }
    struct inbox_attach other = attach_of("z", 1);
    other.tenant = STR("u");
    (void)attach(&w, &other);
    ck_str(listed(&w, "", "", 10), STR("a a1 a2 b c d "));
    ck_str(listed(&w, "", "", 6), STR("a a1 a2 b c d "));
    ck_str(listed(&w, "", "", 4), STR("a a1 a2 b +"));
    ck_str(listed(&w, "", "b", 4), STR("c d "));
    ck_str(listed(&w, "", "d", 4), STR(""));
    ck_str(listed(&w, "a", "", 2), STR("a a1 +"));
    ck_str(listed(&w, "a", "a1", 2), STR("a2 "));
    ck_str(listed(&w, "x", "", 2), STR(""));
    ck_str(listed(&w, "", "", 0), STR("a +"));
    world_close(&w);
}
END_TEST

START_TEST(split)
{
    struct world w;
    char name[8];
    struct buf key = {0};
    world_open(&w);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "c%d", i);
        struct inbox_attach a = attach_of(name, 1);
        attach(&w, &a);
    }
    w.r.ops->split_key(w.r.m, w.r.row[100].key, &key);
    ck_assert_uint_eq(key.n, 3);
    ck_assert_uint_eq(key.p[2] & 0x0F, 0);
    buf_put_str(&w.r.end, buf_str(&key));
    w.r.is_open = false;
    replica_reload(&w.r);
    unsigned here = 0, moved = 0;
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "c%d", i);
        struct inbox_attach a = attach_of(name, 1);
        inbox_command_attach(&w.command, &a);
        uint8_t got = apply(&w);
        here += got == INBOX_OK && w.reply.is_present;
        moved += got == INBOX_E_MOVED;
    }
    ck_assert_uint_eq(here + moved, 100);
    ck_assert_uint_gt(here, 10);
    ck_assert_uint_gt(moved, 10);
    buf_deinit(&key);
    world_close(&w);
}
END_TEST

Suite *inbox_suite(void)
{
    Suite *s = suite_create("inbox");
    TCase *t = tcase_create("commands");
    tcase_add_test(t, attach_and_fence);
    tcase_add_test(t, subscriptions);
    tcase_add_test(t, queue_and_phases);
    tcase_add_test(t, qos0);
    tcase_add_test(t, byte_limit);
    tcase_add_test(t, only_who_is_connected);
    tcase_add_test(t, inbound_qos2);
    tcase_add_test(t, duplicates);
    tcase_add_test(t, wills);
    tcase_add_test(t, taken_over_without_expiry);
    tcase_add_test(t, expiry);
    tcase_add_test(t, dead_owner);
    tcase_add_test(t, bodies);
    tcase_add_test(t, owners_are_told);
    tcase_add_test(t, state_query);
    tcase_add_test(t, sessions_are_listed_in_order_and_by_pages);
    tcase_add_test(t, split);
    suite_add_tcase(s, t);
    return s;
}
