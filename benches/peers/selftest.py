"""Tests of what needs no network and no peer: `benches/peers/run --selftest`."""

from __future__ import annotations

import collections
import dataclasses
import importlib.machinery
import importlib.util
import os
import random
import select
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

import bad
import cases
import data
import links
import peers
import plot
import probe
import process
import report
import series
import studies
import transfer
from results import (
    CaseResult,
    Figure,
    Figures,
    Machine,
    Measure,
    Median,
    Results,
    Subject,
    at_least,
    at_most,
    load,
    merge,
    ratio,
)


def program():
    """The module of `run`, which has no ending."""
    path = str(Path(__file__).with_name("run"))
    loader = importlib.machinery.SourceFileLoader("peers_run", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("peers_run", loader))
    loader.exec_module(module)
    return module


def subject(key: str = "loopback", size: int = 1 << 30, files: int = 0, requirements=(), unit="MiB/s") -> Subject:
    return Subject(key, "loopback", f"a case {key}", "What it is.", requirements, size, files, unit)


def machine(**changes) -> Machine:
    versions, notes = {"towline": "towline 1", "other": "other | 2"}, {"towline": "x", "other": "y"}
    missing = {"third": "not installed"}
    of = Machine("2026-01-31", "6.1", 2, "A & B <model>", 3, False, versions, notes, missing)
    return dataclasses.replace(of, **changes)


def result(own: Figures, other: Figures, of: Subject | None = None) -> CaseResult:
    return CaseResult(of or subject(), {"towline": own, "other": other}, busy_percent=[1.4, 50])


def watched(values: list[float], *requirements) -> CaseResult:
    return CaseResult(subject("watched", requirements=requirements), measures={"share": Measure("%", values)})


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
        self.assertEqual(ratio(Median(3), Median(2)), Figure(1.5))

    def test_says_which_way_a_limit_cuts(self):
        self.assertEqual(ratio(Median(30, at_least=True), Median(2)), Figure(15, ">"))
        self.assertEqual(ratio(Median(3), Median(30, at_least=True)), Figure(0.1, "<"))
        self.assertIsNone(ratio(Median(30, at_least=True), Median(30, at_least=True)))


class Requirements(unittest.TestCase):
    def test_bounds_count_as_met(self):
        for requirement in (at_least("x", 2, "×"), at_most("x", 2, "s")):
            self.assertEqual(requirement.verdict(Figure(2)), "met")
        self.assertEqual(at_least("x", 2, "×").verdict(Figure(1.9)), "missed")
        self.assertEqual(at_most("x", 2, "s").verdict(Figure(2.1)), "missed")
        self.assertEqual(at_most("x", 2, "s").verdict(None), "not measured")

    def test_what_a_limit_cut_off_is_met_missed_or_open(self):
        ratio_ = at_least("x", 20, "×")
        self.assertEqual([ratio_.verdict(Figure(21, ">")), ratio_.verdict(Figure(19, ">"))], ["met", "open"])
        self.assertEqual([ratio_.verdict(Figure(21, "<")), ratio_.verdict(Figure(19, "<"))], ["open", "missed"])
        seconds = at_most("x", 20, "s")
        self.assertEqual([seconds.verdict(Figure(21, ">")), seconds.verdict(Figure(19, ">"))], ["missed", "open"])

    def test_an_aim_stands_beside_the_bound(self):
        requirement = at_least("x", 0.5, "×", aim=1)
        self.assertEqual(requirement.words(), "≥ 0.5 × (aim 1)")
        verdicts = [requirement.verdict(Figure(value)) for value in (0.4, 0.9, 1.0)]
        self.assertEqual(verdicts, ["missed", "met, not the aim", "met, the aim too"])

    def test_are_held_against_time_ratio_or_measure(self):
        one = result(Figures([2, 3, 4]), Figures([9]))
        self.assertEqual([one.figure(row) for row in ("towline", "other", "third")], [Figure(3), Figure(3.0), None])
        self.assertEqual(watched([1, 9, 2]).figure("share"), Figure(2))
        self.assertIsNone(result(Figures(failures=["no"]), Figures([9])).figure("other"))

    def test_each_belongs_to_a_program_or_a_measure_of_its_case(self):
        every = cases.timed_cases(cases.Sizes(), Path("wanlink"))
        names = {peer.name for peer in peers.all_peers(Path("towline"))}
        for case in every:
            for requirement in case.subject.requirements:
                self.assertIn(requirement.row, case.peers or names, case.subject.key)
            self.assertLessEqual(set(case.peers or ()), names)

    def test_bytes_that_are_left_out_take_their_time_off_the_bound(self):
        whole, half = (
            cases.choose(cases.timed_cases(cases.Sizes(wan=size << 20), Path("w")), ["wan-loss-5"])[0].subject
            for size in (200, 100)
        )
        self.assertEqual(whole.requirements[0].bound, 7.8)
        self.assertAlmostEqual(half.requirements[0].bound, 7.8 - 2.8, delta=0.01)


