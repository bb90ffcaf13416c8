/* Where else a client may go.  SPDX-License-Identifier: Apache-2.0
 *
 * Each node tells the cluster the address of each of its listeners, by the listener's name: a row
 * "mqtt.<name>" of CLUSTER_SPACE_NODE.  A client is sent to a node that serves and has a listener
 * of the name it came in by. */
#pragma once

#include "broker/loop_priv.h"

#define BROKER_REFERENCE_MAX 300 /* "host:port" with the NUL */

/* The listener is open: the others may send clients there.  Loop 0. */
void broker_refer_tell(struct broker *b, const struct broker_listener *n);

/* It is closed: the name's row goes, or tells of another open listener of that name.  Loop 0. */
void broker_refer_forget(struct broker *b, const struct broker_listener *n);

/* Another node for a client of this listener, each time another one; false: there is none. */
bool broker_refer_find(struct broker_loop *l, const struct broker_listener *n,
                       char out[BROKER_REFERENCE_MAX]);
