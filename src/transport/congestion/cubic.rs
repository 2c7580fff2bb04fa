//! RFC 9438 in short: what a TCP flow would do here, for the time when one holds the queue.

use std::time::{Duration, Instant};

/// Growth after a reduction, packets per second cubed (section 5).
const C: f64 = 0.4;
/// What a reduction leaves (section 4.6).
const BETA: f64 = 0.7;
/// Growth per round trip of a Reno flow that yields as much (section 4.3).
const RENO_GROWTH: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// A congestion window of CUBIC's.
#[derive(Debug, Clone)]
pub(crate) struct Cubic {
    /// Packets.
    window: f64,
    slow_start_threshold: f64,
    window_max: f64,
    /// Begin of the growth since the last reduction, and the Reno window in it.
    epoch: Option<(Instant, f64)>,
    /// Losses of packets sent before this belong to the last reduction.
    reduced_at: Option<Instant>,
    packet_bytes: u64,
}

impl Cubic {
    /// In slow start.
    #[cfg(test)]
    pub(crate) fn new(window_bytes: u64, packet_bytes: u64) -> Self {
        let window = window_bytes as f64 / packet_bytes as f64;
        Self {
            window,
            slow_start_threshold: f64::INFINITY,
            window_max: window,
            epoch: None,
            reduced_at: None,
            packet_bytes,
        }
    }

    /// As though a larger window had just been reduced to `window_bytes`.
    pub(crate) fn reduced_to(window_bytes: u64, packet_bytes: u64) -> Self {
        let window = (window_bytes as f64 / packet_bytes as f64).max(2.0);
        Self {
            window,
            slow_start_threshold: window,
            window_max: window / BETA,
            epoch: None,
            reduced_at: None,
            packet_bytes,
        }
    }

    /// Bytes.
    pub(crate) fn window(&self) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "a cast from a float saturates")]
        let packets_x256 = (self.window * 256.0) as u64;
        (packets_x256.saturating_mul(self.packet_bytes) / 256).max(2 * self.packet_bytes)
    }

    /// `bytes` are acked while the window was in use.
    pub(crate) fn on_ack(&mut self, now: Instant, bytes: u64, rtt: Duration) {
        let packets = bytes as f64 / self.packet_bytes as f64;
        if self.window < self.slow_start_threshold {
            self.window += packets;
            return;
        }
        let (start, reno) = self.epoch.get_or_insert((now, self.window));
        *reno += RENO_GROWTH * packets / self.window;
        let k = ((self.window_max - self.slow_start_threshold).max(0.0) / C).cbrt();
        let t = (now.saturating_duration_since(*start) + rtt).as_secs_f64();
        let target = C * (t - k).powi(3) + self.window_max;
        let target = target.clamp(self.window, 1.5 * self.window);
        self.window += (target - self.window) * packets / self.window;
        self.window = self.window.max(*reno);
    }

    /// A packet of `sent` is lost or marked.
    pub(crate) fn on_congestion(&mut self, now: Instant, sent: Instant) {
        if self.reduced_at.is_some_and(|at| sent <= at) {
            return;
        }
        self.reduced_at = Some(now);
        // Fast convergence (section 4.7).
        let shrinking = self.window < self.window_max;
        self.window_max = if shrinking { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(2.0);
        self.slow_start_threshold = self.window;
        self.epoch = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_back_to_where_it_lost_and_slowly_beyond() {
        let start = Instant::now();
        let rtt = Duration::from_millis(40);
        let mut cubic = Cubic::new(700_000, 1000);
        cubic.on_congestion(start, start);
        assert!((489_990..=490_000).contains(&cubic.window()), "{}", cubic.window());
        let reduced = cubic.window();
        cubic.on_congestion(start, start);
        assert_eq!(cubic.window(), reduced, "one reduction for one round");
        // K is 8.07 s for a window of 700 packets.
        for round in 0..200 {
            cubic.on_ack(start + rtt * round, cubic.window(), rtt);
        }
        assert!((690_000..=700_000).contains(&cubic.window()), "{}", cubic.window());
        for round in 200..300 {
            cubic.on_ack(start + rtt * round, cubic.window(), rtt);
        }
        assert!((710_000..=740_000).contains(&cubic.window()), "{}", cubic.window());
    }
}
