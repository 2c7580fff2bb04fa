//! The controller on links of all kinds. The bounds leave some margin, and every run is the same.

use std::time::Duration;

use super::simulator::{PACKET, SimulatedPath, Simulator};
use crate::transport::KnownPath;

const MBIT: u64 = 12;

fn alone(link: SimulatedPath, ms: u64) -> Simulator {
    let mut simulator = Simulator::new(link);
    simulator.measure_from_ms = ms / 4;
    simulator.add_ours(0);
    simulator.run(ms);
    simulator
}

/// Percent of the link that a lone flow gets once it has started up.
fn share_alone(link: SimulatedPath) -> f64 {
    alone(link, 8000).mbit(0, 2000, 8000) * 100.0 / MBIT as f64
}

#[test]
fn alone_it_fills_the_link_and_little_of_the_queue() {
    for (rtt_ms, queue_ms) in [(20, 20), (40, 40), (100, 100), (40, 400)] {
        let run = alone(SimulatedPath::new(MBIT, rtt_ms, queue_ms), 8000);
        let mbit = run.mbit(0, 2000, 8000);
        assert!(mbit >= 0.92 * MBIT as f64, "{mbit:.1} Mbit/s at {rtt_ms} ms");
        let queue = run.mean_queue_ms();
        // A packet takes 0.8 ms.
        assert!(queue <= rtt_ms as f64 / 4.0 + 0.8, "a queue of {queue:.1} ms at {rtt_ms} ms");
        let dropped = run.dropped_percent(0, 0, 8000);
        assert!(dropped <= 1.0, "{dropped:.1} % dropped at {rtt_ms} ms");
    }
}

#[test]
fn a_long_path_and_a_short_queue_are_no_obstacle() {
    let long = alone(SimulatedPath::new(MBIT, 300, 100), 20_000);
    let mbit = long.mbit(0, 0, 20_000);
    assert!(mbit >= 0.8 * MBIT as f64, "{mbit:.1} Mbit/s at 300 ms");
    let shallow = alone(SimulatedPath::new(MBIT, 40, 10), 8000);
    let (mbit, dropped) = (shallow.mbit(0, 2000, 8000), shallow.dropped_percent(0, 2000, 8000));
    assert!(mbit >= 0.85 * MBIT as f64, "{mbit:.1} Mbit/s with a queue of 10 ms");
    assert!(dropped <= 4.0, "{dropped:.1} % dropped with a queue of 10 ms");
}

#[test]
fn loss_that_is_noise_does_not_slow_it_down() {
    for (loss_permille, burst, percent) in [(1, 1, 92.0), (10, 1, 92.0), (50, 1, 85.0), (10, 10, 88.0)] {
        let share = share_alone(SimulatedPath { loss_permille, burst, ..SimulatedPath::new(MBIT, 100, 100) });
        assert!(share >= percent, "{share:.0} % of the link, {loss_permille} ‰ lost in runs of {burst}");
    }
}

/// Seconds that a lone flow takes for `mib`.
fn seconds(link: SimulatedPath, mib: u64) -> f64 {
    alone(link, 20_000).seconds_to(0, mib << 20)
}

/// With more than 10 ms of it, packets here come further behind the newest than quinn stands.
#[test]
fn jitter_that_reorders_does_not_slow_it_down() {
    for (jitter_ms, mbit) in [(10, 90.0), (20, 38.0), (40, 20.0)] {
        let run =
            alone(SimulatedPath { jitter_us: jitter_ms * 1000, ..SimulatedPath::new(100, 40, 50) }, 6000);
        let got = run.mbit(0, 1000, 6000);
        assert!(got >= mbit, "{got:.1} of 100 Mbit/s with {jitter_ms} ms of jitter");
    }
    let lte = SimulatedPath { jitter_us: 15_000, loss_permille: 5, ..SimulatedPath::new(30, 50, 300) };
    let seconds = seconds(lte, 20);
    assert!(seconds <= 7.0, "{seconds} s for 20 MiB over a link like LTE");
}

