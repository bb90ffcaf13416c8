/* Passwords are kept as Argon2id hashes (RFC 9106) in the usual text form, or as SCRAM keys
 * (net/scram.h). SPDX-License-Identifier: Apache-2.0
 *
 * Both functions take long and much memory by intent: call them on a net/worker thread, never on a
 * loop. */
#pragma once

#include "base/str.h"

#define NET_PASSWORD_TEXT_MAX 192 /* with the NUL */

enum net_password_outcome {
    NET_PASSWORD_E_WRONG = 1,
    NET_PASSWORD_E_FORMAT = 2, /* the stored text is no hash we know */
};

/* "$argon2id$v=19$m=..,t=..,p=..$salt$hash".  memory_kib and passes: 0 for the default (19 MiB, 2).
 * 0 or -ENOMEM. */
must_use int net_password_hash(struct str password, unsigned memory_kib, unsigned passes,
                               char out_text[NET_PASSWORD_TEXT_MAX]);

/* Constant time in the hash.  0, NET_PASSWORD_E_WRONG, NET_PASSWORD_E_FORMAT or -ENOMEM. */
must_use int net_password_check(struct str password, struct str text);

/* True when text is a hash that net_password_check can check; cheap, for reading files. */
bool net_password_is_hash(struct str text);

/* Equal without telling by time where they differ (tokens). */
bool net_password_eq(struct str a, struct str b);
