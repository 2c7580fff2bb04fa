"""What is measured: which bytes over which link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data import Source
from links import Link, Loopback, Veth, Wan
from process import Failed

GROUPS = ("loopback", "tiny", "small", "veth", "wan")
LOSSES_PERCENT = (0, 0.1, 1, 5)


@dataclass(frozen=True)
class Case:
    group: str
    title: str
    about: str
    source: Source
    link: Callable[[int], Link]  # made anew for each run, from the number of the round

    def rate(self, seconds: float) -> str:
        """How fast `seconds` is, in the unit that says most about this case; nothing where none does."""
        if self.source.files:
            return f"{self.source.files / seconds:,.0f} files/s"
        if self.group == "wan":
            return f"{self.source.total * 8 / 1e6 / seconds:.3g} Mbit/s"
        if self.source.total < 1 << 20:
            return ""
        return f"{self.source.total / (1 << 20) / seconds:,.0f} MiB/s"


def all_cases(size: int, wan_size: int, wanlink: Path) -> list[Case]:
    big = Source("big", size)
    cases = [
        Case("loopback", f"{sized(size)} over loopback", "One file, from memory to memory.", big, lambda _: Loopback()),
        Case("veth", f"{sized(size)} over veth, MTU 1500",
             "One file, between two network namespaces; TCP hands segments of 64 KiB to a virtual card, as it would "
             "to a card that splits them.", big, lambda _: Veth()),
        Case("tiny", "1 byte over loopback",
             "From start to exit: what a connection costs.", Source("tiny", 1), lambda _: Loopback()),
        Case("small", "10,000 files of 4 KiB over loopback",
             "In 100 directories.", Source("small", 4096, 10_000), lambda _: Loopback()),
    ]
    for loss in LOSSES_PERCENT:
        ideal = wan_size * 8 / (Wan.rate_mbit * 1e6) + 2 * Wan.round_trip_ms / 1000
        cases.append(Case(
            "wan", f"{sized(wan_size)} over {Wan.rate_mbit:g} Mbit/s, {Wan.round_trip_ms:g} ms, {loss:g} % loss",
            f"One file, over the emulated link with a queue of {Wan.queue_ms:g} ms, the loss in both directions; TCP "
            f"uses CUBIC. The line rate and two round trips make {ideal:.1f} s.",
            Source("wan", wan_size), lambda round_, loss=loss: Wan(wanlink, loss, seed=round_),
        ))
    return cases


def choose(cases: list[Case], groups: list[str] | None) -> list[Case]:
    for group in groups or ():
        if group not in GROUPS:
            raise Failed(f"no case is called {group}; there are: {', '.join(GROUPS)}")
    return [case for case in cases if not groups or case.group in groups]


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
