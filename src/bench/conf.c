/* Options of bilrost-bench.  SPDX-License-Identifier: Apache-2.0 */
#include "bench/conf.h"

#include <getopt.h>
#include <stdio.h>
#include <sysexits.h>

#include "bench/payload.h"

#define BENCH_SIZE_MAX 268000000 /* a packet has 28 bits for its length */
#define BENCH_PREFIX_MAX 200     /* matters: topics are made in 256 bytes */

enum kind { KIND_U32, KIND_U64, KIND_U8, KIND_TEXT, KIND_FLAG };

struct option_row {
    const char *name;
    enum kind kind;
    size_t at;
    const char *value, *meaning;
};

#define ROW(name, KIND, field, value, meaning)                                                     \
    {                                                                                              \
        name, KIND_##KIND, offsetof(struct bench_conf, field), value, meaning                      \
    }
static const struct option_row row[] = {
    ROW("mqtt", U8, version, "5|4|3", "protocol version: 5 (5.0), 4 (3.1.1), 3 (3.1); default 4"),
    ROW("qos", U8, qos, "0|1|2", "of publishers; default 0"),
    ROW("sub-qos", U8, sub_qos, "0|1|2", "of subscribers; default as --qos"),
    ROW("publishers", U32, publishers, "N", "default 100 (fanout: 1)"),
    ROW("subscribers", U32, subscribers, "N", "default 100 (fanin: 1, fanout: 1000, shared: 10)"),
    ROW("filters", U32, filters, "N",
        "filters per client (subscribe), topics (retain); default 100"),
    ROW("size", U32, size, "BYTES", "payload, at least 24; default 32"),
    ROW("window", U32, window, "N", "messages a publisher may be ahead; default 64"),
    ROW("rate", U64, rate, "N",
        "messages a second of all publishers; default: as fast as the window allows"),
    ROW("count", U64, count, "N", "messages per publisher; default: for --seconds"),
    ROW("seconds", U32, seconds, "N", "default 10"),
    ROW("drain", U32, drain_sec, "N",
        "longest wait at the end for what is under way, seconds; default 10"),
    ROW("connect-window", U32, connect_window, "N",
        "connections being opened at once; default 100"),
    ROW("keep-alive", U32, keep_alive_sec, "N", "seconds; default 60"),
    ROW("hold", U32, hold_sec, "N", "conn: seconds to stay; default 0"),
    ROW("prefix", TEXT, prefix, "TEXT", "of topics and client ids; default bench"),
    ROW("username", TEXT, username, "TEXT", ""),
    ROW("password", TEXT, password, "TEXT", ""),
    ROW("tls", FLAG, is_tls, NULL, "TLS, checked with the system's certificates or --ca"),
    ROW("ca", TEXT, ca_file, "FILE", "TLS, checked with this bundle"),
    ROW("tls-name", TEXT, tls_name, "NAME",
        "the name in the broker's certificate when it is not that of --host"),
    ROW("insecure", FLAG, is_tls_insecure, NULL, "TLS without checking who answers"),
    ROW("ws", TEXT, ws_path, "PATH", "WebSocket"),
    ROW("persistent", FLAG, is_persistent, NULL,
        "subscribers keep their sessions; those of earlier runs end first"),
    ROW("json", FLAG, is_json, NULL, "one JSON object at the end"),
    ROW("quiet", FLAG, is_quiet, NULL, "no progress line"),
};

static const struct {
    const char *name, *meaning;
} scenario[] = {
#define X(NAME, name, meaning) {name, meaning},
#include "bench/scenario.def"
#undef X
};

const char *bench_scenario_name(enum bench_scenario s)
{
    return scenario[s].name;
}

