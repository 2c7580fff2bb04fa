"""What is timed: which bytes over which link, by which programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data import Source
from links import Conditions, Link, Loopback, Veth, Wan
from process import Failed
from results import OWN, Requirement, Subject, at_least, at_most

# In the order of the report.
GROUPS = ("loopback", "veth", "tiny", "small", "wan", "bad", "long", "fairness", "change", "many", "empty", "huge")

SCP = "scp aes128-gcm"
# Over a link that is far slower than the programs, one that stands for all that use TCP and ssh is enough.
OVER_WAN = (OWN, SCP, "rsync daemon", "qcp", "sendme")
OVER_LOSSES = (OWN, SCP, "qcp")


@dataclass(frozen=True)
class Sizes:
    """How much is sent in each case, in bytes, files and seconds, and how long that may take."""

    big: int = 2 << 30
    wan: int = 200 << 20
    small_files: int = 10_000
    many_files: int = 100_000
    empty_files: int = 1_000_000
    huge: int = 64 << 30
    long_seconds: float = 30
    fairness_seconds: float = 60
    change_seconds: tuple[float, float, float] = (10, 15, 15)  # before the fall, after it, after the rise
    # Long enough to see that a program takes 20 times as long as towline may at 1 % loss.
    patience: float = 160
    # Elsewhere on lossy links, and for small files, it is enough to know that it does not come near.
    short_patience: float = 30


QUICK = Sizes(256 << 20, 50 << 20, 2_000, 10_000, 100_000, 8 << 30, 10, 15, (6, 8, 8), 60, 10)


@dataclass(frozen=True)
class Case:
    """A transfer that each peer makes, and that is timed."""

    subject: Subject
    source: Source
    link: Callable[[int], Link]  # made anew for each run, from the number of the round
    patience: float  # seconds that a run may take
    peers: tuple[str, ...] | None = None  # by name; all of them


def timed_cases(sizes: Sizes, wanlink: Path) -> list[Case]:
    big, small = Source("big", sizes.big), Source("small", 4096, sizes.small_files)
    big_name = sized(sizes.big)
    return [
        Case(
            Subject(
                "loopback", "loopback", f"{big_name} over loopback", "One file, from memory to memory.",
                (at_least(SCP, 1.8, "×"), at_least("qcp", 2, "×"), at_least("sendme", 4.5, "×"),
                 at_least("rsync daemon", 0.5, "×", aim=1)), big.total,
            ),
            big, lambda _: Loopback(), sizes.patience,
        ),
        Case(
            Subject(
                "veth", "veth", f"{big_name} over veth, MTU 1500",
                "One file, between two network namespaces; TCP hands segments of 64 KiB to a virtual card, as it "
                "would to a card that splits them.",
                (at_least(SCP, 1.15, "×", aim=1.5), at_least("qcp", 1.15, "×", aim=1.5)), big.total,
            ),
            big, lambda _: Veth(), sizes.patience,
        ),
        Case(
            Subject("tiny", "tiny", "1 byte over loopback", "From start to exit: what a connection costs.",
                    (at_least("scp", 1, "×"),), 1),
            Source("tiny", 1), lambda _: Loopback(), sizes.short_patience,
        ),
        Case(
            Subject("small", "small", f"{sizes.small_files:,} files of 4 KiB over loopback",
                    "In directories of 100.", (at_least("rsync daemon", 1, "×"),), small.total, small.files),
            small, lambda _: Loopback(), sizes.short_patience,
        ),
        *_wan_cases(sizes, wanlink),
    ]


def _wan_cases(sizes: Sizes, wanlink: Path) -> list[Case]:
    """The seconds are those that 200 MiB may take, from the start of the sender to its end."""
    beside = (at_least(SCP, 20, "×"), at_least("qcp", 20, "×"))

    def case(key: str, trouble: str, seconds: float, conditions: Conditions, peers: tuple[str, ...] = OVER_LOSSES,
             beside: tuple[Requirement, ...] = ()) -> Case:
        patience = sizes.patience if beside or peers == OVER_WAN else sizes.short_patience
        subject = _wan_subject(sizes.wan, key, trouble, seconds, conditions, beside)
        return Case(subject, Source("wan", sizes.wan), lambda round_: Wan(wanlink, conditions, round_), patience, peers)

    return [
        case("wan-loss-0", "0 % loss", 7.3, Conditions(), OVER_WAN),
        case("wan-loss-0.1", "0.1 % loss", 7.3, Conditions(loss_percent=0.1)),
        case("wan-loss-1", "1 % loss", 7.3, Conditions(loss_percent=1), beside=beside),
        case("wan-loss-5", "5 % loss", 7.8, Conditions(loss_percent=5)),
        case("wan-bursts", "1 % loss in bursts of 10", 7.3, Conditions(loss_percent=1, burst=10)),
        case("wan-jitter-1", "1 ms of jitter", 7.9, Conditions(jitter_ms=1)),
        case("wan-jitter-5", "5 ms of jitter", 7.9, Conditions(jitter_ms=5)),
    ]


def _wan_subject(size: int, key: str, trouble: str, seconds: float, conditions: Conditions,
                 beside: tuple[Requirement, ...]) -> Subject:
    """Another size than 200 MiB may take what its bytes take at the rate of the link, more or less."""
    bits_per_second = conditions.rate_mbit * 1e6
    ideal = size * 8 / bits_per_second + 2 * conditions.round_trip_ms / 1000
    within = seconds + (size - Sizes.wan) * 8 / bits_per_second
    title = f"{conditions.rate_mbit:g} Mbit/s, {conditions.round_trip_ms:g} ms, {trouble}"
    about = (
        f"One file of {sized(size)}, over the emulated link with a queue of {conditions.queue_ms:g} ms; loss and "
        f"jitter are those of each direction. The line rate and two round trips make {ideal:.1f} s."
    )
    return Subject(key, "wan", title, about, (at_most(OWN, round(within, 2), "s"), *beside), size, rate_unit="Mbit/s")


def in_turn(programs: list, round_: int) -> list:
    """The order of a round: each begins with another program, and behind a program comes another one than before, for
    what one leaves behind (memory, caches) is the next one's. A design of Williams (1949, Aust. J. Sci. Res. A 2, 149),
    complete after as many rounds as there are programs, or twice as many when that is odd."""
    count = len(programs)
    zigzag = [step // 2 + 1 if step % 2 else -(step // 2) for step in range(count)]
    direction = -1 if count % 2 and round_ % 2 else 1
    return [programs[(round_ + direction * place) % count] for place in zigzag]


def choose(cases: list, groups: list[str] | None) -> list:
    """Those of `groups`, named by their group or by their key; all of them when nothing is wanted in particular."""
    known = {*GROUPS, *(case.subject.key for case in cases)}
    for group in groups or ():
        if group not in known:
            raise Failed(f"no case is called {group}; there are: {', '.join(GROUPS)}")
    return [case for case in cases if not groups or {case.subject.group, case.subject.key} & set(groups)]


UNITS = {"": 1, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_size(text: str) -> int:
    """Bytes: a whole number, or one that ends with k, M or G (powers of 1024). Raises `ValueError`."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("k", "M", "G") else (text, "")
    size = int(number) * UNITS[unit]
    if size <= 0:
        raise ValueError(f"{text} is not a size")
    return size


def sized(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"
