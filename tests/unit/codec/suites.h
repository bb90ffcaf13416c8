/* The suites of codec.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "unit/unit.h"

Suite *suite_mqtt(void);
Suite *suite_mqtt_bad(void);
Suite *suite_topic(void);
Suite *suite_msg(void);
Suite *suite_layout(void);
