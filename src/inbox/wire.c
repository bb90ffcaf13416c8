/* Records of inbox: commands, replies, effects, both ways.  SPDX-License-Identifier: Apache-2.0
 *
 * Every record is read into one flat set of fields; lists are bytes fields with a plain run of
 * elements.  It judges form only: what a value means is for the machine. */
#include "inbox/inbox_priv.h"

#include "base/crc.h"

/* --- fields
 * ----------------------------------------------------------------------------------------- */

bool inbox_fields_rest(struct codec_cursor *c, struct inbox_fields *out)
{
    struct codec_field f;
    *out = (struct inbox_fields){{0}, {{0}}};
    while (codec_record_next(c, &f)) {
        if (f.tag >= INBOX_T_COUNT)
            continue;
        if (f.is_bytes)
            out->s[f.tag] = f.bytes;
        else
            out->u[f.tag] = f.u64;
    }
    return !c->bad;
}

bool inbox_fields_get(struct str record, uint8_t *out_kind, struct inbox_fields *out)
{
    struct codec_cursor c = codec_cursor_of(record);
    uint8_t version;
    codec_record_head(&c, out_kind, &version);
    return !c.bad && version == INBOX_VERSION && inbox_fields_rest(&c, out);
}

void inbox_put_u64(struct buf *b, uint32_t tag, uint64_t v)
{
    if (v != 0)
        codec_record_u64(b, tag, v);
}

void inbox_put_str(struct buf *b, uint32_t tag, struct str v)
{
    if (v.n > 0)
        codec_record_bytes(b, tag, v);
}

void inbox_put_owner(struct buf *b, const struct inbox_owner *o)
{
    if (uuid_is_zero(&o->node))
        return;
    codec_record_bytes(b, INBOX_T_NODE, str_view(o->node.b, sizeof o->node.b));
    inbox_put_u64(b, INBOX_T_EPOCH, o->epoch);
    inbox_put_u64(b, INBOX_T_SHARD, o->shard);
}

bool inbox_fields_owner(const struct inbox_fields *f, struct inbox_owner *out)
{
    struct str node = f->s[INBOX_T_NODE];
    *out = (struct inbox_owner){.epoch = 0};
    if (node.n == 0)
        return true;
    if (!uuid_of_bytes(node, &out->node) || f->u[INBOX_T_SHARD] > UINT32_MAX)
        return false;
    out->epoch = f->u[INBOX_T_EPOCH];
    out->shard = (uint32_t)f->u[INBOX_T_SHARD];
    return true;
}

static void put_run(struct buf *b, struct str s)
{
    buf_put_varint(b, s.n);
    buf_put_str(b, s);
}

static struct str get_run(struct codec_cursor *c)
{
    uint64_t n = codec_cursor_varint(c);
    if (n > codec_cursor_left(c)) {
        codec_cursor_fail(c);
        n = 0;
    }
    return codec_cursor_bytes(c, (size_t)n);
}

void inbox_element_put(struct buf *b, const struct inbox_element *e)
{
    put_run(b, e->tenant);
    put_run(b, e->client);
    buf_put_varint(b, e->incarnation);
    buf_put_varint(b, e->mod);
    buf_put_u8(b, e->is_will);
}

bool inbox_element_get(struct codec_cursor *c, struct inbox_element *out)
{
    if (codec_cursor_left(c) == 0)
        return false;
    out->tenant = get_run(c);
    out->client = get_run(c);
    out->incarnation = codec_cursor_varint(c);
    out->mod = codec_cursor_varint(c);
    out->is_will = codec_cursor_u8(c) != 0;
    return !c->bad;
}

/* --- keys
 * ------------------------------------------------------------------------------------------- */

uint8_t inbox_bucket(struct str client)
{
    return (uint8_t)(crc_update(0, client.p, client.n) >> 24);
}

void inbox_key(struct buf *out, struct str tenant, struct str client)
{
    buf_put_str(out, tenant);
    buf_put_u8(out, 0);
    buf_put_u8(out, inbox_bucket(client));
    buf_put_str(out, client);
    buf_put_u8(out, 0);
}

void inbox_key_row(struct buf *out, struct str tenant, struct str client, char letter)
{
    inbox_key(out, tenant, client);
    buf_put_u8(out, (uint8_t)letter);
}

/* Client ids are not empty, so this is in front of all sessions of the shelf. */
void inbox_key_body(struct buf *out, struct str tenant, uint8_t shelf, struct str id)
{
    buf_put_str(out, tenant);
    buf_put_u8(out, 0);
    buf_put_u8(out, (uint8_t)(shelf << 4));
    buf_put_u8(out, 0);
    buf_put_str(out, id);
}

