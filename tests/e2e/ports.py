"""Ports for the nodes of a test.  SPDX-License-Identifier: Apache-2.0"""
import random
import socket

# Below those that the kernel takes for outgoing connections, of which one may sit on a port before its node listens, and
# below those of scripts/virtualcluster.
RANGE = range(10000, 20000)
GIVEN = set()


def is_free(port):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def free_port():
    """A port of 127.0.0.1 that nobody has, by TCP and UDP. None is given twice in one run: most are not used at once."""
    while len(GIVEN) < len(RANGE):
        port = random.choice(RANGE)
        if port not in GIVEN:
            GIVEN.add(port)
            if is_free(port):
                return port
    raise RuntimeError("every port of the tests has been given")
