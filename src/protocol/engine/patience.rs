//! How long a side waits for a silent peer, and for one that is alive but makes no progress.

use std::time::Duration;

use crate::protocol::failure::Failure;
use crate::protocol::wire::limits::{
    COMPARE_BYTES_PER_S_MIN, IDLE_MESSAGES_BURST_MAX, IDLE_MESSAGES_PER_S_MAX, PROGRESS_BYTES_PER_S_MIN,
};

/// Time limits set by the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// `--timeout`: for a silent peer.
    pub timeout: Duration,
    /// `--disk-timeout`: for a peer that reports activity without progress.
    pub disk_timeout: Duration,
}

/// The peer's last sign of life and last progress.
///
/// A sign of life costs a peer nothing, so it only counts against `timeout`. Progress counts against `disk_timeout`:
/// a step that the peer cannot repeat at will (an ack, a status, an entry) counts as a whole, and bytes count at
/// [`PROGRESS_BYTES_PER_S_MIN`].
#[derive(Debug, Clone, Copy)]
pub(in crate::protocol) struct ProgressWatch {
    patience: Patience,
    alive: Duration,
    /// Time of the last progress. Bytes move it forward, at most to the present.
    idle: Duration,
    /// Messages without progress, as a point in time: each one moves it by its share of a second.
    idle_messages: Duration,
}

impl ProgressWatch {
    pub(in crate::protocol) fn new(patience: Patience, now: Duration) -> Self {
        Self { patience, alive: now, idle: now, idle_messages: now }
    }

    /// A message arrived that brings no progress.
    ///
    /// # Errors
    ///
    /// There were more than [`IDLE_MESSAGES_PER_S_MAX`], and [`IDLE_MESSAGES_BURST_MAX`] on top.
    pub(in crate::protocol) fn idle_message(&mut self, now: Duration) -> Result<(), Failure> {
        let share = Duration::from_secs(1) / IDLE_MESSAGES_PER_S_MAX;
        self.idle_messages = self.idle_messages.max(now) + share;
        if self.idle_messages.saturating_sub(now) > share * IDLE_MESSAGES_BURST_MAX {
            return Err(Failure::protocol("the peer sends too many heart-beats"));
        }
        Ok(())
    }

    /// The last sign of life.
    pub(in crate::protocol) fn alive_at(&self) -> Duration {
        self.alive
    }

    /// Notes a sign of life.
    pub(in crate::protocol) fn alive(&mut self, now: Duration) {
        self.alive = now;
    }

    /// Notes a finished step.
    pub(in crate::protocol) fn step(&mut self, now: Duration) {
        self.alive = now;
        self.idle = now;
    }

    /// Notes `bytes` transferred bytes.
    pub(in crate::protocol) fn bytes(&mut self, bytes: u64, now: Duration) {
        let earned = Duration::from_millis(bytes.saturating_mul(1000) / PROGRESS_BYTES_PER_S_MIN);
        self.idle = self.idle.saturating_add(earned).min(now);
    }

    /// Whether the peer has been silent for `timeout`.
    pub(in crate::protocol) fn is_silent(&self, now: Duration) -> bool {
        now.saturating_sub(self.alive) > self.patience.timeout
    }

    /// Whether the peer is alive but has made no progress for `disk_timeout`. A peer whose own disk hangs ends the
    /// transfer itself then and names the path, so it gets `timeout` on top. `comparing` returns the size of the
    /// largest file that the peer may be hashing.
    pub(in crate::protocol) fn is_standing(&self, comparing: impl FnOnce() -> u64, now: Duration) -> bool {
        let patience = self.patience.disk_timeout + self.patience.timeout;
        let idle = now.saturating_sub(self.idle);
        idle > patience && idle > patience + Duration::from_secs(comparing() / COMPARE_BYTES_PER_S_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { timeout: Duration::from_secs(30), disk_timeout: Duration::from_secs(600) };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Seconds, up to a day, that a transfer of this many bytes a second lasts.
    fn lasts(bytes_per_s: u64) -> u64 {
        let mut progress = ProgressWatch::new(PATIENCE, Duration::ZERO);
        (1..86_400)
            .find(|&now| {
                progress.bytes(bytes_per_s, seconds(now));
                progress.alive(seconds(now));
                progress.is_standing(|| 0, seconds(now))
            })
            .unwrap_or(86_400)
    }

    #[test]
    fn fault_14_the_lowest_limit_is_progress_and_a_byte_a_second_is_not() {
        assert_eq!(lasts(0), 631);
        assert!((631..640).contains(&lasts(1)), "{}", lasts(1));
        assert_eq!(lasts(1024), 86_400, "--bwlimit 1K");
        assert_eq!(lasts(PROGRESS_BYTES_PER_S_MIN), 86_400);
    }

    #[test]
    fn fault_15_heart_beats_beyond_a_burst_are_a_breach() {
        let mut progress = ProgressWatch::new(PATIENCE, Duration::ZERO);
        let allowed = (0..).take_while(|_| progress.idle_message(seconds(1)).is_ok()).count();
        assert_eq!(allowed, IDLE_MESSAGES_BURST_MAX as usize);

        // Messages that piled up while this side was stopped, and those after them.
        let mut progress = ProgressWatch::new(PATIENCE, Duration::ZERO);
        for _ in 0..IDLE_MESSAGES_BURST_MAX {
            progress.idle_message(seconds(1)).unwrap();
        }
        for now in 2..10_000 {
            for _ in 0..IDLE_MESSAGES_PER_S_MAX {
                progress.idle_message(seconds(now)).unwrap();
            }
        }
    }

    #[test]
    fn bytes_of_the_past_buy_no_time() {
        let mut progress = ProgressWatch::new(PATIENCE, Duration::ZERO);
        progress.bytes(u64::MAX, seconds(1));
        assert!(!progress.is_standing(|| 0, seconds(631)));
        assert!(progress.is_standing(|| 0, seconds(632)));
    }

    #[test]
    fn a_large_file_takes_its_time_to_compare() {
        let progress = ProgressWatch::new(PATIENCE, Duration::ZERO);
        assert!(progress.is_standing(|| 0, seconds(700)));
        assert!(!progress.is_standing(|| 100 * COMPARE_BYTES_PER_S_MIN, seconds(700)));
        assert!(progress.is_standing(|| 100 * COMPARE_BYTES_PER_S_MIN, seconds(731)));
    }
}