class Rates(unittest.TestCase):
    def test_has_the_unit_of_the_case(self):
        self.assertEqual(subject().rate(2), "512 MiB/s")
        self.assertEqual(subject(size=200 << 20, unit="Mbit/s").rate(10), "168 Mbit/s")
        self.assertEqual(subject(size=4096 * 10_000, files=10_000).rate(2), "5,000 files/s")
        self.assertEqual(subject(size=1).rate(0.1), "")


class Markdown(unittest.TestCase):
    def test_table_is_rectangular_and_escapes_bars(self):
        lines = report.table(["a", "b"], [["1", "2|3"]]).splitlines()
        self.assertEqual(lines, ["| a | b |", "| --- | ---: |", "| 1 | 2\\|3 |"])

    def test_rows_have_median_range_rate_ratio_and_verdict(self):
        held = subject(requirements=(at_most("towline", 1, "s"), at_least("other", 2, "×")))
        text = report.case_section(result(Figures([2, 1, 4]), Figures([5, 6, 4]), held))
        self.assertIn("| towline | 2.00 s | 1.00 s–4.00 s | 512 MiB/s |  | ≤ 1 s | missed | 3 |", text)
        self.assertIn("| other | 5.00 s | 4.00 s–6.00 s | 205 MiB/s | 2.50 × | ≥ 2 × | met | 3 |", text)
        self.assertIn("in percent: 1, 50.", text)

    def test_a_limit_stands_with_its_sign(self):
        text = report.case_section(result(Figures([2]), Figures([], [150])))
        self.assertIn("| other | > 150 s |  | < 7 MiB/s | > 75.0 × |  |  | 1 |", text)

    def test_failures_say_why(self):
        text = report.case_section(result(Figures([2]), Figures([], failures=["exit 1: no", "exit 1: no"])))
        self.assertIn("| other | failed |", text)
        self.assertIn("other: 2 of 2 runs failed: exit 1: no", text)
        one = watched([1])
        one.failures.append("exit 9: lost")
        self.assertIn("towline: 1 of 2 runs failed: exit 9: lost", report.case_section(one))

    def test_a_case_that_was_not_run_says_why_and_has_no_table(self):
        text = report.case_section(CaseResult(subject(), {"towline": Figures()}, reason="needs root"))
        self.assertIn("Not run: needs root.", text)
        self.assertNotIn("|", text)

    def test_measures_have_median_range_and_verdict(self):
        text = report.case_section(watched([1, 30, 20], at_least("share", 30, "%")))
        self.assertIn("| share | 20.0 % | 1.00–30.0 | ≥ 30 % | missed | 3 |", text)

    def test_whole_report_names_programs_and_those_that_are_missing(self):
        text = report.markdown(Results(machine(), [result(Figures([1]), Figures([2]))]), "results.svg")
        self.assertIn("| other | other \\| 2 | y |", text)
        self.assertIn("- third: not installed", text)
        self.assertIn("(results.svg)", text)
        self.assertNotIn("quick run", text)

    def test_all_verdicts_stand_together_and_are_counted(self):
        timed = result(Figures([1]), Figures([3]), subject(requirements=(at_least("other", 2, "×"),)))
        never = CaseResult(subject("never", requirements=(at_most("towline", 1, "s"),)), reason="needs root")
        given = Results(machine(quick=True), [timed, watched([5], at_least("share", 30, "%")), never])
        text = report.markdown(given, "results.svg")
        self.assertIn("1 met, 1 missed, 1 not measured.", text)
        self.assertIn("| a case loopback | beside other | ≥ 2 × | 3.00 × | met |", text)
        self.assertIn("| a case watched | share | ≥ 30 % | 5.00 % | missed |", text)
        self.assertIn("| a case never | time of towline | ≤ 1 s |  | not measured |", text)
        self.assertIn("**A quick run**", text)

    def test_without_towline_there_is_no_ratio(self):
        text = report.case_section(CaseResult(subject(), {"other": Figures([2])}))
        self.assertIn("| other | 2.00 s | 2.00 s | 512 MiB/s |  |  |  | 1 |", text)

    def test_durations_and_numbers(self):
        wanted = {0.0123: "12 ms", 0.9996: "1.00 s", 99.996: "100 s", 150: "150 s", 5.678: "5.68 s"}
        self.assertEqual({seconds: report.duration(seconds) for seconds in wanted}, wanted)
        self.assertEqual([report.number(value) for value in (1.234, 12.34, 1234.5, -3.0)],
                         ["1.23", "12.3", "1,234", "-3.00"])


