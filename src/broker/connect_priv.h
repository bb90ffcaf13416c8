/* From CONNECT to CONNACK: limits, authentication, one owner per client, the inbox.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/conn_priv.h"

/* Carry out SESSION_FX_AUTHENTICATE, _AUTH, _ATTACH, _CONNECTED. */
void broker_connect_authenticate(struct broker_conn *c, const struct codec_mqtt_connect *connect);
void broker_connect_auth(struct broker_conn *c, struct str method, struct str data);
void broker_connect_attach(struct broker_conn *c, const struct session_attach *a);
void broker_connect_connected(struct broker_conn *c, bool is_session_present);

/* What only connecting (and authenticating again) needs; NULL is fine. */
void broker_connect_ask_free(struct broker_conn *c);