void inbox_key_tenant(struct buf *from, struct buf *to, struct str tenant)
{
    buf_put_str(from, tenant);
    buf_put_u8(from, 0);
    buf_put_str(to, tenant);
    buf_put_u8(to, 1);
}

/* --- commands
 * --------------------------------------------------------------------------------------- */

static void begin(struct buf *out, enum inbox_kind kind)
{
    codec_record_begin(out, (uint8_t)kind, INBOX_VERSION);
}

static void put_ref(struct buf *out, const struct inbox_ref *r)
{
    inbox_put_str(out, INBOX_T_TENANT, r->tenant);
    inbox_put_str(out, INBOX_T_CLIENT, r->client);
    inbox_put_u64(out, INBOX_T_INCARNATION, r->incarnation);
    inbox_put_u64(out, INBOX_T_MOD, r->mod);
}

void inbox_command_attach(struct buf *out, const struct inbox_attach *a)
{
    begin(out, INBOX_K_ATTACH);
    inbox_put_str(out, INBOX_T_TENANT, a->tenant);
    inbox_put_str(out, INBOX_T_CLIENT, a->client);
    inbox_put_u64(out, INBOX_T_FLAGS,
                  (a->clean_start ? INBOX_FLAG_CLEAN : 0u) |
                      (a->qos0_drop_oldest ? INBOX_FLAG_DROP_OLDEST : 0u));
    inbox_put_u64(out, INBOX_T_EXPIRY, a->expiry_sec);
    inbox_put_u64(out, INBOX_T_LIMIT, a->limit);
    inbox_put_u64(out, INBOX_T_BYTE_MAX, a->byte_max);
    inbox_put_u64(out, INBOX_T_WINDOW, a->window);
    inbox_put_owner(out, &a->owner);
    inbox_put_str(out, INBOX_T_INFO, a->info);
    inbox_put_str(out, INBOX_T_WILL, a->will);
    inbox_put_u64(out, INBOX_T_DELAY, a->will_delay_sec);
}

void inbox_command_detach(struct buf *out, const struct inbox_detach *d)
{
    begin(out, INBOX_K_DETACH);
    put_ref(out, &d->ref);
    inbox_put_u64(out, INBOX_T_EXPIRY, d->expiry_sec);
    inbox_put_u64(out, INBOX_T_FLAGS, d->keep_will ? INBOX_FLAG_KEEP_WILL : 0u);
    inbox_put_u64(out, INBOX_T_SENT, d->sent);
}

void inbox_command_sub(struct buf *out, const struct inbox_ref *ref, const struct inbox_sub *s,
                       uint32_t sub_max)
{
    begin(out, INBOX_K_SUB);
    put_ref(out, ref);
    inbox_put_str(out, INBOX_T_FILTER, s->filter);
    inbox_put_u64(out, INBOX_T_OPTIONS, s->options);
    inbox_put_u64(out, INBOX_T_SUB_ID, s->sub_id);
    inbox_put_u64(out, INBOX_T_LIMIT, sub_max);
}

void inbox_command_unsub(struct buf *out, const struct inbox_ref *ref, struct str filter)
{
    begin(out, INBOX_K_UNSUB);
    put_ref(out, ref);
    inbox_put_str(out, INBOX_T_FILTER, filter);
}

void inbox_command_insert(struct buf *out)
{
    begin(out, INBOX_K_INSERT);
}

void inbox_command_insert_message(struct buf *out, const struct inbox_message *m)
{
    size_t opened = codec_record_open(out, INBOX_T_MESSAGE);
    inbox_put_str(out, INBOX_T_TENANT, m->tenant);
    inbox_put_u64(out, INBOX_T_PUBLISHER, m->publisher);
    inbox_put_u64(out, INBOX_T_EXCHANGE, m->exchange);
    inbox_put_u64(out, INBOX_T_FLOOR, m->floor);
    inbox_put_u64(out, INBOX_T_FLAGS, m->is_for_held ? INBOX_FLAG_FOR_HELD : 0);
    inbox_put_str(out, INBOX_T_MESSAGE, m->bytes);
    codec_record_close(out, opened);
}

void inbox_grant_put(struct buf *b, uint8_t qos, uint8_t options, const uint32_t *sub_id,
                     uint32_t count)
{
    buf_put_u8(b, qos);
    buf_put_u8(b, options);
    buf_put_varint(b, count);
    for (uint32_t i = 0; i < count; i++)
        buf_put_varint(b, sub_id[i]);
}

