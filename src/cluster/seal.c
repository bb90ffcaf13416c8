/* Sealed packets.  SPDX-License-Identifier: Apache-2.0
 *
 * A sender is remembered only after a packet of its own has authenticated, so strangers cannot fill
 * the memory; at most SENDERS_MAX of them, the longest silent makes room.
 *
 * Invariants:
 *   K1  the counter under (uuid, epoch, key) only grows.
 *   K2  a (sender, epoch, counter) is let through at most once; epochs of a sender never fall.
 * Never: answers; that is the host's, and rate limited. */
#include "cluster/seal_priv.h"

#include "base/crc.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/mem.h"
#include "codec/cursor.h"
#include "net/aead.h"

#define MAGIC 0xB1F5
#define KEY_NONE 0
#define KEY_REJECT 255
#define SENDERS_MAX 4096
#define WINDOW 1024 /* packets that may overtake each other */
#define TAG_LEN NET_AEAD_TAG_LEN
#define CRC_LEN 4

struct sender {
    struct uuid uuid;
    uint64_t epoch, highest, used;
    uint64_t seen[WINDOW / 64];
    uint8_t key_id;
    struct net_aead *aead; /* for key_id; NULL: none yet */
};

struct cluster_seal {
    struct uuid self;
    uint64_t epoch, counter, used;
    uint32_t label;
    char env[64];
    struct cluster_key key[CLUSTER_KEYS_MAX];
    size_t key_count;
    struct net_aead *own;
    struct map senders;
};

struct head {
    uint8_t key;
    uint32_t label;
    struct uuid uuid;
    uint64_t epoch, counter;
};

static bool sender_eq(const void *item, const void *key)
{
    return uuid_eq(&((const struct sender *)item)->uuid, key);
}

static uint64_t uuid_hash(const struct uuid *u)
{
    return hash_bytes(u->b, sizeof u->b, 0);
}

uint32_t cluster_seal_label(struct str env)
{
    return crc_update(0, env.p, env.n);
}

static struct net_aead *derive(const struct cluster_key *k, const struct uuid *uuid, uint64_t epoch)
{
    struct buf info = {0};
    uint8_t sub[NET_AEAD_KEY_LEN];
    buf_put(&info, "gossip", 6);
    buf_put(&info, uuid->b, sizeof uuid->b);
    buf_put_u64(&info, epoch);
    net_aead_derive(k->bytes, buf_str(&info), sub);
    buf_deinit(&info);
    return net_aead_new(sub);
}

void cluster_seal_keys(struct cluster_seal *s, const struct cluster_key *key, size_t key_count)
{
    size_t at = 0;
    must(key_count <= CLUSTER_KEYS_MAX);
    s->key_count = key_count;
    if (key_count > 0)
        memcpy(s->key, key, key_count * sizeof *key);
    s->own = net_aead_free(s->own);
    if (key_count > 0)
        s->own = derive(&s->key[0], &s->self, s->epoch);
    for (struct sender *x; (x = map_next(&s->senders, &at)) != NULL;)
        x->aead = net_aead_free(x->aead);
}

struct cluster_seal *cluster_seal_new(const struct uuid *self, uint64_t epoch, struct str env,
                                      const struct cluster_key *key, size_t key_count)
{
    struct cluster_seal *s = mem_new(sizeof *s);
    s->self = *self;
    s->epoch = epoch;
    s->label = cluster_seal_label(env);
    str_copy(s->env, sizeof s->env, env);
    cluster_seal_keys(s, key, key_count);
    return s;
}

struct cluster_seal *cluster_seal_free(struct cluster_seal *s)
{
    size_t at = 0;
    if (s == NULL)
        return NULL;
    for (struct sender *x; (x = map_next(&s->senders, &at)) != NULL;) {
        net_aead_free(x->aead);
        mem_free(x);
    }
    map_deinit(&s->senders);
    net_aead_free(s->own);
    return mem_free(s);
}

static void put_head(struct buf *b, const struct head *h)
{
    buf_put_u16(b, MAGIC);
    buf_put_u8(b, CLUSTER_SEAL_VERSION);
    buf_put_u8(b, h->key);
    buf_put_u32(b, h->label);
    buf_put(b, h->uuid.b, sizeof h->uuid.b);
    buf_put_u64(b, h->epoch);
    buf_put_u64(b, h->counter);
}

