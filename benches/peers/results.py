"""What was measured, and its medians."""

from __future__ import annotations

from dataclasses import dataclass, field

from cases import Case


@dataclass
class Figures:
    """The runs of one peer in one case."""

    seconds: list[float] = field(default_factory=list)
    over_limit: list[float] = field(default_factory=list)  # the limits of runs that went over them
    failures: list[str] = field(default_factory=list)

    @property
    def runs(self) -> int:
        return len(self.seconds) + len(self.over_limit) + len(self.failures)

    def median(self) -> Median | None:
        """Of the runs that did not fail; one that went over its limit counts as longer than all others."""
        ordered = [(seconds, False) for seconds in sorted(self.seconds)]
        ordered += [(limit, True) for limit in sorted(self.over_limit)]
        if not ordered:
            return None
        middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
        return Median(sum(seconds for seconds, _ in middle) / len(middle), any(over for _, over in middle))


@dataclass(frozen=True)
class Median:
    seconds: float
    at_least: bool = False  # the true one is longer


@dataclass
class CaseResult:
    case: Case
    figures: dict[str, Figures]  # by the name of the peer
    reason: str | None = None  # why it was not run, or not to the end
    busy_percent: list[float] = field(default_factory=list)  # what else the processors did, before each round


@dataclass
class Machine:
    date: str
    kernel: str
    processors: int
    model: str
    rounds: int
    limit: float
    versions: dict[str, str]  # by the name of the peer
    notes: dict[str, str]
    missing: dict[str, str]  # peers that were not run, and why


def ratio(other: Median, own: Median) -> str:
    """How many times as fast `own` is as `other`, with what is known of it."""
    if own.at_least and other.at_least:
        return "?"
    sign = "> " if other.at_least else "< " if own.at_least else ""
    return f"{sign}{other.seconds / own.seconds:.2f} ×"
