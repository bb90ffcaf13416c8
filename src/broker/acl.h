/* Who may publish and subscribe where: rules in the syntax of mosquitto's acl_file.
 * SPDX-License-Identifier: Apache-2.0
 *
 *   user NAME                                  the topic lines that follow are for NAME;
 *                                              before the first user line they are for clients
 * without a name topic [read|write|readwrite|deny] FILTER   readwrite when nothing is said pattern
 * [read|write|readwrite|deny] FILTER for everybody; %u is the user name, %c the client id
 *
 * A matching deny wins, else one matching allow is enough, else it is denied.  Immutable after
 * parsing: all loops read
 * it. */
#pragma once

#include "base/str.h"

struct broker_acl;

enum broker_acl_action {
    BROKER_ACL_READ = 1,
    BROKER_ACL_WRITE = 2,
};

enum broker_acl_outcome {
    BROKER_ACL_E_SYNTAX = 1,
};

/* text is copied.  On a bad line: BROKER_ACL_E_SYNTAX, its number and a plain sentence.  Yours:
 * broker_acl_free. */
must_use int broker_acl_parse(struct str text, struct broker_acl **out_acl, size_t *out_line,
                              const char **out_error);
struct broker_acl *broker_acl_free(struct broker_acl *acl);

enum broker_acl_verdict {
    BROKER_ACL_NO,
    BROKER_ACL_YES,
    BROKER_ACL_ERROR, /* no rule says yes or no, and one could not be asked: %u or %c stands for a
                         name with +, # or / */
};

/* May this client publish to (WRITE) or receive from (READ) this topic name? */
enum broker_acl_verdict broker_acl_check(const struct broker_acl *acl, struct str user,
                                         struct str client_id, enum broker_acl_action action,
                                         struct str topic);
/* Is the verdict YES? */
bool broker_acl_allows(const struct broker_acl *acl, struct str user, struct str client_id,
                       enum broker_acl_action action, struct str topic);

/* How much of what a filter matches may this client read? */
enum broker_acl_cover {
    BROKER_ACL_NONE, /* nothing: refuse the subscription */
    BROKER_ACL_SOME, /* perhaps some: grant it and ask broker_acl_allows for each topic */
    BROKER_ACL_ALL,
};
enum broker_acl_cover broker_acl_covers(const struct broker_acl *acl, struct str user,
                                        struct str client_id, struct str filter);
