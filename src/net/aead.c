/* AES-256-GCM by OpenSSL.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: chooses a nonce. */
#include "net/aead.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/mem.h"

#define NONCE_LEN 12

struct net_aead {
    EVP_CIPHER_CTX *seal, *open;
};

struct net_aead *net_aead_new(const uint8_t key[NET_AEAD_KEY_LEN])
{
    struct net_aead *a = mem_new(sizeof *a);
    a->seal = EVP_CIPHER_CTX_new();
    a->open = EVP_CIPHER_CTX_new();
    must(a->seal != NULL && a->open != NULL);
    must(EVP_EncryptInit_ex(a->seal, EVP_aes_256_gcm(), NULL, key, NULL) == 1);
    must(EVP_DecryptInit_ex(a->open, EVP_aes_256_gcm(), NULL, key, NULL) == 1);
    return a;
}

struct net_aead *net_aead_free(struct net_aead *a)
{
    if (a == NULL)
        return NULL;
    EVP_CIPHER_CTX_free(a->seal);
    EVP_CIPHER_CTX_free(a->open);
    return mem_free(a);
}

static void put_nonce(uint8_t out[NONCE_LEN], uint64_t nonce)
{
    memset(out, 0, 4);
    for (unsigned i = 0; i < 8; i++)
        out[4 + i] = (uint8_t)(nonce >> (8 * (7 - i)));
}

static const uint8_t *bytes(struct str s)
{
    return (const uint8_t *)s.p;
}

void net_aead_seal(struct net_aead *a, uint64_t nonce, struct str aad, struct str in, uint8_t *out)
{
    uint8_t iv[NONCE_LEN];
    int n = 0, last = 0;
    must(in.n < INT32_MAX && aad.n < INT32_MAX);
    put_nonce(iv, nonce);
    must(EVP_EncryptInit_ex(a->seal, NULL, NULL, NULL, iv) == 1);
    must(EVP_EncryptUpdate(a->seal, NULL, &n, bytes(aad), (int)aad.n) == 1);
    must(EVP_EncryptUpdate(a->seal, out, &n, bytes(in), (int)in.n) == 1);
    must(EVP_EncryptFinal_ex(a->seal, out + n, &last) == 1);
    must(EVP_CIPHER_CTX_ctrl(a->seal, EVP_CTRL_GCM_GET_TAG, NET_AEAD_TAG_LEN, out + in.n) == 1);
}

int net_aead_open(struct net_aead *a, uint64_t nonce, struct str aad, struct str in, uint8_t *out)
{
    uint8_t iv[NONCE_LEN], tag[NET_AEAD_TAG_LEN];
    int n = 0, last = 0;
    if (in.n < NET_AEAD_TAG_LEN || in.n >= INT32_MAX)
        return NET_AEAD_E_FORGED;
    size_t text_n = in.n - NET_AEAD_TAG_LEN;
    memcpy(tag, in.p + text_n, sizeof tag);
    put_nonce(iv, nonce);
    must(EVP_DecryptInit_ex(a->open, NULL, NULL, NULL, iv) == 1);
    must(EVP_DecryptUpdate(a->open, NULL, &n, bytes(aad), (int)aad.n) == 1);
    must(EVP_DecryptUpdate(a->open, out, &n, bytes(in), (int)text_n) == 1);
    must(EVP_CIPHER_CTX_ctrl(a->open, EVP_CTRL_GCM_SET_TAG, sizeof tag, tag) == 1);
    return EVP_DecryptFinal_ex(a->open, out + n, &last) == 1 ? 0 : NET_AEAD_E_FORGED;
}

void net_aead_derive(const uint8_t key[NET_AEAD_KEY_LEN], struct str info,
                     uint8_t out[NET_AEAD_KEY_LEN])
{
    static const uint8_t salt[32];
    uint8_t prk[32], block[256 + 1];
    unsigned n = 0;
    must(info.n < sizeof block);
    must(HMAC(EVP_sha256(), salt, sizeof salt, key, NET_AEAD_KEY_LEN, prk, &n) != NULL);
    memcpy(block, info.p, info.n);
    block[info.n] = 1;
    must(HMAC(EVP_sha256(), prk, sizeof prk, block, info.n + 1, out, &n) != NULL);
    must(n == NET_AEAD_KEY_LEN);
}
