/* Who is this, and may he?  The port behind which all ways of authentication sit.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Asking is asynchronous: the answer comes on the loop that asked, in this turn or later.  Methods
 * stand in a chain per
 * listener; the first one that knows the client decides.  Files are immutable once read; a reload
 * publishes new ones. */
#pragma once

#include "broker/acl.h"
#include "broker/plugin.h"
#include "net/stream.h"
#include "net/worker.h"

enum broker_auth_method {
    BROKER_AUTH_CERTIFICATE = 1, /* a checked certificate names the user */
    BROKER_AUTH_PASSWORD = 2,    /* user name and password are in the password file */
    BROKER_AUTH_ANONYMOUS = 4,   /* a client without a user name is let in */
    BROKER_AUTH_SCRAM = 8,       /* enhanced: SCRAM-SHA-256 with keys of the password file */
    BROKER_AUTH_PLUGIN = 16,     /* a plugin says who it is, and perhaps what he may do */
};

enum broker_auth_identity {
    BROKER_AUTH_IDENTITY_CN,
    BROKER_AUTH_IDENTITY_SAN,
};

/* Of one listener. */
struct broker_auth_chain {
    unsigned methods; /* of enum broker_auth_method */
    enum broker_auth_identity identity;
};

/* What was read from the files.  Reference counted, immutable. */
struct broker_auth_files;

struct broker_auth_conf {
    const char *password_file; /* NULL: none.  "name:hash" a line, # comments */
    uint64_t secret[4];        /* from a random source, the same at each reload */
    const char *acl_file;      /* of every tenant without one of its own; NULL: all is allowed */
    const struct broker_auth_acl {
        const char *tenant, *file;
    } * acl; /* of single tenants */
    size_t acl_count;
    struct broker_plugins *plugins; /* outlive the files; NULL: none */
};

#define BROKER_AUTH_ERROR_MAX 256

/* Reads the files now (blocking).  0, or -errno / -EINVAL with one plain sentence that names file
 * and line. */
must_use int broker_auth_files_new(const struct broker_auth_conf *conf,
                                   char out_error[BROKER_AUTH_ERROR_MAX],
                                   struct broker_auth_files **out_files);
struct broker_auth_files *broker_auth_files_ref(struct broker_auth_files *f);
struct broker_auth_files *broker_auth_files_unref(struct broker_auth_files *f);

/* The rules for a tenant, or NULL: all is allowed. */
const struct broker_acl *broker_auth_acl_find(const struct broker_auth_files *f, struct str tenant);

enum broker_auth_outcome {
    BROKER_AUTH_OK = 0,
    BROKER_AUTH_E_BAD_PASS,       /* wrong user name or password */
    BROKER_AUTH_E_NOT_AUTHORIZED, /* nobody in the chain knows him */
    BROKER_AUTH_E_ERROR,          /* could not be decided: busy, out of memory */
    BROKER_AUTH_E_MORE, /* enhanced: out_data goes to the client, its answer to broker_auth_continue
                         */
    BROKER_AUTH_E_BAD_METHOD, /* enhanced: nobody in the chain knows this method */
};

struct broker_auth_enhanced;

/* One question, embedded in who asks (zeroed before the first use); the views must live until done.
 */
struct broker_auth_ask {
    struct str user; /* p == NULL: none given */
    struct str password;
    struct str certificate;                /* the name in the checked certificate; empty: none */
    struct str tenant, client_id, address; /* for plugins */
    void (*done)(struct broker_auth_ask *ask, enum broker_auth_outcome outcome);
    struct str method; /* of enhanced authentication; p == NULL: none, else user and password do not
                          count */
    struct str data;   /* its Authentication Data, of this step */
    bool is_again;     /* the client is connected: user is who it is */
    struct str
        out_user; /* who it is; a view of user or certificate, or good until broker_auth_end */
    struct buf out_data; /* enhanced: for the client, with E_MORE and with OK */
    struct broker_acl
        *out_acl;              /* with OK: rules of this client alone, to be taken; NULL: the files'
                                */
    struct net_worker_job job; /* ours from here on */
    struct str secret; /* the password, while a worker looks at it: its owner may end meanwhile */
    struct broker_auth_files *files;
    const struct broker_auth_enhanced *enhanced;
    void *exchange; /* of the method */
    struct str hash;
    int result;
    struct broker_plugin_ask plugin;
    struct buf named; /* whom a plugin takes him for */
    const struct broker_auth_chain *chain;
    struct net_worker *worker;
    struct net_loop *here;
};

/* done is called exactly once, perhaps before this returns.  chain lives until then. */
void broker_auth_begin(struct broker_auth_ask *ask, const struct broker_auth_chain *chain,
                       struct broker_auth_files *files, struct net_worker *worker,
                       struct net_loop *here);

/* The client's answer to E_MORE: ask->data and its like are set anew; done comes again. */
void broker_auth_continue(struct broker_auth_ask *ask, struct net_worker *worker,
                          struct net_loop *here);

/* After the last done, or instead of going on (what a plugin says then is not heard): frees what is
 * held. */
void broker_auth_end(struct broker_auth_ask *ask);
