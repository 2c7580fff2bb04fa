"""One towline that sends to another, watched while it does."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from links import Link
from peers import Towline
from process import Failed, Server, last_line
from series import Points

# The default of --memory, for each side.
BUDGET_MIB = 64
LOOK_EVERY_SECONDS = 0.1


@dataclass(frozen=True)
class Progress:
    """What had become of a transfer `seconds` after its start, as the sender knew."""

    seconds: float
    bytes: int  # written at the receiver
    files: int  # under their final names


@dataclass(frozen=True)
class Memory:
    """The most memory that both sides had had until `seconds` after the start of the sender, in MiB."""

    seconds: float
    sender: float
    receiver: float


class Transfer:
    """A context manager: at its end both sides are gone."""

    def __init__(self, program: Path, link: Link, directory: Path, is_bench: bool = False,
                 flags: tuple[str, ...] = (), home: Path | None = None):
        self.towline, self.link, self.directory = Towline(program, is_bench, flags, home), link, directory
        self.target = directory / "target"
        self.sender: Server | None = None
        self.memory: list[Memory] = []

    def __enter__(self) -> Transfer:
        self.target.mkdir(parents=True)
        try:
            self.towline.start(self.link, self.directory, self.target)
        except BaseException:
            self.towline.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self.sender is not None:
            self.sender.stop()
        self.towline.stop()

    def begin(self, *what: str | Path) -> None:
        """Starts the sending side: a command of towline with its arguments."""
        self.started = time.monotonic()
        self.sender = self.towline.launch([str(word) for word in what])

    def watch(self, limit: float) -> float:
        """Waits until it has ended, at most `limit` seconds, and gives the seconds that it took."""
        while self.sender.child.poll() is None:
            self._look()
            if time.monotonic() - self.started > limit:
                raise Failed(f"had not ended after {limit:g} s")
            time.sleep(LOOK_EVERY_SECONDS)
        seconds = time.monotonic() - self.started
        if self.sender.child.returncode != 0:
            raise Failed(f"exit {self.sender.child.returncode}: {last_line(self.sender.output)}")
        self.towline.receiver.finish()
        return seconds

    def _look(self) -> None:
        peaks = [peak_mib(server.child.pid) for server in (self.sender, self.towline.receiver)]
        if None not in peaks:
            self.memory.append(Memory(time.monotonic() - self.started, *peaks))

    def progress(self) -> list[Progress]:
        return parse_progress(self.sender.output)

    def bytes_over_time(self) -> Points:
        return [(one.seconds, float(one.bytes)) for one in self.progress()]


def run_for(seconds: float, transfers: list[Transfer]) -> None:
    """Lets transfers that have begun go on for `seconds`; raises `Failed` when one ends before."""
    deadline = max(transfer.started for transfer in transfers) + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_EVERY_SECONDS))
        for transfer in transfers:
            if transfer.sender.child.poll() is not None:
                raise Failed(f"towline ended before {seconds:g} s: {last_line(transfer.sender.output)}")


def parse_progress(path: Path) -> list[Progress]:
    """The events of that kind; other lines, and a last one that is not whole, are passed over."""
    found = []
    with open(path, "rb") as lines:
        for line in lines:
            if line.startswith(b'{"event":"progress"') and line.endswith(b"\n"):
                event = json.loads(line)
                found.append(Progress(event["elapsed_seconds"], event["written_bytes"], event["done_files"]))
    return found


def peak_mib(pid: int) -> float | None:
    """The most memory that a process has had; nothing when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return peaks[0] / 1024 if peaks else None
