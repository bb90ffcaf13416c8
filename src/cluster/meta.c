/* What a member says about itself, and addresses in both tongues.  SPDX-License-Identifier:
 * Apache-2.0 */
#include <arpa/inet.h>

#include "cluster/cluster_priv.h"
#include "codec/record.h"

#define META_KIND 1

enum { META_LOOPS = 1, META_RPC, META_API, META_RELEASE, META_PID };

void cluster_addr_of(const struct net_address *a, struct gossip_addr *out)
{
    *out = (struct gossip_addr){.port = net_address_port(a)};
    if (a->sa.sa_family == AF_INET6) {
        memcpy(out->ip, &a->v6.sin6_addr, 16);
        return;
    }
    out->ip[10] = out->ip[11] = 0xFF;
    memcpy(out->ip + 12, &a->v4.sin_addr, 4);
}

void cluster_addr_to(const struct gossip_addr *a, struct net_address *out)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    *out = (struct net_address){0};
    if (memcmp(a->ip, mapped, sizeof mapped) == 0) {
        out->v4.sin_family = AF_INET;
        memcpy(&out->v4.sin_addr, a->ip + 12, 4);
    } else {
        out->v6.sin6_family = AF_INET6;
        memcpy(&out->v6.sin6_addr, a->ip, 16);
    }
    net_address_set_port(out, a->port);
}

void cluster_meta_put(struct buf *b, const struct meta *m)
{
    uint8_t rpc[18];
    memcpy(rpc, m->rpc.ip, 16);
    rpc[16] = (uint8_t)(m->rpc.port >> 8);
    rpc[17] = (uint8_t)m->rpc.port;
    codec_record_begin(b, META_KIND, 1);
    codec_record_u64(b, META_LOOPS, m->loops);
    codec_record_bytes(b, META_RPC, str_view(rpc, sizeof rpc));
    codec_record_bytes(b, META_API, m->api);
    codec_record_bytes(b, META_RELEASE, m->release);
    codec_record_u64(b, META_PID, m->pid);
}

void cluster_meta_get(struct str s, struct meta *out)
{
    struct codec_cursor c = codec_cursor_of(s);
    struct codec_field f;
    uint8_t kind, version;
    *out = (struct meta){.api = STR(""), .release = STR("")};
    codec_record_head(&c, &kind, &version);
    while (codec_record_next(&c, &f)) {
        if (f.tag == META_LOOPS && f.u64 <= UINT16_MAX)
            out->loops = (uint32_t)f.u64;
        else if (f.tag == META_RPC && f.bytes.n == 18) {
            memcpy(out->rpc.ip, f.bytes.p, 16);
            out->rpc.port = (uint16_t)((uint8_t)f.bytes.p[16] << 8 | (uint8_t)f.bytes.p[17]);
        } else if (f.tag == META_API)
            out->api = f.bytes;
        else if (f.tag == META_RELEASE)
            out->release = f.bytes;
        else if (f.tag == META_PID)
            out->pid = f.u64;
    }
}
