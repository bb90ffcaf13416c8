/* Sealing short messages: AES-256-GCM, and keys derived from a key.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A nonce must never come twice under one key: the caller counts. */
#pragma once

#include "base/str.h"

#define NET_AEAD_KEY_LEN 32
#define NET_AEAD_TAG_LEN 16

enum net_aead_outcome {
    NET_AEAD_E_FORGED = 1, /* not sealed with this key, or changed since */
};

struct net_aead; /* a key made ready; one thread at a time */

struct net_aead *net_aead_new(const uint8_t key[NET_AEAD_KEY_LEN]) must_use;
struct net_aead *net_aead_free(struct net_aead *a);

/* Writes in.n + NET_AEAD_TAG_LEN bytes to out.  aad is authenticated, not hidden.  The nonce is
 * this number. */
void net_aead_seal(struct net_aead *a, uint64_t nonce, struct str aad, struct str in, uint8_t *out);

/* Writes in.n - NET_AEAD_TAG_LEN bytes to out; 0 or NET_AEAD_E_FORGED (then out is garbage). */
must_use int net_aead_open(struct net_aead *a, uint64_t nonce, struct str aad, struct str in,
                           uint8_t *out);

/* HKDF-SHA256 (RFC 5869) without salt: a key of its own for whatever info names. */
void net_aead_derive(const uint8_t key[NET_AEAD_KEY_LEN], struct str info,
                     uint8_t out[NET_AEAD_KEY_LEN]);
