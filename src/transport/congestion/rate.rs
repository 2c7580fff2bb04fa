//! Congestion control by rate, in the manner of BBRv3 (draft-ietf-ccwg-bbr); `docs/congestion.md` tells the story.
//!
//! quinn's pacer sends 1.25 windows a round trip whatever the controller wants, so this one steers by the window
//! alone: a share of what the path holds (bandwidth × least round trip), and no more.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory};
use tracing::debug;

use super::cubic::Cubic;
use super::filter::{BASE_RTT_WINDOW, MaxBandwidth, MinRtt, YIELD_BASE_RTT_WINDOW};
use super::sampler::{Sample, Sampler};
use super::tally::{Aggregation, Stretch, in_time, percent};
use super::tuning::{
    CEILING_GROWTH_PERCENT, CEILING_PERCENT, COMPETE_PERCENT, COMPETE_TIME, CRUISE_PERCENT, CRUISE_ROUNDS,
    CRUISE_TIME, DISPLACED_KEEPS_PERCENT, DISPLACED_PERCENT, DISPLACED_TIME, DOWN_PERCENT, FULL_CYCLES,
    GROWTH_PERCENT, LATE_ACKS_PERCENT, LOSS_HEAVY_PERCENT, LOSS_KEEPS_PERCENT, LOSS_PERCENT,
    PROBE_RTT_PERCENT, PROBE_RTT_TIME, RTT_FLOOR, SPARE_PACKETS, STALE_PERCENT, STALE_ROUNDS,
    STARTUP_FLAT_ROUNDS, STARTUP_GROWING_PERCENT, STARTUP_GROWTH_PERCENT, STARTUP_PERCENT, UP_GROWTH_PERCENT,
    UP_GROWTHS_TO_STARTUP, UP_PERCENT, WINDOW_PACKETS_MIN,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Twice the window each round until the bandwidth grows no more.
    Startup,
    /// Until the queue of start-up is gone.
    Drain,
    /// Less than the path holds for a round, to see it without a queue.
    Down,
    Cruise {
        until: Instant,
    },
    /// A quarter more than the path holds, to see whether it holds more.
    Up,
    /// Half of what the path holds, to see how long it is.
    ProbeRtt {
        until: Option<Instant>,
    },
    /// Another flow holds the queue: no less than CUBIC would take.
    Compete {
        until: Instant,
    },
    /// Another flow holds the queue: half the window each round until it is gone, and that time has come.
    Yield {
        window: u64,
        until: Instant,
    },
}

/// What to do beside a flow that holds the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Take about what CUBIC would.
    Compete,
    /// Make way, also for a queue of its own.
    Yield,
}

/// Makes a [`RateController`] for each path.
#[derive(Debug)]
pub(crate) struct RateConfig {
    /// First window, bytes.
    pub(crate) initial_window: u64,
    pub(crate) manner: Manner,
}

impl ControllerFactory for RateConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(RateController::new(now, self.manner, self.initial_window, u64::from(current_mtu)))
    }
}

/// The controller of one path.
#[derive(Debug, Clone)]
pub(crate) struct RateController {
    manner: Manner,
    packet_bytes: u64,
    initial_window: u64,
    window: u64,
    state: Phase,
    sampler: Sampler,
    bandwidth: MaxBandwidth,
    min_rtt: MinRtt,
    smoothed_rtt: Duration,
    extra: Aggregation,
    loss: Stretch,
    last_stretch_lossy: bool,
    /// Of this round.
    round_rtt: Duration,
    round_rate: u64,
    round_app_limited: bool,
    /// Rounds since the state began.
    rounds: u32,
    /// The window is down to the state's share.
    settled: bool,
    /// Shortest round trip since then.
    settled_rtt: Duration,
    /// Bandwidth that start-up or a probe has to beat.
    to_beat: u64,
    flat_rounds: u32,
    growths: u32,
    stale_rounds: u32,
    stale_rate: u64,
    full_cycles: u32,
    /// The most that this flow had, as a probe upwards or another's queue began, since it left the path to another.
    known: u64,
    /// The last round of Cruise met a queue.
    cruised_in_queue: bool,
    /// What loss allows at most.
    ceiling: u64,
    /// What was sent before has been answered for.
    reacted_at: Option<Instant>,
    shadow: Option<Cubic>,
}

