/* Messages to the client: the window of packet identifiers, what waits, acknowledgements.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Invariants (README.md):
 * 1. head <= next < head + 65535, so that a packet identifier (seq % 65535 + 1) names one message;
 * inflight counts the phases that wait for the client.
 * 2. The phase at head is not DONE: head runs over what is.
 * 3. The bytes of what waits are charged and within the limits.
 *
 * A message is never sent twice on one connection [MQTT-4.4.0-1], so its body is let go once it is
 * written: a window entry is one byte. After a reconnect the inbox brings the bodies back. */
#include "session/session_priv.h"

#define RC(name) CODEC_MQTT_RC_##name

/* One message on its way to the bytes. */
struct outgoing {
    const struct codec_msg *msg;
    struct codec_mqtt_images *images;
    const uint32_t *sub_id;
    size_t sub_id_count;
    uint8_t qos;
    bool is_retain, is_dup;
};

static struct session_flow *flow_get(struct session *s)
{
    if (unlikely(s->flow == NULL))
        s->flow = mem_new(sizeof *s->flow);
    return s->flow;
}

/* ---- The window
 * -------------------------------------------------------------------------------------------------
 */

/* Room for one more in flight?  Also the numbers may not run around: many may be done behind a head
 * that is not. */
static bool has_window(const struct session *s)
{
    const struct session_flow *f = s->flow;
    return f == NULL || (f->inflight < session_window_size(s) && f->next - f->head < ID_COUNT - 1);
}

static uint16_t id_of(uint64_t seq)
{
    return (uint16_t)(seq % ID_COUNT + 1);
}

static uint8_t *phase_at(const struct session_flow *f, uint64_t seq)
{
    return &f->phase[seq & (f->phase_cap - 1)];
}

static void phase_push(struct session_flow *f, enum phase phase)
{
    if (unlikely(f->next - f->head == f->phase_cap)) {
        uint32_t cap = f->phase_cap ? f->phase_cap * 2 : 16;
        uint8_t *ring = mem_alloc(cap);
        for (uint64_t q = f->head; q < f->next; q++)
            ring[q & (cap - 1)] = *phase_at(f, q);
        mem_free(f->phase);
        f->phase = ring;
        f->phase_cap = cap;
    }
    *phase_at(f, f->next++) = (uint8_t)phase;
    f->inflight += phase > PHASE_UNSENT;
}

static void advance(struct session_flow *f)
{
    while (f->head < f->next && *phase_at(f, f->head) == PHASE_DONE)
        f->head++;
}

/* There is something to commit: say so once. */
static void set_dirty(struct session *s, struct session_out *out)
{
    struct session_flow *f = s->flow;
    if (s->incarnation == 0)
        return;
    f->is_dirty = true;
    if (!f->is_committing && !f->is_announced) {
        f->is_announced = true;
        session_effect_put(out, SESSION_FX_COMMIT);
    }
}

/* The sequence number in flight under this id, or false. */
static bool seq_find(const struct session_flow *f, uint16_t id, uint64_t *out_seq)
{
    if (f == NULL || f->head == f->next)
        return false;
    uint64_t ahead = ((uint64_t)id - 1 + ID_COUNT - f->head % ID_COUNT) % ID_COUNT;
    *out_seq = f->head + ahead;
    return *out_seq < f->next;
}

/* ---- Writing
 * ----------------------------------------------------------------------------------------------------
 */

static bool has_room(const struct session_out *out)
{
    return out->bytes->n < out->bytes_max;
}

