"""An ssh server for one run, with keys of its own: nothing of the user's configuration is read or changed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from links import Link
from process import Server, free_port

FAST_CIPHER = "aes128-gcm@openssh.com"


class Sshd:
    """Listens at the receiver's end of a link for the key that it makes; `client` is the file for `ssh -F`."""

    def __init__(self, link: Link, directory: Path):
        self.directory = directory
        self.port = free_port()
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.address = link.receiver_address
        self.known_hosts = directory / "known_hosts"
        self.key = directory / "client_key"
        self.client = directory / "ssh_config"
        for key in ("host_key", "client_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", directory / key], check=True
            )
        self._write_files()
        command = [program(), "-D", "-e", "-f", str(directory / "sshd_config")]
        self.server = Server(link.receiver + command, directory, "sshd")
        try:
            self.server.wait_for_port(self.port)
        except BaseException:
            self.server.stop()
            raise

    def _write_files(self) -> None:
        public = (self.directory / "host_key.pub").read_text().strip()
        self.known_hosts.write_text(f"[{self.address}]:{self.port} {public}\n")
        (self.directory / "sshd_config").write_text(
            f"ListenAddress {self.address}\n"
            f"Port {self.port}\n"
            f"HostKey {self.directory / 'host_key'}\n"
            f"AuthorizedKeysFile {self.directory / 'client_key.pub'}\n"
            f"AllowUsers {self.user}\n"
            "PermitRootLogin prohibit-password\n"
            "PasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\n"
            "StrictModes no\n"  # /dev/shm can be written by everybody; the directory here cannot
            "UsePAM no\n"
            "PidFile none\n"
            "PrintMotd no\n"
            "PrintLastLog no\n"
            f"SetEnv PATH={os.environ['PATH']}\n"
            "Subsystem sftp internal-sftp\n"
        )
        self.client.write_text(
            f"Host {self.address}\n"
            f"  Port {self.port}\n"
            f"  User {self.user}\n"
            f"  IdentityFile {self.key}\n"
            "  IdentitiesOnly yes\n"
            "  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.known_hosts}\n"
            "  GlobalKnownHostsFile /dev/null\n"
            "  StrictHostKeyChecking yes\n"
            "  BatchMode yes\n"
            "  LogLevel ERROR\n"
        )

    def stop(self) -> None:
        self.server.stop()


def program() -> str | None:
    """sshd, which wants to be called by its whole path and is often not in that of a user."""
    return shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")
