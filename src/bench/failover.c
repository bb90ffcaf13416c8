/* Pairs that outlive the node they are connected to.  SPDX-License-Identifier: Apache-2.0
 *
 * Publisher and subscriber have persistent sessions.  When a connection is lost they try the next
 * host, again and again; the publisher keeps what is not acknowledged and sends it again with the
 * same packet identifiers (DUP, or PUBREL for what was received), as [MQTT-4.4.0-1] has it.  So an
 * acknowledged message that never arrives was lost by the broker, and at QoS 2 one that arrives
 * twice was doubled by it.  What the broker refuses is counted and not sent again: its publisher
 * knows, and sent once more it would be a new message behind those sent since. */
#include "bench/failover.h"

#include "base/mem.h"
#include "net/clock.h"

#define RETRY_USEC (50 * USEC_MSEC) /* matters for outages: how soon a client tries again */

static void retry(void *arg, usec_t now)
{
    struct bench_retry *r = arg;
    (void)now;
    bench_client_connect(r->client);
}

void bench_failover_init(struct bench_load *l)
{
    l->pair = mem_new(l->conf->publishers * sizeof *l->pair);
    for (uint32_t i = 0; i < l->conf->publishers; i++) {
        for (unsigned k = 0; k < 2; k++) {
            struct bench_retry *r = &l->pair[i].retry[k];
            r->load = l;
            r->client = k == 0 ? &l->publisher[i] : &l->subscriber[i];
            net_timer_init(&r->timer, retry, r);
        }
        if (l->conf->qos > 0)
            l->publisher[i].phase = mem_new(BENCH_PACKET_IDS);
    }
}

void bench_failover_deinit(struct bench_load *l)
{
    for (uint32_t i = 0; l->pair != NULL && i < l->conf->publishers; i++)
        for (unsigned k = 0; k < 2; k++)
            net_timer_del(l->loop, &l->pair[i].retry[k].timer);
    l->pair = mem_free(l->pair);
}

void bench_failover_lost(struct bench_load *l, struct bench_client *c)
{
    struct bench_pair *p = &l->pair[c->index];
    usec_t now = net_loop_now(l->loop);
    if (p->broken_at == 0 && l->phase == BENCH_PHASE_RUN)
        p->broken_at = now;
    net_timer_set(l->loop, &p->retry[c->is_publisher ? 0 : 1].timer,
                  now + RETRY_USEC / 2 + rng_below(net_loop_rng(l->loop), RETRY_USEC));
}

static void resend(struct bench_load *l, struct bench_client *c)
{
    for (uint64_t seq = c->oldest; c->phase != NULL && seq < c->seq; seq++) {
        switch ((enum bench_phase_out)c->phase[bench_client_packet_id(seq)]) {
        case BENCH_OUT_NONE:
            break;
        case BENCH_OUT_SENT:
            bench_load_send(l, c, seq, true);
            break;
        case BENCH_OUT_RECEIVED:
            bench_client_release(c, seq);
            break;
        }
    }
}

void bench_failover_ready(struct bench_load *l, struct bench_client *c)
{
    if (c->was_ready && !c->is_session_kept)
        l->result.sessions_lost++;
    if (c->is_publisher)
        resend(l, c);
}

void bench_failover_message(struct bench_load *l, uint32_t pair)
{
    struct bench_pair *p = &l->pair[pair];
    if (p->broken_at == 0)
        return;
    bench_hist_put(&l->outage, net_loop_now(l->loop) - p->broken_at);
    p->broken_at = 0;
}