/* Appends the packet: 0, or that it is too large for the client [MQTT-3.1.2-24]. */
static int put(struct session *s, const struct outgoing *o, uint64_t wall_ms, uint16_t packet_id,
               struct buf *b)
{
    if (likely(o->images != NULL && s->alias_max == 0 && o->sub_id_count == 0 && !o->is_dup)) {
        struct codec_mqtt_image i =
            codec_mqtt_images_get(o->images, s->version, o->qos, o->is_retain);
        if (unlikely(i.n == 0 || (s->packet_len_max != 0 && i.n > s->packet_len_max)))
            return CODEC_MQTT_ENCODE_E_TOO_LARGE;
        codec_mqtt_images_put(b, o->images, i, packet_id);
        return 0;
    }
    struct codec_mqtt_peer peer = session_peer(s);
    struct codec_mqtt_delivery d = {.qos = o->qos,
                                    .is_dup = o->is_dup,
                                    .is_retain = o->is_retain,
                                    .has_expiry = o->msg->has_expiry,
                                    .packet_id = packet_id,
                                    .sub_id = o->sub_id,
                                    .sub_id_count = o->sub_id_count};
    if (d.has_expiry) /* [MQTT-3.3.2-6] */
        d.expiry_sec = codec_msg_left_sec(o->msg, wall_ms);
    if (s->alias_max > 0)
        return session_alias_publish(s, b, o->msg, &d);
    return codec_mqtt_publish_encode(b, &peer, o->msg, &d);
}

/* Sends what fits into the window and the output now.  0, or DROPPED. */
static int send_now(struct session *s, const struct outgoing *o, struct session_out *out)
{
    struct session_flow *f = o->qos > 0 ? flow_get(s) : NULL;
    if (unlikely(codec_msg_is_expired(o->msg, out->wall_ms))) { /* [MQTT-3.3.2-5] */
        COUNT(&out->counts, dropped_expired[o->qos], 1);
        return SESSION_DELIVER_E_DROPPED;
    }
    int r = put(s, o, out->wall_ms, f != NULL ? id_of(f->next) : 0, out->bytes);
    if (unlikely(r != 0)) { /* as if it had been delivered [MQTT-3.1.2-25] */
        COUNT(&out->counts, dropped_oversize[o->qos], 1);
        return SESSION_DELIVER_E_DROPPED;
    }
    out->counts.sent[o->qos]++;
    if (f != NULL) {
        if (f->inflight == 0)
            f->progress_at = out->now;
        phase_push(f, o->qos == 1 ? PHASE_WAIT_ACK : PHASE_WAIT_REC);
        f->inflight_bytes += o->msg->topic.n + o->msg->payload.n;
        session_window_sent(s, f->next - 1, out->now);
    }
    return 0;
}

/* ---- The queues
 * -------------------------------------------------------------------------------------------------
 */

static void queue_push(struct session_queue *q, struct session_queued x)
{
    if (q->count == q->cap) {
        uint32_t cap = q->cap ? q->cap * 2 : 8;
        struct session_queued *ring = mem_alloc(cap * sizeof *ring);
        for (uint32_t i = 0; i < q->count; i++)
            ring[i] = q->ring[(q->at + i) & (q->cap - 1)];
        mem_free(q->ring);
        *q = (struct session_queue){ring, cap, 0, q->count};
    }
    q->ring[(q->at + q->count++) & (q->cap - 1)] = x;
}

static struct session_queued *queue_head(struct session_queue *q)
{
    return q->count > 0 ? &q->ring[q->at & (q->cap - 1)] : NULL;
}

static void queue_pop(struct session *s, struct session_queue *q)
{
    struct session_queued *x = queue_head(q);
    size_t cost = codec_msg_cost(x->msg);
    s->flow->queue_bytes -= cost;
    session_uncharge(s, cost);
    if (x->sub_id_count > 1)
        mem_free(x->sub_id.many);
    codec_msg_unref(x->msg);
    q->at = (q->at + 1) & (q->cap - 1);
    if (--q->count == 0) {
        q->ring = mem_free(q->ring);
        *q = (struct session_queue){0};
    }
}

/* Makes room for one more by the drop policy of QoS 0; false: there is none. */
static bool queue_admit(struct session *s, struct session_queue *q, const struct outgoing *o,
                        size_t cost, struct session_out *out)
{
    struct session_flow *f = s->flow;
    /* Messages of QoS 1 and 2 were, or will be, acknowledged to their publisher, whom the host
     * slows long before: what is under way by then must find room, so for them the bytes are the
     * limit. */
    int64_t count_max = o->qos == 0 ? s->settings->session_inbox_size : UINT32_MAX;
    if (cost > s->queue_bytes_max)
        return false;
    while (q->count >= count_max || f->queue_bytes + cost > s->queue_bytes_max) {
        if (o->qos > 0 || !s->settings->qos0_drop_oldest || q->count == 0)
            return false;
        queue_pop(s, q);
        COUNT(&out->counts, dropped_overflow[0], 1);
    }
    return true;
}