#[test]
fn a_standing_queue_is_told_from_jitter() {
    for jitter_us in [10_000, 20_000] {
        let run = alone(SimulatedPath { jitter_us, ..SimulatedPath::new(MBIT, 40, 200) }, 10_000);
        let queue = run.mean_queue_ms();
        assert!(queue <= 25.0, "a queue of {queue:.1} ms of its own, with {jitter_us} us of jitter");
    }
}

#[test]
fn heavy_loss_that_is_noise_does_not_slow_it_down() {
    for (loss_permille, limit) in [(120, 6.5), (250, 8.0)] {
        let seconds = seconds(SimulatedPath { loss_permille, ..SimulatedPath::new(100, 40, 50) }, 60);
        assert!(seconds <= limit, "{seconds} s for 60 MiB while {loss_permille} ‰ are lost");
    }
    let mut run = Simulator::new(SimulatedPath { loss_permille: 120, ..SimulatedPath::new(MBIT, 40, 40) });
    run.add_ours(0);
    run.add_ours(3000);
    run.run(30_000);
    let (a, b) = (run.mbit(0, 5000, 30_000), run.mbit(1, 5000, 30_000));
    assert!(a.min(b) >= 0.2 * (a + b), "{a:.1} and {b:.1} Mbit/s while 12 % are lost");
}

#[test]
fn half_of_all_lost_is_never_noise() {
    let share = share_alone(SimulatedPath { loss_permille: 500, ..SimulatedPath::new(MBIT, 100, 100) });
    assert!(share <= 30.0, "{share:.0} % of the link while half is lost");
}

/// A policer drops everything above a rate, and delays nothing.
#[test]
fn a_policer_is_found_and_kept_to() {
    for burst_ms in [10, 30] {
        let run = alone(SimulatedPath { polices: true, ..SimulatedPath::new(50, 40, burst_ms) }, 14_000);
        let (mbit, lost) = (run.mbit(0, 2000, 14_000), run.dropped_percent(0, 2000, 14_000));
        assert!(mbit >= 45.0, "{mbit:.1} of 50 Mbit/s, at once {burst_ms} ms");
        assert!(lost <= 5.0, "{lost:.1} % lost, at once {burst_ms} ms");
    }
    let rates = vec![(0, 50), (5000, 20)];
    let run = alone(SimulatedPath { polices: true, rates, ..SimulatedPath::new(0, 40, 10) }, 12_000);
    let (mbit, lost) = (run.mbit(0, 7000, 12_000), run.dropped_percent(0, 7000, 12_000));
    assert!(mbit >= 17.0, "{mbit:.1} of 20 Mbit/s");
    assert!(lost <= 5.5, "{lost:.1} % lost from two seconds after the fall on");
}

#[test]
fn a_long_fat_path_is_filled_within_twelve_rounds() {
    let held = 800_000_000 / 8 / PACKET / 5;
    for queue_ms in [100, 5] {
        let run = alone(SimulatedPath::new(800, 200, queue_ms), 2400);
        let best = (1..24).map(|at| run.mbit(0, at * 100, (at + 1) * 100)).fold(0.0, f64::max);
        assert!(best >= 0.9 * 800.0, "{best:.0} of 800 Mbit/s after twelve rounds, queue {queue_ms} ms");
        let dropped: u64 = run.tenths[0].iter().map(|tenth| tenth.dropped).sum();
        assert!(dropped <= held * 115 / 100, "{dropped} packets dropped, queue {queue_ms} ms");
    }
    let seconds = seconds(SimulatedPath::new(200, 200, 100), 125);
    assert!(seconds <= 7.8, "{seconds} s for 125 MiB of 200 Mbit/s");
    let shallow = alone(SimulatedPath::new(200, 200, 5), 12_000).seconds_to(0, 125 << 20);
    assert!(shallow <= 9.0, "{shallow} s with a queue of 5 ms");
}

#[test]
fn a_satellite_is_started_up_once() {
    let link = SimulatedPath { loss_permille: 10, ..SimulatedPath::new(20, 600, 200) };
    let seconds = seconds(link, 20);
    assert!(seconds <= 11.4, "{seconds} s for 20 MiB of 20 Mbit/s at 600 ms");
}

