/* Pairs that outlive the node they are connected to.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "bench/load.h"

void bench_failover_init(struct bench_load *l);
void bench_failover_deinit(struct bench_load *l);

/* A connection was lost: it will be opened again, at the next host. */
void bench_failover_lost(struct bench_load *l, struct bench_client *c);

/* A client is ready (again): a publisher sends once more what is not acknowledged. */
void bench_failover_ready(struct bench_load *l, struct bench_client *c);

/* A message of this pair came. */
void bench_failover_message(struct bench_load *l, uint32_t pair);
