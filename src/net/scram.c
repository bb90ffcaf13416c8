/* SCRAM-SHA-256, the server's side.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. Bytes of a client are looked at once, by the grammar of RFC 5802 section 7; what is left over
 * is an error.
 * 2. Keys and proofs are compared in constant time.
 *
 * Never: keeps or logs a password. */
#include "net/scram.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <sodium.h>

#include "base/mem.h"
#include "net/random.h"

#define KEY_LEN SHA256_DIGEST_LENGTH
#define SALT_LEN 16
#define SALT_LEN_MAX 64
#define TEXT_MAX 1024           /* bytes of one message of a client; names and nonces are short */
#define ITERATIONS_MAX 10000000 /* does not matter: more would take a client minutes */
#define PREFIX STR("SCRAM-SHA-256$")

struct stored {
    uint32_t iterations;
    uint8_t salt[SALT_LEN_MAX];
    size_t salt_len;
    uint8_t stored_key[KEY_LEN], server_key[KEY_LEN];
};

struct net_scram {
    struct buf user;
    struct buf gs2;  /* the client's header, which its final message repeats */
    struct buf auth; /* AuthMessage: client-first-bare, server-first */
    struct buf nonce;
    struct stored known;
    bool is_known, is_challenged;
};

static void hmac(const uint8_t key[KEY_LEN], struct str text, uint8_t out[KEY_LEN])
{
    unsigned n = KEY_LEN;
    must(HMAC(EVP_sha256(), key, KEY_LEN, (const uint8_t *)text.p, text.n, out, &n) != NULL);
}

/* ---- base64, what is stored ---- */

static void put_base64(struct buf *out, const uint8_t *p, size_t n)
{
    char text[sodium_base64_ENCODED_LEN(SALT_LEN_MAX, sodium_base64_VARIANT_ORIGINAL)];
    must(n <= SALT_LEN_MAX);
    sodium_bin2base64(text, sizeof text, p, n, sodium_base64_VARIANT_ORIGINAL);
    buf_put_str(out, str_of(text));
}

static bool get_base64(struct str text, uint8_t *out, size_t cap, size_t *out_n)
{
    const char *end;
    return text.n > 0 &&
           sodium_base642bin(out, cap, text.p, text.n, NULL, out_n, &end,
                             sodium_base64_VARIANT_ORIGINAL) == 0 &&
           end == text.p + text.n;
}

static bool get_key(struct str text, uint8_t out[KEY_LEN])
{
    size_t n;
    return get_base64(text, out, KEY_LEN, &n) && n == KEY_LEN;
}

static bool stored_get(struct str text, struct stored *out)
{
    if (!str_has_prefix(text, PREFIX))
        return false;
    struct str rest = str_view(text.p + PREFIX.n, text.n - PREFIX.n), iterations, salt, key;
    uint64_t n;
    if (!str_next(&rest, ':', &iterations) || !str_next(&rest, '$', &salt) ||
        !str_next(&rest, ':', &key) || !rest.p || !str_to_u64(iterations, &n) || n == 0 ||
        n > ITERATIONS_MAX)
        return false;
    out->iterations = (uint32_t)n;
    return get_base64(salt, out->salt, SALT_LEN_MAX, &out->salt_len) &&
           get_key(key, out->stored_key) && get_key(rest, out->server_key);
}

bool net_scram_is_stored(struct str text)
{
    struct stored k;
    return stored_get(text, &k);
}

/* SaltedPassword, ClientKey, StoredKey, ServerKey of RFC 5802 section 3. */
static void keys_of(struct str password, struct stored *k)
{
    uint8_t salted[KEY_LEN], client_key[KEY_LEN];
    must(PKCS5_PBKDF2_HMAC(password.n ? password.p : "", (int)password.n, k->salt, (int)k->salt_len,
                           (int)k->iterations, EVP_sha256(), KEY_LEN, salted) == 1);
    hmac(salted, STR("Client Key"), client_key);
    SHA256(client_key, KEY_LEN, k->stored_key);
    hmac(salted, STR("Server Key"), k->server_key);
    sodium_memzero(salted, sizeof salted);
    sodium_memzero(client_key, sizeof client_key);
}

void net_scram_store(struct str password, uint32_t iterations, struct buf *out)
{
    struct stored k = {.iterations = iterations ? iterations : NET_SCRAM_ITERATIONS,
                       .salt_len = SALT_LEN};
    net_random_bytes(k.salt, SALT_LEN);
    keys_of(password, &k);
    buf_put_str(out, PREFIX);
    buf_printf(out, "%u:", k.iterations);
    put_base64(out, k.salt, k.salt_len);
    buf_put_u8(out, '$');
    put_base64(out, k.stored_key, KEY_LEN);
    buf_put_u8(out, ':');
    put_base64(out, k.server_key, KEY_LEN);
}

bool net_scram_check(struct str password, struct str stored)
{
    struct stored k, own;
    if (password.n > INT32_MAX || !stored_get(stored, &k))
        return false;
    own = k;
    keys_of(password, &own);
    return sodium_memcmp(own.stored_key, k.stored_key, KEY_LEN) == 0;
}

/* ---- the client's first message ---- */

/* "x=value" at the front of rest, up to a comma. */
static bool attribute(struct str *rest, char name, struct str *out)
{
    if (!rest->p || !str_next(rest, ',', out) || out->n < 2 || out->p[0] != name ||
        out->p[1] != '=')
        return false;
    *out = str_view(out->p + 2, out->n - 2);
    return true;
}

