/* Certificates for tests, made on the spot.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Writes dir/name.crt and dir/name.key, signed by dir/issuer.* (NULL: by itself, as a CA).  san:
 * "DNS:a.example" or NULL. */
void cert_make(const char *dir, const char *name, const char *cn, const char *san,
               const char *issuer);
