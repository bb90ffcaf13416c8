/* Assertions that are never off, and the attributes every header uses.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The result says whether it happened: looking away is a compile error. */
#define must_use __attribute__((warn_unused_result))
#define print_like(fmt, args) __attribute__((format(printf, fmt, args)))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* States that our own code is right.  One condition each.  Input from outside is never asserted: it is
 * answered with an outcome.  A node that finds itself wrong dies and lets the others go on. */
#define must(x) (likely(x) ? (void)0 : must_fail(__FILE__, __LINE__, #x))

/* Prints where and what, then aborts.  Never returns. */
_Noreturn void must_fail(const char *file, int line, const char *what);

#define countof(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(p, type, member) ((type *)(void *)((char *)(p) - offsetof(type, member)))