void cluster_seal_put(struct cluster_seal *s, struct str packet, struct buf *out)
{
    struct head h = {
        .key = s->key_count > 0 ? s->key[0].id : KEY_NONE,
        .label = s->label,
        .uuid = s->self,
        .epoch = s->epoch,
        .counter = ++s->counter, /* K1 */
    };
    size_t at = out->n;
    put_head(out, &h);
    if (h.key == KEY_NONE) {
        buf_put_str(out, packet);
        buf_put_u32(out, crc_update(0, out->p + at, out->n - at));
        return;
    }
    (void)buf_reserve(out, packet.n + TAG_LEN);
    net_aead_seal(s->own, h.counter, str_view(out->p + at, CLUSTER_SEAL_HEAD_LEN), packet,
                  out->p + out->n);
    out->n += packet.n + TAG_LEN;
}

/* --- opening --- */

static int get_head(struct str p, struct head *h)
{
    struct codec_cursor c = codec_cursor_of(p);
    uint16_t magic = codec_cursor_u16(&c);
    uint8_t version = codec_cursor_u8(&c);
    h->key = codec_cursor_u8(&c);
    if (c.bad || magic != MAGIC)
        return CLUSTER_SEAL_E_JUNK;
    if (h->key == KEY_REJECT)
        return CLUSTER_SEAL_E_REJECT;
    if (version != CLUSTER_SEAL_VERSION)
        return CLUSTER_SEAL_E_VERSION;
    h->label = codec_cursor_u32(&c);
    struct str uuid = codec_cursor_bytes(&c, 16);
    h->epoch = codec_cursor_u64(&c);
    h->counter = codec_cursor_u64(&c);
    if (c.bad || codec_cursor_left(&c) < (h->key == KEY_NONE ? CRC_LEN : TAG_LEN))
        return CLUSTER_SEAL_E_JUNK;
    memcpy(h->uuid.b, uuid.p, 16);
    return 0;
}

static bool is_seen(const struct sender *x, uint64_t counter)
{
    if (counter > x->highest)
        return false;
    if (x->highest - counter >= WINDOW)
        return true;
    return x->seen[counter / 64 % (WINDOW / 64)] >> (counter % 64) & 1;
}

static void mark_seen(struct sender *x, uint64_t counter)
{
    if (counter > x->highest) {
        if (counter - x->highest >= WINDOW)
            memset(x->seen, 0, sizeof x->seen);
        else
            for (uint64_t i = x->highest + 1; i <= counter; i++)
                x->seen[i / 64 % (WINDOW / 64)] &= ~((uint64_t)1 << (i % 64));
        x->highest = counter;
    }
    x->seen[counter / 64 % (WINDOW / 64)] |= (uint64_t)1 << (counter % 64);
}

static void make_room(struct cluster_seal *s)
{
    size_t at = 0;
    struct sender *oldest = NULL;
    if (s->senders.count < SENDERS_MAX)
        return;
    for (struct sender *x; (x = map_next(&s->senders, &at)) != NULL;)
        if (oldest == NULL || x->used < oldest->used)
            oldest = x;
    (void)map_del(&s->senders, uuid_hash(&oldest->uuid), oldest);
    net_aead_free(oldest->aead);
    mem_free(oldest);
}

/* The sender of a packet that has authenticated. */
static struct sender *remember(struct cluster_seal *s, const struct head *h)
{
    struct sender *x = map_find(&s->senders, uuid_hash(&h->uuid), sender_eq, &h->uuid);
    if (x == NULL) {
        make_room(s);
        x = mem_new(sizeof *x);
        x->uuid = h->uuid;
        map_put(&s->senders, uuid_hash(&h->uuid), x);
    }
    if (x->epoch != h->epoch) {
        x->epoch = h->epoch;
        x->highest = 0;
        memset(x->seen, 0, sizeof x->seen);
        x->aead = net_aead_free(x->aead);
    }
    x->used = ++s->used;
    return x;
}

static int open_plain(struct str sealed, struct buf *out)
{
    size_t n = sealed.n - CRC_LEN;
    struct codec_cursor c = codec_cursor_of(str_view(sealed.p + n, CRC_LEN));
    if (crc_update(0, sealed.p, n) != codec_cursor_u32(&c))
        return CLUSTER_SEAL_E_FORGED;
    out->n = 0;
    buf_put(out, sealed.p + CLUSTER_SEAL_HEAD_LEN, n - CLUSTER_SEAL_HEAD_LEN);
    return 0;
}

