/* What hosts count on: few messages, little memory, bounded reads.  SPDX-License-Identifier:
 * Apache-2.0 */
#include <malloc.h>

#include "base/mem.h"
#include "raft/raft_priv.h"
#include "unit/raft/suites.h"

/* A leader of three, made by hand: the two others answer what we say they do. */
struct lab {
    struct raft_conf conf;
    struct raft raft;
    struct raft_out out;
    usec_t now;
};

static void step(struct lab *l, struct raft_event ev)
{
    ev.now = l->now;
    raft_out_reset(&l->out);
    raft_step(&l->raft, &ev, &l->out);
    raft_check(&l->raft);
}

static void recv(struct lab *l, struct raft_message m)
{
    m.to = 1;
    if (m.term == 0)
        m.term = l->raft.hard.term;
    step(l, (struct raft_event){.kind = RAFT_EV_RECV, .message = &m});
}

static void persist(struct lab *l)
{
    step(l, (struct raft_event){.kind = RAFT_EV_PERSISTED, .seq = l->raft.seq});
}

static void lab_init(struct lab *l)
{
    struct raft_member m[3];
    for (uint64_t i = 0; i < 3; i++)
        m[i] = (struct raft_member){.id = i + 1, .role = RAFT_VOTER};
    struct raft_config *c = raft_config_new(m, 3, 0);
    *l = (struct lab){.now = 1000 * USEC_SEC};
    raft_conf_default(&l->conf);
    raft_init(&l->raft, &l->conf,
              &(struct raft_boot){.id = 1, .now = l->now, .seed = 1, .is_new = true, .config = c});
    mem_free(c);
}

static void lab_lead(struct lab *l)
{
    step(l, (struct raft_event){.kind = RAFT_EV_CAMPAIGN});
    recv(l, (struct raft_message){.from = 2, .type = RAFT_MSG_PREVOTE_REPLY, .term = 1});
    persist(l);
    recv(l, (struct raft_message){.from = 2, .type = RAFT_MSG_VOTE_REPLY});
    persist(l);
    for (uint64_t p = 2; p <= 3; p++)
        recv(l, (struct raft_message){.from = p, .type = RAFT_MSG_APPEND_REPLY, .index = 1});
    step(l, (struct raft_event){.kind = RAFT_EV_APPLIED, .index = 1});
    ck_assert(raft_status_get(&l->raft).is_ready);
}

static void lab_deinit(struct lab *l)
{
    raft_deinit(&l->raft);
    raft_out_deinit(&l->out);
}

static size_t count(const struct lab *l, uint8_t type)
{
    size_t n = 0;
    for (size_t i = 0; i < l->out.message_count; i++)
        n += l->out.message[i].type == type;
    return n;
}

START_TEST(test_batch_is_one_message)
{
    struct lab l;
    struct str payload[500];
    lab_init(&l);
    lab_lead(&l);
    for (size_t i = 0; i < countof(payload); i++)
        payload[i] = STR("a small command");
    step(&l, (struct raft_event){.kind = RAFT_EV_PROPOSE, .propose = {payload, countof(payload)}});
    ck_assert_int_eq(l.out.outcome, RAFT_OK);
    ck_assert_uint_eq(l.out.index, 2);
    ck_assert_uint_eq(count(&l, RAFT_MSG_APPEND), 2); /* one a peer */
    ck_assert_uint_eq(l.out.message_count, 2);
    ck_assert_uint_eq(l.out.message[0].entry_count, 500);
    ck_assert_ptr_eq(l.out.message[0].entry, l.out.message[1].entry); /* gathered once */
    ck_assert_ptr_eq(l.out.message[0].entry, l.out.persist.entry);
    ck_assert_uint_eq(l.out.persist.entry_count, 500);
    lab_deinit(&l);
}
END_TEST

START_TEST(test_acks_are_joined)
{
    struct lab l;
    struct raft_entry e = {.term = 1, .payload = STR("x")};
    lab_init(&l);
    for (uint64_t i = 0; i < 10; i++) { /* ten appends before the disk comes round */
        e.index = i + 1;
        recv(&l, (struct raft_message){.from = 2,
                                       .type = RAFT_MSG_APPEND,
                                       .term = 1,
                                       .index = i,
                                       .log_term = i > 0,
                                       .entry = &e,
                                       .entry_count = 1});
        ck_assert_uint_eq(l.out.message_count, 0);
    }
    persist(&l);
    ck_assert_uint_eq(l.out.message_count, 1);
    ck_assert_uint_eq(l.out.message[0].index, 10);
    lab_deinit(&l);
}
END_TEST

START_TEST(test_reads_share_a_round)
{
    struct lab l;
    lab_init(&l);
    l.conf.has_lease = false;
    lab_lead(&l);
    size_t rounds = 0, done = 0;
    for (uint64_t i = 1; i <= 10000; i++) {
        step(&l, (struct raft_event){.kind = RAFT_EV_READ, .read = {i, false}});
        rounds += count(&l, RAFT_MSG_HEARTBEAT) / 2;
    }
    ck_assert_uint_eq(rounds, 1);
    for (int i = 0; i < 2; i++) {
        recv(&l, (struct raft_message){.from = 2,
                                       .type = RAFT_MSG_HEARTBEAT_REPLY,
                                       .round = l.raft.round,
                                       .stamp = l.now,
                                       .hint = 1});
        rounds += count(&l, RAFT_MSG_HEARTBEAT) / 2;
        for (size_t k = 0; k < l.out.read_count; k++)
            ck_assert_int_eq(l.out.read[k].outcome, RAFT_OK);
        done += l.out.read_count;
    }
    ck_assert_uint_eq(rounds, 2);
    ck_assert_uint_eq(done, 10000);
    l.conf.read_max = 3;
    for (uint64_t i = 1; i <= 4; i++)
        step(&l, (struct raft_event){.kind = RAFT_EV_READ, .read = {i, true}});
    ck_assert_int_eq(l.out.outcome, RAFT_E_FULL);
    lab_deinit(&l);
}
END_TEST

