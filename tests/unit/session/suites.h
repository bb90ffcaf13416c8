/* The suites of session.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "unit/unit.h"

Suite *suite_settings(void);
Suite *suite_session(void);
