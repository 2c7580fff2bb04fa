"""What was measured, what it is held against, and how both are kept in a file."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from process import Failed

OWN = "towline"
FORMAT = 1


@dataclass(frozen=True)
class Median:
    seconds: float
    at_least: bool = False  # the true one is longer


@dataclass(frozen=True)
class Figure:
    """A number that is held against a bound. With the sign `>` the true one is larger, with `<` smaller."""

    value: float
    sign: str = ""


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


def ratio(other: Median, own: Median) -> Figure | None:
    """How many times as fast `own` is as `other`; nothing when both ran into the limit."""
    if own.at_least and other.at_least:
        return None
    return Figure(other.seconds / own.seconds, ">" if other.at_least else "<" if own.at_least else "")


@dataclass(frozen=True)
class Requirement:
    """What the row `row` of a case is held against: a measure, the seconds of towline, or the ratio to a peer."""

    row: str
    bound: float
    unit: str
    at_least: bool
    aim: float | None = None  # what is hoped for beyond the bound

    def words(self) -> str:
        sign = "≥" if self.at_least else "≤"
        aim = "" if self.aim is None else f" (aim {self.aim:g})"
        return f"{sign} {self.bound:g} {self.unit}{aim}"

    def verdict(self, figure: Figure | None) -> str:
        if figure is None:
            return "not measured"
        if not self._reached(figure, self.bound):
            return "missed" if self._known(figure) else "open"
        if self.aim is None:
            return "met"
        return "met, the aim too" if self._reached(figure, self.aim) else "met, not the aim"

    def _reached(self, figure: Figure, bound: float) -> bool:
        if self.at_least:
            return figure.value >= bound and figure.sign != "<"
        return figure.value <= bound and figure.sign != ">"

    def _known(self, figure: Figure) -> bool:
        """Whether a bound that was not reached is known to be missed: what was cut off could have reached it."""
        if self.at_least:
            return figure.sign == "" or (figure.sign == "<" and figure.value <= self.bound)
        return figure.sign == "" or (figure.sign == ">" and figure.value >= self.bound)


def at_least(row: str, bound: float, unit: str, aim: float | None = None) -> Requirement:
    return Requirement(row, bound, unit, True, aim)


def at_most(row: str, bound: float, unit: str, aim: float | None = None) -> Requirement:
    return Requirement(row, bound, unit, False, aim)


@dataclass(frozen=True)
class Subject:
    """What a report says of a case before anything was measured."""

    key: str
    group: str
    title: str
    about: str
    requirements: tuple[Requirement, ...] = ()
    size: int = 0  # bytes of all files that are sent, 0 where a rate says nothing
    files: int = 0
    rate_unit: str = "MiB/s"  # or "Mbit/s"

    def rate(self, seconds: float) -> str:
        """How fast `seconds` is, in the unit that says most about this case; nothing where none does."""
        if self.files:
            return f"{self.files / seconds:,.0f} files/s"
        if self.size < 1 << 20:
            return ""
        if self.rate_unit == "Mbit/s":
            return f"{self.size * 8 / 1e6 / seconds:.3g} Mbit/s"
        return f"{self.size / (1 << 20) / seconds:,.0f} MiB/s"


@dataclass
class Measure:
    unit: str
    values: list[float]  # one for each round


@dataclass
class CaseResult:
    subject: Subject
    figures: dict[str, Figures] = field(default_factory=dict)  # by the name of the peer
    measures: dict[str, Measure] = field(default_factory=dict)  # by what is measured
    failures: list[str] = field(default_factory=list)  # of rounds that took measures
    reason: str | None = None  # why it was not run, or not to the end
    busy_percent: list[float] = field(default_factory=list)  # what else the processors did, before each round

    def figure(self, row: str) -> Figure | None:
        """What a requirement for `row` is held against."""
        if row in self.measures:
            return Figure(statistics.median(self.measures[row].values))
        median = self.figures[row].median() if row in self.figures else None
        own = self.figures[OWN].median() if OWN in self.figures else None
        if median is None or own is None:
            return None
        return Figure(own.seconds, ">" if own.at_least else "") if row == OWN else ratio(median, own)

    def requirement(self, row: str) -> Requirement | None:
        return next((one for one in self.subject.requirements if one.row == row), None)


@dataclass
class Machine:
    date: str
    kernel: str
    processors: int
    model: str
    rounds: int
    quick: bool
    versions: dict[str, str]  # by the name of the peer
    notes: dict[str, str]
    missing: dict[str, str]  # peers that were not run, and why
    remark: str = ""  # of the person who measured


@dataclass
class Results:
    machine: Machine
    cases: list[CaseResult]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"format": FORMAT} | dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n")


def load(path: Path) -> Results:
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise Failed(f"{path} has format {document['format']}, not {FORMAT}")
        return Results(Machine(**document["machine"]), [_case(one) for one in document["cases"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failed(f"{path} holds no results: {error}") from None


def _case(document: dict) -> CaseResult:
    subject = dict(document["subject"])
    subject["requirements"] = tuple(Requirement(**one) for one in subject["requirements"])
    return CaseResult(
        Subject(**subject),
        {name: Figures(**figures) for name, figures in document["figures"].items()},
        {name: Measure(**measure) for name, measure in document["measures"].items()},
        document["failures"],
        document["reason"],
        document["busy_percent"],
    )


def _each_once(lists: Iterable[str]) -> str:
    """What they name; one of a merged report can name several."""
    return ", ".join(sorted({name for names in lists for name in names.split(", ")}))


def _together(first: CaseResult, second: CaseResult) -> CaseResult:
    """The rounds of both, in their order."""
    figures = dict(first.figures)
    for name, more in second.figures.items():
        had = figures.get(name, Figures())
        figures[name] = Figures(had.seconds + more.seconds, had.over_limit + more.over_limit,
                                had.failures + more.failures)
    measures = dict(first.measures)
    for name, more in second.measures.items():
        had = measures.get(name, Measure(more.unit, []))
        measures[name] = Measure(more.unit, had.values + more.values)
    return dataclasses.replace(
        second, figures=figures, measures=measures, failures=first.failures + second.failures,
        busy_percent=first.busy_percent + second.busy_percent,
    )


def merge(parts: list[Results], groups: tuple[str, ...], pooled: bool = False) -> Results:
    """One report of several runs, its cases in the order of `groups`. Of a case that is in two the later one counts, or
    with `pooled` the rounds of both."""
    cases: dict[str, CaseResult] = {}
    versions: dict[str, str] = {}
    notes: dict[str, str] = {}
    missing: dict[str, str] = {}
    for part in parts:
        for case in part.cases:
            before = cases.get(case.subject.key) if pooled else None
            cases[case.subject.key] = case if before is None else _together(before, case)
        versions |= part.machine.versions
        notes |= part.machine.notes
        missing |= part.machine.missing
    machines = [part.machine for part in parts]
    machine = dataclasses.replace(
        machines[-1],
        date=_each_once(one.date for one in machines),
        kernel=_each_once(one.kernel for one in machines),
        remark=" ".join(dict.fromkeys(one.remark for one in machines if one.remark)),
        rounds=sum(one.rounds for one in machines) if pooled else max(one.rounds for one in machines),
        quick=any(one.quick for one in machines),
        versions=versions,
        notes=notes,
        missing={name: why for name, why in missing.items() if name not in versions},
    )
    ordered = sorted(cases.values(), key=lambda case: groups.index(case.subject.group))
    return Results(machine, ordered)
