/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "unit/unit.h"

Suite *suite_containers(void);
Suite *suite_bytes(void);
Suite *suite_numbers(void);
