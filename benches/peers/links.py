"""Where the two ends are: on loopback, or in two network namespaces made for one run and removed after it.

A link is a context manager. Inside it `sender` and `receiver` are what goes before a command to run it at that
end, `sender_address` and `receiver_address` where the ends are. No link reaches anything but this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from process import Failed, last_line


class Link:
    sender: list[str] = []
    receiver: list[str] = []
    sender_address = "127.0.0.1"
    receiver_address = "127.0.0.1"
    # For programs that want to be told the path: faster than any of them, and the least they take in ms.
    rate_mbit = 10_000.0
    round_trip_ms = 10.0

    def missing(self) -> str | None:
        """Why this link cannot be made here."""
        return None

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_) -> None:
        pass


class Loopback(Link):
    """Both ends on 127.0.0.1."""


class _Namespaces(Link):
    """Two ends in namespaces named after this process."""

    def __init__(self):
        self.prefix = f"tp{os.getpid()}"
        self.names = [f"{self.prefix}-a", f"{self.prefix}-b"]
        self.sender, self.receiver = (["ip", "netns", "exec", name] for name in self.names)

    def missing(self) -> str | None:
        if os.geteuid() != 0:
            return "network namespaces need root"
        if shutil.which("ip") is None:
            return "there is no `ip` (package iproute2)"
        return None

    def remove(self) -> None:
        for name in self.names:
            if Path("/run/netns", name).exists():
                _ip("netns", "del", name)


class Veth(_Namespaces):
    """A pair of virtual cards with an MTU of 1500, in two namespaces."""

    sender_address, receiver_address = "10.98.0.1", "10.98.0.2"

    def __enter__(self) -> Link:
        cards = [f"{self.prefix}a", f"{self.prefix}b"]
        try:
            for name in self.names:
                _ip("netns", "add", name)
            _ip("link", "add", cards[0], "netns", self.names[0], "mtu", "1500", "type", "veth",
                "peer", "name", cards[1], "netns", self.names[1], "mtu", "1500")
            for name, card, address in zip(self.names, cards, (self.sender_address, self.receiver_address)):
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", card)
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "link", "set", card, "up")
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.remove()


class Wan(_Namespaces):
    """The emulated link: `wanlink` carries each packet between two TUN devices, delays it and loses some."""

    sender_address, receiver_address = "10.99.0.1", "10.99.0.2"
    rate_mbit = 300.0
    round_trip_ms = 100.0
    queue_ms = 100.0

    def __init__(self, program: Path, loss_percent: float, seed: int):
        super().__init__()
        self.program, self.loss_percent, self.seed = program, loss_percent, seed

    def missing(self) -> str | None:
        if not Path("/dev/net/tun").exists():
            return "there is no /dev/net/tun"
        return super().missing()

    def __enter__(self) -> Link:
        # wanlink removes its namespaces when its command ends, which `cat` does when its input is closed.
        with tempfile.NamedTemporaryFile() as errors:
            self.child = subprocess.Popen(
                [
                    str(self.program), "--name", self.prefix, "--rate-mbit", f"{self.rate_mbit:g}",
                    "--delay-ms", f"{self.round_trip_ms / 2:g}", "--queue-ms", f"{self.queue_ms:g}",
                    "--loss", f"{self.loss_percent:g}", "--seed", str(self.seed), "--tcp", "cubic",
                    "--", "sh", "-c", "echo ready; exec cat",
                ],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
            )
            ready = self.child.stdout.readline()
            reason = last_line(Path(errors.name))
        if not ready:
            self.__exit__()
            raise Failed(f"wanlink ended: {reason}")
        return self

    def __exit__(self, *_) -> None:
        self.child.stdin.close()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()
        self.remove()


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise Failed(f"ip {' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