class Svg(unittest.TestCase):
    def drawing(self, *of: CaseResult) -> str:
        return plot.svg(Results(machine(), list(of)))

    def bars(self, text: str) -> list[dict[str, str]]:
        """The attributes of all bars; fails when `text` is not well-formed."""
        root = xml.etree.ElementTree.fromstring(text)
        return [element.attrib for element in root.iter("{http://www.w3.org/2000/svg}rect") if "x" in element.attrib]

    def test_is_well_formed_and_bars_are_as_long_as_speeds(self):
        odd = Subject("odd", "loopback", 'a <b> & "c"', "", size=1 << 20)
        own, other = self.bars(self.drawing(result(Figures([1]), Figures([2]), odd)))
        self.assertAlmostEqual(float(own["width"]), 2 * float(other["width"]), delta=0.2)
        self.assertNotEqual(own["class"], other["class"])

    def test_bars_are_labelled_with_ratios(self):
        text = self.drawing(result(Figures([1]), Figures([4])), result(Figures([1]), Figures([], [150])))
        for words in ("0.25 ×", "1,024 MiB/s", "&lt; 0.01 ×"):
            self.assertIn(f">{words}</text>", text)

    def test_one_that_was_ended_fades(self):
        own, other = self.bars(self.drawing(result(Figures([1]), Figures([], [150]))))
        self.assertEqual(own["fill-opacity"], "1")
        self.assertLess(float(other["fill-opacity"]), 1)

    def test_nothing_to_compare_is_a_drawing_without_bars(self):
        self.assertEqual(self.bars(self.drawing(result(Figures(), Figures()), watched([1]))), [])
        self.assertEqual(self.bars(self.drawing(result(Figures([1]), Figures(failures=["no"])))), [])

    def test_all_is_inside_the_drawing_and_in_two_columns(self):
        text = self.drawing(*[result(Figures([1]), Figures([0.5]))] * 5)
        height = float(xml.etree.ElementTree.fromstring(text).attrib["height"])
        for bar in self.bars(text):
            self.assertLess(float(bar["y"]) + float(bar["height"]), height)
            self.assertLess(float(bar["x"]) + float(bar["width"]) + plot.TEXT_WIDTH, plot.WIDTH)
        self.assertEqual(len({bar["x"] for bar in self.bars(text)}), 2)

    def test_says_of_the_rsync_daemon_that_it_does_not_encrypt(self):
        plain = result(Figures([1]), Figures([1]))
        self.assertNotIn("encrypt", self.drawing(plain))
        plain.figures["rsync daemon"] = Figures([1])
        self.assertIn("the rsync daemon does not encrypt", self.drawing(plain))


