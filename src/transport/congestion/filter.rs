//! Windowed extremes: the highest recent bandwidth and the lowest recent round-trip time.

use std::time::{Duration, Instant};

/// How long a least round-trip time is believed without being seen again.
pub(super) const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);
/// How long the lowest of these is kept, to tell a queue of others from a longer path.
pub(super) const BASE_RTT_WINDOW: Duration = Duration::from_secs(60);
/// The same for a flow that makes way, as long as in RFC 6817, section 4.2: what it takes for the length of the path
/// must not be the queue of the flow that it makes way for.
pub(super) const YIELD_BASE_RTT_WINDOW: Duration = Duration::from_secs(600);
/// A sample that is longer by no more than this part confirms the least one.
const MIN_RTT_CONFIRMED_DIVISOR: u32 = 32;

/// The largest of this and the last cycle of probing (draft-ietf-ccwg-bbr, `BBR.max_bw`).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MaxBandwidth {
    previous: u64,
    current: u64,
}

impl MaxBandwidth {
    /// Bytes a second; 0 before the first sample.
    pub(super) fn get(&self) -> u64 {
        self.previous.max(self.current)
    }

    pub(super) fn update(&mut self, bytes_per_s: u64) {
        self.current = self.current.max(bytes_per_s);
    }

    /// Begins a cycle. A cycle without samples does not count, or a pause would erase the estimate.
    pub(super) fn advance(&mut self) {
        if self.current != 0 {
            self.previous = std::mem::take(&mut self.current);
        }
    }

    /// Forgets whatever was faster.
    pub(super) fn clamp(&mut self, bytes_per_s: u64) {
        self.previous = self.previous.min(bytes_per_s);
        self.current = self.current.min(bytes_per_s);
    }
}

/// The shortest round trip of the last 10 s, and of a longer window.
#[derive(Debug, Clone, Copy)]
pub(super) struct MinRtt {
    min: Option<(Duration, Instant)>,
    base: Option<(Duration, Instant)>,
    base_window: Duration,
}

impl MinRtt {
    /// The base is the shortest of `base_window`.
    pub(super) fn new(base_window: Duration) -> Self {
        Self { min: None, base: None, base_window }
    }

    pub(super) fn get(&self) -> Option<Duration> {
        self.min.map(|(rtt, _)| rtt)
    }

    /// Not above [`MinRtt::get`]: what the path takes without the queue of others that never pause.
    pub(super) fn base(&self) -> Option<Duration> {
        self.base.map(|(rtt, _)| rtt)
    }

    pub(super) fn update(&mut self, now: Instant, rtt: Duration) {
        keep_least(&mut self.min, now, rtt);
        keep_least(&mut self.base, now, rtt);
        if self.base.is_some_and(|(_, at)| now.saturating_duration_since(at) > self.base_window) {
            self.base = self.min;
        }
    }

    /// Whether the shortest is so old that the path may have changed.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.min.is_some_and(|(_, at)| now.saturating_duration_since(at) > MIN_RTT_WINDOW)
    }

    /// A deliberate measurement replaces a stale value.
    pub(super) fn replace(&mut self, now: Instant, rtt: Duration) {
        self.min = Some((rtt, now));
        keep_least(&mut self.base, now, rtt);
    }
}

fn keep_least(least: &mut Option<(Duration, Instant)>, now: Instant, rtt: Duration) {
    match least {
        Some((min, at)) if rtt >= *min => {
            if rtt - *min <= *min / MIN_RTT_CONFIRMED_DIVISOR {
                *at = now;
            }
        }
        _ => *least = Some((rtt, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bandwidth_lasts_two_cycles() {
        let mut filter = MaxBandwidth::default();
        filter.update(100);
        filter.update(50);
        assert_eq!(filter.get(), 100);
        filter.advance();
        filter.update(60);
        assert_eq!(filter.get(), 100);
        filter.advance();
        assert_eq!(filter.get(), 60);
        filter.advance();
        assert_eq!(filter.get(), 60, "a cycle without samples wiped out the estimate");
        filter.clamp(10);
        assert_eq!(filter.get(), 10);
    }

    #[test]
    fn the_least_rtt_goes_stale_unless_it_is_confirmed() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let ms = Duration::from_millis;
        let mut filter = MinRtt::new(BASE_RTT_WINDOW);
        filter.update(at(0), ms(64));
        filter.update(at(6), ms(65));
        assert!(!filter.is_stale(at(16)), "65 ms confirm 64 ms");
        filter.update(at(10), ms(70));
        assert!(filter.is_stale(at(17)));
        assert_eq!(filter.get(), Some(ms(64)));
        filter.replace(at(17), ms(70));
        assert_eq!((filter.get(), filter.base()), (Some(ms(70)), Some(ms(64))));
        filter.update(at(67), ms(70));
        assert_eq!(filter.base(), Some(ms(70)), "a minute later the path is believed to be longer");
    }
}
