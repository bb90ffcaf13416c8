/* Processor time of other processes.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/must.h"

/* Microseconds that all threads of these processes have used so far; what cannot be read counts as
 * 0. */
uint64_t bench_cpu_of(const int *pid, unsigned count);
