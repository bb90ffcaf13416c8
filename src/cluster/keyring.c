/* The keyring of this node, and orders about it.  SPDX-License-Identifier: Apache-2.0
 *
 * What each node has is a row of its own in the table (prints only, the key it uses first), so
 * every node sees where a change has arrived.  An order is a call to loop 0 of each live member
 * that was not revoked;
 * its payload is sealed like a packet, so only a holder of a key can give one, and it names the
 * life it is for, so that it cannot be repeated to a later one.
 *
 * The file "keyring" in the data directory remembers a ring that was changed while running:
 * "origin" is the fingerprint of the configured keys it began with.  When those change, the
 * configuration is newer and the file is not read.
 *
 * Invariant: with keys configured the ring is never empty, and its numbers are distinct.
 * Never: writes a key to a log or a row. */
#include "cluster/keyring_priv.h"

#include <errno.h>

#include "base/crc.h"
#include "base/mem.h"
#include "cluster/cluster_priv.h"
#include "cluster/mark.h"
#include "cluster/record_priv.h"
#include "net/aead.h"

#define ROW_KEY "keyring"
#define PRINT_LEN 8
#define FILE_NAME "keyring"
#define FILE_MAX 4096
#define ORDER_TIMEOUT (5 * USEC_SEC)

struct asked { /* one order of ours that waits for the others */
    struct list link;
    struct cluster *c;
    cluster_keyring_cb *cb;
    void *arg;
    struct cluster_keyring_result result;
    unsigned open;
    bool is_complete; /* all have been asked */
    struct net_defer end;
};

