"""Tests of what needs no network and no peer: `benches/peers/run --selftest`."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import select
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

import cases
import data
import links
import peers
import process
import report
from data import Source
from results import CaseResult, Figures, Machine, Median, ratio


def program():
    """The module of `run`, which has no ending."""
    path = str(Path(__file__).with_name("run"))
    loader = importlib.machinery.SourceFileLoader("peers_run", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("peers_run", loader))
    loader.exec_module(module)
    return module


def case(group: str = "loopback", size: int = 1 << 30, files: int = 0) -> cases.Case:
    return cases.Case(group, "a case", "What it is.", Source("source", size, files), lambda _: links.Loopback())


def machine() -> Machine:
    versions, notes = {"towline": "towline 1", "other": "other | 2"}, {"towline": "x", "other": "y"}
    return Machine("2026-01-31", "6.1", 2, "A & B <model>", 3, 150, versions, notes, {"third": "not installed"})


def result(own: Figures, other: Figures, of: cases.Case | None = None) -> CaseResult:
    return CaseResult(of or case(), {"towline": own, "other": other}, busy_percent=[1.4, 50])


class Medians(unittest.TestCase):
    def test_odd_even_and_none(self):
        self.assertEqual(Figures([3, 1, 2]).median(), Median(2))
        self.assertEqual(Figures([4, 1, 2, 3]).median(), Median(2.5))
        self.assertIsNone(Figures(failures=["broken"]).median())

    def test_a_run_over_the_limit_is_longer_than_all_others(self):
        self.assertEqual(Figures([9, 1], [5]).median(), Median(9))
        self.assertEqual(Figures([1], [5]).median(), Median(3, at_least=True))
        self.assertEqual(Figures([], [5]).median(), Median(5, at_least=True))

    def test_failed_runs_count_as_runs_only(self):
        figures = Figures([1, 2, 3], failures=["broken"])
        self.assertEqual((figures.median(), figures.runs), (Median(2), 4))


class Ratios(unittest.TestCase):
    def test_above_one_means_that_towline_is_faster(self):
        self.assertEqual(ratio(Median(3), Median(2)), "1.50 ×")

    def test_says_which_way_a_limit_cuts(self):
        self.assertEqual(ratio(Median(30, at_least=True), Median(2)), "> 15.00 ×")
        self.assertEqual(ratio(Median(3), Median(30, at_least=True)), "< 0.10 ×")
        self.assertEqual(ratio(Median(30, at_least=True), Median(30, at_least=True)), "?")


class Rates(unittest.TestCase):
    def test_has_the_unit_of_the_case(self):
        self.assertEqual(case().rate(2), "512 MiB/s")
        self.assertEqual(case("wan", 200 << 20).rate(10), "168 Mbit/s")
        self.assertEqual(case("small", 4096, 10_000).rate(2), "5,000 files/s")
        self.assertEqual(case("tiny", 1).rate(0.1), "")


class Markdown(unittest.TestCase):
    def test_table_is_rectangular_and_escapes_bars(self):
        lines = report.table(["a", "b"], [["1", "2|3"]]).splitlines()
        self.assertEqual(lines, ["| a | b |", "| --- | ---: |", "| 1 | 2\\|3 |"])

    def test_rows_have_median_range_rate_and_ratio(self):
        text = report.case_section(result(Figures([2, 1, 4]), Figures([5, 6, 4])))
        self.assertIn("| towline | 2.00 s | 1.00 s–4.00 s | 512 MiB/s |  | 3 |", text)
        self.assertIn("| other | 5.00 s | 4.00 s–6.00 s | 205 MiB/s | 2.50 × | 3 |", text)
        self.assertIn("in percent: 1, 50.", text)

    def test_a_limit_stands_with_its_sign(self):
        text = report.case_section(result(Figures([2]), Figures([], [150])))
        self.assertIn("| other | > 150 s |  | < 7 MiB/s | > 75.00 × | 1 |", text)

    def test_failures_say_why(self):
        text = report.case_section(result(Figures([2]), Figures([], failures=["exit 1: no", "exit 1: no"])))
        self.assertIn("| other | failed |", text)
        self.assertIn("other: 2 of 2 runs failed: exit 1: no", text)

    def test_a_case_that_was_not_run_says_why_and_has_no_table(self):
        text = report.case_section(CaseResult(case(), {"towline": Figures()}, "needs root"))
        self.assertIn("Not run: needs root.", text)
        self.assertNotIn("|", text)

    def test_whole_report_names_programs_and_those_that_are_missing(self):
        text = report.markdown(machine(), [result(Figures([1]), Figures([2]))], "results.svg")
        self.assertIn("| other | other \\| 2 | y |", text)
        self.assertIn("- third: not installed", text)
        self.assertIn("(results.svg)", text)

    def test_without_towline_there_is_no_ratio(self):
        text = report.case_section(CaseResult(case(), {"other": Figures([2])}))
        self.assertIn("| other | 2.00 s | 2.00 s | 512 MiB/s |  | 1 |", text)

    def test_durations(self):
        wanted = {0.0123: "12 ms", 0.9996: "1.00 s", 99.996: "100 s", 150: "150 s", 5.678: "5.68 s"}
        self.assertEqual({seconds: report.duration(seconds) for seconds in wanted}, wanted)


class Svg(unittest.TestCase):
    def bars(self, text: str) -> list[dict[str, str]]:
        """The attributes of all bars; fails when `text` is not well-formed."""
        root = xml.etree.ElementTree.fromstring(text)
        return [element.attrib for element in root.iter("{http://www.w3.org/2000/svg}rect") if "x" in element.attrib]

    def test_is_well_formed_and_bars_are_as_long_as_medians(self):
        odd = cases.Case("loopback", 'a <b> & "c"', "", Source("s", 1 << 20), lambda _: links.Loopback())
        own, other = self.bars(report.svg(machine(), [result(Figures([1]), Figures([2]), odd)]))
        self.assertAlmostEqual(float(own["width"]) * 2, float(other["width"]), delta=0.2)
        self.assertNotEqual(own["fill"], other["fill"])

    def test_one_that_was_ended_fades(self):
        own, other = self.bars(report.svg(machine(), [result(Figures([1]), Figures([], [150]))]))
        self.assertEqual(own["fill-opacity"], "1")
        self.assertLess(float(other["fill-opacity"]), 1)

    def test_nothing_measured_is_a_drawing_without_bars(self):
        self.assertEqual(self.bars(report.svg(machine(), [result(Figures(), Figures())])), [])

    def test_all_is_inside_the_drawing(self):
        text = report.svg(machine(), [result(Figures([1]), Figures([2]))] * 5)
        height = float(xml.etree.ElementTree.fromstring(text).attrib["height"])
        for bar in self.bars(text):
            self.assertLess(float(bar["y"]) + float(bar["height"]), height)
            self.assertLess(float(bar["x"]) + float(bar["width"]), report.WIDTH)


class Arguments(unittest.TestCase):
    def setUp(self):
        self.parse = program().arguments

    def refuses(self, *given: str):
        with self.assertRaises(SystemExit), open("/dev/null", "w") as nowhere:
            before, sys.stderr = sys.stderr, nowhere
            try:
                self.parse(list(given))
            finally:
                sys.stderr = before

    def test_defaults(self):
        options = self.parse([])
        self.assertEqual((options.rounds, options.size, options.wan_size), (5, 2 << 30, 200 << 20))
        self.assertIsNone(options.only)

    def test_lists_and_sizes(self):
        options = self.parse(["--only", "wan, tiny", "--peers", "scp", "--size", "64M"])
        self.assertEqual((options.only, options.peers, options.size), (["wan", "tiny"], ["scp"], 64 << 20))

    def test_refuses_what_makes_no_sense(self):
        self.refuses("--rounds", "0")
        self.refuses("--size", "2X")
        self.refuses("--size", "0")
        self.refuses("--colour")

    def test_cases_are_chosen_by_group(self):
        every = cases.all_cases(1 << 20, 1 << 20, Path("wanlink"))
        self.assertEqual(len(cases.choose(every, ["wan", "tiny"])), 1 + len(cases.LOSSES_PERCENT))
        self.assertEqual(cases.choose(every, None), every)
        self.assertEqual({one.group for one in every}, set(cases.GROUPS))
        with self.assertRaises(process.Failed):
            cases.choose(every, ["moon"])

    def test_peers_are_chosen_by_the_beginning_of_their_names(self):
        every = peers.all_peers(Path("towline"))
        self.assertEqual([peer.name for peer in peers.choose(every, ["rsync"])], ["rsync over ssh", "rsync daemon"])
        self.assertEqual(peers.choose(every, None), every)
        self.assertEqual(len({peer.name for peer in every}), len(every))
        with self.assertRaises(process.Failed):
            peers.choose(every, ["pigeon"])


class Files(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.one, self.other = Path(directory.name, "one"), Path(directory.name, "other")
        for root in (self.one, self.other):
            (root / "d").mkdir(parents=True)
            (root / "d" / "f").write_bytes(b"bytes")

    def test_the_same_is_the_same(self):
        data.check_same(self.one, self.other)
        data.check_same(self.one / "d" / "f", self.other / "d" / "f")

    def test_other_bytes_missing_files_and_files_too_many_are_found(self):
        for change in (
            lambda: (self.other / "d" / "f").write_bytes(b"bytez"),
            lambda: (self.other / "d" / "f").write_bytes(b"byte"),
            lambda: (self.other / "d" / "more").write_bytes(b""),
            lambda: (self.other / "d" / "f").unlink(),
        ):
            change()
            with self.assertRaises(process.Failed):
                data.check_same(self.one, self.other)
            (self.other / "d" / "more").unlink(missing_ok=True)
            (self.other / "d" / "f").write_bytes(b"bytes")


class Processes(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def test_a_failure_has_the_last_line_as_its_reason(self):
        with self.assertRaisesRegex(process.Failed, "exit 3: why"):
            process.timed(["sh", "-c", "echo first; echo why >&2; exit 3"], 60, self.directory)

    def test_what_goes_over_its_limit_is_ended(self):
        with self.assertRaises(process.TimedOut):
            process.timed(["sleep", "60"], 0.1, self.directory)

    def test_children_end_with_a_server_even_outside_of_its_group(self):
        script = "setsid sleep 60 & echo ready $!; wait"
        server = process.Server(["sh", "-c", script], self.directory, "server")
        self.addCleanup(server.stop)
        child = int(server.wait_for_words(r"ready (\d+)"))
        self.assertEqual(process.descendants(server.child.pid), [child])
        ended = os.pidfd_open(child)
        self.addCleanup(os.close, ended)
        server.stop()
        self.assertTrue(select.select([ended], [], [], 60)[0])

    def test_a_server_is_read_and_stopped(self):
        server = process.Server(["sh", "-c", "echo ticket: abc; exec sleep 60"], self.directory, "server")
        self.addCleanup(server.stop)
        self.assertEqual(server.wait_for_words(r"ticket: (\w+)"), "abc")
        server.stop()
        self.assertIsNotNone(server.child.returncode)

    def test_a_server_that_ends_says_why(self):
        server = process.Server(["sh", "-c", "echo no room; exit 1"], self.directory, "server")
        self.addCleanup(server.stop)
        with self.assertRaisesRegex(process.Failed, "server ended: no room"):
            server.wait_for_words(r"ticket: (\w+)")

