/* WebSocket (RFC 6455) of one connection, for the stream.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/buf.h"

struct net_ws;

enum net_ws_outcome {
    NET_WS_E_MORE = 1,  /* the handshake is not complete */
    NET_WS_E_CLOSE = 2, /* the peer said good-bye; `answer` has our reply */
};

#define NET_WS_HEAD_MAX 8192 /* an HTTP request or answer head */

/* Server: reads the request in head.  0 and the 101 answer appended; MORE; or -EPROTO and an HTTP
 * error answer. *out_used bytes of head belong to the request.  protocols: comma separated, any of
 * them; NULL: none asked. */
must_use int net_ws_accept(struct str head, const char *path, const char *protocols,
                           struct buf *answer, size_t *out_used);

/* Client: appends the request; key_text gets what net_ws_confirm must find. */
void net_ws_request(struct buf *out, const char *host, const char *path, const char *protocol,
                    char key_text[32]);
must_use int net_ws_confirm(struct str head, const char *key_text, size_t *out_used);

struct net_ws *net_ws_new(bool is_server) must_use;
struct net_ws *net_ws_free(struct net_ws *w);

/* Takes the frames off n raw bytes at p, in place: the payload of data frames stands at p, *out_n
 * bytes.  Answers to pings and closes are appended to answer.  0, NET_WS_E_CLOSE, or -EPROTO
 * (answer has the close frame). */
must_use int net_ws_decode(struct net_ws *w, uint8_t *p, size_t n, size_t *out_n,
                           struct buf *answer);

/* Head of a binary frame of n bytes; a client's payload (all n bytes at p) is masked in place.  At
 * most 14 bytes. */
size_t net_ws_frame_head(struct net_ws *w, size_t n, uint8_t *p, uint8_t out_head[16]);

/* A close frame. */
void net_ws_close(struct net_ws *w, unsigned code, struct buf *out);
