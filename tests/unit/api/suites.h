/* The suites of api.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "unit/unit.h"

Suite *routes_suite(void);
Suite *list_suite(void);
