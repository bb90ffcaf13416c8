/* What the suites of inbox share.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/inbox/inbox_unit.h"

#include "base/hlc.h"

void world_open(struct world *w)
{
    *w = (struct world){.ms = 1000000};
    replica_open(&w->r, inbox_machine(), NULL);
}

void world_close(struct world *w)
{
    inbox_machine_check(w->r.m);
    replica_close(&w->r);
    buf_deinit(&w->command);
    buf_deinit(&w->query);
    buf_deinit(&w->answer);
}

static uint64_t now(struct world *w)
{
    return hlc_of_ms(w->ms) + (w->r.index & 0xFFFF);
}

uint8_t apply(struct world *w)
{
    struct str reply = replica_apply(&w->r, now(w), buf_str(&w->command), true);
    w->command.n = 0;
    ck_assert(inbox_reply_decode(reply, &w->reply));
    return w->reply.outcome;
}

struct inbox_attach attach_of(const char *client, uint8_t node)
{
    return (struct inbox_attach){.tenant = STR("t"),
                                 .client = str_of(client),
                                 .expiry_sec = 100,
                                 .limit = 10,
                                 .window = 5,
                                 .owner = {.node = {{node}}, .epoch = 1, .shard = 3},
                                 .info = STR("info")};
}

struct inbox_ref attach(struct world *w, const struct inbox_attach *a)
{
    inbox_command_attach(&w->command, a);
    ck_assert_uint_eq(apply(w), INBOX_OK);
    return (struct inbox_ref){a->tenant, a->client, w->reply.incarnation, w->reply.mod};
}

uint8_t detach(struct world *w, const struct inbox_ref *ref, uint32_t expiry_sec, bool keep_will)
{
    inbox_command_detach(&w->command, &(struct inbox_detach){*ref, expiry_sec, keep_will, 0});
    return apply(w);
}

uint8_t commit(struct world *w, const struct inbox_ref *ref, uint64_t acked, uint64_t seq,
               uint8_t phase)
{
    struct inbox_mark mark = {seq, phase};
    inbox_command_commit(
        &w->command,
        &(struct inbox_commit){.ref = *ref, .acked = acked, .mark = &mark, .mark_count = seq != 0});
    return apply(w);
}

static uint8_t insert_with(struct world *w, const struct inbox_ref *ref, uint8_t qos,
                           const struct inbox_message *m)
{
    static const uint32_t ids[] = {7, 70000};
    inbox_command_insert(&w->command);
    inbox_command_insert_message(&w->command, m);
    inbox_command_insert_receiver(
        &w->command, &(struct inbox_receiver){ref->client, ref->incarnation, qos, 8, 2, ids});
    ck_assert_uint_eq(apply(w), INBOX_OK);
    ck_assert_uint_eq(w->reply.results.n, 1);
    return (uint8_t)w->reply.results.p[0];
}

uint8_t insert(struct world *w, const struct inbox_ref *ref, uint8_t qos, const char *message,
               uint64_t publisher, uint64_t exchange)
{
    return insert_with(w, ref, qos,
                       &(struct inbox_message){.tenant = ref->tenant,
                                               .bytes = str_of(message),
                                               .publisher = publisher,
                                               .exchange = exchange});
}

uint8_t insert_for_held(struct world *w, const struct inbox_ref *ref, uint8_t qos,
                        const char *message)
{
    return insert_with(w, ref, qos,
                       &(struct inbox_message){.tenant = ref->tenant,
                                               .bytes = str_of(message),
                                               .is_for_held = true});
}

unsigned effects(struct world *w, enum inbox_effect_kind kind, struct inbox_effect *out)
{
    unsigned count = 0;
    for (size_t i = w->r.out.effect_count; i-- > 0;) {
        struct inbox_effect e;
        ck_assert(inbox_effect_decode(range_out_effect_get(&w->r.out, i), &e));
        if (e.kind == kind) {
            *out = e;
            count++;
        }
    }
    return count;
}

unsigned pass(struct world *w, uint64_t ms)
{
    unsigned wills = 0;
    w->ms += ms;
    for (int i = 0; i < 1000; i++) {
        w->command.n = 0;
        (void)w->r.ops->tick(w->r.m, now(w), &w->command);
        if (w->command.n == 0)
            return wills;
        struct inbox_effect e;
        apply(w);
        wills += effects(w, INBOX_EFFECT_WILL, &e);
    }
    ck_abort_msg("tick never rests");
}

struct str backlog(struct world *w, const struct inbox_ref *ref, bool is_qos0, uint64_t seq)
{
    struct inbox_fetch f;
    struct inbox_fetched m;
    struct buf reply = {0}, body = {0};
    w->query.n = w->answer.n = 0;
    inbox_query_fetch(&w->query, ref, is_qos0, seq, 100, 1 << 20);
    ck_assert_int_eq(replica_query(&w->r, now(w), buf_str(&w->query), &reply), 0);
    ck_assert(inbox_fetch_begin(buf_str(&reply), &f));
    if (f.outcome != INBOX_OK)
        buf_printf(&w->answer, "outcome %d", f.outcome);
    while (inbox_fetch_next(&f, &m)) {
        struct str message = m.message;
        if (m.body.n > 0) {
            w->query.n = body.n = 0;
            inbox_query_body(&w->query, ref->tenant, ref->client, m.body);
            ck_assert_int_eq(replica_query(&w->r, now(w), buf_str(&w->query), &body), 0);
            ck_assert(inbox_reply_body(buf_str(&body), &message));
        }
        ck_assert_uint_eq(m.head.sub_id_count, 2);
        ck_assert_uint_eq(m.head.sub_id[1], 70000);
        ck_assert_uint_eq(m.head.options, 8);
        buf_printf(&w->answer, "%s%d:%.*s", w->answer.n > 0 ? "|" : "", (int)m.head.seq,
                   (int)(message.n < 8 ? message.n : 8), message.p);
    }
    ck_assert(!f.is_bad);
    buf_deinit(&reply);
    buf_deinit(&body);
    return buf_str(&w->answer);
}
