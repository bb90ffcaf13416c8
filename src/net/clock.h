/* The only place that reads a clock.  SPDX-License-Identifier: Apache-2.0
 *
 * Inside a turn use net_loop_now and net_loop_wall; these are for threads without a loop and for
 * measuring. */
#pragma once

#include "base/usec.h"

/* CLOCK_MONOTONIC.  Any thread. */
usec_t net_clock_now(void);

/* CLOCK_REALTIME since 1970.  Any thread. */
usec_t net_clock_wall(void);

/* Processor time this process has used.  Any thread. */
usec_t net_clock_cpu(void);