impl RateController {
    pub(crate) fn new(now: Instant, manner: Manner, initial_window: u64, packet_bytes: u64) -> Self {
        let base_window = match manner {
            Manner::Compete => BASE_RTT_WINDOW,
            Manner::Yield => YIELD_BASE_RTT_WINDOW,
        };
        Self {
            manner,
            packet_bytes,
            initial_window,
            window: initial_window,
            state: Phase::Startup,
            sampler: Sampler::new(now),
            bandwidth: MaxBandwidth::default(),
            min_rtt: MinRtt::new(base_window),
            smoothed_rtt: Duration::ZERO,
            extra: Aggregation::new(now),
            loss: Stretch::default(),
            last_stretch_lossy: false,
            round_rtt: Duration::MAX,
            round_rate: 0,
            round_app_limited: false,
            rounds: 0,
            settled: false,
            settled_rtt: Duration::MAX,
            to_beat: 0,
            flat_rounds: 0,
            growths: 0,
            stale_rounds: 0,
            stale_rate: 0,
            full_cycles: 0,
            known: 0,
            cruised_in_queue: false,
            ceiling: u64::MAX,
            reacted_at: None,
            shadow: None,
        }
    }

    /// A packet of `bytes` that left at `sent` is acked.
    pub(crate) fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, smoothed_rtt: Duration) {
        self.smoothed_rtt = smoothed_rtt;
        self.sampler.acked(now, sent, bytes);
        if self.reacted_at.is_none_or(|at| sent > at) {
            self.loss.acked += bytes;
        }
    }

    /// All packets of one ack have been told.
    pub(crate) fn acks_end(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        let Some(sample) = self.sampler.end(now, in_flight, app_limited, self.min_rtt.get()) else { return };
        self.min_rtt.update(now, sample.rtt);
        self.round_rtt = self.round_rtt.min(sample.rtt);
        self.round_app_limited |= sample.app_limited;
        if self.settled {
            self.settled_rtt = self.settled_rtt.min(sample.rtt);
        }
        if let Some(rate) = sample.rate {
            self.round_rate = self.round_rate.max(rate);
            if !sample.app_limited || rate > self.bandwidth.get() {
                self.bandwidth.update(rate);
            }
        }
        self.extra.acked(now, sample.acked, self.bandwidth.get(), sample.round);
        if let (Some(shadow), Phase::Compete { .. }) = (&mut self.shadow, self.state) {
            shadow.on_ack(now, sample.acked, self.smoothed_rtt);
        }
        if sample.round {
            self.end_round(now, &sample);
        }
        self.advance(now, in_flight, sample.round);
        self.steer(sample.acked);
    }

    /// Packets are lost, the newest of which left at `sent`; or marked, when `bytes` is 0.
    pub(crate) fn congested(&mut self, now: Instant, sent: Instant, persistent: bool, bytes: u64) {
        if self.reacted_at.is_none_or(|at| sent > at) {
            self.loss.lost += bytes;
        }
        if let Some(shadow) = &mut self.shadow {
            shadow.on_congestion(now, sent);
        }
        if bytes == 0 && self.reacted_at.is_none_or(|at| sent > at) {
            self.lower_ceiling(now);
            if matches!(self.state, Phase::Startup | Phase::Up) {
                self.enter(Phase::Drain);
            }
            self.window = self.window.min(self.ceiling);
        }
        if persistent {
            self.window = self.window_min();
        }
    }

    fn end_round(&mut self, now: Instant, sample: &Sample) {
        self.rounds += 1;
        if self.loss.is_long_enough(self.packet_bytes) {
            let stretch = std::mem::take(&mut self.loss);
            self.judge_loss(now, &stretch, sample);
        }
        if self.state == Phase::Up && self.rounds > 1 && self.window >= self.ceiling {
            self.ceiling = percent(self.ceiling, CEILING_GROWTH_PERCENT);
            self.rounds = 1;
        }
        self.forget_stale();
        match self.state {
            Phase::Startup if !self.round_app_limited => self.check_startup(),
            Phase::Up => self.check_up(),
            Phase::Cruise { .. } => self.cruised_in_queue = self.has_queue(self.round_rtt),
            _ => {}
        }
        if self.manner == Manner::Yield {
            self.make_way(now);
        }
        self.round_rtt = Duration::MAX;
        self.round_rate = 0;
        self.round_app_limited = false;
    }

    fn judge_loss(&mut self, now: Instant, stretch: &Stretch, sample: &Sample) {
        let lossy = stretch.lost_at_least(LOSS_PERCENT);
        let again = lossy && self.last_stretch_lossy;
        let sustained = again || stretch.lost_at_least(LOSS_HEAVY_PERCENT);
        self.last_stretch_lossy = lossy;
        if sustained {
            let least = percent(self.bandwidth.get(), LOSS_KEEPS_PERCENT);
            self.bandwidth.clamp(sample.rate.unwrap_or(self.round_rate).max(least));
        }
        let probing = matches!(self.state, Phase::Startup | Phase::Up);
        if sustained || lossy && probing {
            self.lower_ceiling(now);
        }
        match self.state {
            Phase::Startup if lossy => self.enter(Phase::Drain),
            Phase::Up if lossy => self.enter(Phase::Down),
            _ => {}
        }
    }

    /// What loss allows is less than the window now, and not less than what the path is known to hold.
    fn lower_ceiling(&mut self, now: Instant) {
        self.reacted_at = Some(now);
        self.ceiling = percent(self.window, CEILING_PERCENT).max(self.share(100)).max(self.window_min());
    }

    /// A queue that stays while less gets through than the model says: the path has become slower.
    fn forget_stale(&mut self) {
        let slower = self.round_rate < percent(self.bandwidth.get(), STALE_PERCENT);
        let queued = self.min_rtt.get().is_some_and(|min| self.round_rtt > min + min / 2);
        if self.round_app_limited || !slower || !queued {
            self.stale_rounds = 0;
            self.stale_rate = 0;
            return;
        }
        self.stale_rounds += 1;
        self.stale_rate = self.stale_rate.max(self.round_rate);
        if self.stale_rounds == STALE_ROUNDS {
            self.bandwidth.clamp(self.stale_rate);
            self.stale_rounds = 0;
            self.stale_rate = 0;
        }
    }

    fn check_startup(&mut self) {
        let bandwidth = self.bandwidth.get();
        if bandwidth >= percent(self.to_beat, GROWTH_PERCENT) {
            self.to_beat = bandwidth;
            self.flat_rounds = 0;
            return;
        }
        self.flat_rounds += 1;
        if self.flat_rounds == STARTUP_FLAT_ROUNDS {
            self.enter(Phase::Drain);
        }
    }

    /// The first round fills the window, the second shows what comes of it.
    fn check_up(&mut self) {
        let bandwidth = self.bandwidth.get();
        if bandwidth >= percent(self.to_beat, UP_GROWTH_PERCENT) {
            self.to_beat = bandwidth;
            self.growths += 1;
            self.rounds = 1;
            // One that makes way grows no faster than this: start-up fills the queue.
            if self.growths == UP_GROWTHS_TO_STARTUP && self.manner == Manner::Compete {
                self.ceiling = u64::MAX;
                self.enter(Phase::Startup);
            }
        } else if self.rounds >= 3 {
            self.enter(if self.cruised_in_queue { Phase::Down } else { Phase::Drain });
        }
    }

    /// Looks for more, unless there is less than before and the last look found nothing: then one that makes way leaves
    /// most of the path alone. The flow that takes it may be one that a full link made leave its own start-up early,
    /// and that now grows too slowly to make a queue for a long time.
    fn probe_up(&mut self, now: Instant) {
        let grew = self.growths > 0;
        self.enter(Phase::Up);
        self.known = self.known.max(self.to_beat);
        if self.manner == Manner::Yield && !grew && self.to_beat < percent(self.known, DISPLACED_PERCENT) {
            self.known = 0;
            let window = self.share(DISPLACED_KEEPS_PERCENT);
            self.enter(Phase::Yield { window, until: now + DISPLACED_TIME });
        }
    }

    /// A queue all round long: it is looked at, or if it is another's, left to it.
    fn make_way(&mut self, now: Instant) {
        let queued = self.has_queue(self.round_rtt);
        match &mut self.state {
            Phase::Startup if queued && self.window > self.initial_window => self.enter(Phase::Drain),
            Phase::Cruise { .. } if queued && self.rounds > 1 => {
                self.known = self.known.max(self.bandwidth.get());
                self.enter(Phase::Yield { window: self.window / 2, until: now });
            }
            Phase::Yield { window, .. } if queued => *window /= 2,
            Phase::Yield { until, .. } if now >= *until => {
                self.bandwidth.clamp(self.round_rate);
                // The other flow may be gone.
                self.growths = 1;
                self.enter_cruise(now);
            }
            _ => {}
        }
    }

    fn has_queue(&self, rtt: Duration) -> bool {
        self.min_rtt.base().is_some_and(|base| rtt > base + base / 8 + Duration::from_millis(2))
    }

    fn advance(&mut self, now: Instant, in_flight: u64, round: bool) {
        let to_settle = match self.state {
            Phase::Drain => self.share(100),
            Phase::Down => self.share(DOWN_PERCENT),
            Phase::ProbeRtt { .. } => self.share(PROBE_RTT_PERCENT),
            _ => u64::MAX,
        };
        let settles = !self.settled && in_flight <= to_settle.max(self.window_min());
        match self.state {
            Phase::Startup => return,
            Phase::Drain if settles => self.enter_cruise(now),
            Phase::Down | Phase::ProbeRtt { .. } if settles => {
                self.settled = true;
                self.rounds = 0;
                if let Phase::ProbeRtt { until } = &mut self.state {
                    *until = Some(now + PROBE_RTT_TIME);
                }
            }
            // The second round began when the queue was gone; all of its packets saw none.
            Phase::Down if round && self.settled && self.rounds >= 2 => self.end_cycle(now),
            Phase::ProbeRtt { until: Some(until) } if self.rounds >= 2 && now >= until => {
                self.min_rtt.replace(now, self.settled_rtt);
                self.end_cycle(now);
            }
            Phase::Cruise { until } if now >= until => self.probe_up(now),
            Phase::Compete { until } if now >= until => self.enter(Phase::Down),
            _ => {}
        }
        if self.min_rtt.is_stale(now) && !matches!(self.state, Phase::ProbeRtt { .. }) {
            self.enter(Phase::ProbeRtt { until: None });
        }
    }

    /// The window was small for a round. If the queue did not go, it is not ours.
    fn end_cycle(&mut self, now: Instant) {
        if !self.has_queue(self.settled_rtt) {
            // One more such cycle, and one that is not is no longer enough.
            self.full_cycles = self.full_cycles.saturating_sub(1);
            self.shadow = None;
            return self.enter_cruise(now);
        }
        if self.manner == Manner::Yield {
            return self.enter(Phase::Yield { window: self.window / 2, until: now });
        }
        self.full_cycles = FULL_CYCLES.min(self.full_cycles + 1);
        if self.full_cycles < FULL_CYCLES {
            return self.enter_cruise(now);
        }
        let start = self.share(COMPETE_PERCENT);
        self.shadow.get_or_insert_with(|| Cubic::reduced_to(start, self.packet_bytes));
        self.enter(Phase::Compete { until: now + COMPETE_TIME });
    }

    fn enter_cruise(&mut self, now: Instant) {
        let rounds = self.smoothed_rtt * CRUISE_ROUNDS;
        let least = rounds.max(CRUISE_TIME);
        // Two flows must not probe in step; what they have delivered differs.
        let spread = u32::try_from(self.sampler.delivered() / self.packet_bytes % 64).unwrap_or(0);
        self.enter(Phase::Cruise { until: now + least + least * spread / 128 });
    }

    fn enter(&mut self, state: Phase) {
        match state {
            Phase::Up => {
                self.bandwidth.advance();
                self.to_beat = self.bandwidth.get();
                self.growths = 0;
            }
            Phase::Startup => {
                self.to_beat = self.bandwidth.get();
                self.flat_rounds = 0;
            }
            _ => {}
        }
        debug!(
            ?state,
            window = self.window,
            bandwidth = self.bandwidth.get(),
            min_rtt = ?self.min_rtt.get(),
            extra = self.extra.get(),
            ceiling = self.ceiling,
            "congestion control"
        );
        self.state = state;
        self.loss = Stretch::default();
        self.last_stretch_lossy = false;
        self.rounds = 0;
        self.settled = false;
        self.settled_rtt = Duration::MAX;
    }

    /// Falls at once, and grows by what is acked.
    fn steer(&mut self, acked: u64) {
        let growing =
            self.state == Phase::Startup && self.flat_rounds == 0 && !self.has_queue(self.smoothed_rtt);
        let growth = if growing { percent(acked, STARTUP_GROWTH_PERCENT) } else { acked };
        let target = match self.state {
            Phase::Startup => {
                let share = if growing { STARTUP_GROWING_PERCENT } else { STARTUP_PERCENT };
                self.share(share).max(self.initial_window)
            }
            Phase::Drain => self.share(100),
            Phase::Down => self.share(DOWN_PERCENT),
            Phase::ProbeRtt { .. } => self.share(PROBE_RTT_PERCENT),
            Phase::Cruise { .. } => self.padded(CRUISE_PERCENT).min(self.ceiling),
            Phase::Up => self.padded(UP_PERCENT).min(self.ceiling),
            Phase::Compete { .. } => {
                let shadow = self.shadow.as_ref().map_or(0, Cubic::window);
                self.padded(COMPETE_PERCENT).max(shadow)
            }
            Phase::Yield { window, .. } => window,
        };
        self.window = target.max(self.window_min()).min(self.window.saturating_add(growth));
    }

    /// `percent` of what the path holds, bytes; the initial window while nothing is known.
    fn share(&self, percent_of_path: u64) -> u64 {
        let Some(min_rtt) = self.min_rtt.get() else { return self.initial_window };
        match self.bandwidth.get() {
            0 => self.initial_window,
            bandwidth => percent(in_time(bandwidth, min_rtt.max(RTT_FLOOR)), percent_of_path),
        }
    }

    /// With room for acks that come late and together, unless that is a queue to make way for.
    fn padded(&self, percent_of_path: u64) -> u64 {
        let extra = match self.manner {
            Manner::Compete => self.extra.get().min(self.share(LATE_ACKS_PERCENT)),
            Manner::Yield => 0,
        };
        self.share(percent_of_path) + extra + SPARE_PACKETS * self.packet_bytes
    }

    fn window_min(&self) -> u64 {
        WINDOW_PACKETS_MIN * self.packet_bytes
    }
}

