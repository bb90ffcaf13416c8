/* The suites of broker.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "unit/unit.h"

Suite *suite_acl(void);
Suite *suite_metric(void);
Suite *suite_auth(void);
Suite *suite_restore(void);
Suite *suite_slow(void);
Suite *suite_limit(void);
Suite *suite_plugin(void);
