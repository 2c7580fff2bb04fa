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
SPARSE_STEP = 16 * BLOCK
FILES_OF_A_DIRECTORY = 100
# What the kernel keeps of an empty file in memory, at least: its inode and its name.
BYTES_OF_AN_INODE = 1 << 10


@dataclass(frozen=True)
class Source:
    """One file of `size` bytes, or a directory with `files` of them, of random bytes."""

    name: str
    size: int
    files: int = 0
    is_sparse: bool = False  # only one MiB of `SPARSE_STEP` holds bytes, the others are holes

    @property
    def total(self) -> int:
        return self.size * max(1, self.files)

    @property
    def stored(self) -> int:
        """Bytes of memory that it takes."""
        if self.is_sparse:
            return self.size * BLOCK // SPARSE_STEP
        return max(self.total, self.files * BYTES_OF_AN_INODE)


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
        self.check_room(source, 2)
        numbers = random.Random(source.name)
        if source.is_sparse:
            write_sparse(path, source.size, numbers)
            return path
        if source.files == 0:
            write_random(path, source.size, numbers)
            return path
        for number in range(source.files):
            directory = path / f"{number // FILES_OF_A_DIRECTORY:04}"
            if number % FILES_OF_A_DIRECTORY == 0:
                directory.mkdir(parents=True)
            write_random(directory / f"{number:06}", source.size, numbers)
        return path

    def drop(self, source: Source) -> None:
        """Removes a source that no later case needs."""
        path = self.sources / source.name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def check_room(self, source: Source, copies: int = 1) -> None:
        """Raises `Failed` when `copies` of `source`, and a fifth of that for the programs, do not fit into memory."""
        more = copies * source.stored
        wanted = more + more // 5 + (256 << 20)
        free = os.statvfs(self.root)
        room = min(free.f_bavail * free.f_frsize, available_memory())
        if room < wanted:
            raise Failed(f"needs {wanted >> 20} MiB in {self.PARENT} and in memory, {room >> 20} MiB are free")
        inodes = copies * (source.files + source.files // FILES_OF_A_DIRECTORY + 100)
        if free.f_favail < inodes:
            raise Failed(f"needs {inodes:,} inodes in {self.PARENT}, {free.f_favail:,} are free")

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


def write_sparse(path: Path, size: int, numbers: random.Random) -> None:
    with open(path, "wb") as file:
        for at in range(0, size, SPARSE_STEP):
            file.seek(at)
            file.write(numbers.randbytes(min(BLOCK, size - at)))
        file.truncate(size)


def check_same(source: Path, target: Path) -> None:
    """Raises `Failed` unless `target` has the files of `source`, no others, and the same bytes in each."""
    wanted, found = _files(str(source)), _files(str(target))
    if wanted != found:
        raise Failed(f"{len(wanted - found)} files did not arrive, {len(found - wanted)} should not be there")
    for name in sorted(wanted):
        if not _same_bytes(f"{source}{name}", f"{target}{name}"):
            raise Failed(f"the bytes of {source.name}{name} are not those that were sent")


def _files(root: str) -> set[str]:
    """What comes behind `root` in the paths of all files under it: nothing when it is a file itself."""
    if os.path.isfile(root):
        return {""}
    return {f"{directory[len(root):]}/{name}" for directory, _, names in os.walk(root) for name in names}


def _same_bytes(one: str, other: str) -> bool:
    size, other_size = os.stat(one).st_size, os.stat(other).st_size
    if size != other_size or size == 0:
        return size == other_size
    with open(one, "rb", buffering=0) as left, open(other, "rb", buffering=0) as right:
        at = 0
        while (at := min(_next_data(left, at, size), _next_data(right, at, size))) < size:
            for file in (left, right):
                file.seek(at)
            block = left.read(BLOCK)
            if block != right.read(BLOCK):
                return False
            at += len(block)
    return True


def _next_data(file, at: int, size: int) -> int:
    """Where the next bytes that are no hole begin, `size` when there are none: holes are all the same."""
    try:
        return os.lseek(file.fileno(), at, os.SEEK_DATA)
    except OSError:
        return size  # ENXIO: only a hole follows
