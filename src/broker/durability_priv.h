/* What an acknowledgement waits for, per tenant.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/buf.h"
#include "broker/broker.h"
#include "session/settings.h"

/* "quorum-fsync", "quorum", "memory". */
const char *broker_durability_name(enum broker_durability d);

/* What is in force for a tenant of these settings. */
enum broker_durability broker_durability_of(const struct broker *b,
                                            const struct session_settings *s);

/* Appends the User Property of its PUBACKs and PUBRECs, when the tenant wants one. */
void broker_durability_user_put(const struct broker *b, const struct session_settings *s,
                                struct buf *out);

/* Says it in the log. */
void broker_durability_tell(const struct broker *b, struct str tenant,
                            const struct session_settings *s);