static int enqueue(struct session *s, const struct outgoing *o, struct session_out *out)
{
    struct session_flow *f = flow_get(s);
    struct session_queue *q = &f->queue[o->qos > 0];
    size_t cost = codec_msg_cost(o->msg);
    if (!queue_admit(s, q, o, cost, out)) {
        COUNT(&out->counts, dropped_overflow[o->qos], 1);
        return SESSION_DELIVER_E_DROPPED;
    }
    bool is_shed = o->qos == 0 && out->qos0_bytes_max > 0 && f->queue_bytes >= out->qos0_bytes_max;
    if (is_shed || session_charge(s, cost) != 0) {
        COUNT(&out->counts, dropped_budget[o->qos], 1);
        return SESSION_DELIVER_E_DROPPED;
    }
    struct session_queued x = {.msg = codec_msg_keep(o->msg),
                               .sub_id_count = (uint16_t)o->sub_id_count,
                               .qos = o->qos,
                               .is_retain = o->is_retain};
    if (o->sub_id_count == 1)
        x.sub_id.one = o->sub_id[0];
    else if (o->sub_id_count > 1)
        x.sub_id.many = mem_dup(o->sub_id, o->sub_id_count * sizeof *o->sub_id);
    f->queue_bytes += cost;
    queue_push(q, x);
    return SESSION_DELIVER_E_QUEUED;
}

static void pump_queue(struct session *s, struct session_queue *q, struct session_out *out)
{
    struct session_queued *x;
    while ((x = queue_head(q)) != NULL && has_room(out) && (x->qos == 0 || has_window(s))) {
        struct outgoing o = {.msg = x->msg,
                             .qos = x->qos,
                             .is_retain = x->is_retain,
                             .sub_id_count = x->sub_id_count,
                             .sub_id = x->sub_id_count > 1 ? x->sub_id.many : &x->sub_id.one};
        (void)send_now(s, &o, out);
        queue_pop(s, q);
    }
}

void session_outgoing_pump(struct session *s, struct session_out *out)
{
    if (s->flow == NULL)
        return;
    pump_queue(s, &s->flow->queue[1], out);
    pump_queue(s, &s->flow->queue[0], out);
}

/* ---- Delivery
 * ---------------------------------------------------------------------------------------------------
 */

/* A message of the inbox: its number is given, and the numbers come in order. */
static int deliver_stored(struct session *s, const struct outgoing *o, uint64_t seq,
                          struct session_out *out)
{
    struct session_flow *f = flow_get(s);
    if (seq < f->head || (seq < f->next && *phase_at(f, seq) != PHASE_UNSENT))
        return 0; /* sent on this connection, acknowledged, or past its PUBREC */
    if (seq - f->head >= ID_COUNT - 1 || f->inflight >= session_window_size(s) || !has_room(out))
        return SESSION_DELIVER_E_FULL;
    for (uint64_t q = f->head; q < seq && q < f->next;
         q++) /* what the inbox left out on the way here is gone */
        if (*phase_at(f, q) == PHASE_UNSENT)
            *phase_at(f, q) = PHASE_DONE;
    while (f->next <= seq)
        phase_push(f, f->next == seq ? PHASE_UNSENT : PHASE_DONE);
    int r = SESSION_DELIVER_E_DROPPED;
    if (codec_msg_is_expired(o->msg, out->wall_ms) && !o->is_dup)
        COUNT(&out->counts, dropped_expired[o->qos], 1);
    else if (put(s, o, out->wall_ms, id_of(seq), out->bytes) != 0)
        COUNT(&out->counts, dropped_oversize[o->qos], 1);
    else
        r = 0;
    if (r == 0) {
        out->counts.sent[o->qos]++;
        if (f->inflight++ == 0)
            f->progress_at = out->now;
        f->inflight_bytes += o->msg->topic.n + o->msg->payload.n;
        *phase_at(f, seq) = o->qos == 1 ? PHASE_WAIT_ACK : PHASE_WAIT_REC;
        session_window_sent(s, seq, out->now);
    } else {
        *phase_at(f, seq) = PHASE_DONE;
        f->is_dirty = true; /* no effect from here: session_commit_take is asked after deliveries */
    }
    advance(f);
    return r;
}

