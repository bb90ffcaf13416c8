/* The suites of range.  SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "unit/unit.h"

Suite *suite_range(void);
