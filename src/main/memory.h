/* How much memory the system lets this process have.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#define MAIN_CGROUP_PROC "/proc/self/cgroup"
#define MAIN_CGROUP_SYS "/sys/fs/cgroup"

/* The smallest limit of this process's control group and those above it, in bytes: what MemoryMax=
 * of a unit or of a slice says.  0: none.  proc is the list of groups, sys where they are mounted;
 * both versions of control groups are understood. */
uint64_t main_memory_limit(const char *proc, const char *sys);
