/* The suites of raft.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/raft/suites.h"

Suite *unit_suites(int i)
{
    static Suite *(*const suite[])(void) = {suite_membership, suite_message, suite_log,
                                            suite_progress,   suite_step,    suite_model};
    return i < (int)countof(suite) ? suite[i]() : NULL;
}