int session_deliver(struct session *s, const struct session_delivery *d, struct session_out *out)
{
    uint8_t qos = d->qos < d->msg->qos ? d->qos : d->msg->qos;
    if (unlikely(s->state != SESSION_ST_OPEN)) {
        COUNT(&out->counts, dropped_closed[qos], 1);
        return SESSION_DELIVER_E_DROPPED;
    }
    struct outgoing o = {.msg = d->msg,
                         .images = d->images,
                         .sub_id = d->sub_id,
                         .qos = qos,
                         .is_dup = d->is_dup,
                         .sub_id_count = s->version == CODEC_MQTT_V5 ? d->sub_id_count : 0,
                         .is_retain =
                             d->is_retained || (d->is_retain_as_published && d->msg->is_retain)};
    struct session_flow *f = s->flow;
    if (d->is_stored) {
        must(s->incarnation != 0 && qos > 0);
        return deliver_stored(s, &o, d->seq, out);
    }
    must(qos == 0 ||
         s->incarnation == 0); /* QoS 1 and 2 of a persistent session come from its inbox */
    o.is_dup = false;
    bool is_behind = f != NULL && f->queue[qos > 0].count > 0;
    if (likely(!is_behind && has_room(out) && (qos == 0 || has_window(s))))
        return send_now(s, &o, out);
    return enqueue(s, &o, out);
}

uint32_t session_capacity(const struct session *s, const struct session_out *out)
{
    if (s->state != SESSION_ST_OPEN || !has_room(out))
        return 0;
    uint32_t inflight = s->flow != NULL ? s->flow->inflight : 0, max = session_window_size(s);
    return inflight < max ? max - inflight : 0;
}

bool session_is_stalled(const struct session *s, const struct session_out *out)
{
    const struct session_flow *f = s->flow;
    return s->state != SESSION_ST_OPEN || !has_room(out) ||
           (f != NULL && f->queue[0].count + f->queue[1].count > 0);
}

/* ---- Acknowledgements
 * ------------------------------------------------------------------------------------------- */

static void done(struct session *s, uint64_t seq, struct session_out *out)
{
    struct session_flow *f = s->flow;
    unsigned qos = *phase_at(f, seq) == PHASE_WAIT_ACK ? 1 : 2;
    uint64_t bytes = f->inflight_bytes / f->inflight;
    session_window_acked(s, seq, out->now);
    *phase_at(f, seq) = PHASE_DONE;
    f->inflight--;
    f->inflight_bytes -= bytes;
    COUNT(&out->counts, confirmed[qos], 1);
    out->counts.confirmed_bytes[qos] += bytes;
    f->progress_at = out->now;
    f->is_stalled = false;
    advance(f);
    set_dirty(s, out);
    session_outgoing_pump(s, out);
}

static void pubrel_put(struct session *s, uint16_t packet_id, uint8_t reason,
                       struct session_out *out)
{
    struct codec_mqtt_peer peer = session_peer(s);
    struct codec_mqtt_ack a = {.packet_id = packet_id, .reason = reason};
    if (codec_mqtt_ack_encode(out->bytes, &peer, CODEC_MQTT_PUBREL, &a) != 0)
        session_note(out, SESSION_NOTE_OVERSIZE_PACKET_DROPPED, STR("PUBREL"));
}

