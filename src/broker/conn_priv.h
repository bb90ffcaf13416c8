/* One connection: a stream below, a session mind above.  SPDX-License-Identifier: Apache-2.0
 *
 * It lives from accept to the end of the stream and of everything asked on its behalf (pending
 * counts those). */
#pragma once

#include "broker/hub_priv.h"
#include "broker/loop_priv.h"
#include "session/session.h"

struct broker_conn_ask; /* what only the connecting phase needs */

/* Flow of a persistent session's stored messages from its inbox. */
struct broker_inflow {
    uint64_t incarnation, mod;
    uint64_t next_seq;  /* the next one the session mind gets */
    uint64_t known_seq; /* there are messages up to, not including, this one */
    uint64_t dup_seq;   /* below it they may have been sent on an older connection */
    uint64_t qos0_next_seq, qos0_known_seq;
    uint64_t asked_seq, qos0_asked_seq; /* what was known when the fetch under way began */
    uint64_t qos0_acked_seq, qos0_committed_seq;
    uint64_t head_seq; /* as last committed */
    bool is_fetching, is_fetching_qos0, is_committing;
    bool is_committing_mind; /* what is being committed came from the mind */
    uint32_t sub_count;      /* made on this connection and not undone: for the gauge */
    struct list receiving;   /* QoS 2 from the client: struct broker_join, in their order */
};

/* A packet identifier on its way out of the inbox. */
struct broker_release {
    struct broker_conn *conn;
    uint16_t packet_id;
};

struct broker_conn {
    struct list link; /* loop->conns */
    struct broker_loop *loop;
    struct broker_listener *listener;
    struct broker_tenant *tenant;
    struct broker_settings *settings;
    struct net_stream *stream; /* NULL: ended */
    struct session *session;
    struct broker_conn_ask *ask;  /* until CONNACK */
    struct broker_inflow *inflow; /* persistent sessions */
    struct broker_sub *subs;      /* clean sessions: its subscriptions */
    struct broker_shared *shared; /* clean sessions: its shared subscriptions */
    uint64_t shared_last;         /* how many there ever were */
    struct net_timer timer;       /* session_deadline */
    struct list slow;             /* loop->slow while it waits (slow.c) */
    uint64_t slow_key;            /* for what */
    usec_t slow_until;            /* but no longer than this */
    uint64_t crowd_loops;         /* those with publishers that wait for this one, a bit each */
    uint64_t cookie;
    struct str user; /* heap; who was authenticated */
    struct broker_acl
        *acl;          /* rules of this client alone, from a plugin; NULL: those of the files */
    uint64_t since_ms; /* since 1970: CONNACK 0 */
    uint64_t acl_hash; /* the last topic it was allowed to publish to */
    uint32_t pending;  /* completions that will name this connection */
    uint32_t sub_count;
    bool is_open;       /* CONNACK 0 was sent and the end not yet reached */
    bool is_claimed;    /* the session dict knows us */
    bool is_attaching;  /* the inbox has been asked: whoever gets its answer gives up what an ended
                           connection holds */
    bool is_attached;   /* the inbox knows us */
    bool is_waiting;    /* reading is paused until the session mind is ready */
    bool has_published; /* in what is being read */
    bool is_newcomer;   /* it was on its way in when the drain began */
    bool is_slowed;     /* reading is paused: in loop->slow */
    bool is_stalled;    /* counted in broker.stalled */
    bool is_crowded;    /* so much is queued that its publishers wait */
    bool is_dirty;      /* in loop->dirty */
    bool is_counted;    /* in connection_count */
    struct list dirty;
};

/* The stream is ready: net_listener's callback. */
void broker_conn_accept(void *arg, struct net_loop *here, struct net_stream *s);

/* One event for the mind, and its effects.  May end the connection, which still lives until the
 * turn's end. */
void broker_conn_step(struct broker_conn *c, const struct session_event *ev);

/* PUBLISHED: routed, with a reason code; dropped: stored sessions whose queue was full. */
void broker_conn_published(struct broker_conn *c, uint64_t token, uint8_t reason, uint32_t dropped);

/* Ends it with this cause and 5.0 reason code. */
void broker_conn_kick(struct broker_conn *c, enum session_end_cause cause, uint8_t reason);

/* The same, naming another server (reasons 0x9C, 0x9D); reference is borrowed for the call. */
void broker_conn_kick_to(struct broker_conn *c, enum session_end_cause cause, uint8_t reason,
                         struct str reference);

/* Its session may have something to do at an earlier time than before. */
void broker_conn_arm(struct broker_conn *c);

/* By name on this loop; NULL when it has gone. */
struct broker_conn *broker_conn_find(struct broker_loop *l, uint64_t cookie);

/* Something was asked for c; done must be told once the answer is here.  After done, c may be
 * freed. */
static inline void broker_conn_hold(struct broker_conn *c)
{
    c->pending++;
}
void broker_conn_done(struct broker_conn *c);

/* May it receive from this topic?  True without access rules. */
bool broker_conn_may_read(const struct broker_conn *c, struct str topic);

/* May it publish to this topic?  Without access rules to all but $SYS, which is the broker's own
 * (MQTT 4.7.2). */
bool broker_conn_may_publish(const struct broker_conn *c, struct str topic);

/* What these rules, its tenant's, say; where they cannot be asked, what ByPassPermCheckError says.
 */
bool broker_conn_may(const struct broker_conn *c, const struct broker_acl *acl,
                     enum broker_acl_action action, struct str topic);

/* The access rules of its tenant, NULL: all is allowed. */
const struct broker_acl *broker_conn_acl(const struct broker_conn *c);

/* An event about this client. */
void broker_conn_report(const struct broker_conn *c, enum broker_event_id id, const char *detail);

/* An event about one message: only for tenants with DebugModeEnabled. */
void broker_conn_debug_report(const struct broker_conn *c, enum broker_event_id id,
                              struct str topic);
static inline void broker_conn_debug(const struct broker_conn *c, enum broker_event_id id,
                                     struct str topic)
{
    if (unlikely(c->settings->value.debug_mode_enabled))
        broker_conn_debug_report(c, id, topic);
}

/* Where deliveries to c go: the loop's session_out, pointed at c's output. */
struct session_out *broker_conn_out(struct broker_conn *c);

/* What could not be written to c for want of room goes on when there is room: drained() is owed. */
static inline void broker_conn_owe(struct broker_conn *c, const struct session_out *out)
{
    if (c->stream)
        net_stream_owe_drained(c->stream, out->bytes_max);
}

/* The one place where outcomes of stores become reason codes of MQTT 5.0. */
uint8_t broker_conn_reason_of(enum stores_outcome outcome);

/* Work for the end of the turn. */
void broker_conn_dirty(struct broker_conn *c);
void broker_conn_turn_end(struct broker_loop *l);

/* Frees what is left of it when the loop is being freed. */
void broker_conn_drop(struct broker_conn *c);
