"""The results as Markdown and as a plot in SVG, both for people."""

from __future__ import annotations

from xml.sax.saxutils import escape

from results import CaseResult, Figures, Machine, Median, ratio

OWN = "towline"


def duration(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 99.995 else f"{seconds:.0f} s"


def median_text(median: Median) -> str:
    return f"> {median.seconds:.4g} s" if median.at_least else duration(median.seconds)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; numbers stand to the right, the first column to the left."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def markdown(machine: Machine, results: list[CaseResult], plot: str) -> str:
    parts = [
        f"# towline beside others, {machine.date}\n",
        f"Medians of up to {machine.rounds} rounds in which each program ran once; every file was compared after its "
        f"run. Linux {machine.kernel}, {machine.processors} processors ({machine.model}), both ends on one machine. "
        "Ratios count, not absolute figures; “towline is” says how many times as fast it was. "
        f"A run was ended after {machine.limit:g} s; it stands as “> {machine.limit:g} s”, and its program did not "
        "run again in that case.\n",
        f"![medians]({plot})\n",
    ]
    parts += [case_section(result) for result in results]
    parts.append("## Programs\n")
    rows = [[name, machine.versions[name], machine.notes[name]] for name in machine.versions]
    parts.append(table(["program", "version", "what it does"], rows).replace("---:", "---"))
    if machine.missing:
        parts.append("Not measured:\n")
        parts.append("".join(f"- {name}: {reason}\n" for name, reason in machine.missing.items()))
    return "\n".join(parts)


def case_section(result: CaseResult) -> str:
    parts = [f"## {result.case.title}\n", f"{result.case.about}\n"]
    measured = {name: figures for name, figures in result.figures.items() if figures.runs}
    if measured:
        own = result.figures[OWN].median() if OWN in result.figures else None
        rows = [_row(result, name, figures, own) for name, figures in measured.items()]
        header = ["program", "median", "fastest–slowest", "rate", "towline is", "runs"]
        parts.append(table(header, rows))
    if result.busy_percent:
        shares = ", ".join(f"{share:.0f}" for share in result.busy_percent)
        parts.append(f"Other work on the processors before each round, in percent: {shares}.\n")
    failures = {name: figures.failures for name, figures in measured.items() if figures.failures}
    for name, reasons in failures.items():
        why = "; ".join(sorted(set(reasons)))
        parts.append(f"{name}: {len(reasons)} of {measured[name].runs} runs failed: {why}\n")
    if result.reason:
        parts.append(f"Not run{' to the end' if measured else ''}: {result.reason}.\n")
    return "\n".join(parts)


def _row(result: CaseResult, name: str, figures: Figures, own: Median | None) -> list[str]:
    median = figures.median()
    if median is None:
        return [name, "failed", "", "", "", str(figures.runs)]
    rate = result.case.rate(median.seconds)
    if rate and median.at_least:
        rate = f"< {rate}"
    span = _span(figures)
    beside = ratio(median, own) if own and name != OWN else ""
    return [name, median_text(median), span, rate, beside, str(figures.runs)]


def _span(figures: Figures) -> str:
    if not figures.seconds:
        return ""
    fastest, slowest = duration(min(figures.seconds)), duration(max(figures.seconds))
    if figures.over_limit:
        return f"{fastest}–"
    return fastest if len(figures.seconds) == 1 else f"{fastest}–{slowest}"


# The plot: one panel for each case, one bar for each program, as long as its median. Units are pixels.
WIDTH = 860
LABEL_WIDTH = 130
TEXT_WIDTH = 190
BAR_HEIGHT = 16
BAR_STEP = 22
PANEL_HEAD = 34
PANEL_GAP = 18
MARGIN = 16
OWN_COLOUR, OTHER_COLOUR, INK = "#c2410c", "#64748b", "#1f2937"


def svg(machine: Machine, results: list[CaseResult]) -> str:
    """A drawing that is well-formed XML whatever the names are."""
    panels = []
    top = MARGIN + 40
    for result in results:
        medians = {name: figures.median() for name, figures in result.figures.items()}
        drawn = {name: median for name, median in medians.items() if median}
        if drawn:
            panels.append(_panel(result, drawn, top))
            top += PANEL_HEAD + BAR_STEP * len(drawn) + PANEL_GAP
    head = (
        _text(MARGIN, MARGIN + 14, "Time to send and exit: shorter is better", size=16, weight="bold")
        + _text(MARGIN, MARGIN + 32, f"medians of up to {machine.rounds} rounds, {machine.processors} processors, "
                f"Linux {machine.kernel}, {machine.date}")
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}" '
        'font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>\n{head}{"".join(panels)}</svg>\n'
    )


def _panel(result: CaseResult, drawn: dict[str, Median], top: int) -> str:
    longest = max(median.seconds for median in drawn.values())
    parts = [_text(MARGIN, top + 20, result.case.title, size=14, weight="bold")]
    for index, (name, median) in enumerate(drawn.items()):
        y = top + PANEL_HEAD + index * BAR_STEP
        length = max(1.0, (WIDTH - LABEL_WIDTH - TEXT_WIDTH - 2 * MARGIN) * median.seconds / longest)
        left = MARGIN + LABEL_WIDTH
        colour = OWN_COLOUR if name == OWN else OTHER_COLOUR
        # One that was ended fades: where it would have come to is not known.
        opacity = "0.45" if median.at_least else "1"
        rate = result.case.rate(median.seconds)
        words = median_text(median) + (f", {'< ' if median.at_least else ''}{rate}" if rate else "")
        parts.append(_text(left - 8, y + 13, name, anchor="end"))
        parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT}" '
                     f'fill="{colour}" fill-opacity="{opacity}"/>\n')
        parts.append(_text(left + length + 8, y + 13, words))
    return "".join(parts)


def _text(x: float, y: float, words: str, size: int = 12, weight: str = "normal", anchor: str = "start") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
            f'fill="{INK}">{escape(words)}</text>\n')