static void pubrec(struct session *s, uint64_t seq, const struct codec_mqtt_ack *a,
                   struct session_out *out)
{
    struct session_flow *f = s->flow;
    uint8_t *phase = phase_at(f, seq);
    if (*phase == PHASE_WAIT_COMP) {
        pubrel_put(s, a->packet_id, 0, out); /* it did not see the first one */
        return;
    }
    if (*phase == PHASE_REC)
        return;              /* PUBREL follows the commit */
    if (a->reason >= 0x80) { /* the client will not have it [MQTT5 4.3.3] */
        done(s, seq, out);
        return;
    }
    f->progress_at = out->now;
    COUNT(&out->counts, received, 1);
    session_window_acked(s, seq, out->now);
    if (s->incarnation == 0) {
        *phase = PHASE_WAIT_COMP;
        pubrel_put(s, a->packet_id, 0, out);
        return;
    }
    *phase = PHASE_REC;
    f->rec = mem_grow(f->rec, &f->rec_cap, f->rec_count + 1, sizeof *f->rec);
    f->rec[f->rec_count++] = seq;
    set_dirty(s, out);
}

/* The phases in which this packet is the right answer. */
static bool is_expected(unsigned type, enum phase phase)
{
    return type == CODEC_MQTT_PUBACK   ? phase == PHASE_WAIT_ACK
           : type == CODEC_MQTT_PUBREC ? phase >= PHASE_WAIT_REC
                                       : phase == PHASE_WAIT_COMP;
}

void session_outgoing_ack(struct session *s, struct codec_mqtt_packet *packet,
                          struct session_out *out)
{
    struct codec_mqtt_ack a;
    uint64_t seq;
    int r = codec_mqtt_ack_decode(packet, s->version, &a);
    if (unlikely(r != 0)) {
        session_end_bad(s, out, r, packet->why);
        return;
    }
    bool is_known = seq_find(s->flow, a.packet_id, &seq);
    enum phase phase = is_known ? (enum phase) * phase_at(s->flow, seq) : PHASE_DONE;
    if (unlikely(phase <= PHASE_UNSENT)) { /* of a message that is done: nothing to do, but a PUBREC
                                              wants its end */
        if (packet->type == CODEC_MQTT_PUBREC && a.reason < 0x80)
            pubrel_put(s, a.packet_id, RC(PACKET_IDENTIFIER_NOT_FOUND), out);
        return;
    }
    if (unlikely(!is_expected(packet->type, phase))) {
        session_end(s, out, SESSION_END_PROTOCOL_VIOLATION, RC(PROTOCOL_ERROR),
                    "MQTT-4.3.3-1: an acknowledgement of the other QoS");
        return;
    }
    if (packet->type == CODEC_MQTT_PUBREC)
        pubrec(s, seq, &a, out);
    else
        done(s, seq, out);
}

/* ---- Commits
 * ----------------------------------------------------------------------------------------------------
 */

bool session_commit_take(struct session *s, struct session_commit *out_commit)
{
    struct session_flow *f = s->flow;
    bool is_last = s->state == SESSION_ST_ENDED;
    if (s->incarnation == 0 || f == NULL || (!is_last && (!f->is_dirty || f->is_committing)))
        return false;
    *out_commit = (struct session_commit){f->head, f->next, f->rec, f->rec_count};
    f->rec_taken = f->rec_count;
    f->is_dirty = f->is_announced = false;
    f->is_committing = true;
    return true;
}

void session_outgoing_committed(struct session *s, struct session_out *out)
{
    struct session_flow *f = s->flow;
    if (f == NULL || !f->is_committing)
        return;
    f->is_committing = false;
    for (size_t i = 0; i < f->rec_taken; i++) { /* in the order of the PUBRECs [MQTT-4.6.0-4] */
        uint64_t seq = f->rec[i];
        if (seq >= f->head && *phase_at(f, seq) == PHASE_REC) {
            *phase_at(f, seq) = PHASE_WAIT_COMP;
            pubrel_put(s, id_of(seq), 0, out);
        }
    }
    f->rec_count -= f->rec_taken;
    if (f->rec_count > 0)
        memmove(f->rec, f->rec + f->rec_taken, f->rec_count * sizeof *f->rec);
    f->rec_taken = 0;
    if (f->is_dirty)
        set_dirty(s, out);
}

/* A reconnect: PUBRELs that are owed leave at once [MQTT-4.4.0-1]; the messages come from the
 * inbox. */
