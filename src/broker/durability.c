/* What an acknowledgement waits for, per tenant.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. A tenant gets what this node's log does, or, with Durability 2, the memory of one node: the
 * configuration has refused whoever asks for more (node/conf_durability.c). What it gets is named to
 * clients, in the log and in the metrics.
 * 2. It never decides for QoS 2 identifiers, sessions, subscriptions or retained messages: those always
 * wait for the log. */
#include "broker/durability_priv.h"

#include "broker/loop_priv.h"

static const char *const level_name[] = {
    [BROKER_DURABILITY_QUORUM_FSYNC] = "quorum-fsync",
    [BROKER_DURABILITY_QUORUM] = "quorum",
    [BROKER_DURABILITY_MEMORY] = "memory",
};

const char *broker_durability_name(enum broker_durability d)
{
    must((size_t)d < countof(level_name));
    return level_name[d];
}

enum broker_durability broker_durability_of(const struct broker *b,
                                            const struct session_settings *s)
{
    enum broker_durability asked = s->durability >= 2  ? BROKER_DURABILITY_MEMORY
                                   : s->durability > 0 ? BROKER_DURABILITY_QUORUM
                                                       : BROKER_DURABILITY_QUORUM_FSYNC;
    if (asked == BROKER_DURABILITY_MEMORY)
        return asked;
    return b->conf.durability; /* the log is one for all: nobody gets less than it gives */
}

void broker_durability_user_put(const struct broker *b, const struct session_settings *s,
                                struct buf *out)
{
    if (s->durability_in_pub_ack)
        codec_mqtt_user_put(out, STR("durability"),
                            str_of(broker_durability_name(broker_durability_of(b, s))));
}

void broker_durability_tell(const struct broker *b, struct str tenant,
                            const struct session_settings *s)
{
    enum broker_durability d = broker_durability_of(b, s);
    log_line(b->conf.log, d == BROKER_DURABILITY_QUORUM_FSYNC ? LOG_LEVEL_INFO : LOG_LEVEL_NOTICE,
             "broker.durability", "acknowledgements of tenant %.*s wait for: %s", STR_ARG(tenant),
             d == BROKER_DURABILITY_QUORUM_FSYNC ? "the disks of a quorum (quorum-fsync)"
             : d == BROKER_DURABILITY_QUORUM     ? "the memory of a quorum (quorum)"
                                                 : "the memory of one node (memory)");
}
