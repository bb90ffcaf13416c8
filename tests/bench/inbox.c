/* Loading 1,000,000 sessions, their memory, inserts into many sessions.  SPDX-License-Identifier:
 * Apache-2.0 */
#include "base/hlc.h"
#include "base/mem.h"
#include "bench/bench.h"
#include "bench/split.h"
#include "inbox/inbox.h"

#define SESSIONS 1000000u
#define FAN_OUT 10000u

struct bench {
    const struct range_machine_ops *ops;
    void *m;
    struct range_out out;
    struct buf command, rows;
    struct inbox_reply reply;
    uint64_t index;
};

static void apply(struct bench *b, bool has_host)
{
    struct range_apply in = {.index = ++b->index,
                             .hlc = hlc_of_ms(1000000 + b->index / 1000) + b->index % 1000,
                             .command = buf_str(&b->command),
                             .has_host = has_host};
    range_out_reset(&b->out);
    b->ops->apply(b->m, &in, &b->out);
    b->command.n = 0;
    must(inbox_reply_decode(buf_str(&b->out.reply), &b->reply));
}

static void keep_rows(struct bench *b)
{
    for (size_t i = 0; i < b->out.row_count; i++) {
        struct range_write w = range_out_row(&b->out, i);
        must(!w.is_del);
        buf_put_varint(&b->rows, w.key.n);
        buf_put_str(&b->rows, w.key);
        buf_put_varint(&b->rows, w.value.n);
        buf_put_str(&b->rows, w.value);
    }
}

static void start(struct bench *b)
{
    *b = (struct bench){.ops = inbox_machine()};
    b->m = b->ops->new (NULL);
    b->ops->reset(b->m, &(struct range_bounds){.is_open = true});
    b->ops->loaded(b->m);
}

static struct str read_run(const uint8_t **p)
{
    uint64_t n = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint8_t v = *(*p)++;
        n |= (uint64_t)(v & 0x7F) << shift;
        if (v < 0x80)
            break;
    }
    *p += n;
    return str_view(*p - n, n);
}

static struct inbox_ref make_session(struct bench *b, struct str client, bool is_detached)
{
    struct inbox_attach a = {.tenant = STR("tenant"),
                             .client = client,
                             .expiry_sec = 86400,
                             .limit = 1000,
                             .window = 100,
                             .owner = {.node = {{1}}, .epoch = 1},
                             .info = STR("v5 user client 10.0.0.1:50000")};
    inbox_command_attach(&b->command, &a);
    apply(b, true);
    must(b->reply.outcome == INBOX_OK);
    struct inbox_ref ref = {a.tenant, client, b->reply.incarnation, b->reply.mod};
    keep_rows(b);
    if (is_detached) {
        inbox_command_detach(&b->command, &(struct inbox_detach){ref, 86400, false, 0});
        apply(b, true);
        keep_rows(b);
    }
    return ref;
}

static void load_sessions(void)
{
    struct bench b;
    char name[32];
    start(&b);
    for (unsigned i = 0; i < SESSIONS; i++) {
        struct str client =
            str_view(name, (size_t)snprintf(name, sizeof name, "user/client-%07u", i));
        struct inbox_ref ref = make_session(&b, client, true);
        (void)ref;
    }
    b.ops->free(b.m);
    b.m = b.ops->new (NULL);
    b.ops->reset(b.m, &(struct range_bounds){.is_open = true});
    double before = bench_rss(), t = bench_cpu();
    const uint8_t *p = b.rows.p;
    while (p < b.rows.p + b.rows.n) {
        struct str key = read_run(&p);
        b.ops->load(b.m, key, read_run(&p));
    }
    b.ops->loaded(b.m);
    t = bench_cpu() - t;
    bench_line("inbox: load 1,000,000 detached sessions from rows", t, "s");
    bench_line("inbox: memory", (bench_rss() - before) / SESSIONS, "bytes a session");
    bench_split(b.ops, b.m, str_view("tenant\0\x80", 8));
    buf_deinit(&b.rows);
    range_out_deinit(&b.out);
    buf_deinit(&b.command);
    b.ops->free(b.m);
}

static void fan_out(bool is_detached, const char *what, unsigned commands)
{
    struct bench b;
    struct inbox_ref *ref = mem_alloc(FAN_OUT * sizeof *ref);
    char(*name)[32] = mem_alloc(FAN_OUT * sizeof *name), message[256], line[80];
    memset(message, 'm', sizeof message);
    start(&b);
    for (unsigned i = 0; i < FAN_OUT; i++) {
        struct str client =
            str_view(name[i], (size_t)snprintf(name[i], sizeof name[i], "user/client-%07u", i));
        ref[i] = make_session(&b, client, is_detached);
    }
    double t = 0;
    size_t row_bytes = 0;
    for (unsigned k = 0; k < commands; k++) {
        inbox_command_insert(&b.command);
        inbox_command_insert_message(
            &b.command,
            &(struct inbox_message){.tenant = STR("tenant"), .bytes = {message, sizeof message}});
        for (unsigned i = 0; i < FAN_OUT; i++)
            inbox_command_insert_receiver(
                &b.command, &(struct inbox_receiver){.client = ref[i].client,
                                                     .incarnation = ref[i].incarnation,
                                                     .qos = 1});
        double from = bench_cpu();
        apply(&b, true);
        t += bench_cpu() - from;
        row_bytes += b.out.bytes.n;
    }
    snprintf(line, sizeof line, "inbox: fan-out of one message to 10,000 %s", what);
    bench_line(line, FAN_OUT * commands / t, "inserts/s");
    snprintf(line, sizeof line, "inbox: rows and effects of it (256 B message)");
    bench_line(line, (double)row_bytes / commands / FAN_OUT, "bytes an insert");
    t = bench_cpu();
    for (unsigned i = 0; i < FAN_OUT && !is_detached; i++) {
        inbox_command_commit(&b.command, &(struct inbox_commit){.ref = ref[i], .acked = commands});
        apply(&b, true);
    }
    if (!is_detached)
        bench_line("inbox: commit of what was pushed", FAN_OUT * commands / (bench_cpu() - t),
                   "messages/s");
    mem_free(ref);
    mem_free(name);
    buf_deinit(&b.rows);
    range_out_deinit(&b.out);
    buf_deinit(&b.command);
    b.ops->free(b.m);
}

int main(void)
{
    load_sessions();
    fan_out(true, "offline sessions", 20);
    fan_out(false, "online sessions", 20);
    return 0;
}
