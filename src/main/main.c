/* bilrostd: from the command line to a running node and back.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. Nothing is opened before the whole configuration has been found good.
 * 2. A reload that finds a mistake changes nothing.
 *
 * Never: daemonizes, writes a pid file, changes its user (systemd does all three better). */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/mem.h"
#include "main/memory.h"
#include "main/sink.h"
#include "net/clock.h"
#include "net/loop.h"
#include "node/node.h"

#define CONF_FILE "/etc/bilrost/bilrostd.conf"
#define ARGUMENTS_MAX 256
#define HANDED_MAX 64
/* While a start or a stop is getting on, the time that systemd gives it begins anew: the log of
 * a large node takes long to replay, and drain_seconds may be longer than the unit's limit. */
#define MORE_TIME "EXTEND_TIMEOUT_USEC=30000000"
/* What reads the data gives no sign of life meanwhile. */
#define MORE_TIME_OPENING "EXTEND_TIMEOUT_USEC=600000000"

extern char **environ;

struct options {
    const char *file;
    const char *argument[ARGUMENTS_MAX]; /* of -D */
    size_t argument_count;
    const char *explain, *verify;
    bool is_test, is_dump, is_document, is_node_id;
};

struct run {
    const struct options *options;
    struct node *node;
    struct main_sink sink;
    int signal_fd;
    struct net_watch *watch;
    struct net_timer watchdog;
    usec_t watchdog_usec;
    bool is_ready, is_stopping;
    int exit_code;
};

static const char usage[] =
    "Usage: bilrostd [OPTIONS]\n"
    "An MQTT broker that survives the death of its nodes.\n\n"
    "  -c, --config FILE      read FILE and conf.d/*.conf beside it (" CONF_FILE ")\n"
    "  -D NAME=VALUE          set one key; comes before environment and files\n"
    "  -t, --test-config      check the configuration and exit\n"
    "      --dump-config      show what is in effect, with meanings and origins, and exit\n"
    "      --explain-config KEY  show what one key means and exit\n"
    "      --node-id          show the node's identifier (a new data directory gets one) and exit\n"
    "      --verify-data DIR  look over the data of a stopped node and exit: 0 all is well, 65 "
    "damaged\n"
    "      --document-config  write the manual of all keys and exit\n"
    "  -V, --version          show the version and exit\n"
    "  -h, --help             show this and exit\n";

static int options_read(int argc, char **argv, struct options *o)
{
    enum { DUMP = 256, DOCUMENT, EXPLAIN, NODE_ID, VERIFY };
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'},
        {"test-config", no_argument, NULL, 't'},
        {"dump-config", no_argument, NULL, DUMP},
        {"document-config", no_argument, NULL, DOCUMENT},
        {"node-id", no_argument, NULL, NODE_ID},
        {"explain-config", required_argument, NULL, EXPLAIN},
        {"verify-data", required_argument, NULL, VERIFY},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "c:D:tVh", longs, NULL)) != -1;) {
        switch (c) {
        case 'c':
            o->file = optarg;
            break;
        case 'D':
            if (o->argument_count == ARGUMENTS_MAX)
                return EX_USAGE;
            o->argument[o->argument_count++] = optarg;
            break;
        case 't':
            o->is_test = true;
            break;
        case DUMP:
            o->is_dump = true;
            break;
        case DOCUMENT:
            o->is_document = true;
            break;
        case NODE_ID:
            o->is_node_id = true;
            break;
        case EXPLAIN:
            o->explain = optarg;
            break;
        case VERIFY:
            o->verify = optarg;
            break;
        case 'V':
            printf("bilrostd %s\n", BILROST_VERSION);
            exit(EX_OK);
        case 'h':
            fputs(usage, stdout);
            exit(EX_OK);
        default:
            return EX_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "bilrostd: unexpected argument \"%s\"\n", argv[optind]);
        return EX_USAGE;
    }
    return 0;
}

/* Reads everything in the order of precedence. */
static struct node_conf *conf_read(const struct options *o)
{
    struct node_conf *c = node_conf_new();
    const char *file = o->file ? o->file : CONF_FILE;
    if (o->file || access(file, F_OK) == 0) {
        char dir[512];
        const char *slash = strrchr(file, '/');
        snprintf(dir, sizeof dir, "%.*sconf.d", slash ? (int)(slash - file) + 1 : 0, file);
        node_conf_read_file(c, file);
        node_conf_read_dir(c, dir);
    }
    node_conf_read_environment(c, environ);
    for (size_t i = 0; i < o->argument_count; i++)
        node_conf_read_argument(c, o->argument[i]);
    return c;
}

