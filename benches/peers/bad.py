"""Bad paths: jitter, heavy loss, long paths and outages, towline first and then TCP with BBR and with CUBIC.

TCP is iperf3 in the kernel, which neither encrypts nor reads or writes files. It runs for a fixed time, because CUBIC
would need many minutes for the file of some of these paths.
"""

from __future__ import annotations

from pathlib import Path

from cases import sized
from data import Source, check_same
from links import Conditions, Wan
from process import Failed, Server, free_port
from results import Requirement, Subject, at_most
from studies import Bench, Reading, Study, iperf3_bytes, needs_tcp, single

TIME, RATE = "time of towline", "rate of towline"
TCP = ("bbr", "cubic")
TCP_SECONDS = 20
# Of both sides where the path holds 20 MB.
LARGE_WINDOW = ("--memory", "256M")
MIB = 1 << 20


def bad_paths(wanlink: Path) -> list[Study]:
    jitter = [(10, 75), (20, 75), (40, 60)]
    return [
        *(_path(wanlink, f"bad-jitter-{ms}", f"jitter up to {ms} ms", 20, 20 * MIB * 8 / 1e6 / mbit,
                Conditions(100, 40, 50, jitter_ms=ms)) for ms, mbit in jitter),
        _path(wanlink, "bad-lte", "jitter up to 15 ms and 0.5 % loss", 20, 8.5,
              Conditions(30, 50, 300, loss_percent=0.5, jitter_ms=15)),
        _path(wanlink, "bad-loss-12", "12 % loss", 60, 7.5, Conditions(100, 40, 50, loss_percent=12)),
        _path(wanlink, "bad-loss-25", "25 % loss", 60, 15, Conditions(100, 40, 50, loss_percent=25)),
        _path(wanlink, "bad-satellite", "1 % loss", 20, 11.5, Conditions(20, 600, 200, loss_percent=1)),
        _twice(wanlink, "bad-long", 8, 6.8, Conditions(800, 200, 100)),
        _twice(wanlink, "bad-long-shallow", 9, None, Conditions(800, 200, 5)),
        _outage(wanlink, 20, ()),
        _outage(wanlink, 35, ("--timeout", "60s")),
    ]


def _title(conditions: Conditions, trouble: str) -> str:
    return f"{conditions.rate_mbit:g} Mbit/s, {conditions.round_trip_ms:g} ms, {trouble}"


def _about(mib: int, conditions: Conditions) -> str:
    return f"{sized(mib * MIB)} over the emulated link with a queue of {conditions.queue_ms:g} ms, from start to exit."


def _study(wanlink: Path, subject: Subject, mib: int, conditions: Conditions, read) -> Study:
    source = Source(f"bad-{mib}", mib * MIB)
    return Study(subject, source, lambda round_: Wan(wanlink, conditions, round_), read, _needs)


def _needs(towline: Path) -> str | None:
    return next(filter(None, (needs_tcp(congestion)(towline) for congestion in TCP)), None)


def _path(wanlink: Path, key: str, trouble: str, mib: int, within: float, conditions: Conditions) -> Study:
    subject = Subject(
        key, "bad", _title(conditions, trouble),
        f"{_about(mib, conditions)} Loss and jitter are those of each direction. TCP is iperf3 for {TCP_SECONDS} s.",
        (at_most(TIME, round(within, 2), "s"),),
    )

    def read(bench: Bench) -> Reading:
        seconds = _time(bench, "a")
        return {TIME: single("s", seconds), RATE: _mbit(mib * MIB, seconds), **_tcp(bench)}

    return _study(wanlink, subject, mib, conditions, read)


def _twice(wanlink: Path, key: str, first: float, second: float | None, conditions: Conditions) -> Study:
    mib, again = 500, "time on the path that is known"
    required: tuple[Requirement, ...] = (at_most(TIME, first, "s"),)
    if second is not None:
        required += (at_most(again, second, "s"),)
    subject = Subject(
        key, "bad", _title(conditions, f"queue {conditions.queue_ms:g} ms"),
        f"{_about(mib, conditions)} Both sides have `{' '.join(LARGE_WINDOW)}`. The second transfer starts with what "
        f"the first has found. TCP is iperf3 for {TCP_SECONDS} s.", required,
    )

    def read(bench: Bench) -> Reading:
        home = bench.directory / "home"
        home.mkdir(parents=True)
        seconds = [_time(bench, name, home=home, flags=LARGE_WINDOW) for name in ("a", "b")]
        return {TIME: single("s", seconds[0]), again: single("s", seconds[1]), RATE: _mbit(mib * MIB, seconds[0]),
                **_tcp(bench)}

    return _study(wanlink, subject, mib, conditions, read)


def _outage(wanlink: Path, length: float, flags: tuple[str, ...]) -> Study:
    conditions = Conditions(50, 40, 50, outage=(2, length))
    mib, back = 60, "until bytes are acked again"
    settings = f"With `{' '.join(flags)}`" if flags else "With default settings"
    subject = Subject(
        f"bad-outage-{length:g}", "bad", _title(conditions, f"dead from second 2 for {length:g} s"),
        f"{_about(mib, conditions)} {settings}. How long after the link is back the receiver has written more, and "
        "the transfer ends with exit code 0.", (at_most(back, 1.5, "s"),),
    )

    def read(bench: Bench) -> Reading:
        with bench.transfer("a", flags=flags) as transfer:
            transfer.begin("send", bench.source)
            ahead = transfer.started - bench.link.started
            seconds = transfer.watch(bench.limit)
            written = transfer.bytes_over_time()
        returned = sum(conditions.outage) - ahead
        before = max((bytes_ for at, bytes_ in written if at <= returned), default=0)
        after = [at for at, bytes_ in written if bytes_ > before]
        if not after or before == 0:
            raise Failed("the link was not dead during the transfer")
        return {back: single("s", after[0] - returned), TIME: single("s", seconds)}

    source = Source(f"bad-{mib}", mib * MIB)
    return Study(subject, source, lambda round_: Wan(wanlink, conditions, round_), read)


def _time(bench: Bench, name: str, home: Path | None = None, flags: tuple[str, ...] = ()) -> float:
    with bench.transfer(name, home=home, flags=flags) as transfer:
        transfer.begin("send", bench.source)
        seconds = transfer.watch(bench.limit)
        check_same(bench.source, transfer.target / bench.source.name)
        (transfer.target / bench.source.name).unlink()
    return seconds


def _tcp(bench: Bench) -> Reading:
    reading = {}
    for congestion in TCP:
        link, port = bench.link, free_port()
        serve = ["iperf3", "-s", "-1", "-p", str(port), "-B", link.receiver_address]
        ask = ["iperf3", "-c", link.receiver_address, "-p", str(port), "-t", str(TCP_SECONDS), "-C", congestion, "-J"]
        server = Server(link.receiver + serve, bench.directory, f"iperf3-server-{congestion}")
        client = None
        try:
            server.wait_for_port(port)
            client = Server(link.sender + ask, bench.directory, f"iperf3-{congestion}")
            client.finish(TCP_SECONDS + 60)
        finally:
            if client is not None:
                client.stop()
            server.stop()
        got = iperf3_bytes(client.output.read_text())
        reading[f"rate of TCP {congestion.upper()}"] = _mbit(got, TCP_SECONDS)
    return reading


def _mbit(bytes_: float, seconds: float):
    return single("Mbit/s", bytes_ * 8 / 1e6 / seconds)
