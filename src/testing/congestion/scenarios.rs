//! What the controller does on links of all kinds; the bounds leave room, and every run is the same.

use super::simulator::{Link, Simulator};

const MBIT: u64 = 12;

fn alone(link: Link, ms: u64) -> Simulator {
    let mut simulator = Simulator::new(link);
    simulator.measure_from_ms = ms / 4;
    simulator.add_ours(0);
    simulator.run(ms);
    simulator
}

/// Percent of the link that a lone flow gets once it has started up.
fn share_alone(link: Link) -> f64 {
    alone(link, 8000).mbit(0, 2000, 8000) * 100.0 / MBIT as f64
}

#[test]
fn alone_it_fills_the_link_and_little_of_the_queue() {
    for (rtt_ms, queue_ms) in [(20, 20), (40, 40), (100, 100), (40, 400)] {
        let run = alone(Link::new(MBIT, rtt_ms, queue_ms), 8000);
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
    let long = alone(Link::new(MBIT, 300, 100), 20_000);
    let mbit = long.mbit(0, 0, 20_000);
    assert!(mbit >= 0.8 * MBIT as f64, "{mbit:.1} Mbit/s at 300 ms");
    let shallow = alone(Link::new(MBIT, 40, 10), 8000);
    let (mbit, dropped) = (shallow.mbit(0, 2000, 8000), shallow.dropped_percent(0, 2000, 8000));
    assert!(mbit >= 0.85 * MBIT as f64, "{mbit:.1} Mbit/s with a queue of 10 ms");
    assert!(dropped <= 4.0, "{dropped:.1} % dropped with a queue of 10 ms");
}

#[test]
fn loss_that_is_noise_does_not_slow_it_down() {
    for (loss_permille, burst, percent) in [(1, 1, 92.0), (10, 1, 92.0), (50, 1, 85.0), (10, 10, 88.0)] {
        let share = share_alone(Link { loss_permille, burst, ..Link::new(MBIT, 100, 100) });
        assert!(share >= percent, "{share:.0} % of the link, {loss_permille} ‰ lost in runs of {burst}");
    }
}

#[test]
fn loss_that_stays_brings_it_down() {
    let share = share_alone(Link { loss_permille: 200, ..Link::new(MBIT, 100, 100) });
    assert!(share <= 40.0, "{share:.0} % of the link while a fifth is lost");
}

#[test]
fn late_and_bunched_acks_do_not_slow_it_down() {
    for (jitter_us, ack_grid_us) in [(1000, 1), (5000, 1), (0, 10_000), (0, 25_000)] {
        let share = share_alone(Link { jitter_us, ack_grid_us, ..Link::new(MBIT, 100, 100) });
        assert!(share >= 88.0, "{share:.0} % with {jitter_us} us of jitter, acks each {ack_grid_us} us");
    }
}

#[test]
fn it_follows_a_rate_that_falls_and_rises_by_ten() {
    let rates = vec![(0, 30), (5000, 3), (10_000, 30)];
    let run = alone(Link { rates, ..Link::new(0, 100, 100) }, 15_000);
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
        let mut run = Simulator::new(Link::new(MBIT, 40, 40));
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
        let mut run = Simulator::new(Link::new(MBIT, 40, 40));
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
    let deaf = alone(Link::new(MBIT, 100, 100), 8000).mean_queue_ms();
    let run = alone(Link { mark_ms: Some(12), ..Link::new(MBIT, 100, 100) }, 8000);
    let (mbit, heard) = (run.mbit(0, 2000, 8000), run.mean_queue_ms());
    assert!(heard <= deaf * 0.9, "a queue of {heard:.1} ms with marks, {deaf:.1} without");
    assert!(mbit >= 0.8 * MBIT as f64, "{mbit:.1} Mbit/s with marks");
}

#[test]
fn in_the_background_it_fills_an_idle_link() {
    for (link, percent) in [
        (Link::new(MBIT, 20, 20), 75.0),
        (Link::new(MBIT, 40, 40), 85.0),
        (Link::new(MBIT, 100, 100), 85.0),
        (Link::new(MBIT, 40, 400), 85.0),
        (Link { loss_permille: 10, ..Link::new(MBIT, 100, 100) }, 85.0),
        (Link { jitter_us: 5000, ..Link::new(MBIT, 100, 100) }, 85.0),
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
        let mut run = Simulator::new(Link::new(MBIT, 40, queue_ms));
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

/// One that has left slow start at once.
#[test]
fn in_the_background_it_makes_way_for_one_that_grows_slowly() {
    let mut run = Simulator::new(Link::new(MBIT, 40, 40));
    let ours = run.add_background(0);
    let cubic = run.add_slow_cubic(5000);
    run.run(60_000);
    let (ours, cubic) = (run.mbit(ours, 5000, 60_000), run.mbit(cubic, 5000, 60_000));
    assert!(ours <= 0.08 * MBIT as f64, "ours {ours:.1}, CUBIC {cubic:.1} Mbit/s");
}

#[test]
fn in_the_background_it_comes_back_when_the_other_has_gone() {
    for gone in (12_000..18_000).step_by(1000) {
        let mut run = Simulator::new(Link::new(MBIT, 40, 40));
        let ours = run.add_background(0);
        let cubic = run.add_cubic(3000);
        run.stop(cubic, gone);
        run.run(gone + 15_000);
        let (beside, after) = (run.mbit(ours, 8000, gone), run.mbit(ours, gone + 5000, gone + 15_000));
        assert!(beside <= 0.1 * MBIT as f64, "{beside:.1} Mbit/s beside CUBIC, until {gone} ms");
        assert!(after >= 0.85 * MBIT as f64, "{after:.1} Mbit/s after it has gone at {gone} ms");
    }
}
