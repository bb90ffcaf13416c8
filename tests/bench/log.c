/* The Raft log against this machine's own fdatasync, measured in the same run.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Writers propose one entry of 256 bytes each and propose again when it is durable.  bench/log
 * [directory [GiB]] */
#include <pthread.h>

#include "bench/disk.h"
#include "engine/log.h"

#define SECONDS 3.0
#define WRITERS_MAX 4096
#define ENTRY 256

struct writer {
    struct bench *b;
    uint64_t group, index;
    double begin;
};

struct bench {
    struct engine_log *log;
    struct writer writer[WRITERS_MAX];
    double *latency;
    size_t count, cap;
    double until;
    uint64_t out; /* batches not yet done */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
};

static void propose(struct writer *w, double now)
{
    static const char data[ENTRY];
    struct engine_log_batch *batch = engine_log_batch_new();
    struct engine_log_entry e = {1, 0, str_view(data, sizeof data)};
    w->index++;
    w->begin = now;
    if (w->index == 1)
        engine_log_put_create(batch, w->group, STR(""));
    engine_log_put_entries(batch, w->group, w->index, &e, 1);
    if (w->index % 1000 == 0)
        engine_log_put_compact(batch, w->group, w->index - 500, 1, STR(""));
    engine_log_submit(w->b->log, batch, true, w, 0);
}

static void on_done(void *arg, const struct engine_log_done *d, size_t n)
{
    struct bench *b = arg;
    double now = bench_now();
    size_t again = 0;
    for (size_t i = 0; i < n; i++) {
        struct writer *w = d[i].owner;
        if (w == NULL)
            continue;
        b->latency = mem_grow(b->latency, &b->cap, b->count + 1, sizeof *b->latency);
        b->latency[b->count++] = now - w->begin;
        if (now < b->until) {
            propose(w, now);
            again++;
        }
    }
    pthread_mutex_lock(&b->mutex);
    b->out -= n - again;
    pthread_cond_signal(&b->cond);
    pthread_mutex_unlock(&b->mutex);
}

static void wait_until(struct bench *b, uint64_t out_max)
{
    pthread_mutex_lock(&b->mutex);
    while (b->out > out_max)
        pthread_cond_wait(&b->cond, &b->mutex);
    pthread_mutex_unlock(&b->mutex);
}

static void clean(const char *dir)
{
    struct engine_fs fs = engine_fs_posix();
    struct buf names = {0};
    if (fs.ops->list(NULL, dir, &names) < 0)
        abort();
    for (size_t at = 0; at < names.n; at += strlen((const char *)names.p + at) + 1) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, (const char *)names.p + at);
        if (fs.ops->unlink(NULL, path) < 0)
            abort();
    }
    buf_deinit(&names);
}

static void bench_open(struct bench *b, const char *dir)
{
    *b = (struct bench){.until = 0};
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->cond, NULL);
    struct engine_log_conf c = {
        .dir = dir, .fs = engine_fs_posix(), .node = {{1}}, .done = on_done, .arg = b};
    if (engine_log_open(&c, &b->log) != 0)
        abort();
}

static void closed_loop(struct bench *b, const char *dir, size_t writers)
{
    bench_open(b, dir);
    double probe = bench_fdatasync(dir, 512 + writers * (ENTRY + 40));
    struct engine_log_stats before, after;
    engine_log_stats(b->log, &before);
    double cpu = bench_cpu(), t = bench_now();
    b->until = t + SECONDS;
    b->out = writers;
    for (size_t i = 0; i < writers; i++) {
        b->writer[i] = (struct writer){.b = b, .group = i + 1};
        propose(&b->writer[i], bench_now());
    }
    wait_until(b, 0);
    t = bench_now() - t;
    cpu = bench_cpu() - cpu;
    engine_log_stats(b->log, &after);
    uint64_t syncs = after.syncs - before.syncs;
    double p50 = bench_median(b->latency, b->count) * 1e6,
           p99 = b->latency[b->count * 99 / 100] * 1e6;
    printf("%zu writers, each its own group\n", writers);
    bench_line("  one fdatasync of that much, by hand (p50)", probe, "us");
    bench_line("  proposals per fdatasync", (double)b->count / (double)syncs, "");
    bench_line("  proposals", (double)b->count / t, "/s");
    bench_line("  latency p50", p50, "us");
    bench_line("  latency p50 in fdatasyncs", p50 / probe, "");
    bench_line("  latency p99", p99, "us");
    bench_line("  cpu per proposal", cpu / (double)b->count * 1e6, "us");
    mem_free(b->latency);
    engine_log_close(b->log);
    clean(dir);
}

/* Fills the log with entries of 1 KiB of 100 groups and opens it again. */
static void recovery(struct bench *b, const char *dir, double gib)
{
    enum { GROUPS = 100, ENTRIES = 64 };
    static char data[1024];
    bench_open(b, dir);
    uint64_t index[GROUPS] = {0},
             want = (uint64_t)(gib * (double)(1u << 30)) / sizeof data / ENTRIES;
    struct engine_log_entry e[ENTRIES];
    for (size_t i = 0; i < ENTRIES; i++)
        e[i] = (struct engine_log_entry){1, 0, str_view(data, sizeof data)};
    for (uint64_t i = 0; i < want; i++) {
        struct engine_log_batch *batch = engine_log_batch_new();
        uint64_t g = i % GROUPS;
        if (index[g] == 0)
            engine_log_put_create(batch, g + 1, STR(""));
        engine_log_put_entries(batch, g + 1, index[g] + 1, e, ENTRIES);
        index[g] += ENTRIES;
        pthread_mutex_lock(&b->mutex);
        b->out++;
        pthread_mutex_unlock(&b->mutex);
        engine_log_submit(b->log, batch, i % 16 == 0, NULL, 0);
        wait_until(b, 64);
    }
    wait_until(b, 0);
    engine_log_close(b->log);
    double t = bench_now();
    bench_open(b, dir);
    t = bench_now() - t;
    struct engine_log_stats s;
    engine_log_stats(b->log, &s);
    printf("opening a log of %.1f GiB, %llu entries\n", (double)s.live_bytes / (double)(1u << 30),
           (unsigned long long)(want * ENTRIES));
    bench_line("  time", t, "s");
    bench_line("  index", (double)s.index_bytes / (double)(want * ENTRIES), "bytes/entry");
    engine_log_close(b->log);
    clean(dir);
}

int main(int argc, char **argv)
{
    char temp[] = "/tmp/bilrost-bench-log-XXXXXX";
    const char *dir = argc > 1 ? argv[1] : mkdtemp(temp);
    struct bench *b = mem_new(sizeof *b);
    static const size_t writers[] = {1, 16, 64, 256, 4096};
    for (size_t i = 0; i < countof(writers); i++)
        closed_loop(b, dir, writers[i]);
    recovery(b, dir, argc > 2 ? strtod(argv[2], NULL) : 2);
    mem_free(b);
    if (argc < 2)
        rmdir(dir);
    return 0;
}
