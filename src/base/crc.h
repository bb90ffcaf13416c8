/* CRC-32C (Castagnoli), by the processor where it can.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/must.h"

/* Continues crc (0 to start) over n bytes: crc_update(crc_update(0, a), b) is the CRC of a then b. */
uint32_t crc_update(uint32_t crc, const void *p, size_t n);