bool inbox_grant_get(struct codec_cursor *c, struct inbox_push *out)
{
    out->qos = codec_cursor_u8(c);
    out->options = codec_cursor_u8(c);
    uint64_t count = codec_cursor_varint(c);
    if (out->qos > 2 || count > INBOX_SUB_IDS_MAX)
        codec_cursor_fail(c);
    for (uint32_t i = 0; i < count && !c->bad; i++) {
        uint64_t id = codec_cursor_varint(c);
        if (id > UINT32_MAX)
            codec_cursor_fail(c);
        out->sub_id[i] = (uint32_t)id;
    }
    out->sub_id_count = c->bad ? 0 : (uint32_t)count;
    return !c->bad;
}

void inbox_command_insert_receiver(struct buf *out, const struct inbox_receiver *r)
{
    uint32_t count = r->sub_id_count < INBOX_SUB_IDS_MAX ? r->sub_id_count : INBOX_SUB_IDS_MAX;
    size_t opened = codec_record_open(out, INBOX_T_LIST);
    buf_put_varint(out, r->incarnation);
    inbox_grant_put(out, r->qos, r->options, r->sub_id, count);
    buf_put_str(out, r->client);
    codec_record_close(out, opened);
}

bool inbox_receiver_get(struct str bytes, struct inbox_receiver *out,
                        uint32_t sub_id[INBOX_SUB_IDS_MAX])
{
    struct codec_cursor c = codec_cursor_of(bytes);
    struct inbox_push p;
    out->incarnation = codec_cursor_varint(&c);
    if (!inbox_grant_get(&c, &p))
        return false;
    memcpy(sub_id, p.sub_id, p.sub_id_count * sizeof *sub_id);
    out->qos = p.qos;
    out->options = p.options;
    out->sub_id = sub_id;
    out->sub_id_count = p.sub_id_count;
    out->client = codec_cursor_bytes(&c, codec_cursor_left(&c));
    return out->client.n > 0 && out->client.n <= UINT16_MAX;
}

void inbox_command_commit(struct buf *out, const struct inbox_commit *c)
{
    begin(out, INBOX_K_COMMIT);
    put_ref(out, &c->ref);
    inbox_put_u64(out, INBOX_T_ACKED, c->acked);
    inbox_put_u64(out, INBOX_T_QOS0_ACKED, c->qos0_acked);
    if (c->mark_count == 0)
        return;
    size_t opened = codec_record_open(out, INBOX_T_MARKS);
    for (size_t i = 0; i < c->mark_count; i++) {
        buf_put_varint(out, c->mark[i].seq);
        buf_put_u8(out, c->mark[i].phase);
    }
    codec_record_close(out, opened);
}

void inbox_command_receive(struct buf *out, const struct inbox_ref *ref, uint16_t packet_id)
{
    begin(out, INBOX_K_RECEIVE);
    put_ref(out, ref);
    inbox_put_u64(out, INBOX_T_PACKET_ID, packet_id);
}

void inbox_command_release(struct buf *out, const struct inbox_ref *ref, uint16_t packet_id)
{
    begin(out, INBOX_K_RELEASE);
    put_ref(out, ref);
    inbox_put_u64(out, INBOX_T_PACKET_ID, packet_id);
}

void inbox_command_delete(struct buf *out, const struct inbox_ref *ref)
{
    begin(out, INBOX_K_DELETE);
    put_ref(out, ref);
}

void inbox_command_will_done(struct buf *out, struct str tenant, struct str client,
                             uint64_t will_id)
{
    begin(out, INBOX_K_WILL_DONE);
    inbox_put_str(out, INBOX_T_TENANT, tenant);
    inbox_put_str(out, INBOX_T_CLIENT, client);
    inbox_put_u64(out, INBOX_T_WILL_ID, will_id);
}

/* --- replies
 * ---------------------------------------------------------------------------------------- */

