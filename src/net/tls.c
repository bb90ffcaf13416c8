/* TLS contexts and their exchange.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. `set` is complete and immutable; reload builds another and swaps the pointer under the lock.
 * A connection holds its SSL_CTX by OpenSSL's own count, so the old set goes with its last
 * connection.
 * 2. Configuration strings are ours.
 *
 * Never: keeps key material outside OpenSSL's objects, puts file contents into an error text. */
#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "net/tls_priv.h"

struct tls_set {
    SSL_CTX *ctx;       /* what everybody starts with */
    SSL_CTX **name_ctx; /* by conf.name */
    uint64_t expires;
};

struct net_tls {
    struct net_tls_conf conf;
    struct net_tls_name *name;
    uint8_t alpn[256]; /* wire form */
    unsigned alpn_n;
    pthread_mutex_t lock; /* of set */
    struct tls_set *set;
    _Atomic unsigned refs;
};

static void set_free(struct tls_set *set, size_t name_count)
{
    if (!set)
        return;
    for (size_t i = 0; i < name_count; i++)
        SSL_CTX_free(set->name_ctx[i]);
    SSL_CTX_free(set->ctx);
    mem_free(set->name_ctx);
    mem_free(set);
}

/* One sentence about what OpenSSL did not like, its queue emptied. */
static int say(char *out, int r, const char *what, const char *file)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;
    int lib = ERR_GET_LIB(e), why = ERR_GET_REASON(e);
    if ((lib == ERR_LIB_X509 && why == X509_R_KEY_VALUES_MISMATCH) ||
        (lib == ERR_LIB_SSL && why == SSL_R_NO_CERTIFICATE_ASSIGNED)) /* another kind of key */
        reason = "does not belong to the certificate";
    else if (why == ERR_R_PEM_LIB || why == PEM_R_NO_START_LINE)
        reason = "has none in PEM (-----BEGIN ...)";
    snprintf(out, NET_TLS_ERROR_MAX, "%s \"%s\": %s", what, file,
             reason ? reason : "not understood");
    ERR_clear_error();
    return r;
}

static int readable(const char *what, const char *file, char *out)
{
    struct stat st;
    int r = access(file, R_OK) < 0 || stat(file, &st) < 0 ? -errno
            : S_ISDIR(st.st_mode)                         ? -EISDIR
                                                          : 0;
    if (r == 0)
        return 0;
    snprintf(out, NET_TLS_ERROR_MAX, "%s \"%s\": %s", what, file, strerrordesc_np(-r));
    return r == -ENOENT || r == -EACCES ? r : -EINVAL;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *in, unsigned in_len, void *arg)
{
    (void)ssl;
    const struct net_tls *t = arg;
    unsigned char *picked;
    if (SSL_select_next_proto(&picked, out_len, t->alpn, t->alpn_n, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK; /* a client that offers others is served all the same */
    *out = picked;
    return SSL_TLSEXT_ERR_OK;
}

static bool name_matches(const char *pattern, const char *name)
{
    if (pattern[0] != '*' || pattern[1] != '.')
        return strcasecmp(pattern, name) == 0;
    const char *dot = strchr(name, '.');
    return dot && strcasecmp(pattern + 1, dot) == 0;
}

static int on_name(SSL *ssl, int *alert, void *arg)
{
    (void)alert;
    struct net_tls *t = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (!name)
        return SSL_TLSEXT_ERR_OK;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->conf.name_count; i++)
        if (name_matches(t->conf.name[i].name, name)) {
            SSL_set_SSL_CTX(ssl, t->set->name_ctx[i]);
            break;
        }
    pthread_mutex_unlock(&t->lock);
    return SSL_TLSEXT_ERR_OK;
}

static int load_pair(SSL_CTX *ctx, const char *cert, const char *key, char *out)
{
    int r = readable("certificate", cert, out);
    if (r == 0)
        r = readable("private key", key, out);
    if (r)
        return r;
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
        return say(out, -EINVAL, "certificate", cert);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        return say(out, -EINVAL, "private key", key);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return say(out, -EINVAL, "private key", key);
    return 0;
}

static int load_trust(SSL_CTX *ctx, const struct net_tls_conf *c, char *out)
{
    if (c->ca_file) {
        int r = readable("CA file", c->ca_file, out);
        if (r)
            return r;
        if (SSL_CTX_load_verify_file(ctx, c->ca_file) != 1)
            return say(out, -EINVAL, "CA file", c->ca_file);
        if (c->is_server)
            SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(c->ca_file));
    } else if (!c->is_server && c->verify != NET_TLS_VERIFY_NONE) {
        if (SSL_CTX_set_default_verify_paths(ctx) != 1)
            return say(out, -EINVAL, "the system's CA certificates", "default");
    }
    if (c->crl_file) {
        int r = readable("CRL file", c->crl_file, out);
        if (r)
            return r;
        X509_STORE *store = SSL_CTX_get_cert_store(ctx);
        X509_LOOKUP *look = X509_STORE_add_lookup(store, X509_LOOKUP_file());
        if (!look || X509_load_crl_file(look, c->crl_file, X509_FILETYPE_PEM) < 1)
            return say(out, -EINVAL, "CRL file", c->crl_file);
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    }
    return 0;
}