#[test]
fn a_path_that_was_dead_is_used_again_at_once() {
    for back_ms in [4000, 22_000, 37_000] {
        let link = SimulatedPath { outage_ms: Some((2000, back_ms)), ..SimulatedPath::new(50, 40, 50) };
        let run = alone(link, back_ms + 8000);
        assert!(run.mbit(0, 2100, back_ms) == 0.0, "the path was not dead");
        let first = run.mbit(0, back_ms, back_ms + 1500);
        assert!(first > 0.0, "nothing came within 1.5 s after the path was back at {back_ms} ms");
        let mbit = run.mbit(0, back_ms + 3000, back_ms + 8000);
        assert!(mbit >= 45.0, "{mbit:.1} of 50 Mbit/s after the path was back at {back_ms} ms");
    }
}

/// What an earlier transfer found on a path without loss.
fn known(mbit: u64, rtt_ms: u64) -> KnownPath {
    KnownPath { bandwidth: mbit * 125_000, min_rtt: Duration::from_millis(rtt_ms), lost_permille: 0 }
}

/// A lone flow that knows the path.
fn resuming(link: SimulatedPath, known: KnownPath, ms: u64) -> Simulator {
    let mut simulator = Simulator::new(link);
    simulator.add_resuming(0, known);
    simulator.run(ms);
    simulator
}

fn dropped(run: &Simulator) -> u64 {
    run.tenths[0].iter().map(|tenth| tenth.dropped).sum()
}

#[test]
fn a_known_path_is_taken_up() {
    for (mbit, rtt_ms, queue_ms) in [(200, 200, 5), (200, 200, 100), (20, 600, 200), (100, 40, 40)] {
        let link = SimulatedPath::new(mbit, rtt_ms, queue_ms);
        let bytes = mbit * 125_000 * rtt_ms / 1000 * 10;
        let ms = 1000 + 20 * rtt_ms;
        let (first, second) = (alone(link.clone(), ms), resuming(link, known(mbit, rtt_ms), ms));
        let (slow, fast) = (first.seconds_to(0, bytes), second.seconds_to(0, bytes));
        assert!(fast + 0.002 * rtt_ms as f64 <= slow, "{fast} s instead of {slow} at {rtt_ms} ms");
        let (before, after) = (dropped(&first), dropped(&second));
        assert!(after <= before * 7 / 10, "{after} packets dropped instead of {before} at {rtt_ms} ms");
    }
    let lossy = SimulatedPath { loss_permille: 120, ..SimulatedPath::new(100, 40, 50) };
    let known = KnownPath { lost_permille: 120, ..known(100, 40) };
    let (first, second) = (alone(lossy.clone(), 4000), resuming(lossy, known, 4000));
    let (slow, fast) = (first.seconds_to(0, 10 << 20), second.seconds_to(0, 10 << 20));
    assert!(fast < slow, "{fast} s instead of {slow} while 12 % are lost");
}

#[test]
fn a_path_of_another_length_is_not_the_known_one() {
    let link = SimulatedPath::new(30, 100, 100);
    let first = alone(link.clone(), 1000).mbit(0, 0, 1000);
    for (rtt_ms, is_alike) in [(40, false), (60, false), (80, true), (180, true), (220, false)] {
        let second = resuming(link.clone(), known(30, rtt_ms), 1000).mbit(0, 0, 1000);
        assert_eq!(second > first, is_alike, "{second} and {first} Mbit/s, known with {rtt_ms} ms");
    }
}

