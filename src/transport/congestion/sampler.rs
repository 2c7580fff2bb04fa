//! How fast packets get through: delivery-rate samples, as in draft-ietf-ccwg-bbr, section 4.1.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bursts remembered; beyond them the oldest is forgotten, and its acks give no sample.
const BURSTS_MAX: usize = 16 * 1024;
/// Bursts of a round trip that are told apart. More, as a fast and long path has, would not be remembered until they
/// are acked.
const BURSTS_PER_RTT: u32 = 4096;

/// Deliveries at the time a burst (packets that quinn sends with one clock reading) left.
#[derive(Debug, Clone, Copy)]
struct Burst {
    sent: Instant,
    /// Bytes sent before it.
    sent_before: u64,
    delivered: u64,
    delivered_at: Instant,
    /// When the burst left whose ack was the newest then.
    first_sent: Instant,
    app_limited: bool,
}

/// What one batch of acks says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Bytes acked now.
    pub(super) acked: u64,
    /// Round trip of the newest of them; the peer's delay of the ack included.
    pub(super) rtt: Duration,
    /// Bytes a second over the last round trip; `None` when it was too short to say.
    pub(super) rate: Option<u64>,
    /// The sender had less to send than it was let to: the path may be faster.
    pub(super) app_limited: bool,
    /// A packet is acked that was sent after the last round began: another begins.
    pub(super) round: bool,
    /// When the newest of them was sent, and bytes sent before it.
    pub(super) sent: Instant,
    pub(super) sent_before: u64,
    /// Bytes acked so far.
    pub(super) delivered: u64,
    /// Bytes in flight that were sent before some that are acked: late, or lost and not yet called so.
    pub(super) overtaken: u64,
}

/// Counts bytes sent and acked.
#[derive(Debug, Clone)]
pub(super) struct Sampler {
    bursts: VecDeque<Burst>,
    /// Bytes sent so far, and before the newest burst that is acked.
    sent: u64,
    sent_before_newest: u64,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    /// Nothing was in flight after the last acks.
    idle: bool,
    /// The application had nothing to send until this much was delivered.
    app_limited_until: u64,
    round_ends_at: u64,
    /// Of this batch of acks.
    acked: u64,
    newest: Option<Burst>,
}

impl Sampler {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            bursts: VecDeque::new(),
            sent: 0,
            sent_before_newest: 0,
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            idle: true,
            app_limited_until: 0,
            round_ends_at: 0,
            acked: 0,
            newest: None,
        }
    }

    /// Bytes acked so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// `bytes` leave now. A round trip takes at least `min_rtt`.
    pub(super) fn sent(&mut self, now: Instant, bytes: u64, min_rtt: Option<Duration>) {
        let sent_before = self.sent;
        self.sent += bytes;
        if self.idle {
            self.idle = false;
            self.first_sent = now;
            self.delivered_at = now;
        }
        let apart = min_rtt.unwrap_or_default() / BURSTS_PER_RTT;
        if self.bursts.back().is_some_and(|last| last.sent + apart >= now) {
            return;
        }
        if self.bursts.len() == BURSTS_MAX {
            self.bursts.pop_front();
        }
        self.bursts.push_back(Burst {
            sent: now,
            sent_before,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            app_limited: self.delivered < self.app_limited_until,
        });
    }

    pub(super) fn acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = now;
        self.acked += bytes;
        if self.newest.is_some_and(|newest| newest.sent >= sent) {
            return;
        }
        let after = self.bursts.partition_point(|burst| burst.sent <= sent);
        let Some(at) = after.checked_sub(1) else { return };
        self.newest = Some(self.bursts[at]);
    }

    /// Ends a batch of acks after which `in_flight` bytes are left. `None` for unknown packets.
    pub(super) fn end(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        min_rtt: Option<Duration>,
    ) -> Option<Sample> {
        self.idle = in_flight == 0;
        if app_limited {
            self.app_limited_until = self.delivered + in_flight.max(1);
        }
        let acked = std::mem::take(&mut self.acked);
        let newest = self.newest.take()?;
        let rtt = now.saturating_duration_since(newest.sent);
        self.first_sent = newest.sent;
        let round = newest.delivered >= self.round_ends_at;
        if round {
            self.round_ends_at = self.delivered;
        }
        // Packets sent more than a round trip before are rarely acked any more.
        while self.bursts.front().is_some_and(|first| first.sent + 2 * rtt < newest.sent) {
            self.bursts.pop_front();
        }
        // The longer of the two intervals: acks that come in a bunch do not make the path fast.
        let sending = newest.sent.saturating_duration_since(newest.first_sent);
        let acking = now.saturating_duration_since(newest.delivered_at);
        let interval = sending.max(acking);
        let long_enough = !interval.is_zero() && min_rtt.is_none_or(|min| interval >= min);
        let rate = long_enough.then(|| per_second(self.delivered - newest.delivered, interval));
        self.sent_before_newest = self.sent_before_newest.max(newest.sent_before);
        let overtaken = in_flight.saturating_sub(self.sent - self.sent_before_newest);
        Some(Sample {
            acked,
            rtt,
            rate,
            app_limited: newest.app_limited,
            round,
            sent: newest.sent,
            sent_before: newest.sent_before,
            delivered: self.delivered,
            overtaken,
        })
    }
}

