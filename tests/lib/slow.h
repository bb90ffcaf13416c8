/* How much longer tests wait under a sanitizer.  SPDX-License-Identifier: Apache-2.0
 *
 * ThreadSanitizer makes a program 5 to 15 times slower, AddressSanitizer 2 to 3 times.  A deadline
 * of a test is there to end it when what it waits for never comes, so it is multiplied; a time that
 * the program itself is configured with (a timeout, an interval) is multiplied where a slow program
 * would otherwise miss it. */
#pragma once

#if defined(__SANITIZE_THREAD__)
#define TEST_SLOW 10u
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_SLOW 10u
#endif
#endif

#if !defined(TEST_SLOW) && defined(BILROST_SANITIZED)
#define TEST_SLOW 3u
#elif !defined(TEST_SLOW)
#define TEST_SLOW 1u
#endif

/* usec_t or seconds: so many times as long as on a program as it is shipped. */
#define TEST_PATIENCE(time) ((time)*TEST_SLOW)