static void usage(FILE *f)
{
    fprintf(
        f,
        "bilrost-bench %s: load for any MQTT broker\n\nusage: bilrost-bench SCENARIO [options]\n\n",
        BILROST_VERSION);
    for (size_t i = 0; i < countof(scenario); i++)
        fprintf(f, "  %-12s %s\n", scenario[i].name, scenario[i].meaning);
    fprintf(f, "\n  --host HOST[:PORT]  may be given several times; default 127.0.0.1, 1883 (TLS "
               "8883, WebSocket 8080, both 8443)\n"
               "  --pid N             a process of the broker: its CPU per message is reported; "
               "several times\n");
    for (size_t i = 0; i < countof(row); i++) {
        char left[32];
        snprintf(left, sizeof left, "%s %s", row[i].name, row[i].value != NULL ? row[i].value : "");
        fprintf(f, "  --%-18s%s\n", left, row[i].meaning);
    }
    fprintf(f, "  --%-18s%s\n  --%-18s%s\n", "help", "this list", "version",
            "which version this is");
}

static bool row_set(struct bench_conf *c, const struct option_row *r, const char *text)
{
    char *at = (char *)c + r->at;
    uint64_t v = 0;
    if (r->kind == KIND_FLAG) {
        *(bool *)(void *)at = true;
        return true;
    }
    if (r->kind == KIND_TEXT) {
        *(const char **)(void *)at = text;
        return true;
    }
    uint64_t max = r->kind == KIND_U8 ? 5 : r->kind == KIND_U32 ? 100000000 : UINT64_MAX;
    if (!str_to_u64(str_of(text), &v) || v > max)
        return false;
    if (r->kind == KIND_U8)
        *(uint8_t *)(void *)at = (uint8_t)v;
    else if (r->kind == KIND_U32)
        *(uint32_t *)(void *)at = (uint32_t)v;
    else
        *(uint64_t *)(void *)at = v;
    return true;
}

static bool host_add(struct bench_conf *c, const char *text)
{
    return c->host_count < BENCH_HOST_MAX &&
           bench_host_parse(str_of(text), &c->host[c->host_count++]);
}

static bool pid_add(struct bench_conf *c, const char *text)
{
    uint64_t v;
    if (c->pid_count == BENCH_PID_MAX || !str_to_u64(str_of(text), &v) || v > INT32_MAX)
        return false;
    c->pid[c->pid_count++] = (int)v;
    return true;
}

static void defaults(struct bench_conf *c)
{
    static const uint32_t pubs[] = {
        [BENCH_FANOUT] = 1, [BENCH_RETAIN] = 1, [BENCH_OFFLINE] = 10, [BENCH_SCENARIO_COUNT] = 0};
    static const uint32_t subs[] = {
        [BENCH_FANIN] = 1,  [BENCH_FANOUT] = 1000,  [BENCH_SHARED] = 10,
        [BENCH_RETAIN] = 1, [BENCH_OFFLINE] = 1000, [BENCH_SCENARIO_COUNT] = 0};
    enum bench_scenario s = c->scenario;
    if (c->publishers == 0)
        c->publishers = pubs[s] != 0 ? pubs[s] : 100;
    if (c->subscribers == 0)
        c->subscribers = subs[s] != 0 ? subs[s] : 100;
    if (s == BENCH_FANIN || s == BENCH_RETAIN)
        c->subscribers = 1;
    if (s == BENCH_RETAIN)
        c->publishers = 1;
    if (s == BENCH_OFFLINE && c->publishers > c->subscribers)
        c->publishers = c->subscribers; /* each has its own to write to */
    if (s == BENCH_FANOUT)
        c->publishers = 1;
    if (s == BENCH_PAIRS || s == BENCH_FAILOVER)
        c->subscribers = c->publishers;
    if (s == BENCH_CONN || s == BENCH_SUBSCRIBE)
        c->publishers = 0;
    if (c->sub_qos == UINT8_MAX)
        c->sub_qos = c->qos;
    if (s == BENCH_FAILOVER) {
        c->is_persistent = true;
        if (c->rate == 0)
            c->rate = 1000;
        if (c->window == 0)
            c->window = 64;
    }
    if (c->window == 0)
        c->window = c->rate != 0 ? 65535 : 64;
    if (c->window > 65535)
        c->window = 65535; /* packet identifiers */
    if (c->size < BENCH_PAYLOAD_MIN)
        c->size = BENCH_PAYLOAD_MIN;
    if (c->host_count == 0)
        (void)host_add(c, "127.0.0.1");
    if (s == BENCH_OFFLINE) {
        c->is_persistent = true;
        if (c->count == 0)
            c->count = 10000;
    }
    if (c->ca_file != NULL || c->tls_name != NULL || c->is_tls_insecure)
        c->is_tls = true;
}

