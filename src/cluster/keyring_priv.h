/* The back room of the keyring.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/list.h"
#include "cluster/keyring.h"
#include "cluster/seal_priv.h"

struct cluster_host_key;

struct keyring {
    struct cluster_key key[CLUSTER_KEYRING_MAX]; /* first: seals */
    size_t count;
    char origin[CLUSTER_KEYRING_MAX * CLUSTER_KEY_PRINT]; /* prints of the configured keys that the
                                                             ring began with */
    struct list asked;                                    /* orders that wait for the others */
};

/* The configured keys; a ring in the data directory that began with just these is newer. */
void cluster_keyring_init(struct cluster *c, const struct cluster_host_key *key, size_t key_count);
void cluster_keyring_deinit(struct cluster *c);
/* The content of the file. */
void cluster_keyring_fill(const struct keyring *k, struct buf *out);
/* Adds the file's keys to *k, which has its origin; 0, -ESTALE: it began with other keys, -EINVAL:
 * damaged, and *k may have some of it. */
must_use int cluster_keyring_parse(struct str text, struct keyring *k);
