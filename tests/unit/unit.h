/* What every unit test file includes.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include <check.h>
#pragma GCC diagnostic pop

#include "base/str.h"
#include "lib/slow.h"

/* The suites of this room, one by one; NULL behind the last.  Each call makes a new one. */
Suite *unit_suites(int i);

#define ck_str(got, want) \
    do { \
        struct str got_ = (got), want_ = (want); \
        ck_assert_msg(str_eq(got_, want_), "%s is \"%.*s\", expected \"%.*s\"", #got, STR_ARG(got_), STR_ARG(want_)); \
    } while (0)
