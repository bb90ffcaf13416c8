#!/usr/bin/python3
"""A name server for tests: dns.py ADDRESS PORT ZONE.  SPDX-License-Identifier: Apache-2.0

ZONE is a file that is read for each question: lines "NAME A ADDRESS", "NAME AAAA ADDRESS" and "NAME SRV PORT TARGET".
A name that is not in it does not exist."""
import socket
import struct
import sys


def labels(name):
    return b"".join(bytes([len(x)]) + x.encode() for x in name.rstrip(".").split(".")) + b"\0"


def question(packet):
    """Name, type, and where the question ends."""
    at, parts = 12, []
    while packet[at]:
        parts.append(packet[at + 1:at + 1 + packet[at]].decode())
        at += 1 + packet[at]
    return ".".join(parts).lower(), struct.unpack("!H", packet[at + 1:at + 3])[0], at + 5


def data_of(kind, values):
    if kind == "A":
        return 1, socket.inet_aton(values[0])
    if kind == "AAAA":
        return 28, socket.inet_pton(socket.AF_INET6, values[0])
    return 33, struct.pack("!HHH", 0, 0, int(values[0])) + labels(values[1])


def answer(packet, zone):
    name, kind, end = question(packet)
    mine = [line.split() for line in zone if line.strip() and line.split()[0].lower() == name]
    records = [data_of(m[1], m[2:]) for m in mine]
    body = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", t, 1, 1, len(d)) + d for t, d in records if t == kind)
    count = sum(t == kind for t, _ in records)
    flags = 0x8580 | (0 if mine else 3)
    return packet[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 0) + packet[12:end] + body


def main():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((sys.argv[1], int(sys.argv[2])))
        print("ready", flush=True)
        while True:
            packet, peer = s.recvfrom(4096)
            with open(sys.argv[3]) as f:
                s.sendto(answer(packet, f.read().splitlines()), peer)


if __name__ == "__main__":
    main()
