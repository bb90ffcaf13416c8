/* MQTT packets: framing does not depend on how bytes are cut, decoding is total, encoding is stable.
 * SPDX-License-Identifier: Apache-2.0
 *
 * First byte of the input: version in the low bits (3, 4, 5).  The rest is a stream of packets. */
#include "fuzz/echo.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define LEN_MAX 65536

/* Every prefix must say MORE (or the same refusal) and name the same length. */
static void split(struct str in, int want, const struct codec_mqtt_packet *whole)
{
    size_t end = want == 0 ? whole->len : in.n;
    for (size_t k = 0; k < end && k < 256; k++) {
        struct codec_mqtt_packet part;
        int r = codec_mqtt_frame(str_view(in.p, k), LEN_MAX, &part);
        must(r == CODEC_MQTT_E_MORE || r == want);
        must(r != 0);
        if (r == CODEC_MQTT_E_MORE && want == 0)
            must(part.len == 0 || part.len == whole->len);
    }
}

static void again(const struct buf *first, unsigned version)
{
    struct echo e = {0};
    struct codec_mqtt_packet p;
    int r = codec_mqtt_frame(buf_str(first), CODEC_MQTT_PACKET_MAX, &p);
    must(r == 0 && p.len == first->n && !p.is_padded);
    r = echo(&e, &p, version);
    must(r == 0);
    must(str_eq(buf_str(&e.out), buf_str(first)));
    echo_deinit(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1)
        return 0;
    unsigned version = CODEC_MQTT_V31 + data[0] % 3;
    struct str in = str_view(data + 1, n - 1);
    struct echo e = {0};
    for (unsigned packets = 0; in.n > 0 && packets < 64; packets++) {
        struct codec_mqtt_packet p;
        int r = codec_mqtt_frame(in, LEN_MAX, &p);
        if (packets == 0)
            split(in, r, &p);
        if (r != 0)
            break;
        unsigned v = version;
        r = echo(&e, &p, v);
        must(r == 0 || r >= 0x80);
        must(r == 0 || p.why[0] != 0);
        if (r == 0) {
            if (p.type == CODEC_MQTT_CONNECT)
                v = 0;
            again(&e.out, v);
        }
        in = str_view(in.p + p.len, in.n - p.len);
    }
    echo_deinit(&e);
    return 0;
}
