/* What a run says.  SPDX-License-Identifier: Apache-2.0 */
#include "bench/report.h"

#include <stdio.h>

#include "net/clock.h"

static double per_sec(uint64_t n, usec_t usec)
{
    return usec > 0 ? (double)n * 1e6 / (double)usec : 0;
}

static double ms(usec_t v)
{
    return (double)v / 1000;
}

void bench_report_progress(const struct bench_load *l)
{
    static const char *const phase[] = {"connecting", "running", "draining", "done"};
    usec_t since = net_clock_now() - (l->phase == BENCH_PHASE_CONNECT ? l->started : l->run_began);
    fprintf(stderr,
            "\r%-10s %6.1f s  ready %u  published %llu  received %llu (%.0f/s)  p99 %.1f ms\x1b[K",
            phase[l->phase], (double)since / 1e6, l->ready_count,
            (unsigned long long)l->result.published, (unsigned long long)l->result.received,
            per_sec(l->result.received, since), ms(bench_hist_quantile(&l->hist, 990)));
    fflush(stderr);
}

/* Messages that count for speed and CPU: received, or where nobody receives what was published. */
static uint64_t messages(const struct bench_load *l)
{
    return l->result.received > 0 ? l->result.received : l->result.published;
}

static double rate_of(const struct bench_load *l)
{
    const struct bench_result *r = &l->result;
    bool is_received = l->conf->scenario <= BENCH_SHARED || l->conf->scenario == BENCH_FAILOVER;
    return per_sec(is_received ? r->received_in_run : r->published, r->run_usec);
}

void bench_report_text(const struct bench_load *l)
{
    const struct bench_result *r = &l->result;
    const struct bench_conf *c = l->conf;
    if (r->error != NULL)
        printf("FAILED: %s\n", r->error);
    printf("%s: mqtt %u, qos %u/%u, %u publishers, %u subscribers, %u bytes\n",
           bench_scenario_name(c->scenario), c->version, c->qos, c->sub_qos, c->publishers,
           c->subscribers, c->size);
    printf("  connected in      %10.1f ms (%.0f/s)\n", ms(r->connect_usec),
           per_sec(c->publishers + c->subscribers, r->connect_usec));
    printf("  run               %10.1f ms, %.0f messages/s\n", ms(r->run_usec), rate_of(l));
    if (r->drain_usec > 0)
        printf("  reading           %10.1f ms, %.0f messages/s, first after %.2f ms\n",
               ms(r->drain_usec), per_sec(r->received, r->drain_usec), ms(r->first_usec));
    printf("  published         %10llu, acknowledged %llu", (unsigned long long)r->published,
           (unsigned long long)r->acked);
    printf(r->refused > 0 ? ", refused %llu\n" : "\n", (unsigned long long)r->refused);
    printf("  received          %10llu, lost %llu, duplicate %llu, reordered %llu\n",
           (unsigned long long)r->received, (unsigned long long)r->lost,
           (unsigned long long)r->duplicate, (unsigned long long)r->reordered);
    if (r->stray > 0)
        printf("  stray             %10llu, left over from other runs\n",
               (unsigned long long)r->stray);
    if (l->hist.count > 0)
        printf("  latency           p50 %.2f  p99 %.2f  p99.9 %.2f  max %.2f ms\n",
               ms(bench_hist_quantile(&l->hist, 500)), ms(bench_hist_quantile(&l->hist, 990)),
               ms(bench_hist_quantile(&l->hist, 999)), ms(l->hist.max));
    if (c->scenario == BENCH_FAILOVER)
        printf("  connections lost  %10llu, sessions lost %llu; outages %llu: p50 %.0f  p99 %.0f  "
               "max %.0f ms\n",
               (unsigned long long)r->connections_lost, (unsigned long long)r->sessions_lost,
               (unsigned long long)l->outage.count, ms(bench_hist_quantile(&l->outage, 500)),
               ms(bench_hist_quantile(&l->outage, 990)), ms(l->outage.max));
    if (c->pid_count > 0 && messages(l) > 0)
        printf("  broker CPU        %10.3f us a message (%.1f ms)\n",
               (double)r->cpu_usec / (double)messages(l), ms(r->cpu_usec));
    if (messages(l) > 0)
        printf("  this tool's CPU   %10.3f us a message\n",
               (double)r->cpu_self_usec / (double)messages(l));
}

void bench_report_json(const struct bench_load *l)
{
    const struct bench_result *r = &l->result;
    const struct bench_conf *c = l->conf;
    double n = messages(l) > 0 ? (double)messages(l) : 1;
    printf("{\"scenario\":\"%s\",\"ok\":%s,\"mqtt\":%u,\"qos\":%u,\"sub_qos\":%u,\"publishers\":%u,"
           "\"subscribers\":%u,"
           "\"size\":%u,\"window\":%u,\"rate\":%llu,",
           bench_scenario_name(c->scenario), r->error == NULL ? "true" : "false", c->version,
           c->qos, c->sub_qos, c->publishers, c->subscribers, c->size, c->window,
           (unsigned long long)c->rate);
    if (r->error != NULL)
        printf("\"error\":\"%s\",", r->error);
    printf("\"connect_ms\":%.3f,\"run_ms\":%.3f,\"messages_per_sec\":%.1f,\"reading_ms\":%.3f,"
           "\"reading_per_sec\":%.1f,\"first_ms\":%.3f,",
           ms(r->connect_usec), ms(r->run_usec), rate_of(l), ms(r->drain_usec),
           per_sec(r->received, r->drain_usec), ms(r->first_usec));
    printf("\"published\":%llu,\"acknowledged\":%llu,\"refused\":%llu,\"received\":%llu,\"lost\":%"
           "llu,\"duplicate\":"
           "%llu,"
           "\"reordered\":%llu,\"stray\":%llu,\"connections_lost\":%llu,\"sessions_lost\":%llu,"
           "\"outages\":%llu,"
           "\"outage_p50_ms\":%.3f,\"outage_p99_ms\":%.3f,\"outage_max_ms\":%.3f,",
           (unsigned long long)r->published, (unsigned long long)r->acked,
           (unsigned long long)r->refused, (unsigned long long)r->received,
           (unsigned long long)r->lost, (unsigned long long)r->duplicate,
           (unsigned long long)r->reordered, (unsigned long long)r->stray,
           (unsigned long long)r->connections_lost, (unsigned long long)r->sessions_lost,
           (unsigned long long)l->outage.count, ms(bench_hist_quantile(&l->outage, 500)),
           ms(bench_hist_quantile(&l->outage, 990)), ms(l->outage.max));
    printf("\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f,",
           ms(bench_hist_quantile(&l->hist, 500)), ms(bench_hist_quantile(&l->hist, 990)),
           ms(bench_hist_quantile(&l->hist, 999)), ms(l->hist.max));
    printf("\"broker_cpu_us_per_message\":%.4f,\"tool_cpu_us_per_message\":%.4f}\n",
           (double)r->cpu_usec / n, (double)r->cpu_self_usec / n);
}
