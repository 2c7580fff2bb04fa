//! What a round of acks changes: loss is judged, and a growing window is held against what it brings.

use std::time::{Duration, Instant};

use crate::transport::congestion::loss::{Circumstances, LossVerdict};
use crate::transport::congestion::rate::controller::RateController;
use crate::transport::congestion::rate::phase::{Manner, Phase};
use crate::transport::congestion::sampler::Sample;
use crate::transport::congestion::tally::percent;
use crate::transport::congestion::tuning::{
    CEILING_GROWTH_PERCENT, CEILING_PERCENT, CEILING_ROUNDS, GROWTH_PERCENT, LOSS_KEEPS_PERCENT,
    STALE_PERCENT, STALE_ROUNDS, STARTUP_FLAT_ROUNDS, UP_GROWTH_PERCENT, UP_GROWTHS_TO_STARTUP,
};

impl RateController {
    pub(super) fn end_round(&mut self, now: Instant, sample: &Sample) {
        self.rounds += 1;
        self.judge_loss(now, sample);
        if self.state == Phase::Up && self.rounds > CEILING_ROUNDS && self.window >= self.ceiling {
            self.ceiling = percent(self.ceiling, CEILING_GROWTH_PERCENT);
            self.rounds = 1;
        }
        self.forget_stale();
        match self.state {
            Phase::Startup if !self.round_app_limited && !self.is_unvalidated() => self.check_startup(now),
            Phase::Up => self.check_up(now),
            Phase::Cruise { .. } => self.cruised_in_queue = self.path.has_queue(self.round_rtt),
            _ => {}
        }
        if self.manner == Manner::Yield {
            self.make_way(now);
        }
        self.note_path();
        self.round_rtt = Duration::MAX;
        self.round_rate = 0;
        self.round_app_limited = false;
    }

    pub(super) fn judge_loss(&mut self, now: Instant, sample: &Sample) {
        let verdict = self.loss.judge(
            now,
            &Circumstances {
                packet_bytes: self.packet_bytes,
                smoothed_rtt: self.smoothed_rtt,
                queued: self.path.has_queue(self.round_rtt),
                starting: (self.state == Phase::Startup).then_some(self.flat_rounds == 0),
            },
        );
        self.path.noise_permille = self.loss.noise_permille();
        if verdict == LossVerdict::Usual {
            return;
        }
        if verdict == LossVerdict::Sustained {
            let least = percent(self.path.bandwidth.get(), LOSS_KEEPS_PERCENT);
            self.path.bandwidth.clamp(sample.rate.unwrap_or(self.round_rate).max(least));
        }
        let probing = matches!(self.state, Phase::Startup | Phase::Up);
        if verdict == LossVerdict::Sustained || probing {
            self.lower_ceiling(now);
        }
        match self.state {
            Phase::Startup => self.enter(now, Phase::Drain),
            Phase::Up => self.enter(now, Phase::Down),
            Phase::Cruise { .. } if verdict == LossVerdict::Try => self.enter(now, Phase::Down),
            _ => return,
        }
        if verdict == LossVerdict::Try {
            self.trial_rate = Some(self.round_rate);
        }
    }

    /// What loss allows is less than the window now, and not less than what the path is known to hold.
    pub(super) fn lower_ceiling(&mut self, now: Instant) {
        self.loss.reacted(now, self.smoothed_rtt);
        self.ceiling = percent(self.window, CEILING_PERCENT).max(self.share(100)).max(self.window_min());
    }

    /// A queue that stays while less gets through than the model says: the path has become slower.
    pub(super) fn forget_stale(&mut self) {
        let slower = self.round_rate < percent(self.path.bandwidth.get(), STALE_PERCENT);
        let queued = self.path.min_rtt.get().is_some_and(|min| self.round_rtt > min + min / 2);
        if self.round_app_limited || !slower || !queued {
            self.stale_rounds = 0;
            self.stale_rate = 0;
            return;
        }
        self.stale_rounds += 1;
        self.stale_rate = self.stale_rate.max(self.round_rate);
        if self.stale_rounds == STALE_ROUNDS {
            self.path.bandwidth.clamp(self.stale_rate);
            self.stale_rounds = 0;
            self.stale_rate = 0;
        }
    }

    pub(super) fn check_startup(&mut self, now: Instant) {
        let bandwidth = self.path.bandwidth.get();
        if bandwidth >= percent(self.to_beat, GROWTH_PERCENT) {
            self.to_beat = bandwidth;
            self.flat_rounds = 0;
            return;
        }
        self.flat_rounds += 1;
        if self.flat_rounds == STARTUP_FLAT_ROUNDS {
            self.enter(now, Phase::Drain);
        }
    }

    /// The first round fills the window, the second shows what comes of it.
    pub(super) fn check_up(&mut self, now: Instant) {
        let bandwidth = self.path.bandwidth.get();
        if bandwidth >= percent(self.to_beat, UP_GROWTH_PERCENT) {
            self.to_beat = bandwidth;
            self.growths += 1;
            self.rounds = 1;
            // One that makes way grows no faster than this: start-up fills the queue.
            if self.growths == UP_GROWTHS_TO_STARTUP && self.manner == Manner::Compete && !self.cautious {
                self.ceiling = u64::MAX;
                self.enter(now, Phase::Startup);
            }
        } else if self.rounds >= 3 {
            self.end_up(now);
        }
    }

    /// More than the path carries is sent: start-up and a probe upwards are over.
    pub(super) fn watch_fill(&mut self, now: Instant, sample: &Sample) {
        let starts = self.state == Phase::Startup;
        let (Some(min_rtt), true) = (self.path.min_rtt.get(), starts || self.state == Phase::Up) else {
            return;
        };
        self.fill.acked(now, sample, min_rtt, self.packet_bytes, starts);
        match self.fill.is_full() {
            true if starts => self.enter(now, Phase::Drain),
            true => self.end_up(now),
            false => {}
        }
    }

    /// No more was found. Where something drops what is above a rate, none of what was sent above it counts.
    fn end_up(&mut self, now: Instant) {
        if self.cautious && self.growths == 0 {
            self.path.bandwidth.clamp(self.to_beat);
            self.ceiling = self.share(100).max(self.window_min());
        }
        let look = self.cruised_in_queue || self.loss.is_due(now);
        self.enter(now, if look { Phase::Down } else { Phase::Drain });
    }
}
