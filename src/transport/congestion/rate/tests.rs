use std::time::{Duration, Instant};

use quinn::congestion::Controller;

use crate::transport::congestion::known::KnownPath;
use crate::transport::congestion::rate::controller::RateController;
use crate::transport::congestion::rate::phase::{Manner, Phase};
use crate::transport::congestion::tuning::DISPLACED_TIME;
use crate::transport::congestion::watch::PathWatch;

#[test]
fn less_than_before_makes_way_in_the_background_only() {
    let now = Instant::now();
    for (manner, later, makes_way) in
        [(Manner::Yield, 920_000, true), (Manner::Yield, 940_000, false), (Manner::Compete, 920_000, false)]
    {
        let mut rate = RateController::new(now, manner, 12_000, 1200, PathWatch::default());
        rate.path.min_rtt.update(now, Duration::from_millis(40));
        rate.path.bandwidth.update(1_000_000);
        rate.probe_up(now);
        assert_eq!(rate.state, Phase::Up);
        rate.path.bandwidth.clamp(later);
        rate.probe_up(now);
        // 15 % of 920,000 bytes a second for 40 ms.
        let expected = match makes_way {
            true => Phase::Yield { window: 5520, until: now + DISPLACED_TIME },
            false => Phase::Up,
        };
        assert_eq!(rate.state, expected, "{manner:?}, {later}");
    }
}

#[test]
fn what_it_had_before_a_queue_counts_too() {
    let now = Instant::now();
    let mut rate = RateController::new(now, Manner::Yield, 12_000, 1200, PathWatch::default());
    rate.path.min_rtt.update(now, Duration::from_millis(40));
    rate.path.bandwidth.update(1_000_000);
    rate.enter_cruise(now);
    rate.rounds = 2;
    rate.round_rtt = Duration::from_millis(80);
    rate.make_way(now);
    assert!(matches!(rate.state, Phase::Yield { .. }), "{:?}", rate.state);
    rate.round_rtt = Duration::from_millis(40);
    rate.round_rate = 920_000;
    rate.make_way(now);
    assert!(matches!(rate.state, Phase::Cruise { .. }), "{:?}", rate.state);
    rate.probe_up(now);
    assert_eq!(rate.state, Phase::Up, "the path may be free again");
    rate.probe_up(now);
    assert_eq!(rate.state, Phase::Yield { window: 5520, until: now + DISPLACED_TIME });
}

/// On loopback a packet is larger than the first window, and a window without room for one would never grow again.
#[test]
fn persistent_congestion_leaves_room_for_packets_of_any_size() {
    let now = Instant::now();
    let mut rate = RateController::new(now, Manner::Compete, 32 * 1200, 1200, PathWatch::default());
    Controller::on_mtu_update(&mut rate, 65_507);
    rate.congested(now, now, true, 65_507);
    assert_eq!(Controller::window(&rate), 4 * 65_507);
}

#[test]
fn a_path_is_learned_once_start_up_has_found_its_end() {
    let now = Instant::now();
    for (manner, is_learned) in [(Manner::Compete, true), (Manner::Yield, false)] {
        let watch = PathWatch::default();
        let mut rate = RateController::new(now, manner, 12_000, 1200, watch.clone());
        rate.path.min_rtt.update(now, Duration::from_millis(40));
        rate.path.bandwidth.update(1_000_000);
        rate.note_path();
        assert_eq!(watch.learned(), None);
        rate.enter_cruise(now);
        rate.round_app_limited = true;
        rate.note_path();
        let learned =
            KnownPath { bandwidth: 1_000_000, min_rtt: Duration::from_millis(40), lost_permille: 0 };
        assert_eq!(watch.learned(), is_learned.then_some(learned), "{manner:?}");
    }
}