impl Controller for RateController {
    fn on_sent(&mut self, now: Instant, _bytes: u64, _last_packet_number: u64) {
        self.sampler.sent(now);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        _app_limited: bool,
        rtt: &quinn_proto::RttEstimator,
    ) {
        self.acked(now, sent, bytes, rtt.get());
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _largest_acked: Option<u64>) {
        self.acks_end(now, in_flight, app_limited);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.congested(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.packet_bytes = u64::from(new_mtu);
        self.window = self.window.max(self.window_min());
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_before_makes_way_in_the_background_only() {
        let now = Instant::now();
        for (manner, later, makes_way) in [
            (Manner::Yield, 920_000, true),
            (Manner::Yield, 940_000, false),
            (Manner::Compete, 920_000, false),
        ] {
            let mut rate = RateController::new(now, manner, 12_000, 1200);
            rate.min_rtt.update(now, Duration::from_millis(40));
            rate.bandwidth.update(1_000_000);
            rate.probe_up(now);
            assert_eq!(rate.state, Phase::Up);
            rate.bandwidth.clamp(later);
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
        let mut rate = RateController::new(now, Manner::Yield, 12_000, 1200);
        rate.min_rtt.update(now, Duration::from_millis(40));
        rate.bandwidth.update(1_000_000);
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
}
