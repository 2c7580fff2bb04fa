//! How much may be in flight in each phase.

use std::time::Duration;

use crate::transport::congestion::cubic::Cubic;
use crate::transport::congestion::rate::controller::RateController;
use crate::transport::congestion::rate::phase::{Manner, Phase};
use crate::transport::congestion::tally::{in_time, percent};
use crate::transport::congestion::tuning::{
    CAUTIOUS_CRUISE_PERCENT, CAUTIOUS_UP_PERCENT, COMPETE_PERCENT, CRUISE_PERCENT, DOWN_PERCENT,
    FIRST_WINDOW_PERCENT_MAX, FIRST_WINDOW_TIME, LATE_ACKS_PERCENT, PACED_PACKETS, PACED_PERCENT, PACED_TIME,
    PROBE_RTT_PERCENT, SPARE_PACKETS, STARTUP_GROWING_PERCENT, STARTUP_GROWTH_PERCENT, STARTUP_PERCENT,
    TRIAL_PERCENT, UP_PERCENT, WINDOW_PACKETS_MIN,
};

impl RateController {
    /// The window as quinn sees it. Its pacer goes by it too, so it is no larger than the next burst needs.
    pub(super) fn paced_window(&self) -> u64 {
        let window = self.window + self.overtaken;
        if self.state == Phase::Startup {
            return window;
        }
        let burst = in_time(self.path.bandwidth.get(), PACED_TIME).max(PACED_PACKETS * self.packet_bytes);
        let paced = self.in_flight + burst;
        window.min(paced.max(self.share(PACED_PERCENT)))
    }

    /// Falls at once, and grows by what is acked.
    pub(super) fn steer(&mut self, acked: u64) {
        let growing =
            self.state == Phase::Startup && self.flat_rounds == 0 && !self.path.has_queue(self.smoothed_rtt);
        let growth = if growing { percent(acked, STARTUP_GROWTH_PERCENT) } else { acked };
        let target = match self.state {
            Phase::Startup => {
                let share = if growing { STARTUP_GROWING_PERCENT } else { STARTUP_PERCENT };
                self.resumed_window(self.share(share).max(self.first_window))
            }
            Phase::Drain => self.share(100),
            Phase::Down => self.down_window(),
            Phase::ProbeRtt { .. } => self.share(PROBE_RTT_PERCENT),
            Phase::Cruise { .. } if self.cautious => self.share(CAUTIOUS_CRUISE_PERCENT).min(self.ceiling),
            Phase::Cruise { .. } => self.padded(CRUISE_PERCENT).min(self.ceiling),
            Phase::Up => {
                self.padded(if self.cautious { CAUTIOUS_UP_PERCENT } else { UP_PERCENT }).min(self.ceiling)
            }
            Phase::Compete { .. } => {
                let shadow = self.shadow.as_ref().map_or(0, Cubic::window);
                self.padded(COMPETE_PERCENT).max(shadow)
            }
            Phase::Yield { window, .. } => window,
        };
        self.window = target.max(self.window_min()).min(self.window.saturating_add(growth));
    }

    /// The first round trip is known: it is sent at the same rate over a long path as over a short one.
    pub(crate) fn open_first_window(&mut self, rtt: Duration) {
        let times = rtt.as_millis() * 100 / FIRST_WINDOW_TIME.as_millis();
        let times = u64::try_from(times).unwrap_or(u64::MAX).clamp(100, FIRST_WINDOW_PERCENT_MAX);
        self.window = self.window.max(percent(self.initial_window, times));
        self.first_window = self.window;
    }

    /// `percent` of what the path holds, bytes; the initial window while nothing is known.
    pub(super) fn share(&self, percent_of_path: u64) -> u64 {
        self.path.share(percent_of_path).unwrap_or(self.initial_window)
    }

    /// With room for acks that come late and together, unless that is a queue to make way for.
    pub(super) fn padded(&self, percent_of_path: u64) -> u64 {
        let extra = match self.manner {
            Manner::Compete => self.extra.get().min(self.share(LATE_ACKS_PERCENT)),
            Manner::Yield => 0,
        };
        self.share(percent_of_path) + extra + SPARE_PACKETS * self.packet_bytes
    }

    pub(super) fn down_window(&self) -> u64 {
        let share = |percent| self.path.arriving_share(percent).unwrap_or(self.initial_window);
        match self.trial_rate {
            Some(rate) => self.path.window(rate, TRIAL_PERCENT).min(share(TRIAL_PERCENT)),
            None => share(DOWN_PERCENT),
        }
    }

    pub(super) fn window_min(&self) -> u64 {
        WINDOW_PACKETS_MIN * self.packet_bytes
    }
}
