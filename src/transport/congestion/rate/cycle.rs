//! The way from one phase to the next.

use std::time::{Duration, Instant};

use tracing::debug;

use crate::transport::congestion::cubic::Cubic;
use crate::transport::congestion::fill::Fill;
use crate::transport::congestion::rate::controller::RateController;
use crate::transport::congestion::rate::phase::{Manner, Phase, Resume};
use crate::transport::congestion::tally::{Aggregation, percent};
use crate::transport::congestion::tuning::{
    COMPETE_PERCENT, COMPETE_TIME, CRUISE_ROUNDS, CRUISE_TIME, DISPLACED_KEEPS_PERCENT, DISPLACED_PERCENT,
    DISPLACED_TIME, FULL_CYCLES, PROBE_RTT_PERCENT, PROBE_RTT_TIME,
};

impl RateController {
    /// Looks for more, unless there is less than before and the last look found nothing: then one that makes way leaves
    /// most of the path alone. The flow that takes it may be one that a full link made leave its own start-up early,
    /// and that now grows too slowly to make a queue for a long time.
    pub(super) fn probe_up(&mut self, now: Instant) {
        let grew = self.growths > 0;
        self.enter(now, Phase::Up);
        self.known = self.known.max(self.to_beat);
        if self.manner == Manner::Yield && !grew && self.to_beat < percent(self.known, DISPLACED_PERCENT) {
            self.known = 0;
            let window = self.share(DISPLACED_KEEPS_PERCENT);
            self.enter(now, Phase::Yield { window, until: now + DISPLACED_TIME });
        }
    }

    /// A queue all round long: it is looked at, or if it is another's, left to it.
    pub(super) fn make_way(&mut self, now: Instant) {
        let queued = self.path.has_queue(self.round_rtt);
        match &mut self.state {
            Phase::Startup if queued && self.window > self.initial_window => self.enter(now, Phase::Drain),
            Phase::Cruise { .. } if queued && self.rounds > 1 => {
                self.known = self.known.max(self.path.bandwidth.get());
                self.enter(now, Phase::Yield { window: self.window / 2, until: now });
            }
            Phase::Yield { window, .. } if queued => *window /= 2,
            Phase::Yield { until, .. } if now >= *until => {
                self.path.bandwidth.clamp(self.round_rate);
                // The other flow may be gone.
                self.growths = 1;
                self.enter_cruise(now);
            }
            _ => {}
        }
    }

    pub(super) fn advance(&mut self, now: Instant, in_flight: u64, round: bool) {
        let to_settle = match self.state {
            Phase::Drain => self.share(100),
            Phase::Down => self.down_window(),
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
                if self.state == Phase::Down {
                    self.loss.begin_trial(now);
                }
                if let Phase::ProbeRtt { until } = &mut self.state {
                    *until = Some(now + PROBE_RTT_TIME);
                }
            }
            // The second round began when the queue was gone; all of its packets saw none.
            Phase::Down if round && self.settled && self.rounds >= 2 => self.end_cycle(now),
            Phase::ProbeRtt { until: Some(until) } if self.rounds >= 2 && now >= until => {
                self.path.min_rtt.replace(now, self.settled_rtt);
                self.end_cycle(now);
            }
            // Before more is sent, it is seen whether loss comes from what is sent now.
            Phase::Cruise { until } if now >= until && self.loss.is_due(now) && !self.tried => {
                self.enter(now, Phase::Down);
                self.tried = true;
            }
            Phase::Cruise { until } if now >= until => {
                self.tried = false;
                self.probe_up(now);
            }
            Phase::Compete { until } if now >= until => self.enter(now, Phase::Down),
            _ => {}
        }
        if self.path.min_rtt.is_stale(now) && !matches!(self.state, Phase::ProbeRtt { .. }) {
            self.enter(now, Phase::ProbeRtt { until: None });
        }
    }

    /// The window was small for a round. If the queue did not go, it is not ours.
    pub(super) fn end_cycle(&mut self, now: Instant) {
        self.loss.end_trial(now, self.path.has_queue(self.settled_rtt));
        if !self.path.has_queue(self.settled_rtt) {
            // One more such cycle, and one that is not is no longer enough.
            self.full_cycles = self.full_cycles.saturating_sub(1);
            self.shadow = None;
            return self.enter_cruise(now);
        }
        if self.manner == Manner::Yield {
            return self.enter(now, Phase::Yield { window: self.window / 2, until: now });
        }
        self.full_cycles = FULL_CYCLES.min(self.full_cycles + 1);
        if self.full_cycles < FULL_CYCLES {
            return self.enter_cruise(now);
        }
        let start = self.share(COMPETE_PERCENT);
        self.shadow.get_or_insert_with(|| Cubic::reduced_to(start, self.packet_bytes));
        self.enter(now, Phase::Compete { until: now + COMPETE_TIME });
    }

    pub(super) fn enter_cruise(&mut self, now: Instant) {
        let rounds = self.smoothed_rtt * CRUISE_ROUNDS;
        let least = rounds.max(CRUISE_TIME);
        // Two flows must not probe in step; what they have delivered differs.
        let spread = u32::try_from(self.sampler.delivered() / self.packet_bytes % 64).unwrap_or(0);
        self.enter(now, Phase::Cruise { until: now + least + least * spread / 128 });
    }

    pub(super) fn enter(&mut self, now: Instant, state: Phase) {
        if matches!(self.state, Phase::Startup | Phase::Up) {
            // Loss of what was too much is answered for.
            self.loss.reacted(now, self.smoothed_rtt);
        }
        if self.state == Phase::Startup {
            self.started_at = Some(now);
            if std::mem::replace(&mut self.resume, Resume::Normal) != Resume::Normal {
                // The jump came in one bunch each round trip; the path has no part in that.
                self.extra = Aggregation::new(now);
            }
        }
        self.cautious = self.loss.is_cautious(now);
        match state {
            Phase::Up => {
                self.path.bandwidth.advance();
                self.to_beat = self.path.bandwidth.get();
                self.growths = 0;
                self.fill = Fill::usually(1000 - self.loss.noise_permille());
            }
            Phase::Startup => {
                self.to_beat = self.path.bandwidth.get();
                self.flat_rounds = 0;
                self.fill = Fill::usually(1000 - self.loss.noise_permille());
            }
            _ => {}
        }
        debug!(
            ?state,
            window = self.window,
            bandwidth = self.path.bandwidth.get(),
            min_rtt = ?self.path.min_rtt.get(),
            extra = self.extra.get(),
            ceiling = self.ceiling,
            "congestion control"
        );
        self.state = state;
        let cruises = matches!(state, Phase::Cruise { .. });
        self.loss.restart(now, cruises, self.smoothed_rtt);
        self.trial_rate = (state == Phase::Down && self.loss.is_unsure()).then_some(self.round_rate);
        self.rounds = 0;
        self.settled = false;
        self.settled_rtt = Duration::MAX;
    }
}
