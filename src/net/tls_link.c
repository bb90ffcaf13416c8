/* TLS of one connection.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. The link holds a ref to its net_tls: callbacks of OpenSSL point into it.
 * 2. error is set once, from OpenSSL's queue, which is empty after every call here.
 *
 * Never: blocks; closes the descriptor. */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "net/loop.h"
#include "net/tls_priv.h"

#define TEXT_MAX 512

struct net_tls_link {
    SSL *ssl;
    struct net_tls *tls;
    const char *error;
    char *text; /* identity, made when asked for: cn, san, uri, subject */
};

struct net_tls_link *net_tls_link_new(struct net_tls *t, int fd, const char *name)
{
    struct net_tls_link *k = mem_new(sizeof *k);
    k->tls = net_tls_ref(t);
    k->ssl = net_tls_ssl_new(t);
    k->error = "";
    must(SSL_set_fd(k->ssl, fd) == 1);
    if (net_tls_is_server(t)) {
        SSL_set_accept_state(k->ssl);
        return k;
    }
    SSL_set_connect_state(k->ssl);
    struct in6_addr any;
    bool is_ip =
        name && (inet_pton(AF_INET, name, &any) == 1 || inet_pton(AF_INET6, name, &any) == 1);
    if (name && !is_ip)
        (void)SSL_set_tlsext_host_name(k->ssl, name);
    if (name && net_tls_checks_name(t)) {
        if (is_ip)
            (void)X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(k->ssl), name);
        else
            (void)SSL_set1_host(k->ssl, name);
    }
    return k;
}

struct net_tls_link *net_tls_link_free(struct net_tls_link *k)
{
    if (!k)
        return NULL;
    SSL_free(k->ssl);
    net_tls_unref(k->tls);
    mem_free(k->text);
    return mem_free(k);
}

/* What a return value <= 0 means: -EAGAIN, 0 (the end), -EPROTO, -errno. */
static int meaning(struct net_tls_link *k, int r, unsigned *out_events)
{
    int saved = errno;
    switch (SSL_get_error(k->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        if (out_events)
            *out_events = NET_WATCH_READ;
        return -EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        if (out_events)
            *out_events = NET_WATCH_WRITE;
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        ERR_clear_error();
        return saved ? -saved : -ECONNRESET;
    default:
        break;
    }
    long verify = SSL_get_verify_result(k->ssl);
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    if (!k->error[0])
        k->error = verify != X509_V_OK ? X509_verify_cert_error_string(verify)
                   : reason            ? reason
                                       : "TLS protocol error";
    ERR_clear_error();
    return -EPROTO;
}

int net_tls_link_handshake(struct net_tls_link *k, unsigned *out_events)
{
    errno = 0;
    int r = SSL_do_handshake(k->ssl);
    if (r == 1)
        return 0;
    r = meaning(k, r, out_events);
    return r ? r : -ECONNRESET;
}

bool net_tls_link_is_distrusted(const struct net_tls_link *k)
{
    return SSL_get_verify_result(k->ssl) != X509_V_OK;
}

ssize_t net_tls_link_read(struct net_tls_link *k, void *p, size_t cap)
{
    size_t n = 0;
    while (n < cap) {
        size_t got;
        errno = 0;
        int r = SSL_read_ex(k->ssl, (uint8_t *)p + n, cap - n, &got);
        if (r == 1) {
            n += got;
            if (!SSL_has_pending(k->ssl))
                break; /* the loop's readiness tells of more, without a call that finds nothing */
            continue;
        }
        if (n > 0)
            return (ssize_t)n; /* an end or error will be there next time too */
        return meaning(k, r, NULL);
    }
    return (ssize_t)n;
}

ssize_t net_tls_link_write(struct net_tls_link *k, const void *p, size_t n)
{
    size_t put;
    errno = 0;
    int r = SSL_write_ex(k->ssl, p, n, &put);
    if (r == 1)
        return (ssize_t)put;
    r = meaning(k, r, NULL);
    return r ? r : -EPIPE;
}

void net_tls_link_shutdown(struct net_tls_link *k)
{
    if (SSL_is_init_finished(k->ssl))
        (void)SSL_shutdown(k->ssl);
    ERR_clear_error();
}

bool net_tls_link_has_pending(const struct net_tls_link *k)
{
    return SSL_has_pending(k->ssl) == 1;
}

const char *net_tls_link_error(const struct net_tls_link *k)
{
    return k->error;
}

const char *net_tls_link_version(const struct net_tls_link *k)
{
    return SSL_get_version(k->ssl);
}

struct str net_tls_link_name(const struct net_tls_link *k)
{
    return str_of(SSL_get_servername(k->ssl, TLSEXT_NAMETYPE_host_name));
}

/* Copies one UTF-8 value behind *at; values with NUL inside are refused, they are forgeries. */
static struct str put_text(char **at, const void *p, int n)
{
    if (n <= 0 || n >= TEXT_MAX || memchr(p, 0, (size_t)n))
        return (struct str){0};
    memcpy(*at, p, (size_t)n);
    struct str s = str_view(*at, (size_t)n);
    (*at)[n] = 0;
    *at += n + 1;
    return s;
}

static struct str put_cn(char **at, X509 *x)
{
    X509_NAME *name = X509_get_subject_name(x);
    int i = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    if (i < 0)
        return (struct str){0};
    unsigned char *utf8 = NULL;
    int n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i)));
    struct str s = put_text(at, utf8, n);
    OPENSSL_free(utf8);
    return s;
}

static struct str put_san(char **at, const GENERAL_NAMES *names, int type)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type == type)
            return put_text(at, ASN1_STRING_get0_data(g->d.ia5), ASN1_STRING_length(g->d.ia5));
    }
    return (struct str){0};
}

bool net_tls_link_identity(struct net_tls_link *k, struct net_stream_identity *out)
{
    X509 *x = SSL_get0_peer_certificate(k->ssl);
    memset(out, 0, sizeof *out);
    if (!x || SSL_get_verify_result(k->ssl) != X509_V_OK)
        return false;
    mem_free(k->text);
    char *at = k->text = mem_new(4 * TEXT_MAX);
    out->cn = put_cn(&at, x);
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    if (names) {
        static const int order[] = {GEN_DNS, GEN_EMAIL};
        out->san_uri = put_san(&at, names, GEN_URI);
        for (size_t i = 0; i < countof(order) && !out->san.n; i++)
            out->san = put_san(&at, names, order[i]);
        if (!out->san.n)
            out->san = out->san_uri;
        GENERAL_NAMES_free(names);
    }
    BIO *b = BIO_new(BIO_s_mem());
    if (b && X509_NAME_print_ex(b, X509_get_subject_name(x), 0, XN_FLAG_RFC2253) >= 0) {
        char *p = NULL;
        long len = BIO_get_mem_data(b, &p);
        out->subject = put_text(&at, p, (int)len);
    }
    BIO_free(b);
    unsigned n = 0;
    must(X509_digest(x, EVP_sha256(), out->sha256, &n) == 1);
    return true;
}
