/* What the two sides of the session dict say to each other.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/buf.h"
#include "stores/stores.h"

enum stores_dict_kind {
    STORES_DICT_CLAIM = 1,
    STORES_DICT_HELD,
    STORES_DICT_RELEASE,
    STORES_DICT_FIND,
    STORES_DICT_KILL,
    STORES_DICT_GRANT,
    STORES_DICT_REFUSE,
    STORES_DICT_QUIT,
    STORES_DICT_FOUND,
};

struct stores_dict_message {
    enum stores_dict_kind kind;
    struct str tenant, client;
    struct stores_owner
        owner;      /* who claims, holds, asks (with a cookie); in FOUND: who was found */
    uint64_t token; /* of who is addressed: its cookie or question */
    uint64_t value; /* QUIT: enum stores_quit_why; REFUSE, FOUND: enum stores_outcome */
};

void stores_dict_encode(struct buf *b, const struct stores_dict_message *m);

/* Views; false: not a message that this version knows.  A value that it does not know is an
 * operator's word in QUIT, "perhaps" in REFUSE and FOUND. */
must_use bool stores_dict_decode(struct str bytes, struct stores_dict_message *out);
