/* Memory that is there or the node is not.  SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

void *mem_new(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    must(p != NULL);
    return p;
}

void *mem_alloc(size_t size)
{
    void *p = malloc(size ? size : 1);
    must(p != NULL);
    return p;
}

void *mem_resize(void *p, size_t size)
{
    void *q = realloc(p, size ? size : 1);
    must(q != NULL);
    return q;
}

void *mem_dup(const void *p, size_t n)
{
    char *q = mem_alloc(n + 1);
    if (n > 0)
        memcpy(q, p, n);
    q[n] = 0;
    return q;
}

void *mem_free(void *p)
{
    free(p);
    return NULL;
}

void *mem_grow(void *p, size_t *cap, size_t need, size_t item)
{
    if (need <= *cap)
        return p;
    size_t n = *cap ? *cap : 4;
    while (n < need)
        n *= 2;
    must(n <= SIZE_MAX / item);
    *cap = n;
    return mem_resize(p, n * item);
}
