//! A path that an earlier transfer has measured is taken up at half of that: Careful Resume (RFC 9959).
//!
//! The jump is paced over a round trip. A path that has become slower shows it by what arrives of the first packets
//! (`fill.rs`), long before their loss is declared; then start-up ends with what has arrived.

use std::time::{Duration, Instant};

use tracing::debug;

use crate::transport::congestion::fill::Fill;
use crate::transport::congestion::known::KnownPath;
use crate::transport::congestion::rate::controller::RateController;
use crate::transport::congestion::rate::phase::{Manner, Phase, Resume};
use crate::transport::congestion::sampler::Sample;
use crate::transport::congestion::tally::{in_time, percent};
use crate::transport::congestion::tuning::{
    CRUISE_PERCENT, JUMP_PERCENT, RESUMED_PERCENT, RESUMED_RTT_PERCENT_MAX, RESUMED_RTT_PERCENT_MIN,
    RESUMED_RTT_SLACK, RTT_FLOOR,
};

impl RateController {
    /// Takes what an earlier transfer found, and jumps to half of it once the round trip is like that one's.
    pub(super) fn resume(&mut self, now: Instant) {
        if let Some(known) = self.watch.take_known()
            && self.manner == Manner::Compete
            && self.state == Phase::Startup
        {
            self.resume = Resume::Reconnaissance(known);
        }
        match self.resume {
            Resume::Reconnaissance(known) => {
                if let Some(rtt) = self.path.min_rtt.get() {
                    self.jump(known, rtt);
                }
            }
            Resume::Unvalidated { known, from: None } if self.in_flight > self.first_window => {
                self.resume = Resume::Unvalidated { known, from: Some(now) };
            }
            _ => {}
        }
    }

    fn jump(&mut self, known: KnownPath, rtt: Duration) {
        let window = percent(held(known, rtt), JUMP_PERCENT);
        let is_alike = is_alike(known.min_rtt, rtt);
        debug!(?known, ?rtt, is_alike, window, "a known path");
        self.resume = Resume::Normal;
        if is_alike && window > self.window {
            self.window = window;
            self.flat_rounds = 0;
            self.resume = Resume::Unvalidated { known, from: None };
        }
    }

    /// What arrives tells whether the path still carries what it did.
    pub(super) fn validate(&mut self, now: Instant, sample: &Sample) {
        match self.resume {
            Resume::Unvalidated { known, from: Some(from) } if sample.sent >= from => {
                self.fill = Fill::usually(1000 - known.lost_permille);
                self.flat_rounds = 0;
                self.resume = Resume::Validating { known, until: now };
            }
            Resume::Validating { known, until } if sample.sent > until => {
                self.resume = Resume::Validated(known);
                self.loss.presume(known.lost_permille);
            }
            _ => {}
        }
        let limit = percent(self.resumed().map_or(u64::MAX, |known| known.bandwidth), RESUMED_PERCENT);
        if self.path.bandwidth.get() >= limit {
            self.enter(now, Phase::Drain);
        }
    }

    /// Whether nothing has arrived yet of what the jump sent: no growth says nothing.
    pub(super) fn is_unvalidated(&self) -> bool {
        matches!(self.resume, Resume::Unvalidated { .. })
    }

    fn resumed(&self) -> Option<KnownPath> {
        match self.resume {
            Resume::Normal | Resume::Reconnaissance(_) => None,
            Resume::Unvalidated { known, .. }
            | Resume::Validating { known, .. }
            | Resume::Validated(known) => Some(known),
        }
    }

    /// The window of start-up: at least that of the jump, and until the path carries what it did, no more than that.
    pub(super) fn resumed_window(&self, window: u64) -> u64 {
        let (Some(known), Some(rtt)) = (self.resumed(), self.path.min_rtt.get()) else { return window };
        let held = held(known, rtt);
        let most = percent(held, CRUISE_PERCENT).saturating_mul(1000) / (1000 - known.lost_permille);
        window.max(percent(held, JUMP_PERCENT)).min(most)
    }

    /// Start-up has found what the path carries, and this is kept for later transfers. Rounds with little to send do not
    /// lower it, and a processor that is slower than the path is still worth a jump.
    pub(super) fn note_path(&self) {
        if self.manner == Manner::Yield || self.state == Phase::Startup {
            return;
        }
        if let Some(min_rtt) = self.path.min_rtt.base() {
            let (bandwidth, lost_permille) = (self.path.bandwidth.get(), self.loss.noise_permille());
            self.watch.learn(KnownPath { bandwidth, min_rtt, lost_permille });
        }
    }
}

/// Bytes that the path held, and no more when its round trip has become longer.
fn held(known: KnownPath, rtt: Duration) -> u64 {
    in_time(known.bandwidth, rtt.min(known.min_rtt).max(RTT_FLOOR))
}

/// Whether two least round trips may be those of one path.
fn is_alike(known: Duration, now: Duration) -> bool {
    now >= known * RESUMED_RTT_PERCENT_MIN / 100
        && now <= known * RESUMED_RTT_PERCENT_MAX / 100 + RESUMED_RTT_SLACK
}
