"""The programs that are measured, one class each, all used in the same way.

`start` readies the side that waits (not timed), `send` runs the side that acts and is timed from its start to its
exit with 0, `stop` ends what `start` began. Afterwards `target` holds what `source` is, under its last name.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

import ssh
from links import Link
from process import Failed, Server, first_line_of, free_port, last_line, timed


class Peer(ABC):
    name: str
    note: str  # what it does that others do not, or the other way round, in a few words
    programs: tuple[str, ...] = ()
    package: str = ""

    def missing(self) -> str | None:
        """What is not installed, and where it comes from."""
        absent = [program for program in self.programs if find(program) is None]
        return f"not installed: {', '.join(absent)} ({self.package})" if absent else None

    def is_installed(self) -> bool:
        return self.missing() is None

    def version(self) -> str:
        return first_line_of([find(self.programs[0]), "--version"])

    @abstractmethod
    def start(self, link: Link, directory: Path, target: Path) -> None:
        """Readies the waiting side; `directory` is its own, for keys, configuration and output."""

    @abstractmethod
    def send(self, source: Path, target: Path, limit: float) -> float:
        """Seconds that it took. Raises `TimedOut` after `limit` seconds, `Failed` when it did not work."""

    @abstractmethod
    def stop(self) -> None:
        """Ends the waiting side. Called once for each `start`, also for one that failed."""


def find(program: str) -> str | None:
    return ssh.program() if program == "sshd" else shutil.which(program)


class Towline(Peer):
    name = "towline"
    note = "encrypted, verified with BLAKE3; `--no-fsync`, since the others do not sync"

    def __init__(self, program: Path, is_bench: bool = False, flags: tuple[str, ...] = (), home: Path | None = None):
        """With `is_bench` it waits for a `towline bench` instead of files. Both sides get `flags`. What they remember is
        in `home`; without it they remember nothing."""
        self.program, self.is_bench, self.flags, self.home = program, is_bench, flags, home
        self.receiver: Server | None = None

    def missing(self) -> str | None:
        return None if os.access(self.program, os.X_OK) else "there is no towline at the path of --towline"

    def version(self) -> str:
        return first_line_of([str(self.program), "--version"])

    def _environment(self, side: str) -> dict[str, str]:
        """Without the flags and the key of whoever runs this."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TOWLINE_")}
        configuration = self.directory / f"{side}.toml"
        configuration.touch()
        kept |= {"TOWLINE_IDENTITY": str((self.home or self.directory) / f"{side}.pem")}
        kept |= {"TOWLINE_NO_PATH_MEMORY": "yes"} if self.home is None else {"XDG_STATE_HOME": str(self.home)}
        return kept | {"TOWLINE_CONFIG": str(configuration)}

    def start(self, link: Link, directory: Path, target: Path) -> None:
        self.link, self.directory = link, directory
        for side in ("receiver", "sender"):
            timed([str(self.program), "id"], 10, directory, self._environment(side))
        what = ["bench", "--wait"] if self.is_bench else ["receive", "--into", str(target)]
        command = [str(self.program), *what, *self.flags, "--no-fsync", "--quiet", "--listen", f"{link.receiver_address}:0"]
        self.receiver = Server(link.receiver + command, directory, "receiver", self._environment("receiver"))
        (directory / "ticket").write_text(self.receiver.wait_for_words(r"--to (tl1\S+)"))

    def has_flag(self, command: str, flag: str) -> bool:
        """Whether this program knows `command`, and that knows `flag`."""
        help_ = subprocess.run(
            [str(self.program), command, "--help"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
        )
        return re.search(rf" {flag}(?![\w-])", help_.stdout.decode(errors="replace")) is not None

    def launch(self, what: list[str]) -> Server:
        """The sending side, a command with its arguments, as something to watch; what it says is `--json`."""
        command = [str(self.program), *what, *self.flags, "--no-fsync", "--json", "--to", f"@{self.directory / 'ticket'}"]
        return Server(self.link.sender + command, self.directory, "sender", self._environment("sender"))

    def send(self, source: Path, target: Path, limit: float) -> float:
        command = [str(self.program), "send", "--no-fsync", "--quiet", "--to", "-", str(source)]
        environment = self._environment("sender")
        ticket = self.directory / "ticket"
        seconds = timed(self.link.sender + command, limit, self.directory, environment, stdin=ticket)
        self.receiver.finish()
        return seconds

    def stop(self) -> None:
        if self.receiver is not None:
            self.receiver.stop()
            self.receiver = None


class _OverSsh(Peer):
    """Those that need nothing but an ssh server at the other end."""

    def __init__(self):
        self.sshd: ssh.Sshd | None = None

    def start(self, link: Link, directory: Path, target: Path) -> None:
        self.link, self.directory = link, directory
        self.sshd = ssh.Sshd(link, directory)

    def stop(self) -> None:
        if self.sshd is not None:
            self.sshd.stop()
            self.sshd = None

    def run(self, command: list[str], limit: float) -> float:
        try:
            return timed(self.link.sender + command, limit, self.directory)
        except Failed as failure:
            # The client only says that it was sent away; the server knows why.
            raise Failed(f"{failure}; sshd: {last_line(self.sshd.server.output)}") from None


class Scp(_OverSsh):
    programs = ("scp", "ssh", "sshd", "ssh-keygen")
    package = "Debian: openssh-client, openssh-server"

    def __init__(self, cipher: str | None = None):
        super().__init__()
        self.cipher = cipher
        self.name = f"scp {cipher.split('@')[0]}" if cipher else "scp"
        self.note = f"with `-c {cipher}`" if cipher else "with the cipher that it chooses by itself"

    def version(self) -> str:
        return first_line_of(["ssh", "-V"])

    def send(self, source: Path, target: Path, limit: float) -> float:
        cipher = ["-c", self.cipher] if self.cipher else []
        remote = f"{self.link.receiver_address}:{target}/"
        return self.run(["scp", "-q", "-r", "-F", str(self.sshd.client), *cipher, str(source), remote], limit)


class RsyncSsh(_OverSsh):
    name = "rsync over ssh"
    note = f"`rsync -a` through ssh with {ssh.FAST_CIPHER}"
    programs = ("rsync", "ssh", "sshd", "ssh-keygen")
    package = "Debian: rsync, openssh-client, openssh-server"

    def send(self, source: Path, target: Path, limit: float) -> float:
        shell = f"ssh -F {self.sshd.client} -c {ssh.FAST_CIPHER}"
        return self.run(["rsync", "-a", "-e", shell, str(source), f"{self.link.receiver_address}:{target}/"], limit)


class RsyncDaemon(Peer):
    name = "rsync daemon"
    note = "`rsync -a`; **not encrypted**"
    programs = ("rsync",)
    package = "Debian: rsync"

    def __init__(self):
        self.daemon: Server | None = None

    def start(self, link: Link, directory: Path, target: Path) -> None:
        self.link, self.directory, self.port = link, directory, free_port()
        identity = f"uid = {os.getuid()}\ngid = {os.getgid()}\n" if os.getuid() == 0 else ""
        configuration = directory / "rsyncd.conf"
        configuration.write_text(
            f"address = {link.receiver_address}\nport = {self.port}\nuse chroot = no\n{identity}"
            f"log file = {directory / 'rsyncd.log'}\n[target]\npath = {target}\nread only = no\n"
        )
        command = ["rsync", "--daemon", "--no-detach", f"--config={configuration}"]
        self.daemon = Server(link.receiver + command, directory, "rsyncd")
        self.daemon.wait_for_port(self.port)

    def send(self, source: Path, target: Path, limit: float) -> float:
        remote = f"rsync://{self.link.receiver_address}:{self.port}/target/"
        return timed(self.link.sender + ["rsync", "-a", str(source), remote], limit, self.directory)

    def stop(self) -> None:
        if self.daemon is not None:
            self.daemon.stop()
            self.daemon = None


class Rclone(_OverSsh):
    name = "rclone"
    note = "`rclone copy` to an sftp remote; asks the other end for an MD5 of each file afterwards"
    programs = ("rclone", "sshd", "ssh-keygen")
    package = "Debian: rclone, openssh-server"

    def version(self) -> str:
        return first_line_of(["rclone", "version"])

    def send(self, source: Path, target: Path, limit: float) -> float:
        configuration = self.directory / "rclone.conf"
        configuration.write_text(
            f"[peer]\ntype = sftp\nhost = {self.sshd.address}\nport = {self.sshd.port}\nuser = {self.sshd.user}\n"
            f"key_file = {self.sshd.key}\nknown_hosts_file = {self.sshd.known_hosts}\n"
            "shell_type = unix\nmd5sum_command = md5sum\nsha1sum_command = sha1sum\n"
        )
        # A directory's contents are copied, a file goes into the directory.
        into = target / source.name if source.is_dir() else target
        return self.run(["rclone", "--config", str(configuration), "copy", str(source), f"peer:{into}"], limit)


class Qcp(_OverSsh):
    name = "qcp"
    note = "told the rate and the round trip of the link, as its manual asks; starts its other end through ssh"
    programs = ("qcp", "ssh", "sshd", "ssh-keygen")
    package = "`cargo install qcp`; Debian: openssh-client, openssh-server"

    def send(self, source: Path, target: Path, limit: float) -> float:
        rate = f"{int(self.link.rate_mbit * 1000 / 8)}k"
        command = ["qcp", "-q", "--tx", rate, "--rx", rate, "--rtt", f"{self.link.round_trip_ms:g}"]
        command += ["--ssh-config", str(self.sshd.client), "-S", "-F", "-S", str(self.sshd.client)]
        command += ["-r"] if source.is_dir() else []
        return self.run([*command, str(source), f"{self.link.receiver_address}:{target}/"], limit)


class Sendme(Peer):
    name = "sendme"
    note = "from the start of the sender, which hashes the files before it prints its ticket, to the end of the receiver"
    programs = ("sendme",)
    package = "`cargo install sendme`"
    # Nothing but the link is to be reached.
    OPTIONS = ["--relay", "disabled", "--no-progress"]

    def __init__(self):
        self.provider: Server | None = None

    def start(self, link: Link, directory: Path, target: Path) -> None:
        # Without a relay it still tells a server of its makers where it is, and asks the router for a way in.
        if not link.is_sealed:
            raise Failed("it looks for servers outside, and only root can keep it from reaching them")
        self.link, self.directory = link, directory

    def send(self, source: Path, target: Path, limit: float) -> float:
        command = ["sendme", "send", *self.OPTIONS, "--ticket-type", "addresses"]
        command += ["--magic-ipv4-addr", f"{self.link.sender_address}:0", str(source)]
        began = time.perf_counter()
        self.provider = Server(self.link.sender + command, self.directory, "sendme")
        ticket = self.provider.wait_for_words(r"sendme receive (\S+)")
        # What others do with the files while they send them; of one byte it has the ticket within 10 ms.
        hashing = time.perf_counter() - began
        # It writes into the directory that it runs in.
        receive = [*self.link.receiver, "sendme", "receive", *self.OPTIONS, ticket]
        return hashing + timed(receive, max(0.0, limit - hashing), target)

    def stop(self) -> None:
        if self.provider is not None:
            self.provider.stop()
            self.provider = None


def all_peers(towline: Path) -> list[Peer]:
    return [Towline(towline), Scp(), Scp(ssh.FAST_CIPHER), RsyncSsh(), RsyncDaemon(), Rclone(), Qcp(), Sendme()]


def choose(peers: list[Peer], wanted: list[str] | None) -> list[Peer]:
    """Those whose name begins with one of `wanted`; all of them when nothing is wanted in particular."""
    if not wanted:
        return peers
    for name in wanted:
        if not any(peer.name.startswith(name) for peer in peers):
            raise Failed(f"no peer is called {name}; there are: {', '.join(peer.name for peer in peers)}")
    return [peer for peer in peers if any(peer.name.startswith(name) for name in wanted)]