/* saslname: "=2C" is a comma, "=3D" an equals sign. */
static bool name_put(struct buf *out, struct str name)
{
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] != '=') {
            buf_put_u8(out, (uint8_t)name.p[i]);
            continue;
        }
        struct str code = str_view(name.p + i, name.n - i < 3 ? name.n - i : 3);
        if (!str_eq(code, STR("=2C")) && !str_eq(code, STR("=3D")))
            return false;
        buf_put_u8(out, str_eq(code, STR("=2C")) ? ',' : '=');
        i += 2;
    }
    return name.n > 0 && str_is_utf8(name);
}

static bool is_nonce(struct str nonce)
{
    for (size_t i = 0; i < nonce.n; i++)
        if (nonce.p[i] < 0x21 || nonce.p[i] > 0x7e)
            return false;
    return nonce.n > 0;
}

static bool first_get(struct net_scram *s, struct str text)
{
    struct str rest = text, binding, authzid, name, nonce;
    if (text.n > TEXT_MAX || !str_next(&rest, ',', &binding) || !rest.p ||
        !str_next(&rest, ',', &authzid) || !rest.p)
        return false;
    if (!str_eq(binding, STR("n")) &&
        !str_eq(binding, STR("y"))) /* "p=": we offer no channel binding */
        return false;
    buf_put_str(&s->gs2, str_view(text.p, (size_t)(rest.p - text.p)));
    buf_put_str(&s->auth, rest);
    if (!attribute(&rest, 'n', &name) || !name_put(&s->user, name) ||
        !attribute(&rest, 'r', &nonce) || !is_nonce(nonce))
        return false;
    buf_put_str(&s->nonce, nonce);
    if (authzid.n == 0)
        return true; /* extensions behind the nonce are the client's to name and ours to ignore */
    struct buf who = {0};
    bool is_same = str_has_prefix(authzid, STR("a=")) &&
                   name_put(&who, str_view(authzid.p + 2, authzid.n - 2)) &&
                   str_eq(buf_str(&who), buf_str(&s->user));
    buf_deinit(&who);
    return is_same;
}

int net_scram_begin(struct str client_first, struct net_scram **out)
{
    struct net_scram *s = mem_new(sizeof *s);
    if (!first_get(s, client_first)) {
        net_scram_free(s);
        return NET_SCRAM_E_FORMAT;
    }
    *out = s;
    return 0;
}

struct str net_scram_user(const struct net_scram *s)
{
    return buf_str(&s->user);
}

/* ---- challenge and proof ---- */

void net_scram_challenge(struct net_scram *s, struct str stored,
                         const uint8_t secret[NET_SCRAM_SECRET_LEN], struct str nonce,
                         struct buf *out)
{
    must(!s->is_challenged && is_nonce(nonce) && memchr(nonce.p, ',', nonce.n) == NULL);
    s->is_challenged = true;
    s->is_known = stored_get(stored, &s->known);
    if (!s->is_known) {
        uint8_t salt[KEY_LEN];
        hmac(secret, buf_str(&s->user), salt);
        s->known = (struct stored){.iterations = NET_SCRAM_ITERATIONS, .salt_len = SALT_LEN};
        memcpy(s->known.salt, salt, SALT_LEN);
    }
    buf_put_str(&s->nonce, nonce);
    size_t at = out->n;
    buf_put_str(out, STR("r="));
    buf_put_str(out, buf_str(&s->nonce));
    buf_put_str(out, STR(",s="));
    put_base64(out, s->known.salt, s->known.salt_len);
    buf_printf(out, ",i=%u", s->known.iterations);
    buf_put_u8(&s->auth, ',');
    buf_put(&s->auth, out->p + at, out->n - at);
}

/* The header that the proof vouches for must be the one that came first. */
static bool is_same_header(const struct net_scram *s, struct str base64)
{
    uint8_t header[TEXT_MAX];
    size_t n;
    return get_base64(base64, header, sizeof header, &n) &&
           str_eq(str_view((char *)header, n), buf_str(&s->gs2));
}

int net_scram_finish(struct net_scram *s, struct str client_final, struct buf *out)
{
    struct str rest = client_final, header, nonce, proof = {0}, one;
    uint8_t client_proof[KEY_LEN], signature[KEY_LEN], key[KEY_LEN];
    must(s->is_challenged);
    if (client_final.n > 2 * TEXT_MAX || !attribute(&rest, 'c', &header) ||
        !attribute(&rest, 'r', &nonce))
        return NET_SCRAM_E_FORMAT;
    while (rest.p && str_next(&rest, ',',
                              &one)) /* the proof is last; what stands before it is an extension */
        proof = one;
    if (!str_has_prefix(proof, STR("p=")) || !is_same_header(s, header) ||
        !str_eq(nonce, buf_str(&s->nonce)) ||
        !get_key(str_view(proof.p + 2, proof.n - 2), client_proof))
        return NET_SCRAM_E_FORMAT;
    buf_put_u8(&s->auth, ',');
    buf_put(&s->auth, client_final.p, (size_t)(proof.p - 1 - client_final.p));
    hmac(s->known.stored_key, buf_str(&s->auth), signature);
    for (size_t i = 0; i < KEY_LEN; i++)
        client_proof[i] ^= signature[i]; /* now the ClientKey */
    SHA256(client_proof, KEY_LEN, key);
    if (sodium_memcmp(key, s->known.stored_key, KEY_LEN) != 0 || !s->is_known)
        return NET_SCRAM_E_WRONG;
    hmac(s->known.server_key, buf_str(&s->auth), signature);
    buf_put_str(out, STR("v="));
    put_base64(out, signature, KEY_LEN);
    return 0;
}

struct net_scram *net_scram_free(struct net_scram *s)
{
    if (!s)
        return NULL;
    buf_deinit(&s->user);
    buf_deinit(&s->gs2);
    buf_deinit(&s->auth);
    buf_deinit(&s->nonce);
    sodium_memzero(&s->known, sizeof s->known);
    return mem_free(s);
}
