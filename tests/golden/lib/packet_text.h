/* MQTT packets as lines of text.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "codec/mqtt.h"

/* One line per packet of `bytes`, each with `< ` in front; what is no packet is "< ??". */
void packet_text(struct buf *trace, struct str bytes, unsigned version);
void packet_text_str(struct buf *trace, struct str s); /* printable, others as \xx */
