/* The suites of kv.  SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "unit/unit.h"

Suite *suite_span(void);
Suite *suite_wire(void);
Suite *suite_node(void);
Suite *suite_status(void);
Suite *suite_ship(void);
Suite *suite_three(void);
