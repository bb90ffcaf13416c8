/* Clients over TCP of the broker with two loops.  SPDX-License-Identifier: Apache-2.0
 *
 * A client is a number; its client identifier is one character.  They speak MQTT 3.1.1 and read
 * nothing. */
#pragma once

#include "broker/conn_priv.h"
#include "unit/broker/two.h"

#define CLIENTS_MAX 64

extern struct broker_conn *clients_conn[CLIENTS_MAX]; /* by number; who is connected */

/* two_setup, and a listener for anybody. */
void clients_setup(unsigned inbox_size);
void clients_teardown(void);

/* A TCP connection that has said nothing; the file descriptor is the caller's.  rcvbuf: bytes its
 * kernel keeps for it, 0: as it likes. */
int clients_socket(int rcvbuf) must_use;

/* One that is connected, on whatever loop. */
unsigned clients_new(int rcvbuf);
/* One on the loop of `like`, or on the other. */
unsigned clients_on(const struct broker_conn *like, bool is_same, int rcvbuf);
/* Sends these bytes. */
void clients_say(unsigned id, const void *bytes, size_t n);
/* Subscribes to a topic of one character. */
void clients_subscribe(unsigned id, char topic, unsigned qos);
/* Hangs up, in order. */
void clients_leave(unsigned id);
