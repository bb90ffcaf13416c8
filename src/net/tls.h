/* TLS contexts: certificate, key, who may come in, and their exchange while connections live.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A context is reference counted and may be shared by loops.  Reload builds a new inner context;
 * connections that live keep the one they began with, new ones get the new one.  Nobody is dropped.
 */
#pragma once

#include "base/str.h"

struct net_tls;

enum net_tls_verify {
    NET_TLS_VERIFY_NONE,     /* server: does not ask; client: takes any certificate (tests) */
    NET_TLS_VERIFY_OPTIONAL, /* server: asks, and takes a client without one */
    NET_TLS_VERIFY_REQUIRED, /* server: mutual TLS; client: checks chain and name */
};

struct net_tls_name { /* one more certificate, chosen by the name the client asks for (SNI) */
    const char *name; /* "a.example" or "*.example" */
    const char *cert_file, *key_file;
};

struct net_tls_conf {
    bool is_server;
    const char *cert_file,
        *key_file;        /* PEM; the chain follows the certificate.  Client: may be NULL */
    const char *ca_file;  /* PEM bundle; NULL: the system's (client) or none (server) */
    const char *crl_file; /* PEM, may be NULL */
    enum net_tls_verify verify;
    const char *version_min;         /* "1.2" (default) or "1.3" */
    const char *ciphers;             /* OpenSSL's cipher list for 1.2; NULL: its default */
    const char *alpn;                /* one protocol name, or NULL */
    const struct net_tls_name *name; /* server only */
    size_t name_count;
};

#define NET_TLS_ERROR_MAX 512

/* 0, or -EINVAL / -ENOENT / -EACCES with one plain sentence in out_error.  Strings are copied; the
 * files are read now. */
must_use int net_tls_new(const struct net_tls_conf *conf, char out_error[NET_TLS_ERROR_MAX],
                         struct net_tls **out_tls);
struct net_tls *net_tls_ref(struct net_tls *t);
struct net_tls *net_tls_unref(struct net_tls *t);

/* Reads the files again.  On an error the old ones stay in use.  Any thread. */
must_use int net_tls_reload(struct net_tls *t, char out_error[NET_TLS_ERROR_MAX]);

/* When the first certificate of ours ends, seconds since 1970. */
uint64_t net_tls_expires(struct net_tls *t);
