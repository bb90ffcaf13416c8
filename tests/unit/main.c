/* Runs the suites of one room.  SPDX-License-Identifier: Apache-2.0
 *
 * Each tests/unit/<room>/ has a suites.c that names its suites: Suite *unit_suites(int i), NULL at the end. */
#include "unit/unit.h"

#include <stdlib.h>

int main(void)
{
    SRunner *r = srunner_create(unit_suites(0));
    Suite *s;
    for (int i = 1; (s = unit_suites(i)) != NULL; i++)
        srunner_add_suite(r, s);
#ifdef BILROST_SANITIZED
    srunner_set_fork_status(r, CK_NOFORK);
#endif
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
