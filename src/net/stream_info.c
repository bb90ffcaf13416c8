/* What one can ask a stream.  SPDX-License-Identifier: Apache-2.0
 *
 * Never: changes it. */
#include "net/stream_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "net/tls_priv.h"

struct net_loop *net_stream_loop(const struct net_stream *s)
{
    return s->loop;
}

const struct net_address *net_stream_peer(const struct net_stream *s)
{
    return &s->peer;
}

int net_stream_local(const struct net_stream *s, struct net_address *out)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    memset(out, 0, sizeof *out);
    if (getsockname(s->fd, (struct sockaddr *)&ss, &len) < 0)
        return -errno;
    if (ss.ss_family == AF_UNIX)
        out->sa.sa_family = AF_UNIX;
    else
        memcpy(&out->v6, &ss, sizeof out->v6);
    return 0;
}

uint64_t net_stream_read_total(const struct net_stream *s)
{
    return s->read_total;
}

uint64_t net_stream_written_total(const struct net_stream *s)
{
    return s->written_total;
}

int net_stream_error(const struct net_stream *s)
{
    return s->err;
}

const char *net_stream_error_text(const struct net_stream *s)
{
    const char *t = s->tls ? net_tls_link_error(s->tls) : "";
    if (t[0])
        return t;
    if (s->ws && s->err == -EPROTO)
        return "WebSocket protocol error";
    const char *name = s->err < 0 ? strerrordesc_np(-s->err) : NULL;
    return name ? name : "";
}

bool net_stream_identity(struct net_stream *s, struct net_stream_identity *out)
{
    return s->tls && net_tls_link_identity(s->tls, out);
}

const char *net_stream_tls_version(const struct net_stream *s)
{
    return s->tls ? net_tls_link_version(s->tls) : NULL;
}

struct str net_stream_tls_name(const struct net_stream *s)
{
    return s->tls ? net_tls_link_name(s->tls) : (struct str){0};
}

bool net_stream_peer_cred(const struct net_stream *s, uint32_t *out_uid, uint32_t *out_gid)
{
    struct ucred c;
    socklen_t len = sizeof c;
    if (s->peer.sa.sa_family != AF_UNIX || getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &c, &len) < 0)
        return false;
    *out_uid = c.uid;
    *out_gid = c.gid;
    return true;
}
