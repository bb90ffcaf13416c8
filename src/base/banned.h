/* Functions nobody may call; force-included into every file.  SPDX-License-Identifier: Apache-2.0 */
#pragma once
#ifndef __cplusplus
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#undef assert
#define BANNED(f) sorry_##f##_is_a_banned_function
#undef strcpy
#undef strcat
#undef sprintf
#undef vsprintf
#undef strncpy
#undef strtok
#define strcpy(...) BANNED(strcpy)()             /* use str_* or memcpy with a length */
#define strcat(...) BANNED(strcat)()             /* use buf_put */
#define sprintf(...) BANNED(sprintf)()           /* use snprintf */
#define vsprintf(...) BANNED(vsprintf)()         /* use vsnprintf */
#define strncpy(...) BANNED(strncpy)()           /* does not end the string: use str_copy */
#define strtok(...) BANNED(strtok)()             /* hidden state */
#define atoi(...) BANNED(atoi)()                 /* no errors: use str_to_u64 */
#define rand(...) BANNED(rand)()                 /* use rng_* with a seed */
#define localtime(...) BANNED(localtime)()       /* hidden state */
#define assert(...) BANNED(assert)()             /* use must(): it is never off */
#endif
