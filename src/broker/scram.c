/* SCRAM-SHA-256 as a method of enhanced authentication.  SPDX-License-Identifier: Apache-2.0
 *
 * CONNECT brings client-first, our AUTH server-first, the client's AUTH client-final, CONNACK (or
 * AUTH) server-final [MQTT5 4.12].  It never waits: a server's part of SCRAM is three hashes. */
#include "broker/auth_priv.h"
#include "net/random.h"
#include "net/scram.h"

_Static_assert(sizeof(uint64_t[4]) == NET_SCRAM_SECRET_LEN, "a secret");

static enum broker_auth_outcome begin(struct broker_auth_ask *ask)
{
    struct net_scram *s;
    if (net_scram_begin(ask->data, &s))
        return BROKER_AUTH_E_NOT_AUTHORIZED;
    ask->exchange = s;
    char nonce[UUID_TEXT];
    struct uuid id = net_random_uuid();
    uuid_format(&id, nonce);
    net_scram_challenge(s, broker_auth_hash_find(ask->files, net_scram_user(s)),
                        (const uint8_t *)broker_auth_secret(ask->files), str_of(nonce),
                        &ask->out_data);
    return BROKER_AUTH_E_MORE;
}

static enum broker_auth_outcome finish(struct broker_auth_ask *ask)
{
    int r = net_scram_finish(ask->exchange, ask->data, &ask->out_data);
    if (r)
        return r == NET_SCRAM_E_WRONG ? BROKER_AUTH_E_BAD_PASS : BROKER_AUTH_E_NOT_AUTHORIZED;
    ask->out_user = net_scram_user(ask->exchange);
    return BROKER_AUTH_OK;
}

static void scram_step(struct broker_auth_ask *ask, struct net_worker *worker,
                       struct net_loop *here)
{
    (void)worker;
    (void)here;
    ask->done(ask, ask->exchange ? finish(ask) : begin(ask));
}

static void scram_end(struct broker_auth_ask *ask)
{
    ask->exchange = net_scram_free(ask->exchange);
}

const struct broker_auth_enhanced broker_scram = {
    .name = "SCRAM-SHA-256", .method = BROKER_AUTH_SCRAM, .step = scram_step, .end = scram_end};