static bool scenario_find(const char *name, enum bench_scenario *out)
{
    for (size_t i = 0; i < countof(scenario); i++) {
        if (strcmp(name, scenario[i].name) == 0) {
            *out = (enum bench_scenario)i;
            return true;
        }
    }
    return false;
}

/* What the options say together; a sentence, or NULL. */
static const char *mistake_of(const struct bench_conf *c)
{
    if (c->version < 3)
        return "--mqtt is 3, 4 or 5";
    if (c->qos > 2 || (c->sub_qos > 2 && c->sub_qos != UINT8_MAX))
        return "--qos and --sub-qos are 0, 1 or 2";
    if (c->filters == 0 || c->connect_window == 0)
        return "--filters and --connect-window are 1 or more";
    if (c->size > BENCH_SIZE_MAX)
        return "--size is 268000000 at the most, what a packet can hold";
    if (c->password != NULL && c->username == NULL && c->version < 5)
        return "--password needs --username before MQTT 5.0";
    if (strlen(c->prefix) > BENCH_PREFIX_MAX)
        return "--prefix is too long";
    if (strpbrk(c->prefix, "+#") != NULL)
        return "--prefix begins topics: no + and no #";
    return NULL;
}

int bench_conf_parse(int argc, char **argv, struct bench_conf *c)
{
    enum { OPT_HOST = countof(row), OPT_PID, OPT_HELP, OPT_VERSION, OPT_COUNT };
    struct option opt[OPT_COUNT + 1] = {
        [OPT_HOST] = {"host", required_argument, NULL, OPT_HOST},
        [OPT_PID] = {"pid", required_argument, NULL, OPT_PID},
        [OPT_HELP] = {"help", no_argument, NULL, OPT_HELP},
        [OPT_VERSION] = {"version", no_argument, NULL, OPT_VERSION}};
    for (size_t i = 0; i < countof(row); i++)
        opt[i] = (struct option){
            row[i].name, row[i].value != NULL ? required_argument : no_argument, NULL, (int)i};
    *c = (struct bench_conf){.version = 4,
                             .sub_qos = UINT8_MAX,
                             .size = 32,
                             .seconds = 10,
                             .drain_sec = 10,
                             .filters = 100,
                             .connect_window = 100,
                             .keep_alive_sec = 60,
                             .prefix = "bench"};
    for (int o; (o = getopt_long(argc, argv, "h", opt, NULL)) != -1;) {
        bool ok = o >= 0 && o < OPT_HOST ? row_set(c, &row[o], optarg)
                  : o == OPT_HOST        ? host_add(c, optarg)
                  : o == OPT_PID         ? pid_add(c, optarg)
                                         : o == OPT_HELP || o == 'h';
        if (o == OPT_HELP || o == 'h') {
            usage(stdout);
            return 0;
        }
        if (o == OPT_VERSION) {
            printf("bilrost-bench %s\n", BILROST_VERSION);
            return 0;
        }
        if (!ok) {
            if (o >= 0 && o < OPT_HELP)
                fprintf(stderr, "bilrost-bench: --%s does not take \"%s\"\n", opt[o].name, optarg);
            return EX_USAGE;
        }
    }
    if (optind != argc - 1 || !scenario_find(argv[optind], &c->scenario)) {
        fprintf(stderr, "bilrost-bench: exactly one scenario is needed; --help lists them\n");
        return EX_USAGE;
    }
    const char *mistake = mistake_of(c);
    if (mistake != NULL) {
        fprintf(stderr, "bilrost-bench: %s\n", mistake);
        return EX_USAGE;
    }
    defaults(c);
    return -1;
}