#[test]
fn a_known_path_that_is_slower_now_is_left_at_once() {
    for queue_ms in [20, 100, 400] {
        let link = SimulatedPath::new(3, 100, queue_ms);
        let first = alone(link.clone(), 10_000);
        let second = resuming(link, known(30, 100), 10_000);
        let (fresh, resumed) = (first.seconds_to(0, 1 << 20), second.seconds_to(0, 1 << 20));
        assert!(resumed <= fresh + 0.7, "{resumed} s instead of {fresh}, queue {queue_ms} ms");
        // The jump sends half of what a path of 30 Mbit/s holds: 156 packets.
        let (before, after) = (dropped(&first), dropped(&second));
        assert!(after <= before + 156, "{after} packets dropped instead of {before}, queue {queue_ms} ms");
        let (mbit, lost) = (second.mbit(0, 2000, 10_000), second.dropped_percent(0, 2000, 10_000));
        assert!(mbit >= 0.85 * 3.0 && lost <= 3.0, "{mbit:.1} of 3 Mbit/s, {lost:.1} % lost");
    }
}

#[test]
fn a_known_path_that_is_shared_now_is_shared() {
    for is_cubic in [true, false] {
        let mut run = Simulator::new(SimulatedPath::new(MBIT, 40, 40));
        let other = if is_cubic { run.add_cubic(0) } else { run.add_ours(0) };
        let ours = run.add_resuming(5000, known(MBIT, 40));
        run.run(40_000);
        for (from, to) in [(5000, 6000), (10_000, 40_000)] {
            let (ours, other) = (run.mbit(ours, from, to), run.mbit(other, from, to));
            assert!(ours.min(other) >= 0.3 * MBIT as f64, "ours {ours:.1}, the other {other:.1} Mbit/s");
        }
    }
}

#[test]
fn late_and_bunched_acks_do_not_slow_it_down() {
    for (jitter_us, ack_grid_us) in [(1000, 1), (5000, 1), (0, 10_000), (0, 25_000)] {
        let share =
            share_alone(SimulatedPath { jitter_us, ack_grid_us, ..SimulatedPath::new(MBIT, 100, 100) });
        assert!(share >= 88.0, "{share:.0} % with {jitter_us} us of jitter, acks each {ack_grid_us} us");
    }
}

#[test]
fn it_follows_a_rate_that_falls_and_rises_by_ten() {
    let rates = vec![(0, 30), (5000, 3), (10_000, 30)];
    let run = alone(SimulatedPath { rates, ..SimulatedPath::new(0, 100, 100) }, 15_000);
    let fallen = run.mbit(0, 8000, 10_000);
    assert!(fallen >= 0.8 * 3.0, "{fallen:.1} of 3 Mbit/s");
    let lossy = (5000..10_000).step_by(100).filter(|ms| run.dropped_percent(0, *ms, ms + 100) > 10.0).count();
    assert!(lossy <= 10, "more than a tenth was dropped for {lossy} tenths of a second");
    let risen = run.mbit(0, 13_000, 15_000);
    assert!(risen >= 0.8 * 30.0, "{risen:.1} of 30 Mbit/s");
}

#[test]
fn two_of_a_kind_share() {
    for second_at_ms in [0, 3000] {
        let mut run = Simulator::new(SimulatedPath::new(MBIT, 40, 40));
        run.add_ours(0);
        run.add_ours(second_at_ms);
        run.run(30_000);
        let (a, b) = (run.mbit(0, 5000, 30_000), run.mbit(1, 5000, 30_000));
        assert!(a.min(b) >= 0.4 * (a + b), "{a:.1} and {b:.1} Mbit/s");
        assert!(a + b >= 0.9 * MBIT as f64, "{a:.1} and {b:.1} Mbit/s leave the link idle");
    }
}

#[test]
fn beside_cubic_neither_side_starves() {
    for ours_first in [false, true] {
        let mut run = Simulator::new(SimulatedPath::new(MBIT, 40, 40));
        let (ours, cubic) = if ours_first {
            (run.add_ours(0), run.add_cubic(2000))
        } else {
            let cubic = run.add_cubic(0);
            (run.add_ours(2000), cubic)
        };
        run.run(40_000);
        let (ours, cubic) = (run.mbit(ours, 5000, 40_000), run.mbit(cubic, 5000, 40_000));
        assert!(ours.min(cubic) >= 0.3 * MBIT as f64, "ours {ours:.1}, CUBIC {cubic:.1} Mbit/s");
    }
}

