/* Golden stories: a text whose lines beginning with "> " are commands and whose other lines are what they did.
 * SPDX-License-Identifier: Apache-2.0
 *
 *   # what it proves
 *   > command key=value key=value
 *   * what happened
 *
 * The player runs the commands, writes the story anew and compares.  With REWRITE=1 in the environment the new text
 * replaces the old one, for a human to read the difference. */
#pragma once

#include "base/buf.h"

/* One command: its words, and where to write what happens (whole lines). */
typedef void story_command(void *world, struct str line, struct buf *trace);

/* Begins a new world for each story, and ends it. */
typedef void *story_begin(void);
typedef void story_end(void *world);

/* Plays every *.txt of dir; prints a line per failure and "N passed, M failed".  The exit status. */
int story_play(const char *dir, story_begin *begin, story_command *command, story_end *end);

/* The value behind " key=" in a command; the default when it is not there. */
struct str story_str(struct str line, const char *key, const char *def);
uint64_t story_num(struct str line, const char *key, uint64_t def); /* decimal, or 0x.. */
bool story_has(struct str line, const char *key);
/* The next value of a key that repeats: start with *at = 0; false when there is no more. */
bool story_next(struct str line, const char *key, size_t *at, struct str *out);
/* The first word. */
struct str story_verb(struct str line);