class Kept(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name, "results.json")

    def test_what_was_saved_is_read_back(self):
        held = subject(requirements=(at_least("other", 2, "×", aim=3),))
        given = Results(machine(), [result(Figures([1], [2], ["no"]), Figures(), held), watched([1, 2])])
        given.cases[1].failures.append("exit 9")
        given.cases[1].reason = "needs root"
        given.save(self.path)
        self.assertEqual(load(self.path), given)

    def test_what_is_no_result_is_refused(self):
        for text in ("", "[]", '{"format": 99}', '{"format": 1, "machine": {}, "cases": []}'):
            self.path.write_text(text)
            with self.assertRaises(process.Failed):
                load(self.path)

    def test_reports_are_merged_in_order_and_the_later_one_counts(self):
        def part(date: str, missing: dict[str, str], *groups: tuple[str, str]) -> Results:
            of = machine(date=date, missing=missing, versions={"towline": date})
            return Results(of, [CaseResult(Subject(key, key, key, "", ()), reason=why) for key, why in groups])

        first = part("2026-01-01, 2026-01-02", {"qcp": "not installed"}, ("wan", "old"), ("loopback", "kept"))
        second = part("2026-01-01", {"towline": "not there"}, ("tiny", "more"), ("wan", "new"))
        merged = merge([first, second], cases.GROUPS)
        self.assertEqual([(case.subject.key, case.reason) for case in merged.cases],
                         [("loopback", "kept"), ("tiny", "more"), ("wan", "new")])
        self.assertEqual(merged.machine.date, "2026-01-01, 2026-01-02")
        self.assertEqual(merged.machine.missing, {"qcp": "not installed"})

    def test_rounds_are_pooled_when_that_is_asked_for(self):
        def part(*values: float) -> Results:
            timed = result(Figures(list(values)), Figures([2 * value for value in values], [30.0]))
            return Results(machine(rounds=len(values)), [timed, dataclasses.replace(watched(list(values)), subject=subject("other"))])

        pooled = merge([part(1.0, 2.0), part(3.0)], cases.GROUPS, pooled=True)
        timed, seen = pooled.cases
        self.assertEqual(pooled.machine.rounds, 3)
        self.assertEqual(timed.figures["towline"], Figures([1.0, 2.0, 3.0]))
        self.assertEqual(timed.figures["other"], Figures([2.0, 4.0, 6.0], [30.0, 30.0]))
        self.assertEqual([measure.values for measure in seen.measures.values()], [[1.0, 2.0, 3.0]])
        self.assertEqual(timed.busy_percent, [1.4, 50, 1.4, 50])
        later = merge([part(1.0, 2.0), part(3.0)], cases.GROUPS)
        self.assertEqual(later.cases[0].figures["towline"], Figures([3.0]))

    def test_each_remark_stands_once(self):
        parts = [Results(machine(remark=remark), []) for remark in ("One.", "", "Two.", "One.")]
        merged = merge(parts, cases.GROUPS)
        self.assertEqual(merged.machine.remark, "One. Two.")
        self.assertIn("\nOne. Two.\n", report.markdown(merged, "plot"))
        self.assertNotIn("\n\n\n", report.markdown(Results(machine(), []), "plot"))


class Series(unittest.TestCase):
    POINTS = [(0.0, 0.0), (1.0, 10.0), (3.0, 10.0), (4.0, 50.0)]

    def test_reads_between_points_and_beyond_them(self):
        wanted = {-1: 0, 0: 0, 0.5: 5, 2: 10, 3.5: 30, 9: 50}
        self.assertEqual({x: series.value_at(self.POINTS, x) for x in wanted}, wanted)
        self.assertEqual(series.value_at([], 1), 0)

    def test_finds_when_a_value_is_reached_first(self):
        wanted = {0: 0, 5: 0.5, 10: 1, 30: 3.5, 51: None}
        self.assertEqual({y: series.reached(self.POINTS, y) for y in wanted}, wanted)

    def test_finds_the_first_window_that_is_steep_enough(self):
        steep = [(x / 10, 0.0 if x < 20 else (x - 20) * 1.0) for x in range(60)]
        self.assertEqual(series.mean_slope(steep, 2, 4), 10)
        self.assertAlmostEqual(series.first_window(steep, 1, 5, slope=8), 0.8)
        self.assertIsNone(series.first_window(steep, 1, 2.5, slope=8))

    def test_finds_the_longest_run_above_a_bound(self):
        self.assertEqual(series.longest_above([(1, 0.2), (1, 0.1), (0.5, 0.2), (1, 0.3)], 0.1), 1.5)
        self.assertEqual(series.longest_above([], 0.1), 0)


