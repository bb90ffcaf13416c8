/* Hostile sealed packets, for a node without keys and for one with two.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Input: a byte that says which node and what is done, then bytes.  Bit 0: with keys; bit 1: the
 * bytes are a packet that a friend seals, and the second byte says which byte of it is changed (0:
 * none); else they are the packet. */
#include "cluster/seal_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static const struct uuid a_name = {.b = {1}}, b_name = {.b = {2}};
static const struct cluster_key ring[] = {{.id = 1, .bytes = {1}}, {.id = 2, .bytes = {2}}};

/* What was sealed opens once, to the same; changed anywhere it does not open. */
static void friend_try(size_t keys, uint8_t at, struct str packet)
{
    struct cluster_seal *a = cluster_seal_new(&a_name, 5, STR("env"), ring, keys);
    struct cluster_seal *b = cluster_seal_new(&b_name, 6, STR("env"), ring, keys);
    struct buf sealed = {0}, got = {0};
    cluster_seal_put(a, packet, &sealed);
    if (at > 0) {
        sealed.p[at * 131u % sealed.n] ^= 1;
        must(cluster_seal_get(b, buf_str(&sealed), &got) != 0);
    } else {
        must(cluster_seal_get(b, buf_str(&sealed), &got) == 0);
        must(str_eq(buf_str(&got), packet));
        must(cluster_seal_get(b, buf_str(&sealed), &got) == CLUSTER_SEAL_E_REPLAYED);
    }
    buf_deinit(&sealed);
    buf_deinit(&got);
    cluster_seal_free(a);
    cluster_seal_free(b);
}

static void stranger_try(size_t keys, struct str packet)
{
    struct cluster_seal *b = cluster_seal_new(&b_name, 6, STR("env"), ring, keys);
    struct cluster_seal_reject reject;
    struct buf got = {0}, text = {0};
    int r = cluster_seal_get(b, packet, &got);
    if (r == 0)
        must(cluster_seal_get(b, packet, &got) == CLUSTER_SEAL_E_REPLAYED);
    if (cluster_seal_reject_read(packet, &reject)) {
        must(r == CLUSTER_SEAL_E_REJECT && reject.env.n + reject.keys.n <= packet.n);
        cluster_seal_key_numbers_format(reject.keys, &text);
        must(text.n > 0);
    }
    text.n = 0;
    cluster_seal_reject(b, r, &text);
    must(cluster_seal_reject_read(buf_str(&text), &reject) && reject.why == r &&
         str_eq(reject.env, STR("env")) && reject.keys.n == keys);
    buf_deinit(&got);
    buf_deinit(&text);
    cluster_seal_free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 2)
        return 0;
    size_t keys = p[0] & 1 ? countof(ring) : 0;
    if (p[0] & 2)
        friend_try(keys, p[1], str_view(p + 2, n - 2));
    else
        stranger_try(keys, str_view(p + 1, n - 1));
    return 0;
}