bool inbox_reply_decode(struct str bytes, struct inbox_reply *out)
{
    struct inbox_fields f;
    uint8_t kind;
    *out = (struct inbox_reply){.outcome = INBOX_E_INVALID};
    if (!inbox_fields_get(bytes, &kind, &f) || kind != INBOX_K_REPLY ||
        f.u[INBOX_T_OUTCOME] > INBOX_E_PUSHED || f.u[INBOX_T_OPTIONS] > UINT8_MAX ||
        f.u[INBOX_T_SUB_ID] > UINT32_MAX || !inbox_fields_owner(&f, &out->old))
        return false;
    out->outcome = (uint8_t)f.u[INBOX_T_OUTCOME];
    out->is_present = (f.u[INBOX_T_FLAGS] & INBOX_FLAG_PRESENT) != 0;
    out->incarnation = f.u[INBOX_T_INCARNATION];
    out->mod = f.u[INBOX_T_MOD];
    out->acked = f.u[INBOX_T_ACKED];
    out->next = f.u[INBOX_T_NEXT];
    out->qos0_acked = f.u[INBOX_T_QOS0_ACKED];
    out->qos0_next = f.u[INBOX_T_QOS0_NEXT];
    out->sent = f.u[INBOX_T_SENT];
    out->exchange = f.u[INBOX_T_EXCHANGE];
    out->floor = f.u[INBOX_T_FLOOR];
    out->hlc = f.u[INBOX_T_HLC];
    out->options = (uint8_t)f.u[INBOX_T_OPTIONS];
    out->sub_id = (uint32_t)f.u[INBOX_T_SUB_ID];
    out->marks = f.s[INBOX_T_MARKS];
    out->received = f.s[INBOX_T_RECEIVED];
    out->results = f.s[INBOX_T_LIST];
    return true;
}

/* Cuts what the cursor has read off a run. */
static bool cut(struct str *rest, const struct codec_cursor *c)
{
    *rest = str_view(c->p, codec_cursor_left(c));
    return !c->bad;
}

bool inbox_reply_mark(struct str *rest, struct inbox_mark *out)
{
    struct codec_cursor c = codec_cursor_of(*rest);
    if (rest->n == 0)
        return false;
    out->seq = codec_cursor_varint(&c);
    out->phase = codec_cursor_u8(&c);
    return cut(rest, &c) && out->phase <= INBOX_PHASE_DONE;
}

bool inbox_reply_received(struct str *rest, uint16_t *out_packet_id, uint64_t *out_exchange)
{
    struct codec_cursor c = codec_cursor_of(*rest);
    if (rest->n == 0)
        return false;
    *out_packet_id = codec_cursor_u16(&c);
    *out_exchange = codec_cursor_varint(&c);
    return cut(rest, &c);
}

/* --- effects
 * ---------------------------------------------------------------------------------------- */

bool inbox_effect_decode(struct str bytes, struct inbox_effect *out)
{
    struct inbox_fields f;
    uint8_t kind;
    *out = (struct inbox_effect){.mod = 0};
    if (!inbox_fields_get(bytes, &kind, &f) || kind != INBOX_K_EFFECT ||
        f.u[INBOX_T_OUTCOME] < INBOX_EFFECT_PUSH || f.u[INBOX_T_OUTCOME] > INBOX_EFFECT_TAKEN ||
        !inbox_fields_owner(&f, &out->owner))
        return false;
    out->kind = (enum inbox_effect_kind)f.u[INBOX_T_OUTCOME];
    out->tenant = f.s[INBOX_T_TENANT];
    out->client = f.s[INBOX_T_CLIENT];
    out->incarnation = f.u[INBOX_T_INCARNATION];
    out->mod = f.u[INBOX_T_MOD];
    out->next = f.u[INBOX_T_NEXT];
    out->will_id = f.u[INBOX_T_WILL_ID];
    out->hlc = f.u[INBOX_T_HLC];
    out->message = f.s[INBOX_T_MESSAGE];
    out->rest = f.s[INBOX_T_LIST];
    return true;
}

bool inbox_effect_push(struct str *rest, struct inbox_push *out)
{
    struct codec_cursor c = codec_cursor_of(*rest);
    if (rest->n == 0)
        return false;
    out->client = get_run(&c);
    out->incarnation = codec_cursor_varint(&c);
    out->mod = codec_cursor_varint(&c);
    out->seq = codec_cursor_varint(&c);
    bool is_good = inbox_grant_get(&c, out);
    return cut(rest, &c) && is_good;
}

void inbox_sub_put(struct buf *b, const struct inbox_sub *s)
{
    put_run(b, s->filter);
    buf_put_u8(b, s->options);
    buf_put_varint(b, s->sub_id);
}

bool inbox_sub_next(struct str *rest, struct inbox_sub *out)
{
    struct codec_cursor c = codec_cursor_of(*rest);
    if (rest->n == 0)
        return false;
    out->filter = get_run(&c);
    out->options = codec_cursor_u8(&c);
    uint64_t id = codec_cursor_varint(&c);
    out->sub_id = (uint32_t)id;
    return cut(rest, &c) && id <= UINT32_MAX;
}

bool inbox_effect_filter(struct str *rest, struct inbox_sub *out)
{
    return inbox_sub_next(rest, out);
}
