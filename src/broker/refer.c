/* Server references: who takes our clients.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. Only a live node that serves, does not drain and has a listener of the same name is named.
 * 2. A slow one is named when there is no other: it is better than nowhere. */
#include "broker/refer_priv.h"

#include <stdio.h>
#include <string.h>

#include "cluster/cluster.h"
#include "net/address.h"

#define KEY_MAX 64

static bool key_of(const struct broker_listener *n, char out[KEY_MAX])
{
    int len = snprintf(out, KEY_MAX, "mqtt.%s", n->name);
    return len > 0 && len < KEY_MAX;
}

static bool is_wildcard(const struct net_address *a)
{
    if (a->sa.sa_family == AF_INET)
        return a->v4.sin_addr.s_addr == htonl(INADDR_ANY);
    return a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->v6.sin6_addr);
}

void broker_refer_tell(struct broker *b, const struct broker_listener *n)
{
    char key[KEY_MAX], text[NET_ADDRESS_TEXT], value[BROKER_REFERENCE_MAX];
    const struct net_address *a = net_listener_address(n->net);
    const char *host = b->conf.reference_host;
    if (!b->conf.seat || a->sa.sa_family == AF_UNIX || !key_of(n, key))
        return;
    if (host && host[0] && is_wildcard(a))
        net_address_join(host, net_address_port(a), value, sizeof value);
    else if (is_wildcard(a))
        return; /* nobody knows a way */
    else {
        (void)net_address_format(a, text);
        snprintf(value, sizeof value, "%s", text);
    }
    must(cluster_row_put(b->conf.seat[0], CLUSTER_SPACE_NODE, str_of(key), str_of(value)));
}

void broker_refer_forget(struct broker *b, const struct broker_listener *n)
{
    char key[KEY_MAX];
    if (!b->conf.seat || !key_of(n, key))
        return;
    cluster_row_del(b->conf.seat[0], CLUSTER_SPACE_NODE, str_of(key));
    for (size_t i = 0; i < b->listener_count; i++)
        if (!b->listener[i]->is_stopped && strcmp(b->listener[i]->name, n->name) == 0)
            broker_refer_tell(b, b->listener[i]);
}

static bool is_open(const struct cluster_seat *s, const struct uuid *node, uint32_t unwanted)
{
    const struct cluster_member *m = cluster_member_find(s, node);
    return m && m->state == CLUSTER_ST_ALIVE && (m->flags & CLUSTER_FLAG_READY) &&
           !(m->flags & unwanted) && !uuid_eq(node, cluster_self(s));
}

static const struct cluster_row *row_at(const struct cluster_seat *s, struct str key,
                                        uint32_t unwanted, size_t skip)
{
    const struct cluster_row *row;
    size_t at = 0;
    while ((row = cluster_row_next(s, CLUSTER_SPACE_NODE, key, &at)))
        if (str_eq(row->key, key) && is_open(s, &row->owner, unwanted) && skip-- == 0)
            return row;
    return NULL;
}

bool broker_refer_find(struct broker_loop *l, const struct broker_listener *n,
                       char out[BROKER_REFERENCE_MAX])
{
    char key[KEY_MAX];
    if (!l->broker->conf.seat || !key_of(n, key))
        return false;
    const struct cluster_seat *s = l->broker->conf.seat[l->index];
    uint32_t never = CLUSTER_FLAG_DRAINING | CLUSTER_FLAG_STORAGE_FAILED;
    uint32_t unwanted = never | CLUSTER_FLAG_DEGRADED;
    if (!row_at(s, str_of(key), unwanted, 0))
        unwanted = never; /* 2 */
    const struct cluster_row *row = row_at(s, str_of(key), unwanted, l->refer_turn++);
    if (!row) { /* all have had their turn */
        l->refer_turn = 1;
        row = row_at(s, str_of(key), unwanted, 0);
    }
    if (!row || row->value.n >= BROKER_REFERENCE_MAX)
        return false;
    memcpy(out, row->value.p, row->value.n);
    out[row->value.n] = 0;
    return true;
}
