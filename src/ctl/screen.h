/* The screen of `bilrostctl status`.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/buf.h"

struct codec_json;

/* true: there is a critical alarm. */
bool ctl_screen(const struct codec_json *status, struct buf *out);
