/* The suites of bench.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "unit/unit.h"

Suite *suite_count(void);
Suite *suite_load(void);
