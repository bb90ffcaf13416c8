/* Certificates for tests, made on the spot.  SPDX-License-Identifier: Apache-2.0 */
#include "unit/cert.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include "unit/unit.h"

static void extension(X509 *x, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ck_assert_ptr_ne(e, NULL);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
}

static void write_pem(const char *path, X509 *x, EVP_PKEY *key)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_ne(f, NULL);
    if (x)
        PEM_write_X509(f, x);
    if (key)
        PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
}

void cert_make(const char *dir, const char *name, const char *cn, const char *san,
               const char *issuer)
{
    char path[256];
    EVP_PKEY *key = EVP_EC_gen("P-256"), *issuer_key = key;
    X509 *x = X509_new(), *issuer_cert = x;
    static long serial = 1;
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                               (const unsigned char *)cn, -1, -1, 0);
    X509_set_pubkey(x, key);
    if (issuer) {
        snprintf(path, sizeof path, "%s/%s.crt", dir, issuer);
        FILE *f = fopen(path, "r");
        ck_assert_ptr_ne(f, NULL);
        issuer_cert = PEM_read_X509(f, NULL, NULL, NULL);
        fclose(f);
        snprintf(path, sizeof path, "%s/%s.key", dir, issuer);
        f = fopen(path, "r");
        ck_assert_ptr_ne(f, NULL);
        issuer_key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
        fclose(f);
    }
    X509_set_issuer_name(x, X509_get_subject_name(issuer_cert));
    extension(x, NID_basic_constraints, issuer ? "CA:FALSE" : "critical,CA:TRUE");
    if (san)
        extension(x, NID_subject_alt_name, san);
    ck_assert_int_gt(X509_sign(x, issuer_key, EVP_sha256()), 0);
    snprintf(path, sizeof path, "%s/%s.crt", dir, name);
    write_pem(path, x, NULL);
    snprintf(path, sizeof path, "%s/%s.key", dir, name);
    write_pem(path, NULL, key);
    if (issuer) {
        X509_free(issuer_cert);
        EVP_PKEY_free(issuer_key);
    }
    X509_free(x);
    EVP_PKEY_free(key);
}
