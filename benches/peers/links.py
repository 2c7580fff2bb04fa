"""Where the two ends are: on loopback, or in two network namespaces made for one run and removed after it.

A link is a context manager. Inside it `sender` and `receiver` are what goes before a command to run it at that
end, `sender_address` and `receiver_address` where the ends are. No link reaches anything but this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from process import Failed, last_line


# What TCP does on most machines. A route can say so where the namespace may not choose.
CUBIC = ("congctl", "cubic")


class Link:
    sender: list[str] = []
    receiver: list[str] = []
    sender_address = "127.0.0.1"
    receiver_address = "127.0.0.1"
    # For programs that want to be told the path: faster than any of them, and the least they take in ms.
    rate_mbit = 10_000.0
    round_trip_ms = 10.0
    # Whether there is no way from its ends to anywhere else.
    is_sealed = False

    def missing(self) -> str | None:
        """Why this link cannot be made here."""
        return None

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_) -> None:
        pass


class _Namespaces(Link):
    """Two ends in namespaces named after this process."""

    def __init__(self):
        self.prefix = f"tp{os.getpid()}"
        self.is_sealed = True
        self.names = [f"{self.prefix}-a", f"{self.prefix}-b"]
        self.sender, self.receiver = (["ip", "netns", "exec", name] for name in self.names)

    def missing(self) -> str | None:
        if os.geteuid() != 0:
            return "network namespaces need root"
        if shutil.which("ip") is None:
            return "there is no `ip` (package iproute2)"
        return None

    def add(self, *names: str) -> None:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")

    def remove(self) -> None:
        for name in self.names:
            if Path("/run/netns", name).exists():
                _ip("netns", "del", name)


class Loopback(_Namespaces):
    """Both ends on 127.0.0.1; as root in a namespace that has nothing else."""

    def __init__(self):
        super().__init__()
        if super().missing() is None:
            self.sender = self.receiver = ["ip", "netns", "exec", self.names[0]]
        else:
            self.sender, self.receiver, self.is_sealed = [], [], False

    def missing(self) -> str | None:
        return None

    def __enter__(self) -> Link:
        if self.is_sealed:
            try:
                self.add(self.names[0])
                _ip("-n", self.names[0], "route", "replace", "local", "127.0.0.1", "dev", "lo", "table", "local",
                    "proto", "kernel", "scope", "host", "src", "127.0.0.1", *CUBIC)
            except BaseException:
                self.remove()
                raise
        return self

    def __exit__(self, *_) -> None:
        self.remove()


class Veth(_Namespaces):
    """A pair of virtual cards with an MTU of 1500, in two namespaces."""

    sender_address, receiver_address = "10.98.0.1", "10.98.0.2"

    def __enter__(self) -> Link:
        cards = [f"{self.prefix}a", f"{self.prefix}b"]
        try:
            self.add(*self.names)
            _ip("link", "add", cards[0], "netns", self.names[0], "mtu", "1500", "type", "veth",
                "peer", "name", cards[1], "netns", self.names[1], "mtu", "1500")
            for name, card, address in zip(self.names, cards, (self.sender_address, self.receiver_address)):
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", card)
                _ip("-n", name, "link", "set", card, "up")
                _ip("-n", name, "route", "replace", "10.98.0.0/24", "dev", card, "src", address, *CUBIC)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.remove()


@dataclass(frozen=True)
class Conditions:
    """Of an emulated link; the loss and the jitter are those of each direction."""

    rate_mbit: float = 300.0
    round_trip_ms: float = 100.0
    queue_ms: float = 100.0
    loss_percent: float = 0.0
    burst: float = 1.0  # the mean number of packets that are lost in a row
    jitter_ms: float = 0.0  # up to this much more delay for each packet by itself, which reorders them
    mark_ms: float | None = None  # packets that wait for longer in the queue get ECN's mark
    changes: tuple[tuple[float, float], ...] = ()  # (seconds after the start, Mbit/s from then on)
    outage: tuple[float, float] | None = None  # (seconds after the start, and for how long nothing crosses)

    def options(self) -> list[str]:
        changes = [word for at, rate in self.changes for word in ("--then", f"{at:g}:{rate:g}")]
        marks = [] if self.mark_ms is None else ["--mark-ms", f"{self.mark_ms:g}"]
        cut = []
        if self.outage is not None:
            cut = ["--cut-after-s", f"{self.outage[0]:g}", "--cut-for-s", f"{self.outage[1]:g}"]
        return [
            "--rate-mbit", f"{self.rate_mbit:g}", "--delay-ms", f"{self.round_trip_ms / 2:g}",
            "--queue-ms", f"{self.queue_ms:g}", "--loss", f"{self.loss_percent:g}", "--burst", f"{self.burst:g}",
            "--jitter-ms", f"{self.jitter_ms:g}", *marks, *changes, *cut,
        ]


@dataclass(frozen=True)
class Sample:
    """What the link had done with the packets of the sender until `seconds` after its start."""

    seconds: float
    packets: int  # carried
    bytes: int
    dropped: int  # lost, or too many for the queue
    marked: int


class Wan(_Namespaces):
    """The emulated link: `wanlink` carries each packet between two TUN devices, delays it and loses some."""

    sender_address, receiver_address = "10.99.0.1", "10.99.0.2"

    def __init__(self, program: Path, conditions: Conditions, seed: int):
        super().__init__()
        self.program, self.conditions, self.seed = program, conditions, seed
        self.rate_mbit, self.round_trip_ms = conditions.rate_mbit, conditions.round_trip_ms
        self.started = 0.0  # on the monotonic clock

    def missing(self) -> str | None:
        if not Path("/dev/net/tun").exists():
            return "there is no /dev/net/tun"
        return super().missing()

    def __enter__(self) -> Link:
        self.files = tempfile.TemporaryDirectory()
        errors = Path(self.files.name, "errors")
        self.samples_path = Path(self.files.name, "samples")
        # wanlink removes its namespaces when its command ends, which `cat` does when its input is closed.
        command = [str(self.program), "--name", self.prefix, *self.conditions.options(), "--seed", str(self.seed)]
        command += ["--tcp", "cubic", "--samples", str(self.samples_path), "--", "sh", "-c", "echo ready; exec cat"]
        with open(errors, "wb") as said:
            self.child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, start_new_session=True
            )
        ready = self.child.stdout.readline()
        self.started = time.monotonic()
        if not ready:
            reason = last_line(errors)
            self.__exit__()
            raise Failed(f"wanlink ended: {reason}")
        return self

    def samples(self) -> list[Sample]:
        """One for each tenth of a second since the start."""
        return parse_samples(self.samples_path.read_text())

    def __exit__(self, *_) -> None:
        self.child.stdin.close()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()
        self.files.cleanup()
        self.remove()


def parse_samples(text: str) -> list[Sample]:
    """Whole lines only: the last one may still be on its way."""
    samples = []
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            seconds, *counts = line.split()
            packets, carried, lost, overflowed, marked = map(int, counts[:5])
            samples.append(Sample(float(seconds), packets, carried, lost + overflowed, marked))
    return samples


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise Failed(f"ip {' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