static int exit_code_of(int outcome)
{
    switch ((enum node_outcome)outcome) {
    case NODE_E_CONFIG:
    case NODE_E_DATA:
        return EX_CONFIG;
    case NODE_E_ADDRESS:
        return EX_UNAVAILABLE;
    case NODE_E_PERMISSION:
        return EX_NOPERM;
    case NODE_E_SYSTEM:
        return EX_OSERR;
    case NODE_E_DAMAGED:
        return EX_DATAERR;
    }
    return EX_SOFTWARE;
}

/* Reload. */

static void reload(struct run *r)
{
    const struct log *log = &r->sink.log;
    struct buf text = {0};
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=reading the configuration",
               (unsigned long long)net_clock_now());
    struct node_conf *c = conf_read(r->options);
    int bad = 1;
    if (node_conf_check(c) > 0) {
        buf_put_str(&text, buf_str(&c->errors));
        node_conf_free(c);
    } else {
        main_sink_level(&r->sink, c->log_level);
        bad = node_reload(r->node, c, &text);
    }
    struct str rest = buf_str(&text), line;
    while (str_next(&rest, '\n', &line))
        if (line.n)
            log_line(log, bad ? LOG_LEVEL_ERROR : LOG_LEVEL_NOTICE, "node.reload", "%.*s",
                     STR_ARG(line));
    log_line(log, bad ? LOG_LEVEL_ERROR : LOG_LEVEL_NOTICE,
             bad ? "node.reload.refused" : "node.reloaded",
             bad ? "the configuration has mistakes: nothing was changed"
                 : "the configuration is in effect");
    sd_notifyf(0, "READY=1\nSTATUS=%s",
               bad ? "serving; the last reload was refused, see the log" : "reloaded");
    buf_deinit(&text);
}

static void on_signal(void *arg, unsigned events)
{
    (void)events;
    struct run *r = arg;
    struct signalfd_siginfo info;
    while (read(r->signal_fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            reload(r);
        } else {
            r->is_stopping = true;
            sd_notify(0, "STOPPING=1");
            node_stop(r->node);
        }
    }
}

/* What the node tells. */

static void on_ready(void *arg, const char *status)
{
    struct run *r = arg;
    r->is_ready = true;
    log_line(&r->sink.log, LOG_LEVEL_NOTICE, "node.ready", "bilrostd %s %s", BILROST_VERSION,
             status);
    sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

static void on_status(void *arg, const char *status)
{
    const struct run *r = arg;
    bool is_under_way = !r->is_ready || r->is_stopping;
    sd_notifyf(0, "STATUS=%s%s", status, is_under_way ? "\n" MORE_TIME : "");
}

static void on_failed(void *arg, const char *why)
{
    struct run *r = arg;
    log_line(&r->sink.log, LOG_LEVEL_ERROR, "node.failed", "%s", why);
    r->exit_code = EX_OSERR;
    node_stop(r->node);
}

static void on_watchdog(void *arg, usec_t now)
{
    struct run *r = arg;
    if (node_is_alive(r->node, r->watchdog_usec / 2))
        sd_notify(0, "WATCHDOG=1");
    net_timer_set(node_loop(r->node), &r->watchdog, usec_add(now, r->watchdog_usec / 4));
}

static int signals_open(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL); /* threads inherit it */
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* As many open files as the system allows: each client is one. */
static void files_raise(const struct log *log)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur == lim.rlim_max)
        return;
    lim.rlim_cur = lim.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &lim) < 0)
        log_line(log, LOG_LEVEL_WARN, "node.files", "cannot raise the limit of open files: %s",
                 strerrordesc_np(errno));
}

/* Threads that hand messages on must not push each other off a core for each of them: as batch
 * threads (sched(7)) the woken one waits until the other has done its turn, and finds more to do.
 * The log's writer takes itself out (engine/log_writer.c).  Threads inherit it; a policy that the
 * unit has set stays, and a system that refuses costs only speed. */
static void policy_batch(void)
{
    struct sched_param param = {0};
    if (sched_getscheduler(0) == SCHED_OTHER)
        (void)sched_setscheduler(0, SCHED_BATCH, &param);
}

static size_t handed_get(struct node_handed handed[HANDED_MAX], char ***out_names)
{
    int count = sd_listen_fds_with_names(1, out_names);
    if (count <= 0)
        return 0;
    if (count > HANDED_MAX)
        count = HANDED_MAX;
    for (int i = 0; i < count; i++)
        handed[i] = (struct node_handed){(*out_names)[i], SD_LISTEN_FDS_START + i};
    return (size_t)count;
}

