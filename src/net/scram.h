/* SCRAM-SHA-256, the server's side (RFC 5802, RFC 7677).  SPDX-License-Identifier: Apache-2.0
 *
 * The password never travels, and what is stored cannot be used to log in.  One exchange: begin
 * with the client's first message, challenge, finish with its final one.  Cheap: the work is the
 * client's.  No channel binding.
 *
 * What is stored (RFC 5803): "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>", base64.
 */
#pragma once

#include <stdint.h>

#include "base/buf.h"

struct net_scram;

enum net_scram_outcome {
    NET_SCRAM_E_FORMAT = 1, /* not what RFC 5802 lets a client say here, or more than we offer */
    NET_SCRAM_E_WRONG = 2,  /* the proof does not fit, or there is no such user */
};

#define NET_SCRAM_SECRET_LEN 32
#define NET_SCRAM_ITERATIONS                                                                       \
    16384 /* matters: what guessing from a stolen file costs, and a client at each connect */

/* client-first-message.  0 and an exchange (yours: net_scram_free), or NET_SCRAM_E_FORMAT. */
must_use int net_scram_begin(struct str client_first, struct net_scram **out);

/* Who the client says it is; lives as long as s. */
struct str net_scram_user(const struct net_scram *s);

/* Appends the server-first-message.  stored: as above; anything else (no such user, another hash)
 * gets a salt made from the name and secret, so that nobody learns who exists, and fails at the
 * end.  nonce: printable, without a comma, never used before. */
void net_scram_challenge(struct net_scram *s, struct str stored,
                         const uint8_t secret[NET_SCRAM_SECRET_LEN], struct str nonce,
                         struct buf *out);

/* client-final-message.  0 and the server-final-message is appended; NET_SCRAM_E_FORMAT,
 * NET_SCRAM_E_WRONG. */
must_use int net_scram_finish(struct net_scram *s, struct str client_final, struct buf *out);

/* NULL is fine; returns NULL. */
struct net_scram *net_scram_free(struct net_scram *s);

/* What to store for a password; appended.  iterations 0: the default. */
void net_scram_store(struct str password, uint32_t iterations, struct buf *out);
/* Is this text such a one? */
bool net_scram_is_stored(struct str text);
/* Does the password fit what is stored?  Takes as long as the client's work: for a worker.  False
 * for other text. */
bool net_scram_check(struct str password, struct str stored);
