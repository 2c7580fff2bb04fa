//! Sums over stretches of packets: loss, and acks that were held back.

use std::time::{Duration, Instant};

/// A stretch is a round, and at least this many packets.
const LOSS_STRETCH_PACKETS: u64 = 100;

/// Acks beyond the bandwidth for a while, because acks were held back (the draft's `BBR.extra_acked`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Aggregation {
    since: Instant,
    acked: u64,
    largest: [u64; 2],
    rounds: u32,
}

impl Aggregation {
    /// Rounds of one half of the memory.
    const ROUNDS: u32 = 5;

    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, acked: 0, largest: [0; 2], rounds: 0 }
    }

    /// Bytes.
    pub(super) fn get(&self) -> u64 {
        self.largest[0].max(self.largest[1])
    }

    /// `bytes` are acked; `round` ends with them.
    pub(super) fn acked(&mut self, now: Instant, bytes: u64, bandwidth: u64, round: bool) {
        if round {
            self.rounds += 1;
            if self.rounds == Self::ROUNDS {
                self.rounds = 0;
                self.largest = [0, self.largest[0]];
            }
        }
        let mut expected = in_time(bandwidth, now.saturating_duration_since(self.since));
        if self.acked <= expected {
            self.since = now;
            self.acked = 0;
            expected = 0;
        }
        self.acked += bytes;
        self.largest[0] = self.largest[0].max(self.acked.saturating_sub(expected));
    }
}

/// Lost and acked bytes since the last verdict.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stretch {
    pub(super) acked: u64,
    pub(super) lost: u64,
}

impl Stretch {
    pub(super) fn is_long_enough(&self, packet_bytes: u64) -> bool {
        self.has_packets(LOSS_STRETCH_PACKETS, packet_bytes)
    }

    pub(super) fn has_packets(&self, packets: u64, packet_bytes: u64) -> bool {
        self.acked + self.lost >= packets * packet_bytes
    }

    /// Lost in a thousand; 0 of nothing.
    pub(super) fn lost_permille(&self) -> u64 {
        self.lost * 1000 / (self.acked + self.lost).max(1)
    }
}

/// `percent` hundredths of `value`.
pub(super) fn percent(value: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// Bytes of `bytes_per_s` in `time`.
pub(super) fn in_time(bytes_per_s: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(bytes_per_s) * time.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_at_the_rate_of_the_path_are_not_held_back() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut steady = Aggregation::new(start);
        let mut held = Aggregation::new(start);
        for ms in 1..=100 {
            steady.acked(at(ms), 1000, 1_000_000, false);
            if ms % 20 == 0 {
                held.acked(at(ms), 20_000, 1_000_000, false);
            }
        }
        assert!(steady.get() <= 2000, "{}", steady.get());
        assert!((18_000..=40_000).contains(&held.get()), "{}", held.get());
        for round in 1..=2 * Aggregation::ROUNDS {
            held.acked(at(100) + Duration::from_secs(round.into()), 1000, 1_000_000, true);
        }
        assert!(held.get() <= 2000, "remembered for more than ten rounds: {}", held.get());
    }

    #[test]
    fn a_stretch_needs_a_hundred_packets() {
        let mut stretch = Stretch { acked: 80_000, lost: 10_000 };
        assert!(!stretch.is_long_enough(1000));
        stretch.acked += 10_000;
        assert!(stretch.is_long_enough(1000));
        assert_eq!(stretch.lost_permille(), 100);
    }
}