class Watching(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name, "output")

    def test_progress_is_read_from_whole_lines_of_its_kind(self):
        event = '{"event":"progress","elapsed_seconds":%s,"written_bytes":7,"done_files":2,"later":[]}'
        self.path.write_text(f'{{"event":"file"}}\n{event % 1.5}\ntowline: oh\n{event % 2}')
        self.assertEqual(transfer.parse_progress(self.path), [transfer.Progress(1.5, 7, 2)])

    def test_memory_of_a_process_is_read_until_it_has_ended(self):
        self.assertGreater(transfer.peak_mib(os.getpid()), 1)
        child = subprocess.Popen(["true"])
        child.wait()
        self.assertIsNone(transfer.peak_mib(child.pid))

    def test_a_flag_that_this_towline_does_not_know_is_noticed(self):
        self.path.write_text('#!/bin/sh\n[ "$1" = send ] || exit 2\necho "      --background[=<BOOL>]"\n')
        self.path.chmod(0o700)
        towline = peers.Towline(self.path)
        asked = (("send", "--background"), ("send", "--back"), ("bench", "--wait"))
        known = [towline.has_flag(*words) for words in asked]
        self.assertEqual(known, [True, False, False])

    def test_samples_of_the_link_are_whole_lines(self):
        text = "0.100 10 1000 1 2 4 0 0 0 0 0\n0.200 30 3000 1 22 5 0 0 0 0 0\n0.300 4"
        samples = links.parse_samples(text)
        self.assertEqual(samples, [links.Sample(0.1, 10, 1000, 3, 4), links.Sample(0.2, 30, 3000, 23, 5)])
        (shares,) = studies.loss_shares(samples)
        self.assertEqual((round(shares[0], 3), shares[1]), (0.1, 0.5))
        self.assertEqual(studies.loss_shares([samples[0], samples[0]]), [(0.0, 0.0)])

    def test_conditions_become_options(self):
        options = links.Conditions(loss_percent=0.5, burst=10, changes=((5, 30),)).options()
        self.assertEqual(options[options.index("--loss") + 1], "0.5")
        self.assertEqual(options[-2:], ["--then", "5:30"])
        self.assertNotIn("--mark-ms", options)
        self.assertEqual(links.Conditions(mark_ms=2).options()[-2:], ["--mark-ms", "2"])

    def test_round_trips_are_whole_lines(self):
        self.assertEqual(probe.parse("1.0 40.5\n2.0 41.5\n3.0 4"), [(1.0, 40.5), (2.0, 41.5)])

    def test_what_tcp_got_is_read_from_iperf3(self):
        self.assertEqual(studies.iperf3_bytes('{"end": {"sum_received": {"bytes": 12}}}'), 12)
        for text in ("", '{"error": "unable to connect"}', '{"end": {}}'):
            with self.assertRaises(process.Failed):
                studies.iperf3_bytes(text)

    def test_quarters_are_timed_though_the_last_event_comes_early(self):
        points = [(0.0, 0.0), (1.0, 25.0), (2.0, 50.0), (4.0, 75.0), (5.0, 99.0)]
        self.assertEqual(studies.quarter_seconds(points, 100), [1, 1, 2, 1])

    def test_growth_of_time_and_memory_is_read_off(self):
        progress = [transfer.Progress(seconds, 0, files) for seconds, files in ((0, 0), (1, 25), (2, 50), (5, 100))]
        memory = [transfer.Memory(seconds, 10 + seconds, 20) for seconds in (0, 1, 5)]
        reading = {name: one.values[0] for name, one in studies.empty_reading(progress, memory, 100).items()}
        self.assertEqual([reading[f"{files} files"] for files in (25, 50, 100)], [1, 2, 5])
        self.assertEqual(reading[studies.SECOND_HALF], 1.5)
        self.assertEqual((reading[studies.GROWTH_AT_SENDER], reading[studies.GROWTH_AT_RECEIVER]), (4, 0))
        self.assertEqual(reading[studies.MEMORY_AT_SENDER], 15)

    def test_shares_are_those_of_both_and_of_the_link(self):
        reading = studies.shares(75e6, 25e6, 10)
        self.assertEqual([reading[name].values for name in (studies.SHARE, studies.SMALLER_SHARE, studies.BESIDE)],
                         [[75], [25], [80]])


