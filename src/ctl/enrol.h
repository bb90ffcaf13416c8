/* Lets other hosts ask to become nodes.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Serves HTTPS at `address` until no token of the directory is valid any more, or SIGTERM.  One
 * request is known: POST /enrol with "Authorization: Bearer ID-SECRET"; when DIR/ID holds that
 * secret and has not expired, PROGRAM runs with ID as its last argument, the body as its input and
 * the peer's address in BILROST_PEER; what it prints is the answer, 200 when it ends with 0, else
 * 409. An exit code of sysexits.h. */
int ctl_enrol(const char *address, const char *cert_file, const char *key_file,
              const char *token_dir, char *const *program);
