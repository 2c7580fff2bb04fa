"""The results as Markdown, for people."""

from __future__ import annotations

import statistics

from results import OWN, CaseResult, Figure, Figures, Machine, Measure, Median, Results, ratio


def duration(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 99.995 else f"{seconds:.0f} s"


def median_text(median: Median) -> str:
    return f"> {median.seconds:.4g} s" if median.at_least else duration(median.seconds)


def figure_text(figure: Figure | None, unit: str) -> str:
    if figure is None:
        return ""
    return f"{figure.sign} {number(figure.value)} {unit}".strip()


def number(value: float) -> str:
    """Three figures, and no decimals of hundreds."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(header: list[str], rows: list[list[str]], words: tuple[int, ...] = (0,)) -> str:
    """A Markdown table; numbers stand to the right, the columns `words` to the left."""
    rule = ["---" if column in words else "---:" for column in range(len(header))]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def markdown(results: Results, plot: str) -> str:
    machine = results.machine
    parts = [
        f"# towline beside others, {machine.date}\n",
        f"Medians of {rounds_text(machine)}. Each program ran once a round, and every file was compared after its "
        f"run. Linux {machine.kernel}, {machine.processors} processors ({machine.model}), both ends on one host. "
        "Compare ratios, not absolute figures: “towline is” is the speed of towline relative to the program. A run "
        "stopped at its limit counts as longer than the limit, and its program is not run again in that case.\n",
    ]
    if machine.remark:
        parts.append(machine.remark + "\n")
    if machine.quick:
        parts.append("**A quick run**: it sends less data for a shorter time than the requirements assume. Its verdicts "
                     "may differ from those of a full run.\n")
    parts.append(f"![speed of each program beside towline]({plot})\n")
    parts.append(_verdicts(results.cases))
    parts += [case_section(case) for case in results.cases]
    parts.append(_programs(machine))
    return "\n".join(parts)


def _verdicts(cases: list[CaseResult]) -> str:
    rows = []
    for case in cases:
        for requirement in case.subject.requirements:
            figure = case.figure(requirement.row)
            rows.append([case.subject.title, row_name(case, requirement.row), requirement.words(),
                         figure_text(figure, requirement.unit), requirement.verdict(figure)])
    counts = {word: sum(row[-1].startswith(word) for row in rows) for word in ("met", "missed", "open", "not measured")}
    summary = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    header = ["case", "what", "required", "measured", "verdict"]
    return "\n".join(["## Requirements\n", f"{summary or 'None'}.\n", table(header, rows, words=(0, 1, 4))])


def row_name(case: CaseResult, row: str) -> str:
    if row == OWN:
        return "time of towline"
    return f"beside {row}" if row in case.figures else row


def rounds_text(machine: Machine) -> str:
    return "one round" if machine.rounds == 1 else f"up to {machine.rounds} rounds"


def _programs(machine: Machine) -> str:
    rows = [[name, machine.versions[name], machine.notes[name]] for name in machine.versions]
    parts = ["## Programs\n", table(["program", "version", "what it does"], rows, words=(0, 1, 2))]
    if machine.missing:
        parts.append("Not measured:\n")
        parts.append("".join(f"- {name}: {reason}\n" for name, reason in machine.missing.items()))
    return "\n".join(parts)


def case_section(case: CaseResult) -> str:
    parts = [f"## {case.subject.title}\n", f"{case.subject.about}\n"]
    measured = {name: figures for name, figures in case.figures.items() if figures.runs}
    if measured:
        header = ["program", "median", "fastest–slowest", "rate", "towline is", "required", "verdict", "runs"]
        parts.append(table(header, [_row(case, name, figures) for name, figures in measured.items()], words=(0, 6)))
    if case.measures:
        header = ["measure", "median", "lowest–highest", "required", "verdict", "rounds"]
        rows = [_measure_row(case, name, one) for name, one in case.measures.items()]
        parts.append(table(header, rows, words=(0, 4)))
    if case.busy_percent:
        shares = ", ".join(f"{share:.0f}" for share in case.busy_percent)
        parts.append(f"Other work on the processors before each round, in percent: {shares}.\n")
    for name, figures in measured.items():
        if figures.failures:
            parts.append(_failures(name, figures.failures, figures.runs))
    if case.failures:
        rounds = max([len(one.values) for one in case.measures.values()], default=0) + len(case.failures)
        parts.append(_failures(OWN, case.failures, rounds))
    if case.reason:
        parts.append(f"Not run{' to the end' if measured or case.measures else ''}: {case.reason}.\n")
    return "\n".join(parts)


def _failures(name: str, reasons: list[str], runs: int) -> str:
    return f"{name}: {len(reasons)} of {runs} runs failed: {'; '.join(sorted(set(reasons)))}\n"


def _required(case: CaseResult, row: str) -> list[str]:
    requirement = case.requirement(row)
    return [requirement.words(), requirement.verdict(case.figure(row))] if requirement else ["", ""]


def _row(case: CaseResult, name: str, figures: Figures) -> list[str]:
    median = figures.median()
    if median is None:
        return [name, "failed", "", "", "", *_required(case, name), str(figures.runs)]
    rate = case.subject.rate(median.seconds)
    if rate and median.at_least:
        rate = f"< {rate}"
    own = case.figures[OWN].median() if OWN in case.figures else None
    beside = ""
    if own and name != OWN:
        beside = figure_text(ratio(median, own), "×") or "?"
    return [name, median_text(median), _span(figures), rate, beside, *_required(case, name), str(figures.runs)]


def _span(figures: Figures) -> str:
    if not figures.seconds:
        return ""
    fastest, slowest = duration(min(figures.seconds)), duration(max(figures.seconds))
    if figures.over_limit:
        return f"{fastest}–"
    return fastest if len(figures.seconds) == 1 else f"{fastest}–{slowest}"


def _measure_row(case: CaseResult, name: str, one: Measure) -> list[str]:
    low, high = number(min(one.values)), number(max(one.values))
    span = low if len(one.values) == 1 else f"{low}–{high}"
    median = f"{number(statistics.median(one.values))} {one.unit}"
    return [name, median, span, *_required(case, name), str(len(one.values))]
