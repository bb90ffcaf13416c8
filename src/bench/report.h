/* What a run says.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "bench/load.h"

/* One line on a terminal, rewritten. */
void bench_report_progress(const struct bench_load *l);

/* For people, or as one JSON object. */
void bench_report_text(const struct bench_load *l);
void bench_report_json(const struct bench_load *l);
