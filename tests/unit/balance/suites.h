/* The suites of balance.  SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "unit/unit.h"

Suite *suite_balance(void);
Suite *suite_rule(void);
Suite *suite_settle(void);
