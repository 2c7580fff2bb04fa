//! What a sender learns of the path to its receiver.

use std::time::Duration;

use crate::protocol::engine::sender::PathFacts;
use crate::session::schedule::Rate;

/// Time over which the rate is measured.
const MEASURE: Duration = Duration::from_secs(1);

/// Measures how fast bytes arrive while the network is the bottleneck.
#[derive(Debug, Default)]
pub(super) struct PathMeter {
    since: Duration,
    came_bytes: u64,
    /// The network was the bottleneck each time since then.
    is_network: bool,
    bytes_per_s: Option<u64>,
}

impl PathMeter {
    /// The receiver has had `came_bytes` at `now`, on a path with this round trip and rate limit.
    pub(super) fn look(
        &mut self,
        now: Duration,
        came_bytes: u64,
        is_network: bool,
        rtt: Duration,
        limit: Rate,
    ) -> PathFacts {
        self.is_network &= is_network;
        let time = now.saturating_sub(self.since);
        if time >= MEASURE {
            let bytes = u128::from(came_bytes.saturating_sub(self.came_bytes)) * 1000 / time.as_millis();
            if self.is_network && bytes > 0 {
                self.bytes_per_s = Some(u64::try_from(bytes).unwrap_or(u64::MAX));
            }
            (self.since, self.came_bytes, self.is_network) = (now, came_bytes, true);
        }
        let limits = [self.bytes_per_s, limit.map(std::num::NonZeroU64::get)];
        PathFacts { rtt, bytes_per_s: limits.into_iter().flatten().min() }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn the_rate_is_measured_while_the_network_is_the_bottleneck() {
        let (mut meter, rtt) = (PathMeter::default(), Duration::from_millis(7));
        let mut look = |ms, came, is_network, limit| {
            let facts = meter.look(Duration::from_millis(ms), came, is_network, rtt, NonZeroU64::new(limit));
            assert_eq!(facts.rtt, rtt);
            facts.bytes_per_s
        };
        assert_eq!(look(0, 0, true, 0), None);
        assert_eq!(look(1000, 1 << 20, true, 0), None, "the first second may be a start");
        assert_eq!(look(1500, 2 << 20, true, 0), None);
        assert_eq!(look(3000, 3 << 20, true, 0), Some(1 << 20));
        assert_eq!(look(3000, 3 << 20, true, 5000), Some(5000));
        assert_eq!(look(3500, 3 << 20, false, 0), Some(1 << 20));
        assert_eq!(look(4000, 90 << 20, true, 0), Some(1 << 20), "the disk held it up");
        assert_eq!(look(5000, 92 << 20, true, 0), Some(2 << 20));
    }
}
