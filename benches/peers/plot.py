"""The speed of each program beside towline as a drawing in SVG, for a page of 800 pixels, white or dark."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from report import duration, figure_text, rounds_text
from results import OWN, CaseResult, Figure, Results, ratio

# In pixels. Two columns of panels, one for each case; in a panel a bar for each program.
WIDTH = 800
MARGIN = 20
COLUMN_GAP = 28
COLUMN_WIDTH = (WIDTH - 2 * MARGIN - COLUMN_GAP) / 2
LABEL_WIDTH = 108
TEXT_WIDTH = 92
BAR_WIDTH = COLUMN_WIDTH - LABEL_WIDTH - TEXT_WIDTH
HEAD = 70
PANEL_HEAD = 30
BAR_HEIGHT = 15
BAR_STEP = 21
PANEL_GAP = 20
# The card has a background of its own, so that it can be read on any page; it follows the reader's colours where the
# page lets it.
STYLE = """
.card{fill:#ffffff;stroke:#d0d7de}.ink{fill:#1f2328}.faint{fill:#59636e}.own{fill:#c2410c}.other{fill:#8c959f}
@media (prefers-color-scheme:dark){.card{fill:#0d1117;stroke:#3d444d}.ink{fill:#f0f6fc}.faint{fill:#9198a1}
.own{fill:#f0883e}.other{fill:#6e7681}}
"""


@dataclass(frozen=True)
class Bar:
    name: str
    speed: Figure  # that of towline is 1
    absolute: str  # its rate, or its time where a rate says nothing

    def words(self) -> str:
        return figure_text(self.speed, "×")


@dataclass(frozen=True)
class Panel:
    title: str
    bars: list[Bar]

    @property
    def height(self) -> int:
        return PANEL_HEAD + BAR_STEP * len(self.bars) + PANEL_GAP


def panels(cases: list[CaseResult]) -> list[Panel]:
    """Of the cases in which towline and another program came through."""
    found = []
    for case in cases:
        bars = _bars(case)
        if len(bars) > 1:
            found.append(Panel(case.subject.title, bars))
    return found


def _bars(case: CaseResult) -> list[Bar]:
    own = case.figures[OWN].median() if OWN in case.figures else None
    if own is None:
        return []
    bars = []
    for name, figures in case.figures.items():
        median = figures.median()
        slower = ratio(median, own) if median else None
        if slower is None:
            continue
        sign = {"": "", ">": "<", "<": ">"}[slower.sign]
        absolute = case.subject.rate(median.seconds) or duration(median.seconds)
        bars.append(Bar(name, Figure(1 / slower.value, sign), absolute))
    return bars


def svg(results: Results) -> str:
    """A drawing that is well-formed XML whatever the names are."""
    columns: list[list[Panel]] = [[], []]
    drawn = panels(results.cases)
    half = sum(panel.height for panel in drawn) / 2
    for panel in drawn:
        left_is_full = columns[1] or sum(one.height for one in columns[0]) + panel.height / 2 > half
        columns[1 if columns[0] and left_is_full else 0].append(panel)
    height = HEAD + max(sum(panel.height for panel in column) for column in columns)
    parts = []
    for index, column in enumerate(columns):
        top = HEAD
        for panel in column:
            parts.append(_panel(panel, MARGIN + index * (COLUMN_WIDTH + COLUMN_GAP), top))
            top += panel.height
    machine = results.machine
    # The one that is not to be taken for its like is also the one that can be longer.
    daemon = "; the rsync daemon does not encrypt" if _has(drawn, "rsync daemon") else ""
    head = (
        _text(MARGIN, 30, "Speed beside towline: longer is faster, towline is 1", "ink", 17, "bold")
        + _text(MARGIN, 50, f"medians of {rounds_text(machine)}, both ends on one machine with "
                f"{machine.processors} processors, {machine.date}{daemon}", "faint", 12)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui, -apple-system, \'Segoe UI\', \'DejaVu Sans\', '
        f'sans-serif">\n<style>{STYLE}</style>\n'
        f'<rect class="card" width="{WIDTH - 1}" height="{height - 1}" rx="8" transform="translate(.5 .5)"/>\n'
        f'{head}{"".join(parts)}</svg>\n'
    )


def _has(drawn: list[Panel], name: str) -> bool:
    return any(bar.name == name for panel in drawn for bar in panel.bars)


def _panel(panel: Panel, left: float, top: float) -> str:
    fastest = max(bar.speed.value for bar in panel.bars)
    parts = [_text(left, top + 18, panel.title, "ink", 13, "bold")]
    start = left + LABEL_WIDTH
    for index, bar in enumerate(panel.bars):
        y = top + PANEL_HEAD + index * BAR_STEP
        length = max(1.5, BAR_WIDTH * bar.speed.value / fastest)
        is_own = bar.name == OWN
        # One that was ended fades: only the end that its bar does not reach is known.
        opacity = "0.45" if bar.speed.sign else "1"
        parts.append(_text(start - 8, y + 12, bar.name, "ink" if is_own else "faint", 12,
                           "bold" if is_own else "normal", "end"))
        parts.append(f'<rect class="{"own" if is_own else "other"}" x="{start:.1f}" y="{y}" width="{length:.1f}" '
                     f'height="{BAR_HEIGHT}" rx="2" fill-opacity="{opacity}"/>\n')
        words = bar.absolute if is_own else bar.words()
        parts.append(_text(start + length + 7, y + 12, words, "ink", 12, "bold" if is_own else "normal"))
    return "".join(parts)


def _text(x: float, y: float, words: str, look: str, size: int, weight: str = "normal", anchor: str = "start") -> str:
    return (f'<text class="{look}" x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
            f'text-anchor="{anchor}">{escape(words)}</text>\n')
