//! What the controller knows, and what acks and losses tell it.

use std::time::{Duration, Instant};

use crate::transport::congestion::cubic::Cubic;
use crate::transport::congestion::fill::Fill;
use crate::transport::congestion::filter::{BASE_RTT_WINDOW, YIELD_BASE_RTT_WINDOW};
use crate::transport::congestion::loss::{LossJudge, called_after};
use crate::transport::congestion::path::PathModel;
use crate::transport::congestion::rate::phase::{Manner, Phase, Resume};
use crate::transport::congestion::sampler::Sampler;
use crate::transport::congestion::tally::Aggregation;
use crate::transport::congestion::tuning::{OVERTAKEN_PERCENT_MAX, OVERTAKEN_PERCENT_START};
use crate::transport::congestion::watch::PathWatch;

/// The controller of one path.
#[derive(Debug, Clone)]
pub(crate) struct RateController {
    pub(super) manner: Manner,
    pub(super) packet_bytes: u64,
    pub(super) initial_window: u64,
    /// The initial one, or more on a long path.
    pub(super) first_window: u64,
    /// Bytes that may be in flight and have not been overtaken.
    pub(super) window: u64,
    /// Bytes in flight that were; none while the losses of start-up are not all called so.
    pub(super) overtaken: u64,
    pub(super) started_at: Option<Instant>,
    /// Bytes in flight.
    pub(super) in_flight: u64,
    pub(super) state: Phase,
    pub(super) sampler: Sampler,
    pub(super) path: PathModel,
    pub(super) smoothed_rtt: Duration,
    pub(super) extra: Aggregation,
    pub(super) loss: LossJudge,
    /// Of this round.
    pub(super) round_rtt: Duration,
    pub(super) round_rate: u64,
    pub(super) round_app_limited: bool,
    /// Rounds since the state began.
    pub(super) rounds: u32,
    /// The window is down to the state's share.
    pub(super) settled: bool,
    /// Shortest round trip since then.
    pub(super) settled_rtt: Duration,
    /// Bandwidth that start-up or a probe has to beat.
    pub(super) to_beat: u64,
    pub(super) flat_rounds: u32,
    /// Of start-up and of a probe upwards.
    pub(super) fill: Fill,
    /// Something drops what is above a rate: probes upwards are small, and nothing is sent above it between them.
    pub(super) cautious: bool,
    pub(super) growths: u32,
    pub(super) stale_rounds: u32,
    pub(super) stale_rate: u64,
    pub(super) full_cycles: u32,
    /// The most that this flow had, as a probe upwards or another's queue began, since it left the path to another.
    pub(super) known: u64,
    /// The last round of Cruise met a queue.
    pub(super) cruised_in_queue: bool,
    /// What loss allows at most.
    pub(super) ceiling: u64,
    /// This Down is a trial of what loss depends on, and so much arrived before.
    pub(super) trial_rate: Option<u64>,
    /// There was a trial since the last probe upwards.
    pub(super) tried: bool,
    pub(super) shadow: Option<Cubic>,
    pub(super) resume: Resume,
    /// Tells what earlier transfers found, and is told what this one finds.
    pub(super) watch: PathWatch,
}

impl RateController {
    pub(crate) fn new(
        now: Instant,
        manner: Manner,
        initial_window: u64,
        packet_bytes: u64,
        watch: PathWatch,
    ) -> Self {
        let base_window = match manner {
            Manner::Compete => BASE_RTT_WINDOW,
            Manner::Yield => YIELD_BASE_RTT_WINDOW,
        };
        Self {
            manner,
            packet_bytes,
            initial_window,
            first_window: initial_window,
            window: initial_window,
            overtaken: 0,
            started_at: None,
            in_flight: 0,
            state: Phase::Startup,
            sampler: Sampler::new(now),
            path: PathModel::new(base_window),
            smoothed_rtt: Duration::ZERO,
            extra: Aggregation::new(now),
            loss: LossJudge::default(),
            round_rtt: Duration::MAX,
            round_rate: 0,
            round_app_limited: false,
            rounds: 0,
            settled: false,
            settled_rtt: Duration::MAX,
            to_beat: 0,
            flat_rounds: 0,
            fill: Fill::default(),
            cautious: false,
            growths: 0,
            stale_rounds: 0,
            stale_rate: 0,
            full_cycles: 0,
            known: 0,
            cruised_in_queue: false,
            ceiling: u64::MAX,
            trial_rate: None,
            tried: false,
            shadow: None,
            resume: Resume::Normal,
            watch,
        }
    }

    /// A packet of `bytes` that left at `sent` is acked.
    pub(crate) fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, smoothed_rtt: Duration) {
        self.smoothed_rtt = smoothed_rtt;
        self.sampler.acked(now, sent, bytes);
        self.loss.acked(now, sent, bytes);
    }

    /// All packets of one ack have been told.
    pub(crate) fn acks_end(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        let Some(sample) = self.sampler.end(now, in_flight, app_limited, self.path.min_rtt.get()) else {
            return;
        };
        let settles = self.started_at.is_some_and(|at| now < at + called_after(self.smoothed_rtt));
        let most = self.share(if settles { OVERTAKEN_PERCENT_START } else { OVERTAKEN_PERCENT_MAX });
        self.overtaken = sample.overtaken.min(most);
        self.in_flight = in_flight;
        if self.path.min_rtt.get().is_none() && self.state == Phase::Startup {
            self.open_first_window(sample.rtt);
        }
        self.path.min_rtt.update(now, sample.rtt);
        self.round_rtt = self.round_rtt.min(sample.rtt);
        self.round_app_limited |= sample.app_limited;
        if self.settled {
            self.settled_rtt = self.settled_rtt.min(sample.rtt);
        }
        if let Some(rate) = sample.rate {
            self.round_rate = self.round_rate.max(rate);
            if !sample.app_limited || rate > self.path.bandwidth.get() {
                self.path.bandwidth.update(rate);
            }
        }
        self.extra.acked(now, sample.acked, self.path.bandwidth.get(), sample.round);
        if let (Some(shadow), Phase::Compete { .. }) = (&mut self.shadow, self.state) {
            shadow.on_ack(now, sample.acked, self.smoothed_rtt);
        }
        self.resume(now);
        self.validate(now, &sample);
        if sample.round {
            self.end_round(now, &sample);
        }
        self.watch_fill(now, &sample);
        self.advance(now, in_flight - self.overtaken, sample.round);
        self.steer(sample.acked);
    }

    /// Packets are lost, the newest of which left at `sent`; or marked, when `bytes` is 0.
    pub(crate) fn congested(&mut self, now: Instant, sent: Instant, persistent: bool, bytes: u64) {
        self.loss.lost(now, sent, bytes);
        self.overtaken = self.overtaken.saturating_sub(bytes);
        self.in_flight = self.in_flight.saturating_sub(bytes);
        if let Some(shadow) = &mut self.shadow {
            shadow.on_congestion(now, sent);
        }
        if bytes == 0 && self.loss.counts(sent) {
            self.lower_ceiling(now);
            if matches!(self.state, Phase::Startup | Phase::Up) {
                self.enter(now, Phase::Drain);
            }
            self.window = self.window.min(self.ceiling);
        }
        if persistent {
            self.window = self.window.min(self.initial_window).max(self.window_min());
        }
    }
}
