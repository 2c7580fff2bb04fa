"""Programs that are started, timed and ended: each in a process group of its own, ended by that group."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import time
from pathlib import Path


class Failed(Exception):
    """A run that did not do what it was asked to; its text is the reason, in one line."""


class TimedOut(Exception):
    """A run that was ended because it went over its limit."""


def timed(command: list[str], limit: float, directory: Path, environment=None, stdin: Path | None = None) -> float:
    """Seconds from the start of `command` to its exit with 0.

    Raises `TimedOut` after `limit` seconds, and `Failed` with the last line of its standard error
    for any other exit. Its output goes to `output.txt` in `directory`, where it also runs.
    """
    output = directory / "output.txt"
    with open(output, "wb") as log, open(stdin or os.devnull, "rb") as given:
        start = time.perf_counter()
        child = subprocess.Popen(
            command, stdin=given, stdout=log, stderr=log, cwd=directory, env=environment, start_new_session=True
        )
        try:
            finished = _wait(child, limit)
            seconds = time.perf_counter() - start
        finally:
            end_group(child)
    if not finished:
        raise TimedOut
    if child.returncode != 0:
        raise Failed(f"exit {child.returncode}: {last_line(output)}")
    return seconds


def _wait(child: subprocess.Popen, limit: float) -> bool:
    """Whether `child` ended within `limit`. `Popen.wait` with a limit polls, up to 50 ms late."""
    descriptor = os.pidfd_open(child.pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(limit * 1000))
    finally:
        os.close(descriptor)


def end_group(child: subprocess.Popen) -> None:
    """Ends `child`, its group and all that came of it, and waits for it. What is gone already is no error.

    Some children leave the group (sshd makes a session for each connection), and when the network went away first
    they would wait for it for hours.
    """
    started = descendants(child.pid)
    _signal(os.killpg, child.pid, signal.SIGTERM)
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        pass
    _signal(os.killpg, child.pid, signal.SIGKILL)
    for pid in started:
        _signal(os.kill, pid, signal.SIGKILL)
    child.wait()


def _signal(send, pid: int, number: signal.Signals) -> None:
    try:
        send(pid, number)
    except ProcessLookupError:
        pass


def descendants(pid: int) -> list[int]:
    """The processes that `pid` started, and those that they started, and so on, as far as they are there."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # it has just ended
    found = [pid]
    for parent in found:
        found += [one for one, its_parent in parents.items() if its_parent == parent]
    return found[1:]


def last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


class Server:
    """A program that runs until it is stopped. What it says goes to a file, so that nothing holds it up."""

    def __init__(self, command: list[str], directory: Path, name: str, environment=None):
        self.name = name
        self.output = directory / f"{name}-output.txt"
        with open(self.output, "wb") as output:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
                env=environment,
                start_new_session=True,
            )

    def wait_for_port(self, port: int) -> None:
        """Until something listens at TCP `port` in the network namespace of the server."""
        self._wait_until(lambda: _listens(self.child.pid, port), f"does not listen at port {port}")

    def wait_for_words(self, pattern: str) -> str:
        """The first group of `pattern`, as soon as the server has said something that fits, to its end."""
        fits = re.compile(pattern + r"\s")

        def said() -> re.Match | None:
            return fits.search(self.output.read_text(errors="replace"))

        return self._wait_until(said, "has not said what to do")[1]

    def _wait_until(self, condition, complaint: str, patience: float = 60):
        deadline = time.monotonic() + patience
        while not (found := condition()):
            if self.child.poll() is not None:
                raise Failed(f"{self.name} ended: {last_line(self.output)}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} {complaint} after {patience:g} s: {last_line(self.output)}")
            time.sleep(0.01)
        return found

    def let_run(self, seconds: float) -> None:
        """Waits; a server that ends meanwhile is one that failed."""
        try:
            self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise Failed(f"{self.name} ended: {last_line(self.output)}")

    def finish(self, patience: float = 10) -> None:
        """Waits for a server that ends by itself, and wants it to end well."""
        try:
            self.child.wait(patience)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} had not ended {patience:g} s after the sender") from None
        if self.child.returncode != 0:
            raise Failed(f"{self.name}: exit {self.child.returncode}: {last_line(self.output)}")

    def stop(self) -> None:
        end_group(self.child)


def _listens(pid: int, port: int) -> bool:
    listening = "0A"  # TCP_LISTEN
    try:
        rows = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return False
    fields = (row.split() for row in rows)
    return any(field[3] == listening and int(field[1].split(":")[1], 16) == port for field in fields)


def free_port() -> int:
    """A TCP port of loopback that the kernel has just had free, for programs that cannot ask it themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def first_line_of(command: list[str]) -> str:
    """What a program prints first, on either output; for versions."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    lines = done.stdout.decode(errors="replace").splitlines()
    return lines[0].strip() if lines else "unknown"
