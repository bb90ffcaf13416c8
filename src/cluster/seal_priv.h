/* Packets of gossip as they leave this node: authenticated, encrypted, not to be replayed.
 * SPDX-License-Identifier: Apache-2.0
 *
 *   magic u16, version u8, key u8, label u32, sender uuid 16, epoch u64, counter u64, then
 * ciphertext and tag
 *
 * The head is authenticated.  Each sender has its own key, derived from the cluster's key and
 * (uuid, epoch), and counts its packets, so no nonce comes twice.  Without keys (key 0) a CRC-32C
 * stands in for the tag: for loopback and tests. */
#pragma once

#include "base/buf.h"
#include "base/usec.h"
#include "base/uuid.h"

#define CLUSTER_SEAL_VERSION 1
#define CLUSTER_SEAL_HEAD_LEN 40
#define CLUSTER_SEAL_OVERHEAD (CLUSTER_SEAL_HEAD_LEN + 16)
#define CLUSTER_KEYS_MAX 8

struct cluster_key {
    uint8_t id; /* 1..254, the same on all nodes */
    uint8_t bytes[32];
};

enum cluster_seal_outcome {                          /* the numbers travel in rejects */
                            CLUSTER_SEAL_E_JUNK = 1, /* not one of our packets */
                            CLUSTER_SEAL_E_LABEL,    /* another cluster's (env) */
                            CLUSTER_SEAL_E_KEY,      /* a key we do not have, or none */
                            CLUSTER_SEAL_E_FORGED, /* does not authenticate: another key of this id,
                                                    * or changed on the way
                                                    */
                            CLUSTER_SEAL_E_REPLAYED, /* seen before, or too old */
                            CLUSTER_SEAL_E_REJECT,   /* the other side's answer to one of ours: see
                                                      * cluster_seal_reject_read
                                                      */
                            CLUSTER_SEAL_E_VERSION,  /* another version of this format */
};

struct cluster_seal;

/* keys: the first one seals, all open; none: no protection.  env names the cluster. */
struct cluster_seal *cluster_seal_new(const struct uuid *self, uint64_t epoch, struct str env,
                                      const struct cluster_key *key, size_t key_count) must_use;
struct cluster_seal *cluster_seal_free(struct cluster_seal *s);

/* Other keys from now on. */
void cluster_seal_keys(struct cluster_seal *s, const struct cluster_key *key, size_t key_count);

/* Hash of env, as packets carry it. */
uint32_t cluster_seal_label(struct str env);

/* Appends the sealed packet. */
void cluster_seal_put(struct cluster_seal *s, struct str packet, struct buf *out);

/* Replaces *out by the packet inside; 0 or an outcome. */
must_use int cluster_seal_get(struct cluster_seal *s, struct str sealed, struct buf *out);

/* "Your packet is not for this cluster": why is a cluster_seal_outcome. */
void cluster_seal_reject(struct cluster_seal *s, int why, struct buf *out);

/* What such an answer says.  Nobody has authenticated it: it is for log lines only. */
struct cluster_seal_reject {
    int why;
    uint8_t version; /* of their format */
    struct str env;  /* theirs; a view */
    struct str keys; /* the numbers of their keys, a byte each */
};

/* false: not one. */
bool cluster_seal_reject_read(struct str packet, struct cluster_seal_reject *out);

/* The numbers of our keys as text, "none" without. */
void cluster_seal_keys_format(const struct cluster_seal *s, struct buf *out);
void cluster_seal_key_numbers_format(struct str numbers, struct buf *out);
