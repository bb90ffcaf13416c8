/* The keys of gossip packets, seen and changed while the cluster runs.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * The first key of a node's ring seals, all of them open.  So a new key is added everywhere, then
 * used everywhere, then the old one is removed, and no packet is ever refused.  An order goes from
 * the node where it was given to all live members, sealed with the key of now, and each of them
 * keeps its ring in its data directory.  A node that was away keeps its old ring: the operator
 * gives it the new keys by its key file.
 *
 * All functions: on the loop of seat 0. */
#pragma once

#include "cluster/cluster.h"

#define CLUSTER_KEYRING_MAX 8 /* keys of one node */
#define CLUSTER_KEY_LEN 32
#define CLUSTER_KEY_PRINT 17

/* 64 hexadecimal digits; false: something else. */
bool cluster_key_parse(struct str text, uint8_t out[CLUSTER_KEY_LEN]) must_use;

/* The number by which packets name this key, 1..254; the same on all nodes. */
uint8_t cluster_key_id(const uint8_t key[CLUSTER_KEY_LEN]);

/* 16 hexadecimal digits that tell keys apart and give nothing away. */
void cluster_key_print(const uint8_t key[CLUSTER_KEY_LEN], char out[CLUSTER_KEY_PRINT]);

struct cluster_keyring_key {
    char print[CLUSTER_KEY_PRINT];
    unsigned holders; /* live members that can open with it */
    unsigned users;   /* live members that seal with it */
    bool is_ours;     /* this node has it */
};

#define CLUSTER_KEYRING_LIST_MAX 64

/* All keys that live members say they have, by print.  Returns how many. */
size_t cluster_keyring_list(const struct cluster_seat *s,
                            struct cluster_keyring_key out[CLUSTER_KEYRING_LIST_MAX]);

enum cluster_keyring_order {
    CLUSTER_KEYRING_ADD = 1, /* behind the others; fine when it is there */
    CLUSTER_KEYRING_USE,     /* first; all live members must have it */
    CLUSTER_KEYRING_REMOVE,  /* nobody may use it; fine when it is not there */
};

enum cluster_keyring_outcome {
    CLUSTER_KEYRING_E_UNKNOWN = 1, /* no such key on this node */
    CLUSTER_KEYRING_E_MISSING,     /* use: a live member does not have it (yet) */
    CLUSTER_KEYRING_E_USED,        /* remove: a live member still seals with it */
    CLUSTER_KEYRING_E_FULL,        /* add: the ring has CLUSTER_KEYRING_MAX keys */
    CLUSTER_KEYRING_E_CLASH,       /* add: another key of the ring has its number: make another */
    CLUSTER_KEYRING_E_OPEN,        /* this cluster runs without keys: a first one needs a restart */
};

struct cluster_keyring_change {
    enum cluster_keyring_order order;
    const uint8_t *key; /* ADD: CLUSTER_KEY_LEN bytes */
    struct str print;   /* USE, REMOVE */
};

struct cluster_keyring_result {
    unsigned asked, done; /* members, this node too */
    struct uuid failed;   /* done < asked: one that did not do it */
    int outcome;          /* of that one: a keyring or a link outcome */
    bool is_silent;       /* outcome is one of the link: it did not answer */
};

typedef void cluster_keyring_cb(void *arg, const struct cluster_keyring_result *r);

/* 0: done here, the others are asked, and cb comes once, within 6 s.  Else an outcome: nothing
 * was changed anywhere.  The same order may be given again. */
must_use int cluster_keyring_give(struct cluster_seat *s, const struct cluster_keyring_change *c,
                                  cluster_keyring_cb *cb, void *arg);
