/* Chance that nobody can guess: keys, tokens, seeds, identifiers.  SPDX-License-Identifier:
 * Apache-2.0 */
#pragma once

#include "base/uuid.h"

/* From the kernel's generator.  Any thread. */
void net_random_bytes(void *out, size_t n);
uint64_t net_random_u64(void);

/* A fresh version 4 uuid. */
struct uuid net_random_uuid(void);
