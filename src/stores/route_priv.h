/* Routes in the dist table.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "dist/dist.h"
#include "stores/stores.h"

/* Adds or removes a route and, for an add, waits until this node's index matches it. */
void stores_route_put(struct stores_client *c, const struct dist_route *r, uint32_t member_max,
                      stores_done *done, void *arg);
void stores_route_drop(struct stores_client *c, const struct dist_route *r, stores_done *done,
                       void *arg);

enum dist_share stores_route_share(const struct codec_topic_filter *f);
