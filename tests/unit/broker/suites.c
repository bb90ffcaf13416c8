/* The suites of broker.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/broker/suites.h"

Suite *unit_suites(int i)
{
    static Suite *(*const suite[])(void) = {suite_acl,  suite_metric, suite_auth,  suite_restore,
                                            suite_slow, suite_limit,  suite_plugin};
    return i < (int)countof(suite) ? suite[i]() : NULL;
}