/* *aead: of the sender, or made here and then the caller's. */
static int open_sealed(struct cluster_seal *s, const struct head *h, struct str sealed,
                       struct net_aead **aead, struct buf *out)
{
    const struct cluster_key *k = NULL;
    for (size_t i = 0; i < s->key_count; i++)
        if (s->key[i].id == h->key)
            k = &s->key[i];
    if (k == NULL)
        return CLUSTER_SEAL_E_KEY;
    if (*aead == NULL)
        *aead = derive(k, &h->uuid, h->epoch);
    struct str body = str_view(sealed.p + CLUSTER_SEAL_HEAD_LEN, sealed.n - CLUSTER_SEAL_HEAD_LEN);
    out->n = 0;
    (void)buf_reserve(out, body.n);
    if (net_aead_open(*aead, h->counter, str_view(sealed.p, CLUSTER_SEAL_HEAD_LEN), body, out->p) !=
        0)
        return CLUSTER_SEAL_E_FORGED;
    out->n = body.n - TAG_LEN;
    return 0;
}

int cluster_seal_get(struct cluster_seal *s, struct str sealed, struct buf *out)
{
    struct head h;
    struct net_aead *aead = NULL;
    int r = get_head(sealed, &h);
    if (r != 0)
        return r;
    if (h.label != s->label)
        return CLUSTER_SEAL_E_LABEL;
    struct sender *x = map_find(&s->senders, uuid_hash(&h.uuid), sender_eq, &h.uuid);
    if (x != NULL && (h.epoch < x->epoch || (h.epoch == x->epoch && is_seen(x, h.counter))))
        return CLUSTER_SEAL_E_REPLAYED;
    bool known = x != NULL && x->epoch == h.epoch && x->key_id == h.key;
    if (h.key == KEY_NONE) {
        r = s->key_count > 0 ? CLUSTER_SEAL_E_KEY : open_plain(sealed, out);
    } else {
        aead = known ? x->aead : NULL;
        r = open_sealed(s, &h, sealed, &aead, out);
    }
    if (r != 0) {
        if (x == NULL || aead != x->aead)
            net_aead_free(aead);
        return r;
    }
    x = remember(s, &h);
    if (x->aead != aead) {
        net_aead_free(x->aead);
        x->aead = aead;
    }
    x->key_id = h.key;
    mark_seen(x, h.counter); /* K2 */
    return 0;
}

void cluster_seal_reject(struct cluster_seal *s, int why, struct buf *out)
{
    size_t n = strlen(s->env);
    buf_put_u16(out, MAGIC);
    buf_put_u8(out, CLUSTER_SEAL_VERSION);
    buf_put_u8(out, KEY_REJECT);
    buf_put_u8(out, (uint8_t)why);
    buf_put_u8(out, (uint8_t)n);
    buf_put(out, s->env, n);
    buf_put_u8(out, (uint8_t)s->key_count);
    for (size_t i = 0; i < s->key_count; i++)
        buf_put_u8(out, s->key[i].id);
}

bool cluster_seal_reject_read(struct str packet, struct cluster_seal_reject *out)
{
    struct head h;
    struct codec_cursor c = codec_cursor_of(packet);
    if (get_head(packet, &h) != CLUSTER_SEAL_E_REJECT)
        return false;
    (void)codec_cursor_u16(&c);
    out->version = codec_cursor_u8(&c);
    (void)codec_cursor_u8(&c);
    out->why = codec_cursor_u8(&c);
    out->env = codec_cursor_bytes(&c, codec_cursor_u8(&c));
    out->keys = codec_cursor_bytes(&c, codec_cursor_u8(&c));
    return !c.bad;
}

void cluster_seal_key_numbers_format(struct str numbers, struct buf *out)
{
    for (size_t i = 0; i < numbers.n && i < CLUSTER_KEYS_MAX; i++)
        buf_printf(out, "%s%u", i > 0 ? ", " : "", (unsigned)(uint8_t)numbers.p[i]);
    if (numbers.n == 0)
        buf_put_str(out, STR("none"));
}

void cluster_seal_keys_format(const struct cluster_seal *s, struct buf *out)
{
    uint8_t id[CLUSTER_KEYS_MAX];
    for (size_t i = 0; i < s->key_count; i++)
        id[i] = s->key[i].id;
    cluster_seal_key_numbers_format(str_view(id, s->key_count), out);
}