class Turns(unittest.TestCase):
    def test_a_round_has_all_programs_and_begins_with_another_one(self):
        for count in range(1, 9):
            programs = list(range(count))
            rounds = [cases.in_turn(programs, round_) for round_ in range(2 * count)]
            self.assertTrue(all(sorted(order) == programs for order in rounds))
            self.assertEqual([order[0] for order in rounds], 2 * programs)

    def test_each_program_follows_each_other_one_as_often(self):
        for count in range(2, 9):
            rounds = [cases.in_turn(list(range(count)), round_) for round_ in range(2 * count)]
            pairs = collections.Counter(pair for order in rounds for pair in zip(order, order[1:]))
            self.assertEqual((len(pairs), set(pairs.values())), (count * (count - 1), {2}))


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
        self.assertEqual((options.rounds, options.sizes), (5, cases.Sizes()))
        self.assertEqual((options.sizes.big, options.sizes.wan), (2 << 30, 200 << 20))
        self.assertIsNone(options.only)

    def test_quick_is_smaller_unless_told_otherwise(self):
        options = self.parse(["--quick", "--wan-size", "1M"])
        self.assertEqual((options.rounds, options.sizes.big, options.sizes.wan), (1, cases.QUICK.big, 1 << 20))
        self.assertEqual(self.parse(["--quick", "--rounds", "3"]).rounds, 3)

    def test_lists_and_sizes(self):
        options = self.parse(["--only", "wan, tiny", "--peers", "scp", "--size", "64M"])
        self.assertEqual((options.only, options.peers, options.sizes.big), (["wan", "tiny"], ["scp"], 64 << 20))

    def test_refuses_what_makes_no_sense(self):
        self.refuses("--rounds", "0")
        self.refuses("--size", "2X")
        self.refuses("--size", "0")
        self.refuses("--colour")

    def test_cases_are_chosen_by_group(self):
        sizes, wanlink = cases.Sizes(), Path("wanlink")
        every = cases.timed_cases(sizes, wanlink) + studies.all_studies(sizes, wanlink) + bad.bad_paths(wanlink)
        self.assertEqual(len(cases.choose(every, ["wan", "tiny", "queue"])), 1 + 7 + 1)
        self.assertEqual(cases.choose(every, None), every)
        self.assertEqual({one.subject.group for one in every}, set(cases.GROUPS))
        self.assertEqual(len({one.subject.key for one in every}), len(every))
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

    def test_holes_are_passed_over_and_what_differs_behind_them_is_found(self):
        for root in (self.one, self.other):
            data.write_sparse(root / "sparse", 3 * data.SPARSE_STEP + 5, random.Random(1))
        self.assertLess((self.one / "sparse").stat().st_blocks * 512, 5 * data.BLOCK)
        data.check_same(self.one, self.other)
        with open(self.other / "sparse", "r+b") as file:
            file.seek(2 * data.SPARSE_STEP + 2 * data.BLOCK)
            file.write(b"x")
        with self.assertRaises(process.Failed):
            data.check_same(self.one, self.other)


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

    def test_a_server_that_ends_while_it_should_run_has_failed(self):
        server = process.Server(["sh", "-c", "echo too early"], self.directory, "server")
        self.addCleanup(server.stop)
        with self.assertRaisesRegex(process.Failed, "server ended: too early"):
            server.let_run(60)

    def test_a_server_that_ends_says_why(self):
        server = process.Server(["sh", "-c", "echo no room; exit 1"], self.directory, "server")
        self.addCleanup(server.stop)
        with self.assertRaisesRegex(process.Failed, "server ended: no room"):
            server.wait_for_words(r"ticket: (\w+)")

