/* The end of the roster.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/roster.h"

/* The loops have stopped and the broker goes: what is under way ends with what it has. */
void broker_roster_stop(struct broker *b);
