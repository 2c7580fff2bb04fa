"""Reading numbers off what grew or moved while it was watched. Points are (x, y), x growing."""

from __future__ import annotations

from collections.abc import Iterable

Points = list[tuple[float, float]]


def value_at(points: Points, x: float) -> float:
    """y at `x`, on a straight line between the points beside it; outside of them that of the nearest."""
    before = None
    for point in points:
        if point[0] >= x:
            if before is None or point[0] == before[0]:
                return point[1]
            share = (x - before[0]) / (point[0] - before[0])
            return before[1] + share * (point[1] - before[1])
        before = point
    return before[1] if before else 0.0


def reached(points: Points, y: float) -> float | None:
    """The first x at which `y` is reached, on a straight line from the point before it."""
    before = None
    for point in points:
        if point[1] >= y:
            if before is None or point[1] == before[1]:
                return point[0]
            share = (y - before[1]) / (point[1] - before[1])
            return before[0] + share * (point[0] - before[0])
        before = point
    return None


def mean_slope(points: Points, start: float, end: float) -> float:
    """What y grows by for each x, from `start` to `end`."""
    return (value_at(points, end) - value_at(points, start)) / (end - start)


def first_window(points: Points, start: float, end: float, slope: float, window: float = 1.0) -> float | None:
    """How long after `start` the first stretch of `window` begins in which y grows by `slope` for each x."""
    for x in [start] + [x for x, _ in points if x > start]:
        if x + window > end:
            return None
        if mean_slope(points, x, x + window) >= slope:
            return x - start
    return None


def longest_above(intervals: Iterable[tuple[float, float]], bound: float) -> float:
    """The longest run of intervals (length, value), one behind the other, whose values are above `bound`."""
    longest = run = 0.0
    for length, value in intervals:
        run = run + length if value > bound else 0.0
        longest = max(longest, run)
    return longest
