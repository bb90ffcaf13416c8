/* The error convention (docs/HOUSE.md, "Errors").  SPDX-License-Identifier: Apache-2.0
 *
 * int f():  0 done;  negative: -errno, fatal for this operation, forwarded untouched;  positive: an outcome
 * named in the header of f, handled by the caller, never forwarded. */
#pragma once

#include "base/must.h"

/* Forwards a fatal error one floor up; with BILROST_TRACE_ERRORS defined at build time it prints the way. */
#ifdef BILROST_TRACE_ERRORS
#define err_trace(r) err_trace_at((r), __FILE__, __LINE__)
int err_trace_at(int r, const char *file, int line);
#else
#define err_trace(r) (r)
#endif