/// Bytes a second of `bytes` in `interval`, which is not zero.
pub(super) fn per_second(bytes: u64, interval: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / interval.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_rate_counts_deliveries_of_the_last_round_trip() {
        let start = Instant::now();
        let mut sampler = Sampler::new(start);
        for i in 0..10 {
            sampler.sent(start + ms(i), 1000, None);
        }
        sampler.acked(start + ms(100), start, 1000);
        let first = sampler.end(start + ms(100), 9000, false, None).expect("known");
        assert_eq!((first.rtt, first.round, first.rate), (ms(100), true, Some(10_000)));
        sampler.sent(start + ms(100), 1000, None);
        for i in 1..10 {
            sampler.acked(start + ms(100 + i), start + ms(i), 1000);
            let sample = sampler.end(start + ms(100 + i), 1000, false, Some(ms(100))).expect("known");
            assert!(!sample.round, "sent before the round began");
        }
        sampler.acked(start + ms(200), start + ms(100), 1000);
        let last = sampler.end(start + ms(200), 0, false, Some(ms(100))).expect("known");
        assert_eq!((last.round, last.rate), (true, Some(100_000)));
    }

    #[test]
    fn acks_in_a_bunch_are_not_bandwidth() {
        let start = Instant::now();
        let mut sampler = Sampler::new(start);
        for i in 0..200 {
            sampler.sent(start + ms(i), 1000, None);
        }
        sampler.acked(start + ms(100), start, 1000);
        sampler.end(start + ms(100), 1000, false, None);
        // A link that held back the acks of 100 ms lets them go at once.
        for i in 1..200 {
            sampler.acked(start + ms(210), start + ms(i), 1000);
        }
        let sample = sampler.end(start + ms(210), 0, false, Some(ms(100))).expect("known");
        assert!(sample.rate.is_some_and(|rate| rate <= 1_010_000), "{sample:?}");
    }

    #[test]
    fn a_sender_without_data_is_said_to_be_limited_until_its_flight_has_landed() {
        let start = Instant::now();
        let mut sampler = Sampler::new(start);
        sampler.sent(start, 1000, None);
        sampler.acked(start + ms(10), start, 1000);
        assert!(!sampler.end(start + ms(10), 1000, true, None).expect("known").app_limited);
        sampler.sent(start + ms(11), 1000, None);
        sampler.acked(start + ms(21), start + ms(11), 1000);
        assert!(sampler.end(start + ms(21), 1000, false, None).expect("known").app_limited);
        sampler.sent(start + ms(22), 1000, None);
        sampler.acked(start + ms(32), start + ms(22), 1000);
        assert!(!sampler.end(start + ms(32), 1000, false, None).expect("known").app_limited);
    }

    #[test]
    fn an_ack_of_an_unknown_packet_gives_no_sample() {
        let start = Instant::now();
        let mut sampler = Sampler::new(start);
        sampler.acked(start + ms(5), start, 1000);
        assert_eq!(sampler.end(start + ms(5), 0, false, None), None);
        assert_eq!(sampler.delivered(), 1000);
    }

    #[test]
    fn packets_sent_before_an_acked_one_are_overtaken() {
        let start = Instant::now();
        let mut sampler = Sampler::new(start);
        for i in 0..10 {
            sampler.sent(start + ms(i), 1000, None);
        }
        let mut ack = |i, in_flight| {
            sampler.acked(start + ms(100 + i), start + ms(i), 1000);
            sampler.end(start + ms(100 + i), in_flight, false, None).expect("known").overtaken
        };
        assert_eq!(ack(0, 9000), 0);
        // Its own burst does not count as a whole: the others in it may be acked next.
        assert_eq!(ack(4, 8000), 2000);
        assert_eq!(ack(2, 7000), 1000);
        assert_eq!(ack(9, 6000), 5000);
    }

    #[test]
    fn bursts_of_a_fast_and_long_path_are_remembered_until_they_are_acked() {
        let start = Instant::now();
        let mut sampler = Sampler::new(start);
        let rtt = Duration::from_millis(300);
        for i in 0..40_000 {
            sampler.sent(start + i * Duration::from_micros(10), 1000, Some(rtt));
        }
        sampler.acked(start + rtt, start, 1000);
        let first = sampler.end(start + rtt, 1000, false, Some(rtt)).expect("forgotten");
        assert!(first.rtt >= rtt * 99 / 100, "{first:?}");
    }
}