static int settings(struct net_tls *t, SSL_CTX *ctx, char *out)
{
    const struct net_tls_conf *c = &t->conf;
    int min =
        c->version_min && strcmp(c->version_min, "1.3") == 0 ? TLS1_3_VERSION : TLS1_2_VERSION;
    SSL_CTX_set_min_proto_version(ctx, min);
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (c->ciphers && SSL_CTX_set_cipher_list(ctx, c->ciphers) != 1)
        return say(out, -EINVAL, "cipher list", c->ciphers);
    int verify = SSL_VERIFY_NONE;
    if (c->verify != NET_TLS_VERIFY_NONE)
        verify = SSL_VERIFY_PEER;
    if (c->is_server && c->verify == NET_TLS_VERIFY_REQUIRED)
        verify |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ctx, verify, NULL);
    static const unsigned char session_context[] = "bilrost";
    SSL_CTX_set_session_id_context(ctx, session_context, sizeof session_context - 1);
    if (t->alpn_n && c->is_server)
        SSL_CTX_set_alpn_select_cb(ctx, on_alpn, t);
    else if (t->alpn_n)
        SSL_CTX_set_alpn_protos(ctx, t->alpn, t->alpn_n);
    return load_trust(ctx, c, out);
}

static SSL_CTX *ctx_new(struct net_tls *t, const char *cert, const char *key, char *out, int *out_r)
{
    SSL_CTX *ctx = SSL_CTX_new(t->conf.is_server ? TLS_server_method() : TLS_client_method());
    must(ctx != NULL);
    int r = settings(t, ctx, out);
    if (r == 0 && cert)
        r = load_pair(ctx, cert, key ? key : cert, out);
    *out_r = r;
    if (r == 0)
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

static uint64_t expires_of(SSL_CTX *ctx)
{
    const X509 *x = SSL_CTX_get0_certificate(ctx);
    int days, secs;
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    uint64_t at = 0;
    if (x && epoch && ASN1_TIME_diff(&days, &secs, epoch, X509_get0_notAfter(x)) == 1 && days >= 0)
        at = (uint64_t)days * 86400 + (uint64_t)secs;
    ASN1_TIME_free(epoch);
    return at;
}

static int set_new(struct net_tls *t, char *out, struct tls_set **out_set)
{
    const struct net_tls_conf *c = &t->conf;
    struct tls_set *set = mem_new(sizeof *set);
    int r = 0;
    set->name_ctx = mem_new((c->name_count + 1) * sizeof(SSL_CTX *));
    set->ctx = ctx_new(t, c->cert_file, c->key_file, out, &r);
    if (set->ctx && c->is_server && c->name_count) {
        SSL_CTX_set_tlsext_servername_callback(set->ctx, on_name);
        SSL_CTX_set_tlsext_servername_arg(set->ctx, t);
    }
    for (size_t i = 0; r == 0 && i < c->name_count; i++)
        set->name_ctx[i] = ctx_new(t, c->name[i].cert_file, c->name[i].key_file, out, &r);
    if (r) {
        set_free(set, c->name_count);
        return r;
    }
    if (c->cert_file)
        set->expires = expires_of(set->ctx);
    *out_set = set;
    return 0;
}

static char *text_dup(const char *z)
{
    return z ? mem_dup(z, strlen(z)) : NULL;
}

static void tls_free(struct net_tls *t)
{
    set_free(t->set, t->conf.name_count);
    for (size_t i = 0; i < t->conf.name_count; i++) {
        mem_free((void *)(uintptr_t)t->name[i].name);
        mem_free((void *)(uintptr_t)t->name[i].cert_file);
        mem_free((void *)(uintptr_t)t->name[i].key_file);
    }
    mem_free(t->name);
    mem_free((void *)(uintptr_t)t->conf.cert_file);
    mem_free((void *)(uintptr_t)t->conf.key_file);
    mem_free((void *)(uintptr_t)t->conf.ca_file);
    mem_free((void *)(uintptr_t)t->conf.crl_file);
    mem_free((void *)(uintptr_t)t->conf.version_min);
    mem_free((void *)(uintptr_t)t->conf.ciphers);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

static void conf_dup(struct net_tls *t, const struct net_tls_conf *conf)
{
    t->conf = *conf;
    t->conf.cert_file = text_dup(conf->cert_file);
    t->conf.key_file = text_dup(conf->key_file);
    t->conf.ca_file = text_dup(conf->ca_file);
    t->conf.crl_file = text_dup(conf->crl_file);
    t->conf.version_min = text_dup(conf->version_min);
    t->conf.ciphers = text_dup(conf->ciphers);
    t->name = mem_new((conf->name_count + 1) * sizeof *t->name);
    for (size_t i = 0; i < conf->name_count; i++) {
        t->name[i].name = text_dup(conf->name[i].name);
        t->name[i].cert_file = text_dup(conf->name[i].cert_file);
        t->name[i].key_file = text_dup(conf->name[i].key_file);
    }
    t->conf.name = t->name;
    t->conf.alpn = NULL;
    if (conf->alpn) {
        size_t n = strlen(conf->alpn);
        must(n <= 254);
        t->alpn[0] = (uint8_t)n;
        memcpy(t->alpn + 1, conf->alpn, n);
        t->alpn_n = (unsigned)n + 1;
    }
}

int net_tls_new(const struct net_tls_conf *conf, char out_error[NET_TLS_ERROR_MAX],
                struct net_tls **out_tls)
{
    struct net_tls *t = mem_new(sizeof *t);
    must(pthread_mutex_init(&t->lock, NULL) == 0);
    conf_dup(t, conf);
    atomic_store(&t->refs, 1);
    int r = 0;
    if (conf->is_server && !conf->cert_file) {
        snprintf(out_error, NET_TLS_ERROR_MAX, "a TLS server needs a certificate");
        r = -EINVAL;
    }
    if (r == 0)
        r = set_new(t, out_error, &t->set);
    if (r) {
        tls_free(t);
        return err_trace(r);
    }
    *out_tls = t;
    return 0;
}

struct net_tls *net_tls_ref(struct net_tls *t)
{
    atomic_fetch_add(&t->refs, 1);
    return t;
}

struct net_tls *net_tls_unref(struct net_tls *t)
{
    if (t && atomic_fetch_sub(&t->refs, 1) == 1)
        tls_free(t);
    return NULL;
}

int net_tls_reload(struct net_tls *t, char out_error[NET_TLS_ERROR_MAX])
{
    struct tls_set *set;
    int r = set_new(t, out_error, &set);
    if (r)
        return err_trace(r);
    pthread_mutex_lock(&t->lock);
    struct tls_set *old = t->set;
    t->set = set;
    pthread_mutex_unlock(&t->lock);
    set_free(old, t->conf.name_count);
    return 0;
}

uint64_t net_tls_expires(struct net_tls *t)
{
    pthread_mutex_lock(&t->lock);
    uint64_t at = t->set->expires;
    pthread_mutex_unlock(&t->lock);
    return at;
}

void *net_tls_ssl_new(struct net_tls *t)
{
    pthread_mutex_lock(&t->lock);
    SSL *ssl = SSL_new(t->set->ctx);
    pthread_mutex_unlock(&t->lock);
    must(ssl != NULL);
    return ssl;
}

bool net_tls_is_server(const struct net_tls *t)
{
    return t->conf.is_server;
}

bool net_tls_checks_name(const struct net_tls *t)
{
    return !t->conf.is_server && t->conf.verify == NET_TLS_VERIFY_REQUIRED;
}
