/* What to do, from the command line.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/usec.h"
#include "bench/host.h"

enum bench_scenario {
#define X(NAME, name, meaning) BENCH_##NAME,
#include "bench/scenario.def"
#undef X
    BENCH_SCENARIO_COUNT,
};

#define BENCH_HOST_MAX 16
#define BENCH_PID_MAX 16

struct bench_conf {
    enum bench_scenario scenario;
    struct bench_host host[BENCH_HOST_MAX]; /* clients are spread over them */
    unsigned host_count;
    uint8_t version; /* 3, 4, 5 */
    uint8_t qos, sub_qos;
    uint32_t publishers, subscribers;
    uint32_t filters; /* per client, scenario subscribe; topics, scenario retain */
    uint32_t size;    /* payload bytes */
    uint32_t window;  /* messages a publisher may be ahead; 0 with a rate: 65535 */
    uint64_t rate;    /* messages a second of all publishers; 0: closed loop */
    uint64_t count;   /* messages per publisher; 0: for `seconds` */
    uint32_t seconds;
    uint32_t drain_sec;      /* longest wait for what is under way at the end */
    uint32_t connect_window; /* connections being opened at once */
    uint32_t keep_alive_sec;
    uint32_t hold_sec;  /* scenario conn: how long to stay */
    const char *prefix; /* of topics and client ids */
    const char *username, *password;
    const char *ca_file;  /* TLS with this bundle */
    const char *tls_name; /* in the server's certificate; NULL: as the host is called */
    bool is_tls, is_tls_insecure;
    const char *ws_path; /* WebSocket */
    bool is_json, is_quiet, is_persistent;
    int pid[BENCH_PID_MAX]; /* the broker's processes: their CPU is reported */
    unsigned pid_count;
};

/* Fills conf; on a mistake prints a sentence and returns the exit code (64), -1 to go on, 0 after
 * --help. */
int bench_conf_parse(int argc, char **argv, struct bench_conf *out);

const char *bench_scenario_name(enum bench_scenario s);
