/* WebSocket frames and handshake heads (RFC 6455).  SPDX-License-Identifier: Apache-2.0
 *
 * Only binary messages carry data; text is refused with 1003.  Frames are read with wslay's frame
 * reader, which checks lengths, reserved bits and opcodes; what it does not know (fragments in
 * order, control frames whole) is checked here.
 *
 * Never: buffers payload; does input or output. */
#include "net/ws_priv.h"

#include <errno.h>
#include <openssl/evp.h>
#include <strings.h>
#include <wslay/wslay.h>

#include "base/mem.h"
#include "net/random.h"

#define CONTROL_MAX 125

struct net_ws {
    wslay_frame_context_ptr ctx;
    const uint8_t *in; /* what the reader takes from, during a call */
    size_t in_n;
    bool is_server, is_in_message, is_closing;
    uint8_t opcode; /* of the frame that is being read */
    bool is_in_frame;
    uint64_t frame_left;
    uint8_t control[CONTROL_MAX];
    size_t control_n;
};

/* The handshake. */

static struct str trim(struct str s)
{
    while (s.n && (*s.p == ' ' || *s.p == '\t')) {
        s.p++;
        s.n--;
    }
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' || s.p[s.n - 1] == '\r'))
        s.n--;
    return s;
}

static bool eq_nocase(struct str a, const char *b)
{
    return a.n == strlen(b) && strncasecmp(a.p, b, a.n) == 0;
}

/* The value of a header; p == NULL: absent. */
static struct str header(struct str head, const char *name)
{
    for (struct str line; str_next(&head, '\n', &line);) {
        const char *colon = line.n ? memchr(line.p, ':', line.n) : NULL;
        if (colon && eq_nocase(str_view(line.p, (size_t)(colon - line.p)), name))
            return trim(str_view(colon + 1, line.n - (size_t)(colon - line.p) - 1));
    }
    return (struct str){0};
}

static bool list_has(struct str list, const char *word)
{
    for (struct str part; str_next(&list, ',', &part);)
        if (eq_nocase(trim(part), word))
            return true;
    return false;
}

/* The first of the client's subprotocols that we speak. */
static struct str pick_protocol(struct str offered, const char *ours)
{
    for (struct str part; str_next(&offered, ',', &part);) {
        struct str mine = str_of(ours), one;
        while (str_next(&mine, ',', &one))
            if (str_eq(trim(one), trim(part)))
                return trim(part);
    }
    return (struct str){0};
}

