/* The way an error took, for people who build with BILROST_TRACE_ERRORS.  SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#ifdef BILROST_TRACE_ERRORS
#include <stdio.h>

int err_trace_at(int r, const char *file, int line)
{
    fprintf(stderr, "%s:%d: error %d\n", file, line, r);
    return r;
}
#endif
