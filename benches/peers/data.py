"""What is sent, where it arrives, and whether it is the same."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from process import Failed

BLOCK = 1 << 20
FILES_OF_A_DIRECTORY = 100


@dataclass(frozen=True)
class Source:
    """One file of `size` bytes, or a directory with `files` of them, of random bytes."""

    name: str
    size: int
    files: int = 0

    @property
    def total(self) -> int:
        return self.size * max(1, self.files)


class Workspace:
    """A directory in memory that nobody else can read, removed at the end with all that is in it."""

    PARENT = Path("/dev/shm")

    def __init__(self):
        self.root = Path(tempfile.mkdtemp(prefix="towline-peers-", dir=self.PARENT))
        self.sources = self.root / "source"
        self.sources.mkdir()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def make(self, source: Source) -> Path:
        """The path of `source`, written when it is not there yet."""
        path = self.sources / source.name
        if path.exists():
            return path
        self.check_room(2 * source.total)
        numbers = random.Random(source.name)
        if source.files == 0:
            write_random(path, source.size, numbers)
            return path
        for number in range(source.files):
            directory = path / f"{number // FILES_OF_A_DIRECTORY:04}"
            directory.mkdir(parents=True, exist_ok=True)
            write_random(directory / f"{number:06}", source.size, numbers)
        return path

    def drop(self, source: Source) -> None:
        """Removes a source that no later case needs."""
        path = self.sources / source.name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def check_room(self, more: int) -> None:
        """Raises `Failed` when `more` bytes, and a fifth of it for the programs, do not fit into memory."""
        wanted = more + more // 5 + (256 << 20)
        free = os.statvfs(self.root)
        room = min(free.f_bavail * free.f_frsize, available_memory())
        if room < wanted:
            raise Failed(f"needs {wanted >> 20} MiB in {self.PARENT} and in memory, {room >> 20} MiB are free")

    def fresh(self, name: str) -> Path:
        """An empty directory; what had the name before is gone."""
        path = self.root / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path


def available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise Failed("/proc/meminfo does not name MemAvailable")


def write_random(path: Path, size: int, numbers: random.Random) -> None:
    with open(path, "wb") as file:
        for at in range(0, size, BLOCK):
            file.write(numbers.randbytes(min(BLOCK, size - at)))


def check_same(source: Path, target: Path) -> None:
    """Raises `Failed` unless `target` has the files of `source`, no others, and the same bytes in each."""
    wanted, found = _files(source), _files(target)
    if wanted != found:
        raise Failed(f"{len(wanted - found)} files did not arrive, {len(found - wanted)} should not be there")
    for name in sorted(wanted):
        if not _same_bytes(source / name, target / name):
            raise Failed(f"the bytes of {source.name}/{name} are not those that were sent")


def _files(root: Path) -> set[Path]:
    if root.is_file():
        return {Path()}
    return {path.relative_to(root) for path in root.rglob("*") if not path.is_dir()}


def _same_bytes(one: Path, other: Path) -> bool:
    with open(one, "rb", buffering=0) as left, open(other, "rb", buffering=0) as right:
        if os.fstat(left.fileno()).st_size != os.fstat(right.fileno()).st_size:
            return False
        while block := left.read(BLOCK):
            if block != right.read(BLOCK):
                return False
    return True
