/* hold TID SECONDS: stops one thread of another process for a while.
 * SPDX-License-Identifier: Apache-2.0
 *
 * What a hanging event loop looks like from outside: the process lives, one of its threads does not
 * turn.  SIGSTOP would stop all of them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: hold TID SECONDS\n");
        return 64;
    }
    pid_t tid = (pid_t)strtol(argv[1], NULL, 10);
    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0 ||
        ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0 || waitpid(tid, NULL, __WALL) < 0) {
        fprintf(stderr, "hold %s: %s\n", argv[1], strerror(errno));
        return 71;
    }
    for (unsigned long left = 10 * strtoul(argv[2], NULL, 10); left > 0; left--) {
        int status;
        if (waitpid(tid, &status, __WALL | WNOHANG) == tid && !WIFSTOPPED(status))
            return 0; /* it was killed; the process can end only now that we know */
        usleep(100000);
    }
    return 0; /* the kernel lets go of the thread */
}