#[test]
fn marks_are_heard() {
    let deaf = alone(SimulatedPath::new(MBIT, 100, 100), 8000).mean_queue_ms();
    let run = alone(SimulatedPath { mark_ms: Some(12), ..SimulatedPath::new(MBIT, 100, 100) }, 8000);
    let (mbit, heard) = (run.mbit(0, 2000, 8000), run.mean_queue_ms());
    assert!(heard <= deaf * 0.9, "a queue of {heard:.1} ms with marks, {deaf:.1} without");
    assert!(mbit >= 0.8 * MBIT as f64, "{mbit:.1} Mbit/s with marks");
}

#[test]
fn in_the_background_it_fills_an_idle_link() {
    for (link, percent) in [
        (SimulatedPath::new(MBIT, 20, 20), 75.0),
        (SimulatedPath::new(MBIT, 40, 40), 85.0),
        (SimulatedPath::new(MBIT, 100, 100), 85.0),
        (SimulatedPath::new(MBIT, 40, 400), 85.0),
        (SimulatedPath { loss_permille: 10, ..SimulatedPath::new(MBIT, 100, 100) }, 85.0),
        (SimulatedPath { jitter_us: 5000, ..SimulatedPath::new(MBIT, 100, 100) }, 85.0),
    ] {
        let mut run = Simulator::new(link.clone());
        let flow = run.add_background(0);
        run.run(20_000);
        let share = run.mbit(flow, 2000, 20_000) * 100.0 / MBIT as f64;
        assert!(share >= percent, "{share:.0} % of a link of {} ms", link.rtt_ms);
    }
}

#[test]
fn in_the_background_it_makes_way_for_cubic() {
    for (queue_ms, ours_first) in [(20, true), (40, false), (40, true), (100, false), (100, true)] {
        let mut run = Simulator::new(SimulatedPath::new(MBIT, 40, queue_ms));
        let (ours, cubic) = if ours_first {
            (run.add_background(0), run.add_cubic(5000))
        } else {
            let cubic = run.add_cubic(0);
            (run.add_background(5000), cubic)
        };
        run.run(60_000);
        let (ours, cubic) = (run.mbit(ours, 10_000, 60_000), run.mbit(cubic, 10_000, 60_000));
        assert!(ours <= 0.08 * MBIT as f64, "ours {ours:.1}, CUBIC {cubic:.1} Mbit/s, queue {queue_ms} ms");
        assert!(
            ours + cubic >= 0.9 * MBIT as f64,
            "ours {ours:.1}, CUBIC {cubic:.1} Mbit/s, queue {queue_ms} ms"
        );
    }
}

/// The other flow has left slow start at once.
#[test]
fn in_the_background_it_makes_way_for_one_that_grows_slowly() {
    let mut run = Simulator::new(SimulatedPath::new(MBIT, 40, 40));
    let ours = run.add_background(0);
    let cubic = run.add_slow_cubic(5000);
    run.run(60_000);
    let (ours, cubic) = (run.mbit(ours, 5000, 60_000), run.mbit(cubic, 5000, 60_000));
    assert!(ours <= 0.08 * MBIT as f64, "ours {ours:.1}, CUBIC {cubic:.1} Mbit/s");
}

#[test]
fn in_the_background_it_comes_back_when_the_other_has_gone() {
    for gone in (12_000..18_000).step_by(1000) {
        let mut run = Simulator::new(SimulatedPath::new(MBIT, 40, 40));
        let ours = run.add_background(0);
        let cubic = run.add_cubic(3000);
        run.stop(cubic, gone);
        run.run(gone + 15_000);
        let (beside, after) = (run.mbit(ours, 8000, gone), run.mbit(ours, gone + 5000, gone + 15_000));
        assert!(beside <= 0.1 * MBIT as f64, "{beside:.1} Mbit/s beside CUBIC, until {gone} ms");
        assert!(after >= 0.85 * MBIT as f64, "{after:.1} Mbit/s after it has gone at {gone} ms");
    }
}
