/* Settings that change reach the clients that are connected.  SPDX-License-Identifier: Apache-2.0
 */
#pragma once

#include "broker/conn_priv.h"

/* The settings of a tenant are new on this loop: its connections get them, some in each turn. */
void broker_renew_begin(struct broker_loop *l);

/* The timer of that. */
void broker_renew_tick(void *arg, usec_t now);

/* The rates of its settings, for its stream. */
void broker_renew_rates(struct broker_conn *c);
