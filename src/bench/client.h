/* One MQTT client of the tool.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/list.h"
#include "bench/conf.h"
#include "codec/mqtt.h"
#include "net/stream.h"

enum bench_client_state {
    BENCH_CLIENT_ST_IDLE,
    BENCH_CLIENT_ST_CONNECTING,  /* stream is opening or CONNACK is awaited */
    BENCH_CLIENT_ST_CLEANING,    /* connected to end an older session only; on its way out */
    BENCH_CLIENT_ST_SUBSCRIBING, /* SUBACKs are awaited */
    BENCH_CLIENT_ST_READY,
    BENCH_CLIENT_ST_CLOSED,
};

enum bench_phase_out {                     /* of a message that we publish */
                       BENCH_OUT_NONE,     /* not sent, or acknowledged */
                       BENCH_OUT_SENT,     /* PUBLISH was sent */
                       BENCH_OUT_RECEIVED, /* PUBREC came, PUBREL was sent */
};

#define BENCH_PACKET_IDS 65536u

struct bench_client;

/* Who drives the clients; called on their loop. */
struct bench_client_ops {
    void (*ready)(void *arg, struct bench_client *c);
    /* One PUBLISH came; when is the turn's time. */
    void (*message)(void *arg, struct bench_client *c, const struct codec_mqtt_publish *p);
    /* One QoS 1 or 2 message of ours is fully acknowledged. */
    void (*acked)(void *arg, struct bench_client *c);
    /* One of those that would be sent again (phase) was refused: it is not. */
    void (*refused)(void *arg, struct bench_client *c, uint64_t seq);
    /* There is room to write again, or acknowledgements came: it may publish more. */
    void (*writable)(void *arg, struct bench_client *c);
    /* The connection ended and it was not asked for; why is a sentence. */
    void (*lost)(void *arg, struct bench_client *c, const char *why);
    /* The connection ended as bench_client_leave asked. */
    void (*left)(void *arg, struct bench_client *c);
};

struct bench_client {
    const struct bench_conf *conf;
    const struct bench_client_ops *ops;
    void *arg;
    struct net_loop *loop;
    struct net_tls *tls; /* borrowed; NULL: plain */
    struct net_stream *stream;
    enum bench_client_state state;
    uint32_t index;
    bool is_publisher, is_clean;
    bool is_cleaned;       /* the broker has no session of an earlier run any more (not is_clean) */
    bool is_leaving;       /* its end was asked for */
    bool is_subscribed;    /* do not subscribe when it connects (again) */
    uint32_t subacks;      /* still awaited */
    uint32_t filter_count; /* to subscribe to, made by filter() */
    void (*filter)(const struct bench_client *c, uint32_t i, struct buf *out);
    uint8_t
        *received;  /* QoS 2 ids that came in and are not released: 65536 bits; made when needed */
    bool was_ready; /* once before: the broker owes it its session */
    uint32_t connects;    /* connections opened so far: picks the host */
    bool is_session_kept; /* the last CONNACK said Session Present */
    /* publisher */
    uint8_t *phase;       /* by packet id, enum bench_phase_out; NULL: nothing is ever sent again */
    uint64_t oldest;      /* lowest number that is not acknowledged (with phase) */
    uint64_t seq;         /* next number */
    uint64_t acked;       /* acknowledged messages */
    uint64_t refused;     /* those that the broker did not take (with phase) */
    uint16_t receive_max; /* of the broker: how many it takes that it has not acknowledged */
    uint64_t delivered;   /* receptions of its messages */
    struct list dirty;    /* in the list of those that may go on publishing */
};

/* Opens the connection and goes on to ready by itself. */
void bench_client_connect(struct bench_client *c);

/* Sends its SUBSCRIBEs; ready() follows when all are answered. */
void bench_client_subscribe(struct bench_client *c);

/* Messages of QoS 1 or 2 that the broker has not answered. */
static inline uint64_t bench_client_flying(const struct bench_client *c)
{
    return c->seq - c->acked - c->refused;
}

/* Packet identifier of message number seq. */
uint16_t bench_client_packet_id(uint64_t seq);

struct bench_message {
    uint64_t seq;
    struct str topic, payload;
    uint8_t qos;
    bool is_retain, is_dup;
};

/* Appends one message. */
void bench_client_publish(struct bench_client *c, const struct bench_message *m);

/* Appends PUBREL for message number seq. */
void bench_client_release(struct bench_client *c, uint64_t seq);

void bench_client_deinit(struct bench_client *c);

/* PINGREQ, for a client that may have nothing else to say; nothing while it is not ready. */
void bench_client_ping(struct bench_client *c);

/* DISCONNECT and close. */
void bench_client_leave(struct bench_client *c);

/* True while more may be written without piling up. */
bool bench_client_is_writable(const struct bench_client *c);
