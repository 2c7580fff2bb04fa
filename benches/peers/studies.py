"""What is watched rather than timed: towline alone or beside another flow, and the numbers that are read off it."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import probe
import series
from cases import Sizes, sized
from data import Source, check_same
from links import Conditions, Link, Loopback, Sample, Wan
from peers import Towline
from process import Failed, Server, free_port, last_line
from results import Measure, Subject, at_least, at_most
from transfer import BUDGET_MIB, Memory, Progress, Transfer, run_for

BOTTLENECK = Conditions(rate_mbit=100, round_trip_ms=40, queue_ms=40)
FAST_MBIT, SLOW_MBIT = 300.0, 30.0
SETTLE_SECONDS = 3.0
SPARE_SECONDS = 1.0  # that a flow is let go on beyond the time that counts
SHARE, SMALLER_SHARE = "share of towline", "share of the side that gets less"
BESIDE, STANDING_QUEUE = "both together, of the link", "standing queue, of the buffer"
MEMORY_AT_SENDER, MEMORY_AT_RECEIVER = "most memory of the sender", "most memory of the receiver"


@dataclass(frozen=True)
class Bench:
    """What a study has to work with in one round: a link that is up, an empty directory, and what is to be sent."""

    towline: Path
    link: Link
    directory: Path
    source: Path
    sizes: Sizes
    limit: float

    def transfer(self, name: str, is_bench: bool = False, flags: tuple[str, ...] = (),
                 home: Path | None = None) -> Transfer:
        return Transfer(self.towline, self.link, self.directory / name, is_bench, flags, home)


Reading = dict[str, Measure]  # of one round


@dataclass(frozen=True)
class Study:
    subject: Subject
    source: Source
    link: Callable[[int], Link]
    read: Callable[[Bench], Reading]
    needs: Callable[[Path], str | None] = lambda _: None  # why it cannot be done with this towline, or here


def all_studies(sizes: Sizes, wanlink: Path) -> list[Study]:
    bits = max(FAST_MBIT * (sizes.long_seconds + SPARE_SECONDS), FAST_MBIT * sum(sizes.change_seconds[::2]),
               BOTTLENECK.rate_mbit * (sizes.fairness_seconds + SPARE_SECONDS)) * 1e6
    stream = Source("stream", int(bits / 8) + (64 << 20))
    return [
        *(_long(sizes, wanlink, stream, Conditions(round_trip_ms=round_trip_ms)) for round_trip_ms in (20.0, 300.0)),
        _marks(sizes, wanlink, stream),
        *_fairness(sizes, wanlink, stream),
        _change(sizes, wanlink, stream),
        _many(sizes, wanlink),
        _empty(sizes),
        _huge(sizes),
        _huge_bench(sizes),
    ]


def single(unit: str, value: float) -> Measure:
    """The measure of one round."""
    return Measure(unit, [value])


# Long transfers


def _long(sizes: Sizes, wanlink: Path, stream: Source, conditions: Conditions) -> Study:
    subject = Subject(
        f"long-{conditions.round_trip_ms:g}", "long", _long_title(sizes, conditions),
        f"towline alone, from its start; bytes that the receiver has acknowledged. Queue of "
        f"{conditions.queue_ms:g} ms, no loss.",
        (at_least("rate, of the link", 80, "%"),),
    )

    return Study(subject, stream, lambda round_: Wan(wanlink, conditions, round_), _read_long)


def _marks(sizes: Sizes, wanlink: Path, stream: Source) -> Study:
    conditions = Conditions(round_trip_ms=40, queue_ms=40, mark_ms=5)
    subject = Subject(
        "long-marks", "long", f"{_long_title(sizes, conditions)}, a link that marks",
        f"towline alone, from its start, over a link that marks packets (ECN) which wait for longer than "
        f"{conditions.mark_ms:g} ms in its queue of {conditions.queue_ms:g} ms. Packets that are dropped, and packets "
        "that are marked, of those that the link was given.", (),
    )

    def read(bench: Bench) -> Reading:
        reading = _read_long(bench)
        last = bench.link.samples()[-1]
        given = last.packets + last.dropped
        return {**reading, "dropped": single("%", 100 * last.dropped / given),
                "marked": single("%", 100 * last.marked / given)}

    return Study(subject, stream, lambda round_: Wan(wanlink, conditions, round_), read)


def _long_title(sizes: Sizes, conditions: Conditions) -> str:
    return f"{sizes.long_seconds:g} s over {conditions.rate_mbit:g} Mbit/s, {conditions.round_trip_ms:g} ms"


def _read_long(bench: Bench) -> Reading:
    with bench.transfer("a") as transfer:
        transfer.begin("send", bench.source)
        run_for(bench.sizes.long_seconds + SPARE_SECONDS, [transfer])
        rate = series.mean_slope(transfer.bytes_over_time(), 0, bench.sizes.long_seconds) * 8 / 1e6
    return {"rate, of the link": single("%", 100 * rate / bench.link.rate_mbit), "rate": single("Mbit/s", rate)}


# Fairness


def _fairness(sizes: Sizes, wanlink: Path, stream: Source) -> list[Study]:
    seconds = sizes.fairness_seconds
    over = (f"{seconds:g} s over {BOTTLENECK.rate_mbit:g} Mbit/s, {BOTTLENECK.round_trip_ms:g} ms, "
            f"queue {BOTTLENECK.queue_ms:g} ms")
    about = "Both start together, and what each got by the end of the time counts."

    def study(key, title, about, requirements, read, needs=lambda _: None) -> Study:
        subject = Subject(key, "fairness", f"{title}, {over}", about, requirements)
        return Study(subject, stream, lambda round_: Wan(wanlink, BOTTLENECK, round_), read, needs)

    return [
        study("fairness-two", "Two towlines", about, (at_least(SMALLER_SHARE, 40, "%"),), _two_towlines),
        study("fairness-cubic", "towline beside TCP CUBIC", f"{about} TCP is iperf3.",
              (at_least(SMALLER_SHARE, 30, "%"),), lambda bench: _beside_tcp(bench, "cubic"), needs_tcp("cubic")),
        study("fairness-bbr", "towline beside TCP BBR", f"{about} TCP is iperf3, BBR that of the kernel.",
              (at_least(SHARE, 15, "%", aim=25),), lambda bench: _beside_tcp(bench, "bbr"), needs_tcp("bbr")),
        study("fairness-background", "towline --background beside TCP CUBIC", f"{about} TCP is iperf3.",
              (at_most(SHARE, 10, "%"),), lambda bench: _beside_tcp(bench, "cubic", ("--background",)),
              _needs_background),
        study("queue", "Standing queue of a lone towline",
              "The round trip of small packets at the side of it, as the median from 5 s on, less the least one before "
              "it began.", (at_most(STANDING_QUEUE, 25, "%"),), _standing_queue),
    ]


def shares(towline: float, other: float, seconds: float) -> Reading:
    """Of bytes that two flows got."""
    both = towline + other
    if both == 0:
        raise Failed("nothing arrived")
    return {
        SHARE: single("%", 100 * towline / both),
        SMALLER_SHARE: single("%", 100 * min(towline, other) / both),
        BESIDE: single("%", 100 * both * 8 / (BOTTLENECK.rate_mbit * 1e6 * seconds)),
    }


def _two_towlines(bench: Bench) -> Reading:
    seconds = bench.sizes.fairness_seconds
    with bench.transfer("a") as first, bench.transfer("b") as second:
        for transfer in (first, second):
            transfer.begin("send", bench.source)
        run_for(seconds + SPARE_SECONDS, [first, second])
        got = [series.value_at(transfer.bytes_over_time(), seconds) for transfer in (first, second)]
    return shares(*got, seconds)


def _beside_tcp(bench: Bench, congestion: str, flags: tuple[str, ...] = ()) -> Reading:
    seconds, link, port = bench.sizes.fairness_seconds, bench.link, free_port()
    serve = ["iperf3", "-s", "-1", "-p", str(port), "-B", link.receiver_address]
    ask = ["iperf3", "-c", link.receiver_address, "-p", str(port), "-t", f"{seconds:g}", "-C", congestion, "-J"]
    with bench.transfer("a") as transfer:
        server = Server(link.receiver + serve, bench.directory, "iperf3-server")
        client = None
        try:
            server.wait_for_port(port)
            transfer.begin("send", *flags, bench.source)
            client = Server(link.sender + ask, bench.directory, "iperf3")
            run_for(seconds + SPARE_SECONDS, [transfer])
            client.finish(30)
            ours = series.value_at(transfer.bytes_over_time(), seconds)
        finally:
            if client is not None:
                client.stop()
            server.stop()
    return shares(ours, iperf3_bytes(client.output.read_text()), seconds)


def iperf3_bytes(text: str) -> float:
    """What arrived, as `iperf3 -J` says."""
    try:
        return float(json.loads(text)["end"]["sum_received"]["bytes"])
    except (ValueError, KeyError, TypeError):
        raise Failed(f"iperf3 did not say what arrived: {text.strip()[-200:]}") from None


def needs_tcp(congestion: str) -> Callable[[Path], str | None]:
    def needs(_: Path) -> str | None:
        if shutil.which("iperf3") is None:
            return "there is no `iperf3` (package iperf3)"
        known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
        return None if congestion in known else f"this kernel has no {congestion} for TCP: `modprobe tcp_{congestion}`"

    return needs


def _needs_background(towline: Path) -> str | None:
    if not Towline(towline).has_flag("send", "--background"):
        return "this towline has no --background"
    return needs_tcp("cubic")(towline)


def _standing_queue(bench: Bench) -> Reading:
    idle, settled = 3.0, 5.0
    run = [sys.executable, str(Path(probe.__file__))]
    link, directory = bench.link, bench.directory
    echo = Server([*link.receiver, *run, "echo", link.receiver_address], directory, "echo")
    ask = None
    try:
        port = echo.wait_for_words(r"port (\d+)")
        ask = Server([*link.sender, *run, "ask", link.receiver_address, port], directory, "ask")
        ask.let_run(idle)
        with bench.transfer("a") as transfer:
            transfer.begin("send", bench.source)
            run_for(bench.sizes.fairness_seconds, [transfer])
        trips = probe.parse(ask.output.read_text())
    finally:
        if ask is not None:
            ask.stop()
        echo.stop()
    end = transfer.started + bench.sizes.fairness_seconds
    before = [trip for asked, trip in trips if asked < transfer.started]
    during = [trip for asked, trip in trips if transfer.started + settled <= asked < end]
    if not before or not during:
        raise Failed(f"no answers to measure the delay with: {last_line(ask.output)}")
    # Other work on the machine only adds to a round trip, so the least one is that of the link.
    queue = statistics.median(during) - min(before)
    return {
        STANDING_QUEUE: single("%", 100 * queue / BOTTLENECK.queue_ms),
        "least round trip before": single("ms", min(before)),
        "median round trip beside it": single("ms", statistics.median(during)),
    }


# A rate that falls and rises again


def _change(sizes: Sizes, wanlink: Path, stream: Source) -> Study:
    before, slow, after = sizes.change_seconds
    conditions = Conditions(rate_mbit=FAST_MBIT, changes=((before, SLOW_MBIT), (before + slow, FAST_MBIT)))
    names = [f"until 80 % of {rate:g} Mbit/s cross the link" for rate in (SLOW_MBIT, FAST_MBIT)]
    rests = [f"written from {SETTLE_SECONDS:g} s on, of {rate:g} Mbit/s" for rate in (SLOW_MBIT, FAST_MBIT)]
    requirements = tuple(at_most(name, SETTLE_SECONDS, "s") for name in names)
    requirements += tuple(at_least(name, 80, "%") for name in rests)
    lossy = "longest time with more than 10 % loss"
    subject = Subject(
        "change", "change",
        f"{FAST_MBIT:g} Mbit/s that fall to {SLOW_MBIT:g} after {before:g} s and rise again after {slow:g} s more",
        f"towline alone, round trip {conditions.round_trip_ms:g} ms, queue {conditions.queue_ms:g} ms. How long after "
        "each change the first whole second begins in which 80 % of the new rate are used, the rate of what is written "
        "from then to the next change, and for how long the link drops more than a tenth of what it is given.",
        (*requirements, at_most(lossy, 1, "s")),
    )

    def read(bench: Bench) -> Reading:
        with bench.transfer("a") as transfer:
            transfer.begin("send", bench.source)
            ahead = transfer.started - bench.link.started
            run_for(before + slow + after - ahead, [transfer])
            samples = bench.link.samples()
            written = [(seconds + ahead, bytes_) for seconds, bytes_ in transfer.bytes_over_time()]
        crossed = [(sample.seconds, float(sample.bytes)) for sample in samples]
        reading = {}
        for name, rest, rate, start, length in zip(
            names, rests, (SLOW_MBIT, FAST_MBIT), (before, before + slow), (slow, after)
        ):
            wanted = 0.8 * rate * 1e6 / 8
            found = series.first_window(crossed, start, start + length, wanted)
            reading[name] = single("s", length if found is None else found)
            slope = series.mean_slope(written, start + SETTLE_SECONDS, start + length - SPARE_SECONDS)
            reading[rest] = single("%", 100 * slope * 8 / (rate * 1e6))
        reading[lossy] = single("s", series.longest_above(loss_shares(samples), 0.1))
        return reading

    return Study(subject, stream, lambda round_: Wan(wanlink, conditions, round_), read)


def loss_shares(samples: list[Sample]) -> list[tuple[float, float]]:
    """For each stretch between two samples its length, and the share of the packets in it that were dropped."""
    found = []
    for before, after in zip(samples, samples[1:]):
        dropped = after.dropped - before.dropped
        given = after.packets - before.packets + dropped
        found.append((after.seconds - before.seconds, dropped / given if given else 0.0))
    return found


# Many files, and large ones


def _many(sizes: Sizes, wanlink: Path) -> Study:
    source, conditions = Source("many", 4096, sizes.many_files), Conditions()
    rate = "rate of the files' bytes, of the link"
    subject = Subject(
        "many", "many",
        f"{sizes.many_files:,} files of 4 KiB over {conditions.rate_mbit:g} Mbit/s, {conditions.round_trip_ms:g} ms",
        "towline alone, in directories of 100; names and frames are not counted.",
        (at_least(rate, 80, "%"), *_within_budget()), source.total, source.files,
    )

    def read(bench: Bench) -> Reading:
        with bench.transfer("a") as transfer:
            transfer.begin("send", bench.source)
            seconds = transfer.watch(bench.limit)
            check_same(bench.source, transfer.target / bench.source.name)
        share = 100 * source.total * 8 / (seconds * conditions.rate_mbit * 1e6)
        return {rate: single("%", share), "time": single("s", seconds), **_peaks(transfer.memory)}

    return Study(subject, source, lambda round_: Wan(wanlink, conditions, round_), read)


def _within_budget() -> tuple:
    return at_most(MEMORY_AT_SENDER, BUDGET_MIB, "MiB"), at_most(MEMORY_AT_RECEIVER, BUDGET_MIB, "MiB")


def _peaks(memory: list[Memory]) -> Reading:
    if not memory:
        raise Failed("it ended before its memory could be read")
    return {MEMORY_AT_SENDER: single("MiB", memory[-1].sender), MEMORY_AT_RECEIVER: single("MiB", memory[-1].receiver)}


SECOND_HALF = "time of the second half, of the first"
GROWTH_AT_SENDER, GROWTH_AT_RECEIVER = "memory added after a quarter, sender", "memory added after a quarter, receiver"


def _empty(sizes: Sizes) -> Study:
    source = Source("empty", 0, sizes.empty_files)
    subject = Subject(
        "empty", "empty", f"{sizes.empty_files:,} empty files over loopback",
        "towline alone, one transfer, in directories of 100: when a quarter, half and all of them had their final "
        "names, and the most memory until then.",
        (at_most(SECOND_HALF, 1.25, "×"), *_within_budget(),
         *(at_most(name, 4, "MiB") for name in (GROWTH_AT_SENDER, GROWTH_AT_RECEIVER))), 0, source.files,
    )

    def read(bench: Bench) -> Reading:
        with bench.transfer("a") as transfer:
            transfer.begin("send", bench.source)
            transfer.watch(bench.limit)
            check_same(bench.source, transfer.target / bench.source.name)
            return empty_reading(transfer.progress(), transfer.memory, source.files)

    return Study(subject, source, lambda _: Loopback(), read)


def empty_reading(progress: list[Progress], memory: list[Memory], files: int) -> Reading:
    # The last event may come before the last file.
    points = [(event.seconds, float(event.files)) for event in progress]
    times = [series.reached(points, min(share * files, points[-1][1])) for share in (0.25, 0.5, 1)]
    reading = {f"{int(share * files):,} files": single("s", seconds) for share, seconds in zip((0.25, 0.5, 1), times)}
    reading[SECOND_HALF] = single("×", (times[2] - times[1]) / times[1])
    for name, side in ((GROWTH_AT_SENDER, "sender"), (GROWTH_AT_RECEIVER, "receiver")):
        peaks = [(look.seconds, getattr(look, side)) for look in memory]
        reading[name] = single("MiB", peaks[-1][1] - series.value_at(peaks, times[0]))
    return reading | _peaks(memory)


LAST_QUARTER = "rate of the last quarter, of the first"


def _huge(sizes: Sizes) -> Study:
    source = Source("huge", sizes.huge, is_sparse=True)
    subject = Subject(
        "huge", "huge", f"{sized(sizes.huge)} in one file over loopback",
        "towline alone. One MiB of sixteen holds bytes, the others are holes, so that it fits into memory; a hole does "
        "not travel, but it is hashed at both ends.",
        (*_within_budget(), at_least(LAST_QUARTER, 0.9, "×")), source.total,
    )

    def read(bench: Bench) -> Reading:
        with bench.transfer("a") as transfer:
            transfer.begin("send", bench.source)
            seconds = transfer.watch(bench.limit)
            check_same(bench.source, transfer.target / bench.source.name)
            return _huge_reading(transfer, seconds, source.total)

    return Study(subject, source, lambda _: Loopback(), read)


def _huge_bench(sizes: Sizes) -> Study:
    subject = Subject(
        "huge-bench", "huge", f"{sized(sizes.huge)} in one file over loopback, with `towline bench`",
        "Between two processes, from memory to nothing, so that all of it travels.",
        (*_within_budget(), at_least(LAST_QUARTER, 0.9, "×")), sizes.huge,
    )

    def read(bench: Bench) -> Reading:
        with bench.transfer("a", is_bench=True) as transfer:
            transfer.begin("bench", "--size", str(sizes.huge))
            return _huge_reading(transfer, transfer.watch(bench.limit), sizes.huge)

    def needs(towline: Path) -> str | None:
        return None if Towline(towline).has_flag("bench", "--wait") else "this towline has no bench --wait"

    return Study(subject, Source("tiny", 1), lambda _: Loopback(), read, needs)


def _huge_reading(transfer: Transfer, seconds: float, total: int) -> Reading:
    quarters = quarter_seconds(transfer.bytes_over_time(), total)
    return {
        LAST_QUARTER: single("×", quarters[0] / quarters[3]), "time": single("s", seconds),
        "rate": single("MiB/s", total / seconds / (1 << 20)), **_peaks(transfer.memory),
    }


def quarter_seconds(points: series.Points, total: int) -> list[float]:
    """How long each quarter of `total` took; the last event may come before the last byte."""
    end = points[-1][1]
    ends = [series.reached(points, min(total * quarter / 4, end)) for quarter in range(5)]
    return [after - before for before, after in zip(ends, ends[1:])]
