/* The suites of session.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/session/suites.h"

Suite *unit_suites(int i)
{
    static Suite *(*const suite[])(void) = {suite_settings, suite_session};
    return i < (int)countof(suite) ? suite[i]() : NULL;
}