void session_outgoing_restore(struct session *s, const struct session_attached *a,
                              struct session_out *out)
{
    if (s->incarnation == 0)
        return;
    struct session_flow *f = flow_get(s);
    f->head = f->next = a->head_seq;
    f->progress_at = out->now;
    for (size_t i = 0; i < a->rec_count; i++) {
        uint64_t seq = a->rec_seq[i];
        if (seq < f->head || seq - f->head >= ID_COUNT - 1)
            continue;
        while (f->next <= seq)
            phase_push(f, PHASE_UNSENT);
        if (*phase_at(f, seq) == PHASE_WAIT_COMP)
            continue;
        *phase_at(f, seq) = PHASE_WAIT_COMP;
        f->inflight++;
        pubrel_put(s, id_of(seq), 0, out);
    }
}

/* ---- The end
 * ----------------------------------------------------------------------------------------------------
 */

void session_outgoing_close(struct session *s, struct session_counts *counts)
{
    if (s->flow == NULL)
        return;
    for (unsigned i = 0; i < 2; i++) {
        struct session_queued *x;
        while ((x = queue_head(&s->flow->queue[i])) != NULL) {
            COUNT(counts, dropped_closed[x->qos], 1);
            queue_pop(s, &s->flow->queue[i]);
        }
    }
}

void session_outgoing_free(struct session *s)
{
    if (s->flow == NULL)
        return;
    mem_free(s->flow->phase);
    mem_free(s->flow->rec);
    s->flow = mem_free(s->flow);
}

void session_outgoing_check(const struct session *s)
{
    const struct session_flow *f = s->flow;
    uint32_t inflight = 0;
    uint64_t bytes = 0;
    if (f == NULL)
        return;
    must(f->head <= f->next && f->next - f->head < ID_COUNT); /* 1 */
    for (uint64_t q = f->head; q < f->next; q++)
        inflight += *phase_at(f, q) > PHASE_UNSENT;
    must(inflight == f->inflight && inflight <= SESSION_WINDOW_MAX + ID_COUNT);
    must(f->inflight > 0 || f->inflight_bytes == 0);
    must(f->head == f->next || *phase_at(f, f->head) != PHASE_DONE); /* 2 */
    for (unsigned i = 0; i < 2; i++) {
        const struct session_queue *q = &f->queue[i];
        for (uint32_t k = 0; k < q->count; k++)
            bytes += codec_msg_cost(q->ring[(q->at + k) & (q->cap - 1)].msg);
    }
    must(bytes == f->queue_bytes && bytes <= s->charged); /* 3 */
    must(f->queue[1].count == 0 || s->incarnation == 0);
    must(f->rec_taken <= f->rec_count);
    must(f->rec_count == 0 || s->incarnation != 0); /* 6 */
    session_window_check(s);                        /* 10 */
}

size_t session_queue_bytes(const struct session *s)
{
    return s->flow != NULL ? s->flow->queue_bytes : 0;
}

size_t session_queue_shed(struct session *s, struct session_out *out)
{
    struct session_queue *q = s->flow != NULL ? &s->flow->queue[0] : NULL;
    size_t count = q != NULL ? q->count : 0;
    for (size_t i = 0; i < count; i++)
        queue_pop(s, q);
    COUNT(&out->counts, dropped_budget[0], count);
    return count;
}

size_t session_queue_count(const struct session *s)
{
    return s->flow != NULL ? s->flow->queue[0].count + s->flow->queue[1].count : 0;
}

size_t session_inflight_count(const struct session *s)
{
    return s->flow != NULL ? s->flow->inflight : 0;
}

size_t session_memory(const struct session *s)
{
    size_t n = sizeof *s + s->client_id.n + 1 + s->charged;
    if (s->in != NULL)
        n += sizeof *s->in + s->in->ring_cap * sizeof *s->in->ring +
             s->in->received_cap * sizeof *s->in->received;
    if (s->flow != NULL)
        n += sizeof *s->flow + s->flow->phase_cap + s->flow->rec_cap * sizeof *s->flow->rec +
             (s->flow->queue[0].cap + s->flow->queue[1].cap) * sizeof *s->flow->queue[0].ring;
    if (s->alias != NULL)
        n += sizeof *s->alias + s->alias->out_max * sizeof *s->alias->out;
    return s->will != NULL ? n + codec_msg_cost(s->will) : n;
}
