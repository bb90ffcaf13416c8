/* The suites of raft.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "unit/unit.h"

Suite *suite_membership(void);
Suite *suite_message(void);
Suite *suite_log(void);
Suite *suite_progress(void);
Suite *suite_step(void);
Suite *suite_model(void);