static void accept_text(struct str key, char out[32])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    struct buf b = {0};
    buf_put_str(&b, key);
    buf_put_str(&b, STR("258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    must(EVP_Digest(b.p, b.n, digest, &n, EVP_sha1(), NULL) == 1);
    buf_deinit(&b);
    EVP_EncodeBlock((unsigned char *)out, digest, (int)n);
}

static int refuse(struct buf *answer, const char *status, const char *why)
{
    buf_printf(answer,
               "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%sConnection: "
               "close\r\n\r\n%s\n",
               status, strlen(why) + 1,
               status[0] == '4' && status[2] == '6' ? "Sec-WebSocket-Version: 13\r\n" : "", why);
    return -EPROTO;
}

/* The end of the head, behind the empty line; 0: not there yet. */
static size_t head_end(struct str head)
{
    const char *at = memmem(head.p, head.n, "\r\n\r\n", 4);
    return at ? (size_t)(at - head.p) + 4 : 0;
}

int net_ws_accept(struct str head, const char *path, const char *protocols, struct buf *answer,
                  size_t *out_used)
{
    size_t used = head_end(head);
    if (!used)
        return head.n >= NET_WS_HEAD_MAX
                   ? refuse(answer, "431 Request Header Fields Too Large", "too long")
                   : NET_WS_E_MORE;
    *out_used = used;
    struct str rest = str_view(head.p, used), line, method, target, version;
    (void)str_next(&rest, '\n', &line);
    line = trim(line);
    if (!str_next(&line, ' ', &method) || !str_next(&line, ' ', &target) ||
        !str_next(&line, ' ', &version) || !str_eq(version, STR("HTTP/1.1")))
        return refuse(answer, "400 Bad Request", "this is a WebSocket port");
    if (!str_eq(method, STR("GET")))
        return refuse(answer, "405 Method Not Allowed", "GET only");
    const char *query = target.n ? memchr(target.p, '?', target.n) : NULL;
    if (query)
        target.n = (size_t)(query - target.p);
    if (!str_eq(target, str_of(path)))
        return refuse(answer, "404 Not Found", "no WebSocket at this path");
    struct str key = header(rest, "Sec-WebSocket-Key");
    if (!list_has(header(rest, "Upgrade"), "websocket") ||
        !list_has(header(rest, "Connection"), "upgrade") || key.n != 24)
        return refuse(answer, "400 Bad Request", "not a WebSocket upgrade");
    if (!str_eq(header(rest, "Sec-WebSocket-Version"), STR("13")))
        return refuse(answer, "426 Upgrade Required", "version 13 only");
    struct str protocol = {0};
    if (protocols) {
        protocol = pick_protocol(header(rest, "Sec-WebSocket-Protocol"), protocols);
        if (!protocol.p)
            return refuse(answer, "400 Bad Request", "no subprotocol that is spoken here");
    }
    char text[32];
    accept_text(key, text);
    buf_printf(answer,
               "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Accept: %s\r\n",
               text);
    if (protocol.p)
        buf_printf(answer, "Sec-WebSocket-Protocol: %.*s\r\n", STR_ARG(protocol));
    buf_put_str(answer, STR("\r\n"));
    return 0;
}

void net_ws_request(struct buf *out, const char *host, const char *path, const char *protocol,
                    char key_text[32])
{
    uint8_t raw[16];
    char key[32];
    net_random_bytes(raw, sizeof raw);
    int n = EVP_EncodeBlock((unsigned char *)key, raw, sizeof raw);
    accept_text(str_view(key, (size_t)n), key_text);
    buf_printf(out,
               "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n",
               path, host, key);
    if (protocol)
        buf_printf(out, "Sec-WebSocket-Protocol: %s\r\n", protocol);
    buf_put_str(out, STR("\r\n"));
}

int net_ws_confirm(struct str head, const char *key_text, size_t *out_used)
{
    size_t used = head_end(head);
    if (!used)
        return head.n >= NET_WS_HEAD_MAX ? -EPROTO : NET_WS_E_MORE;
    *out_used = used;
    struct str h = str_view(head.p, used);
    if (!str_has_prefix(h, STR("HTTP/1.1 101")) ||
        !str_eq(header(h, "Sec-WebSocket-Accept"), str_of(key_text)))
        return -EPROTO;
    return 0;
}

/* Frames. */

static ssize_t on_recv(uint8_t *p, size_t n, int flags, void *arg)
{
    (void)flags;
    struct net_ws *w = arg;
    if (n > w->in_n)
        n = w->in_n;
    if (n == 0)
        return -1;
    memcpy(p, w->in, n);
    w->in += n;
    w->in_n -= n;
    return (ssize_t)n;
}

struct net_ws *net_ws_new(bool is_server)
{
    struct net_ws *w = mem_new(sizeof *w);
    static const struct wslay_frame_callbacks calls = {.recv_callback = on_recv};
    must(wslay_frame_context_init(&w->ctx, &calls, w) == 0);
    w->is_server = is_server;
    return w;
}

struct net_ws *net_ws_free(struct net_ws *w)
{
    if (w)
        wslay_frame_context_free(w->ctx);
    return mem_free(w);
}

size_t net_ws_frame_head(struct net_ws *w, size_t n, uint8_t *p, uint8_t out_head[16])
{
    size_t at = 2;
    out_head[0] = 0x82; /* the last fragment, binary */
    if (n < 126) {
        out_head[1] = (uint8_t)n;
    } else {
        unsigned bytes = n <= UINT16_MAX ? 2 : 8;
        out_head[1] = bytes == 2 ? 126 : 127;
        for (unsigned i = 0; i < bytes; i++)
            out_head[at++] = (uint8_t)((uint64_t)n >> (8 * (bytes - 1 - i)));
    }
    if (w->is_server)
        return at;
    uint8_t mask[4];
    out_head[1] |= 0x80;
    net_random_bytes(mask, sizeof mask);
    memcpy(out_head + at, mask, 4);
    for (size_t i = 0; i < n; i++)
        p[i] ^= mask[i & 3];
    return at + 4;
}

static void put_control(struct net_ws *w, unsigned opcode, const uint8_t *p, size_t n,
                        struct buf *out)
{
    buf_put_u8(out, (uint8_t)(0x80 | opcode));
    buf_put_u8(out, (uint8_t)(n | (w->is_server ? 0 : 0x80)));
    uint8_t mask[4] = {0};
    if (!w->is_server) {
        net_random_bytes(mask, sizeof mask);
        buf_put(out, mask, sizeof mask);
    }
    for (size_t i = 0; i < n; i++)
        buf_put_u8(out, p[i] ^ mask[i & 3]);
}

void net_ws_close(struct net_ws *w, unsigned code, struct buf *out)
{
    if (w->is_closing)
        return;
    w->is_closing = true;
    uint8_t b[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    put_control(w, WSLAY_CONNECTION_CLOSE, b, 2, out);
}

static int fail(struct net_ws *w, unsigned code, struct buf *answer)
{
    net_ws_close(w, code, answer);
    return -EPROTO;
}

/* The first piece of a frame: is it allowed here? */
static int frame_begin(struct net_ws *w, const struct wslay_frame_iocb *f, struct buf *answer)
{
    bool is_control = (f->opcode & 8) != 0;
    if (f->rsv || (f->mask != 0) != w->is_server)
        return fail(w, 1002, answer);
    if (is_control && (!f->fin || f->payload_length > CONTROL_MAX))
        return fail(w, 1002, answer);
    if (f->opcode == WSLAY_TEXT_FRAME)
        return fail(w, 1003, answer);
    if (f->opcode == WSLAY_CONTINUATION_FRAME ? !w->is_in_message
                                              : f->opcode == WSLAY_BINARY_FRAME && w->is_in_message)
        return fail(w, 1002, answer);
    if (f->opcode > WSLAY_PONG || (f->opcode > WSLAY_BINARY_FRAME && !is_control))
        return fail(w, 1002, answer);
    w->opcode = f->opcode;
    w->control_n = 0;
    return 0;
}

static int frame_end(struct net_ws *w, bool is_last, struct buf *answer)
{
    w->is_in_frame = false;
    if (w->opcode == WSLAY_PING)
        put_control(w, WSLAY_PONG, w->control, w->control_n, answer);
    if (w->opcode == WSLAY_CONNECTION_CLOSE) {
        if (w->control_n == 1)
            return fail(w, 1002, answer);
        unsigned code = w->control_n >= 2 ? (unsigned)w->control[0] << 8 | w->control[1] : 1000;
        net_ws_close(w, code == 1005 || code == 1006 || code < 1000 ? 1002 : code, answer);
        return NET_WS_E_CLOSE;
    }
    if (!(w->opcode & 8))
        w->is_in_message = !is_last;
    return 0;
}

int net_ws_decode(struct net_ws *w, uint8_t *p, size_t n, size_t *out_n, struct buf *answer)
{
    w->in = p;
    w->in_n = n;
    *out_n = 0;
    for (;;) {
        struct wslay_frame_iocb f = {0};
        ssize_t got = wslay_frame_recv(w->ctx, &f);
        if (got == WSLAY_ERR_WANT_READ)
            return 0;
        if (got < 0)
            return fail(w, 1002, answer);
        if (!w->is_in_frame) {
            int r = frame_begin(w, &f, answer);
            if (r)
                return r;
            w->is_in_frame = true;
            w->frame_left = f.payload_length;
        }
        if (w->opcode & 8) {
            memcpy(w->control + w->control_n, f.data, f.data_length);
            w->control_n += f.data_length;
        } else {
            /* What was decoded is never longer than what was read for it. */
            memmove(p + *out_n, f.data, f.data_length);
            *out_n += f.data_length;
        }
        w->frame_left -= f.data_length;
        if (w->frame_left == 0) {
            int r = frame_end(w, f.fin, answer);
            if (r)
                return r;
        }
    }
}