struct ask {
    struct asked *of;
    struct uuid peer;
};

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool cluster_key_parse(struct str text, uint8_t out[CLUSTER_KEY_LEN])
{
    if (text.n != 2 * CLUSTER_KEY_LEN)
        return false;
    for (size_t i = 0; i < CLUSTER_KEY_LEN; i++) {
        int hi = nibble(text.p[2 * i]), lo = nibble(text.p[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return false;
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

uint8_t cluster_key_id(const uint8_t key[CLUSTER_KEY_LEN])
{
    return (uint8_t)(1 + crc_update(0, key, CLUSTER_KEY_LEN) % 254);
}

static void print_of(const uint8_t *key, uint8_t out[PRINT_LEN])
{
    uint8_t derived[NET_AEAD_KEY_LEN];
    net_aead_derive(key, STR("print"), derived);
    memcpy(out, derived, PRINT_LEN);
}

static void print_text(const uint8_t *print, char out[CLUSTER_KEY_PRINT])
{
    static const char digit[] = "0123456789abcdef";
    for (unsigned i = 0; i < PRINT_LEN; i++) {
        out[2 * i] = digit[print[i] >> 4];
        out[2 * i + 1] = digit[print[i] & 15];
    }
    out[2 * PRINT_LEN] = 0;
}

void cluster_key_print(const uint8_t key[CLUSTER_KEY_LEN], char out[CLUSTER_KEY_PRINT])
{
    uint8_t print[PRINT_LEN];
    print_of(key, print);
    print_text(print, out);
}

/* --- the ring of this node --- */

static struct cluster_key *ring_find(struct keyring *k, struct str print)
{
    for (size_t i = 0; i < k->count; i++) {
        char text[CLUSTER_KEY_PRINT];
        cluster_key_print(k->key[i].bytes, text);
        if (str_eq(print, str_of(text)))
            return &k->key[i];
    }
    return NULL;
}

static void publish(struct cluster *c)
{
    uint8_t value[CLUSTER_KEYRING_MAX * PRINT_LEN];
    struct keyring *k = &c->keyring;
    for (size_t i = 0; i < k->count; i++)
        print_of(k->key[i].bytes, value + i * PRINT_LEN);
    struct gossip_event ev = {
        .kind = GOSSIP_EV_ROW_PUT,
        .space = CLUSTER_SPACE_NODE,
        .key = STR(ROW_KEY),
        .bytes = str_view(value, k->count * PRINT_LEN),
    };
    cluster_step(c, &ev);
}

/* The ring has changed. */
static void turn(struct cluster *c)
{
    cluster_seal_keys(c->seal, c->keyring.key, c->keyring.count);
    publish(c);
    cluster_keep_keyring(c);
}

static int ring_add(struct keyring *k, const uint8_t *bytes)
{
    uint8_t id = cluster_key_id(bytes);
    for (size_t i = 0; i < k->count; i++)
        if (k->key[i].id == id)
            return memcmp(k->key[i].bytes, bytes, CLUSTER_KEY_LEN) == 0 ? 0
                                                                        : CLUSTER_KEYRING_E_CLASH;
    if (k->count == CLUSTER_KEYRING_MAX)
        return CLUSTER_KEYRING_E_FULL;
    k->key[k->count].id = id;
    memcpy(k->key[k->count++].bytes, bytes, CLUSTER_KEY_LEN);
    return 0;
}

static void ring_use(struct keyring *k, struct cluster_key *which)
{
    struct cluster_key first = *which;
    memmove(k->key + 1, k->key, (size_t)(which - k->key) * sizeof *which);
    k->key[0] = first;
}

static int ring_remove(struct keyring *k, struct str print)
{
    struct cluster_key *which = ring_find(k, print);
    if (which == NULL)
        return 0;
    if (which == k->key)
        return CLUSTER_KEYRING_E_USED;
    memmove(which, which + 1, (size_t)(k->key + --k->count - which) * sizeof *which);
    return 0;
}

static int obey(struct cluster *c, const struct cluster_keyring_change *o)
{
    struct keyring *k = &c->keyring;
    int r = 0;
    if (k->count == 0)
        return CLUSTER_KEYRING_E_OPEN;
    if (o->order == CLUSTER_KEYRING_ADD)
        r = ring_add(k, o->key);
    else if (o->order == CLUSTER_KEYRING_REMOVE)
        r = ring_remove(k, o->print);
    else if (ring_find(k, o->print) == NULL)
        r = CLUSTER_KEYRING_E_UNKNOWN;
    else
        ring_use(k, ring_find(k, o->print));
    if (r != 0)
        return r;
    static const char *const what[] = {"", "has one more key", "seals with another key",
                                       "has one key less"};
    log_line(c->log, LOG_LEVEL_NOTICE, "cluster.keyring", "the keyring %s", what[o->order]);
    turn(c);
    return 0;
}

/* --- what all have --- */

static struct cluster_keyring_key *list_at(struct cluster_keyring_key *list, size_t *count,
                                           const char *print)
{
    size_t i = 0;
    while (i < *count && strcmp(list[i].print, print) < 0)
        i++;
    if (i < *count && strcmp(list[i].print, print) == 0)
        return &list[i];
    if (*count == CLUSTER_KEYRING_LIST_MAX)
        return NULL;
    memmove(list + i + 1, list + i, (*count - i) * sizeof *list);
    ++*count;
    list[i] = (struct cluster_keyring_key){0};
    memcpy(list[i].print, print, CLUSTER_KEY_PRINT);
    return &list[i];
}

size_t cluster_keyring_list(const struct cluster_seat *s,
                            struct cluster_keyring_key out[CLUSTER_KEYRING_LIST_MAX])
{
    size_t count = 0, at = 0;
    const struct cluster_row *r;
    while ((r = cluster_row_next(s, CLUSTER_SPACE_NODE, STR(ROW_KEY), &at)) != NULL) {
        if (cluster_is_revoked(s, &r->owner))
            continue;
        for (size_t i = 0; str_eq(r->key, STR(ROW_KEY)) && (i + 1) * PRINT_LEN <= r->value.n; i++) {
            char print[CLUSTER_KEY_PRINT];
            print_text((const uint8_t *)r->value.p + i * PRINT_LEN, print);
            struct cluster_keyring_key *k = list_at(out, &count, print);
            if (k == NULL)
                continue;
            k->holders++;
            k->users += i == 0;
            k->is_ours |= uuid_eq(&r->owner, cluster_self(s));
        }
    }
    return count;
}

static const struct cluster_keyring_key *list_find(const struct cluster_keyring_key *list,
                                                   size_t count, struct str print)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(print, str_of(list[i].print)))
            return &list[i];
    return NULL;
}

/* Members whom an order is for: a revoked one is told nothing, and nobody waits for it. */
static bool is_meant(const struct cluster_seat *s, const struct cluster_member *m)
{
    return m->state <= CLUSTER_ST_SUSPECT && !cluster_is_revoked(s, &m->uuid);
}

static size_t meant_count(const struct cluster_seat *s)
{
    const struct cluster_member *m;
    size_t count = 0;
    for (size_t i = 0; (m = cluster_member_at(s, i)) != NULL; i++)
        count += is_meant(s, m);
    return count;
}

/* Would this order cut somebody off? */
static int judge(const struct cluster_seat *s, const struct cluster_keyring_change *o)
{
    struct cluster_keyring_key list[CLUSTER_KEYRING_LIST_MAX];
    size_t count = cluster_keyring_list(s, list);
    const struct cluster_keyring_key *k = list_find(list, count, o->print);
    if (s->c->keyring.count == 0)
        return CLUSTER_KEYRING_E_OPEN;
    if (o->order == CLUSTER_KEYRING_ADD)
        return 0;
    if (k == NULL)
        return CLUSTER_KEYRING_E_UNKNOWN;
    if (o->order == CLUSTER_KEYRING_REMOVE)
        return k->users > 0 ? CLUSTER_KEYRING_E_USED : 0;
    return k->holders < meant_count(s) ? CLUSTER_KEYRING_E_MISSING : 0;
}

/* --- asking the others --- */

static void encode(struct cluster *c, const struct cluster_keyring_change *o,
                   const struct cluster_member *to, struct buf *out)
{
    struct buf plain = {0};
    struct cluster_order order = {.what = o->order,
                                  .key = STR(""),
                                  .print = o->print,
                                  .target = to->uuid,
                                  .epoch = to->epoch};
    if (o->order == CLUSTER_KEYRING_ADD) {
        order.key = str_view(o->key, CLUSTER_KEY_LEN);
        order.print = STR("");
    }
    cluster_record_order_put(&plain, &order);
    cluster_seal_put(c->seal, buf_str(&plain), out);
    buf_deinit(&plain);
}

/* false: not an order for this life of ours. */
static bool decode(const struct cluster *c, struct str plain, struct cluster_keyring_change *o)
{
    struct cluster_order order;
    if (!cluster_record_order_get(plain, &order) || !uuid_eq(&order.target, &c->id.uuid) ||
        order.epoch != c->id.epoch)
        return false;
    *o = (struct cluster_keyring_change){(enum cluster_keyring_order)order.what,
                                         (const uint8_t *)order.key.p, order.print};
    return true;
}

static void serve(void *arg, struct cluster_request *rq, const struct cluster_from *from,
                  struct str payload)
{
    struct cluster *c = arg;
    struct cluster_keyring_change o;
    struct buf plain = {0};
    (void)from;
    if (rq == NULL)
        return;
    if (cluster_seal_get(c->seal, payload, &plain) != 0 || !decode(c, buf_str(&plain), &o)) {
        c->stats.forged++;
        cluster_request_refuse(rq);
    } else {
        char outcome = (char)obey(c, &o);
        cluster_request_reply(rq, str_view(&outcome, 1));
    }
    buf_deinit(&plain);
}

static void end_asked(void *arg)
{
    struct asked *a = arg;
    list_del(&a->link);
    a->cb(a->arg, &a->result);
    mem_free(a);
}

static void part_done(struct asked *a)
{
    a->open--;
    if (a->open == 0 && a->is_complete)
        net_loop_defer(a->c->home, &a->end);
}

static void note_failure(struct asked *a, const struct uuid *peer, int outcome, bool is_silent)
{
    a->result.failed = *peer;
    a->result.outcome = outcome;
    a->result.is_silent = is_silent;
}

static void on_reply(void *arg, int outcome, struct str reply)
{
    struct ask *k = arg;
    struct asked *a = k->of;
    if (outcome == 0 && reply.n == 1 && reply.p[0] == 0)
        a->result.done++;
    else
        note_failure(a, &k->peer, outcome != 0 || reply.n != 1 ? outcome : (uint8_t)reply.p[0],
                     outcome != 0);
    mem_free(k);
    part_done(a);
}

static void ask(struct asked *a, const struct cluster_keyring_change *o,
                const struct cluster_member *m)
{
    struct buf sealed = {0};
    struct ask *k = mem_new(sizeof *k);
    k->of = a;
    k->peer = m->uuid;
    a->result.asked++;
    encode(a->c, o, m, &sealed);
    struct cluster_call call = {
        .peer = m->uuid,
        .service = CLUSTER_SERVICE_KEYRING,
        .lane = CLUSTER_LANE_CONTROL,
        .timeout = ORDER_TIMEOUT,
        .payload = buf_str(&sealed),
    };
    int r = cluster_link_call(a->c->link[0], &call, on_reply, k, NULL);
    if (r == 0) {
        a->open++;
    } else {
        note_failure(a, &m->uuid, r, true);
        mem_free(k);
    }
    buf_deinit(&sealed);
}

int cluster_keyring_give(struct cluster_seat *s, const struct cluster_keyring_change *o,
                         cluster_keyring_cb *cb, void *arg)
{
    struct cluster *c = s->c;
    must(s->loop == c->home);
    int r = judge(s, o);
    if (r != 0)
        return r;
    struct asked *a = mem_new(sizeof *a);
    *a = (struct asked){.c = c, .cb = cb, .arg = arg, .result = {.asked = 1, .done = 1}, .open = 1};
    net_defer_init(&a->end, end_asked, a);
    list_push_back(&c->keyring.asked, &a->link);
    const struct cluster_member *m;
    for (size_t i = 0; (m = cluster_member_at(s, i)) != NULL; i++)
        if (is_meant(s, m) && !uuid_eq(&m->uuid, cluster_self(s)))
            ask(a, o, m);
    r = obey(c, o); /* after the others were asked, with the key of before */
    if (r != 0) {
        a->result.done--;
        note_failure(a, cluster_self(s), r, false);
    }
    a->is_complete = true;
    part_done(a);
    return 0;
}

/* --- the file, and the beginning --- */

static void origin_of(const struct cluster_host_key *key, size_t count, char *out)
{
    for (size_t i = 0; i < count; i++) {
        cluster_key_print(key[i].bytes, out);
        out += CLUSTER_KEY_PRINT;
        out[-1] = i + 1 < count ? ',' : 0;
    }
}

static void put_hex(struct buf *b, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%02x", p[i]);
}

void cluster_keyring_fill(const struct keyring *k, struct buf *out)
{
    buf_printf(out, "origin %s\n", k->origin);
    for (size_t i = 0; i < k->count; i++) {
        put_hex(out, k->key[i].bytes, CLUSTER_KEY_LEN);
        buf_put_u8(out, '\n');
    }
}

int cluster_keyring_parse(struct str text, struct keyring *k)
{
    struct str line;
    uint8_t bytes[CLUSTER_KEY_LEN];
    if (!str_next(&text, '\n', &line) || !str_has_prefix(line, STR("origin ")))
        return -EINVAL;
    if (!str_eq(str_view(line.p + 7, line.n - 7), str_of(k->origin)))
        return -ESTALE;
    while (str_next(&text, '\n', &line))
        if (line.n > 0 && (!cluster_key_parse(line, bytes) || ring_add(k, bytes) != 0))
            return -EINVAL;
    return k->count == 0 ? -EINVAL : 0;
}

/* 0: the file began with these keys, and *k is its ring. */
static int load(const struct cluster *c, struct keyring *k)
{
    struct buf b = {0};
    if (c->data_path == NULL)
        return -ENOENT;
    int r = cluster_file_read(c->data_path, FILE_NAME, FILE_MAX, &b);
    if (r == 0)
        r = cluster_keyring_parse(buf_str(&b), k);
    buf_deinit(&b);
    return r;
}

void cluster_keyring_init(struct cluster *c, const struct cluster_host_key *key, size_t key_count)
{
    struct keyring ring = {0};
    origin_of(key, key_count, ring.origin);
    if (c->keyring.asked.next == NULL) {
        list_init(&c->keyring.asked);
        cluster_link_serve(c->link[0], CLUSTER_SERVICE_KEYRING, serve, c);
    } else if (strcmp(ring.origin, c->keyring.origin) == 0) {
        return; /* as configured before: what came by order since then stays */
    }
    int r = key_count > 0 ? load(c, &ring) : 0;
    if (r == -EINVAL)
        log_line(c->log, LOG_LEVEL_ERROR, "cluster.file.damaged",
                 "%s/" FILE_NAME " is damaged: the configured keys are used", c->data_path);
    if (r != 0)
        ring.count = 0;
    for (size_t i = 0; r != 0 && i < key_count; i++)
        (void)!ring_add(&ring, key[i].bytes); /* at most the configured ones; twins are left out */
    memcpy(c->keyring.key, ring.key, sizeof ring.key);
    c->keyring.count = ring.count;
    memcpy(c->keyring.origin, ring.origin, sizeof ring.origin);
    cluster_seal_keys(c->seal, c->keyring.key, c->keyring.count);
    if (c->keyring.count > 0)
        publish(c);
}

void cluster_keyring_deinit(struct cluster *c)
{
    if (c->keyring.asked.next == NULL)
        return;
    for (struct list *it; (it = list_pop_front(&c->keyring.asked)) != NULL;) {
        struct asked *a = container_of(it, struct asked, link);
        net_defer_del(&a->end);
        mem_free(a);
    }
}
