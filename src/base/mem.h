/* Memory.  SPDX-License-Identifier: Apache-2.0
 *
 * Small allocations abort when memory is out: a replicated node may die, half-handled errors may not live.  What a
 * peer can make big is charged to a budget first (base/budget.h). */
#pragma once

#include "base/must.h"

/* size bytes, zeroed, never NULL.  Yours: mem_free. */
void *mem_new(size_t size) must_use;

/* size bytes, not initialised, never NULL. */
void *mem_alloc(size_t size) must_use;

/* Like realloc, never NULL for size > 0. */
void *mem_resize(void *p, size_t size) must_use;

/* A copy of n bytes (n may be 0), followed by a NUL that n does not count. */
void *mem_dup(const void *p, size_t n) must_use;

/* Frees p (NULL is fine) and returns NULL, so that p = mem_free(p) leaves no stale pointer. */
void *mem_free(void *p);

/* Grows an array of *cap items of item bytes so that it holds need of them; doubles.  Returns the array. */
void *mem_grow(void *p, size_t *cap, size_t need, size_t item) must_use;
