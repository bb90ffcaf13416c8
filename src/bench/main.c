/* bilrost-bench.  SPDX-License-Identifier: Apache-2.0
 *
 * SIGINT and SIGTERM end the run, and the report comes; the second one ends it at once.
 * Exit codes: 0 the run went through and nothing was lost that may not be (QoS 1 and 2) or doubled
 * (QoS 2); 1 it did not; 64 usage; 66 certificates; 68 no such host; 69 no connection. */
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/mem.h"
#include "bench/report.h"
#include "net/random.h"

static int tls_open(const struct bench_conf *conf, struct net_tls **out)
{
    char error[NET_TLS_ERROR_MAX];
    struct net_tls_conf tc = {.ca_file = conf->ca_file,
                              .verify = conf->is_tls_insecure ? NET_TLS_VERIFY_NONE
                                                              : NET_TLS_VERIFY_REQUIRED};
    *out = NULL;
    if (!conf->is_tls || net_tls_new(&tc, error, out) == 0)
        return 0;
    fprintf(stderr, "bilrost-bench: %s\n", error);
    return EX_NOINPUT;
}

static bool is_broken(const struct bench_load *l)
{
    const struct bench_result *r = &l->result;
    uint8_t qos = l->conf->qos < l->conf->sub_qos ? l->conf->qos : l->conf->sub_qos;
    return r->error != NULL || r->sessions_lost > 0 || (qos > 0 && r->lost > 0) ||
           (qos == 2 && r->duplicate > 0);
}

struct ears { /* for signals */
    struct bench_load *load;
    int fd;
    bool was_told;
};

static void on_signal(void *arg, unsigned events)
{
    struct ears *e = arg;
    struct signalfd_siginfo info;
    (void)events;
    if (read(e->fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    if (e->was_told)
        _exit(1);
    e->was_told = true;
    bench_load_end(e->load);
}

static int signals_open(void)
{
    sigset_t set;
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char **argv)
{
    struct bench_conf conf;
    int exit_code = bench_conf_parse(argc, argv, &conf);
    if (exit_code >= 0)
        return exit_code;
    struct ears ears = {.fd = signals_open()};
    struct net_tls *tls;
    exit_code = tls_open(&conf, &tls);
    if (exit_code != 0)
        return exit_code;
    struct net_loop_conf lc = {.seed = net_random_u64()};
    struct net_loop *loop;
    if (net_loop_new(&lc, &loop) != 0) {
        fprintf(stderr, "bilrost-bench: no descriptors left\n");
        return EX_OSERR;
    }
    exit_code = bench_host_find_all(&conf, loop);
    if (exit_code != 0) {
        net_loop_free(loop);
        if (tls != NULL)
            net_tls_unref(tls);
        return exit_code;
    }
    bool is_terminal = isatty(STDERR_FILENO) == 1 && !conf.is_quiet && !conf.is_json;
    struct bench_load *load = mem_new(sizeof *load);
    ears.load = load;
    struct net_watch *watch = net_watch_new(loop, ears.fd, NET_WATCH_READ, on_signal, &ears);
    bench_load_play(load, &conf, loop, tls, is_terminal ? bench_report_progress : NULL);
    if (is_terminal)
        fprintf(stderr, "\r\x1b[K");
    if (conf.is_json)
        bench_report_json(load);
    else
        bench_report_text(load);
    exit_code = !is_broken(load)                                      ? 0
                : load->result.received + load->result.published == 0 ? EX_UNAVAILABLE
                                                                      : 1;
    net_watch_free(watch);
    close(ears.fd);
    bench_load_deinit(load);
    mem_free(load);
    for (int i = 0; i < 3; i++)
        net_loop_turn(loop, 0); /* streams that were forgotten end by themselves */
    net_loop_free(loop);
    if (tls != NULL)
        net_tls_unref(tls);
    return exit_code;
}
