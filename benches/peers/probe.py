"""Round trips of small UDP packets, for the delay of a link while something else fills it: `ping` as a program.

`probe.py echo ADDRESS` prints its port and answers; `probe.py ask ADDRESS PORT` asks twenty times a second and prints a
line for each answer: when it was asked, on the monotonic clock, and the round trip in ms.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time

EVERY_SECONDS = 0.05
STAMP = struct.Struct("!d")


def echo(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as answering:
        answering.bind((address, 0))
        print(f"port {answering.getsockname()[1]}", flush=True)
        while True:
            packet, sender = answering.recvfrom(64)
            answering.sendto(packet, sender)


def ask(address: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((address, port))
        threading.Thread(target=_send, args=(asking,), daemon=True).start()
        while True:
            (asked,) = STAMP.unpack(asking.recv(64))
            print(f"{asked:.4f} {(time.monotonic() - asked) * 1000:.3f}", flush=True)


def _send(asking: socket.socket) -> None:
    while True:
        asking.send(STAMP.pack(time.monotonic()))
        time.sleep(EVERY_SECONDS)


def parse(text: str) -> list[tuple[float, float]]:
    """(when it was asked, round trip in ms); whole lines only, the last one may still be on its way."""
    lines = (line.split() for line in text.splitlines(keepends=True) if line.endswith("\n"))
    return [(float(asked), float(trip)) for asked, trip in lines]


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        echo(sys.argv[2])
    else:
        ask(sys.argv[2], int(sys.argv[3]))
