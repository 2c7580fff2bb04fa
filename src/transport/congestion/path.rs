//! The model of a path: its capacity, its length, and its loss.

use std::time::Duration;

use super::filter::{MaxBandwidth, MinRtt};
use super::tally::{in_time, percent};
use super::tuning::RTT_FLOOR;

/// The model of one path.
#[derive(Debug, Clone)]
pub(super) struct PathModel {
    pub(super) bandwidth: MaxBandwidth,
    pub(super) min_rtt: MinRtt,
    /// Lost packets in a thousand, whatever the rate.
    pub(super) noise_permille: u64,
}

impl PathModel {
    pub(super) fn new(base_window: Duration) -> Self {
        Self { bandwidth: MaxBandwidth::default(), min_rtt: MinRtt::new(base_window), noise_permille: 0 }
    }

    /// Whether packets that took at least `rtt` have waited in a queue.
    pub(super) fn has_queue(&self, rtt: Duration) -> bool {
        self.min_rtt.base().is_some_and(|base| rtt > base + base / 8 + Duration::from_millis(2))
    }

    /// `percent_of_path` of what the path holds, bytes; `None` while it is not known. More is sent than arrives, by
    /// what is noise.
    pub(super) fn share(&self, percent_of_path: u64) -> Option<u64> {
        Some(self.arriving_share(percent_of_path)?.saturating_mul(1000) / (1000 - self.noise_permille))
    }

    /// The same without what noise takes. It must not be there while that is looked at.
    pub(super) fn arriving_share(&self, percent_of_path: u64) -> Option<u64> {
        let bandwidth = Some(self.bandwidth.get()).filter(|bandwidth| *bandwidth > 0)?;
        self.min_rtt.get().is_some().then(|| self.window(bandwidth, percent_of_path))
    }

    /// `percent_of_path` of what the path would hold at `bandwidth`.
    pub(super) fn window(&self, bandwidth: u64, percent_of_path: u64) -> u64 {
        let length = self.min_rtt.get().unwrap_or_default().max(RTT_FLOOR);
        percent(in_time(bandwidth, length), percent_of_path)
    }
}