static int serve(struct run *r, struct node_conf *conf)
{
    struct node_handed handed[HANDED_MAX];
    char **names = NULL, error[NODE_ERROR_MAX] = "";
    uint64_t watchdog = 0;
    main_sink_init(&r->sink, conf->log_level);
    r->signal_fd = signals_open();
    files_raise(&r->sink.log);
    policy_batch();
    struct node_conf_run run = {
        .conf = conf,
        .log = &r->sink.log,
        .handed = handed,
        .handed_count = handed_get(handed, &names),
        .events = {on_ready, on_status, on_failed, r},
        .version = BILROST_VERSION,
        .memory_limit = main_memory_limit(MAIN_CGROUP_PROC, MAIN_CGROUP_SYS),
    };
    sd_notify(0, "STATUS=opening the data\n" MORE_TIME_OPENING);
    int outcome = node_new(&run, error, &r->node);
    for (char **name = names; name && *name; name++)
        free(*name);
    free(names);
    if (outcome) {
        log_line(&r->sink.log, LOG_LEVEL_ERROR, "node.start.failed", "%s", error);
        sd_notifyf(0, "STATUS=%s", error);
        return exit_code_of(outcome);
    }
    r->watch = net_watch_new(node_loop(r->node), r->signal_fd, NET_WATCH_READ, on_signal, r);
    net_timer_init(&r->watchdog, on_watchdog, r);
    if (sd_watchdog_enabled(0, &watchdog) > 0) {
        r->watchdog_usec = watchdog;
        net_timer_set(node_loop(r->node), &r->watchdog, 0);
    }
    node_run(r->node);
    net_timer_del(node_loop(r->node), &r->watchdog);
    net_watch_free(r->watch);
    close(r->signal_fd);
    node_free(r->node);
    log_line(&r->sink.log, LOG_LEVEL_NOTICE, "node.stopped", "stopped");
    return r->exit_code;
}

/* The configuration may still lack what is made for this very identifier, so it is not checked. */
static int node_id_show(struct node_conf *conf)
{
    char text[UUID_TEXT], error[NODE_ERROR_MAX] = "";
    int outcome = node_uuid_find(conf, text, error);
    if (outcome)
        fprintf(stderr, "bilrostd: %s\n", error);
    else
        puts(text);
    node_conf_free(conf);
    return outcome ? exit_code_of(outcome) : EX_OK;
}

static int config_test(struct node_conf *conf)
{
    char error[NODE_ERROR_MAX] = "";
    int outcome = node_try(conf, error);
    if (outcome)
        fprintf(stderr, "bilrostd: %s\n", error);
    else
        puts("the configuration is good");
    return outcome ? exit_code_of(outcome) : EX_OK;
}

static void on_found(void *arg, struct str sentence)
{
    (void)arg;
    printf("%.*s\n", STR_ARG(sentence));
}

static int verify(const char *data_dir)
{
    char error[NODE_ERROR_MAX] = "";
    int outcome = node_verify(data_dir, on_found, NULL, error);
    if (error[0])
        fprintf(stderr, "bilrostd: %s\n", error);
    else
        printf(outcome ? "%s is damaged\n" : "%s: all is well\n", data_dir);
    return outcome ? exit_code_of(outcome) : EX_OK;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct buf out = {0};
    if (options_read(argc, argv, &o)) {
        fputs(usage, stderr);
        return EX_USAGE;
    }
    if (o.is_document || o.explain) {
        bool is_known = true;
        if (o.is_document)
            node_conf_document(&out);
        else
            is_known = node_conf_explain(str_of(o.explain), &out);
        fwrite(out.p, 1, out.n, is_known ? stdout : stderr);
        buf_deinit(&out);
        return is_known ? EX_OK : EX_USAGE;
    }
    if (o.verify)
        return verify(o.verify);
    struct node_conf *conf = conf_read(&o);
    if (o.is_node_id)
        return node_id_show(conf);
    if (node_conf_check(conf) > 0) {
        fwrite(conf->errors.p, 1, conf->errors.n, stderr);
        fprintf(stderr, "bilrostd: %zu mistake%s in the configuration\n", conf->error_count,
                conf->error_count == 1 ? "" : "s");
        node_conf_free(conf);
        return EX_CONFIG;
    }
    if (o.is_dump)
        node_conf_dump(conf, true, &out);
    if (out.n)
        fwrite(out.p, 1, out.n, stdout);
    buf_deinit(&out);
    if (o.is_dump || o.is_test) {
        int code = o.is_test ? config_test(conf) : EX_OK;
        node_conf_free(conf);
        return code;
    }
    struct run r = {.options = &o};
    return serve(&r, conf);
}
