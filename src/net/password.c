/* Argon2id through libsodium, SCRAM keys through net/scram.h.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: runs on a loop by itself (it blocks for tens of milliseconds: see the header). */
#include "net/password.h"

#include <errno.h>
#include <sodium.h>

#include "net/scram.h"

#define MEMORY_KIB 19456 /* with PASSES: OWASP's first choice for Argon2id */
#define PASSES 2

_Static_assert(crypto_pwhash_STRBYTES <= NET_PASSWORD_TEXT_MAX, "the text fits");

int net_password_hash(struct str password, unsigned memory_kib, unsigned passes,
                      char out_text[NET_PASSWORD_TEXT_MAX])
{
    if (sodium_init() < 0)
        return -ENOSYS;
    size_t memory = (size_t)(memory_kib ? memory_kib : MEMORY_KIB) * 1024;
    if (crypto_pwhash_str_alg(out_text, password.p ? password.p : "", password.n,
                              passes ? passes : PASSES, memory, crypto_pwhash_ALG_ARGON2ID13))
        return -ENOMEM;
    return 0;
}

bool net_password_is_hash(struct str text)
{
    char z[NET_PASSWORD_TEXT_MAX];
    if (net_scram_is_stored(text))
        return true;
    if (!str_has_prefix(text, STR("$argon2id$")) || text.n >= sizeof z)
        return false;
    str_copy(z, sizeof z, text);
    return crypto_pwhash_str_needs_rehash(z, 1, crypto_pwhash_MEMLIMIT_MIN) >= 0;
}

int net_password_check(struct str password, struct str text)
{
    char z[NET_PASSWORD_TEXT_MAX];
    if (sodium_init() < 0)
        return -ENOSYS;
    if (net_scram_is_stored(text))
        return net_scram_check(password, text) ? 0 : NET_PASSWORD_E_WRONG;
    if (!net_password_is_hash(text))
        return NET_PASSWORD_E_FORMAT;
    str_copy(z, sizeof z, text);
    errno = 0;
    if (crypto_pwhash_str_verify(z, password.p ? password.p : "", password.n) == 0)
        return 0;
    return errno == ENOMEM ? -ENOMEM : NET_PASSWORD_E_WRONG;
}

bool net_password_eq(struct str a, struct str b)
{
    return a.n == b.n && sodium_memcmp(a.p ? a.p : "", b.p ? b.p : "", a.n) == 0;
}
