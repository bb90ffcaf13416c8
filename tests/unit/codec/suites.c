/* The suites of codec.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/codec/suites.h"

Suite *unit_suites(int i)
{
    static Suite *(*const suite[])(void) = {suite_mqtt, suite_mqtt_bad, suite_topic, suite_msg,
                                            suite_layout};
    return i < (int)countof(suite) ? suite[i]() : NULL;
}
