/* Listening, for this room.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "net/listener.h"

struct net_stream;

/* What became of an accepted connection: it is open, it no longer counts, it is freed. */
void net_listener_opened(struct net_stream *s);
void net_listener_gone(struct net_stream *s);
void net_listener_unref(struct net_listener *n);

/* A bound unix socket; a file left behind by a dead process is replaced.  The descriptor, or
 * -errno. */
must_use int net_listener_unix_bind(const char *path, unsigned mode, const char *group);
