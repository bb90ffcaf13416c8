/* The back room of MQTT packets.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "codec/mqtt.h"

#define IN(type) (1u << CODEC_MQTT_##type)
#define WILL 1u /* type 0 does not exist */

enum prop_kind {
    PROP_NONE, /* no such identifier */
    PROP_BYTE,
    PROP_U16,
    PROP_U32,
    PROP_VARINT,
    PROP_STR,
    PROP_BIN,
    PROP_PAIR,
};

#define PROP_ID_MAX 0x2A

struct prop_row {
    uint8_t kind;     /* prop_kind */
    uint16_t packets; /* IN(...) | WILL */
    uint16_t offset;  /* of its field in codec_mqtt_props */
};

extern const struct prop_row codec_mqtt_prop_row[PROP_ID_MAX + 1];

/* Properties that belong to one hop and do not travel on with a message. */
#define PROPS_HOP (CODEC_MQTT_BIT(MESSAGE_EXPIRY_INTERVAL) | CODEC_MQTT_BIT(TOPIC_ALIAS) | \
                   CODEC_MQTT_BIT(SUBSCRIPTION_IDENTIFIER) | CODEC_MQTT_BIT(WILL_DELAY_INTERVAL))

/* A variable byte integer of at most 4 bytes in its shortest form [MQTT-1.5.5-1]. */
uint32_t codec_mqtt_varint_get(struct codec_cursor *c);
size_t codec_mqtt_varint_len(uint32_t v);
uint8_t *codec_mqtt_varint_put(uint8_t *at, uint32_t v);

/* Checks a whole block for packets of `where` and fills out: 0 or a reason code with *why.  *out_travel_len gets the
 * bytes of what travels on with a message. */
must_use int codec_mqtt_props_decode(struct str block, unsigned where, struct codec_mqtt_props *out,
                                     size_t *out_travel_len, const char **why);

/* What of a checked block travels on: the block itself, or a copy without the rest at the end of scratch. */
struct str codec_mqtt_props_travel(struct str block, size_t travel_len, struct buf *scratch);

/* Is this a block that may travel with a message? */
bool codec_mqtt_props_travel_check(struct str block);

/* Bytes of the properties of `mask` (and the user ones when has_user), without the length in front. */
size_t codec_mqtt_props_len(const struct codec_mqtt_props *p, uint64_t mask, bool has_user);
void codec_mqtt_props_put(struct buf *b, const struct codec_mqtt_props *p, uint64_t mask, bool has_user);
