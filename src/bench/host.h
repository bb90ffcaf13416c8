/* Where the brokers are.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/str.h"
#include "net/address.h"

struct bench_conf;
struct net_loop;

#define BENCH_HOST_NAME_MAX 256

struct bench_host {
    char name[BENCH_HOST_NAME_MAX]; /* or a number; a server's certificate must have it */
    uint16_t port;                  /* 0: the registered one of what is spoken */
    struct net_address address;     /* after bench_host_find_all */
};

/* "NAME", "NAME:PORT", "1.2.3.4:PORT", "[::1]:PORT"; false: it is none of these. */
bool bench_host_parse(struct str text, struct bench_host *out);

/* Looks all names up, turning the loop meanwhile; of a name with several addresses the first IPv4
 * one counts.  0, or an exit code (68) after a sentence on stderr. */
int bench_host_find_all(struct bench_conf *conf, struct net_loop *l);