START_TEST(test_lease_bound)
{
    struct lab l;
    lab_init(&l);
    lab_lead(&l);
    recv(&l,
         (struct raft_message){
             .from = 2, .type = RAFT_MSG_HEARTBEAT_REPLY, .round = 1, .stamp = l.now, .hint = 1});
    /* 1 s, 1 % drift on both sides, 10 ms margin: 970.198 ms */
    ck_assert(raft_has_lease(&l.raft, l.now));
    ck_assert(raft_has_lease(&l.raft, l.now + 970197));
    ck_assert(!raft_has_lease(&l.raft, l.now + 970198));
    lab_deinit(&l);
}
END_TEST

START_TEST(test_idle_is_small)
{
#ifndef BILROST_SANITIZED
    enum { GROUPS = 1000 };
    struct lab *l = mem_new(GROUPS * sizeof *l);
    struct raft_out out = {0};
    struct str payload[64];
    for (size_t i = 0; i < countof(payload); i++)
        payload[i] = STR("0123456789012345678901234567890123456789");
    size_t before = mallinfo2().uordblks;
    for (size_t i = 0; i < GROUPS; i++) {
        lab_init(&l[i]);
        l[i].out = out;
        lab_lead(&l[i]);
        step(&l[i], (struct raft_event){.kind = RAFT_EV_PROPOSE, .propose = {payload, 64}});
        persist(&l[i]);
        for (uint64_t p = 2; p <= 3; p++)
            recv(&l[i],
                 (struct raft_message){.from = p, .type = RAFT_MSG_APPEND_REPLY, .index = 65});
        step(&l[i], (struct raft_event){.kind = RAFT_EV_APPLIED, .index = 65});
        while (!raft_status_get(&l[i].raft).is_quiet) {
            l[i].now = raft_deadline(&l[i].raft);
            step(&l[i], (struct raft_event){.kind = RAFT_EV_TICK});
            for (uint64_t p = 2; p <= 3 && !raft_status_get(&l[i].raft).is_quiet; p++)
                recv(&l[i], (struct raft_message){.from = p,
                                                  .type = RAFT_MSG_HEARTBEAT_REPLY,
                                                  .round = l[i].raft.round,
                                                  .stamp = l[i].now,
                                                  .hint = 65});
        }
        ck_assert(raft_deadline(&l[i].raft) == USEC_NEVER);
        out = l[i].out;
    }
    size_t each = (mallinfo2().uordblks - before) / GROUPS + sizeof(struct raft);
    ck_assert_msg(each <= 2048, "an idle group takes %zu bytes", each);
    for (size_t i = 0; i < GROUPS; i++)
        raft_deinit(&l[i].raft);
    raft_out_deinit(&out);
    mem_free(l);
#endif
}
END_TEST

START_TEST(test_slow_apply_stops_appends)
{
    struct lab l;
    char data[1000] = {0};
    struct raft_entry e = {.term = 1, .payload = str_view(data, sizeof data)};
    lab_init(&l);
    l.conf.tail_bytes_max = 5000;
    uint64_t taken = 0;
    for (uint64_t i = 0; i < 100; i++) {
        e.index = i + 1;
        recv(&l, (struct raft_message){.from = 2,
                                       .type = RAFT_MSG_APPEND,
                                       .term = 1,
                                       .index = i,
                                       .log_term = i > 0,
                                       .commit = i,
                                       .entry = &e,
                                       .entry_count = 1});
        persist(&l); /* nothing is ever APPLIED */
    }
    taken = l.raft.log.last;
    ck_assert_uint_ge(taken, 10);
    ck_assert_uint_le(taken, 13);
    step(&l, (struct raft_event){.kind = RAFT_EV_APPLIED, .index = l.raft.log.handed});
    e.index = taken + 1;
    recv(&l, (struct raft_message){.from = 2,
                                   .type = RAFT_MSG_APPEND,
                                   .term = 1,
                                   .index = taken,
                                   .log_term = 1,
                                   .commit = taken,
                                   .entry = &e,
                                   .entry_count = 1});
    ck_assert_uint_eq(l.raft.log.last, taken + 1);
    lab_deinit(&l);
}
END_TEST

Suite *suite_step(void)
{
    Suite *s = suite_create("step");
    TCase *t = tcase_create("step");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_batch_is_one_message);
    tcase_add_test(t, test_acks_are_joined);
    tcase_add_test(t, test_reads_share_a_round);
    tcase_add_test(t, test_lease_bound);
    tcase_add_test(t, test_idle_is_small);
    tcase_add_test(t, test_slow_apply_stops_appends);
    suite_add_tcase(s, t);
    return s;
}
