//! The controllers of quinn and of this crate, behind a gate that lets the last packet out, and probes of a dead path.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig, NewRenoConfig};

use super::rate::{Manner, RateConfig};
use super::watch::{DEAD_AFTER, PathWatch};
use crate::transport::limits::Congestion;

/// Datagrams of the first round trip. RFC 9002, section 7.2, has 10, for senders that let them go at once; these are
/// paced but for the first ten.
pub(crate) const INITIAL_WINDOW_DATAGRAMS: u64 = 32;

/// While nothing is acked, a packet leaves each time so much has passed since the last. QUIC's own probes back off to
/// minutes, and a path that has come back would wait for the next of them.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The controller `congestion` for one connection whose first datagrams have `datagram_bytes`. When `watch` says
/// that the connection closes, its window has no end.
///
/// quinn-proto up to 0.11.19 holds back the packet that closes a connection while the congestion window is full and
/// data are pending (quinn#2785). As nothing is acked after a close, it is never sent, and the peer waits for its
/// idle time-out instead of reading why. A window of more than 32 bits also turns off pacing.
pub(in crate::transport) fn controller(
    congestion: Congestion,
    datagram_bytes: u16,
    watch: PathWatch,
) -> Arc<dyn ControllerFactory + Send + Sync> {
    let window_bytes = INITIAL_WINDOW_DATAGRAMS * u64::from(datagram_bytes);
    match congestion {
        Congestion::Auto | Congestion::Background => {
            let manner = match congestion {
                Congestion::Background => Manner::Yield,
                _ => Manner::Compete,
            };
            let config = RateConfig { initial_window: window_bytes, manner, watch: watch.clone() };
            Arc::new(Gated { config: Arc::new(config), watch })
        }
        Congestion::Cubic => {
            let mut config = CubicConfig::default();
            config.initial_window(window_bytes);
            Arc::new(Gated { config: Arc::new(config), watch })
        }
        Congestion::NewReno => {
            let mut config = NewRenoConfig::default();
            config.initial_window(window_bytes);
            Arc::new(Gated { config: Arc::new(config), watch })
        }
    }
}

struct Gated<F> {
    config: Arc<F>,
    watch: PathWatch,
}

impl<F: ControllerFactory + Send + Sync + 'static> ControllerFactory for Gated<F> {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = self.config.clone().build(now, current_mtu);
        Box::new(Gate {
            inner,
            watch: self.watch.clone(),
            mtu: current_mtu.into(),
            heard: now,
            sent: now,
            unacked_since: None,
            in_flight: 0,
        })
    }
}

struct Gate {
    inner: Box<dyn Controller>,
    watch: PathWatch,
    /// Bytes of a packet.
    mtu: u64,
    /// The last acks.
    heard: Instant,
    /// The last packet.
    sent: Instant,
    /// The last acks, or the first packet after those that left nothing in flight.
    unacked_since: Option<Instant>,
    /// Bytes sent and neither acked nor lost.
    in_flight: u64,
}

impl Gate {
    /// Room for one packet, on a path that has been silent for long. The connection's keep-alive timer asks for it.
    fn probe(&self) -> Option<u64> {
        let silent = self.in_flight > 0
            && self.heard.elapsed() >= PROBE_INTERVAL
            && self.sent.elapsed() >= PROBE_INTERVAL;
        silent.then_some(self.in_flight + 2 * self.mtu)
    }
}

impl Controller for Gate {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.sent = now;
        if self.in_flight == 0 {
            self.unacked_since = Some(now);
            self.watch.set_unacked(self.unacked_since);
        }
        self.in_flight += bytes;
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &quinn_proto::RttEstimator,
    ) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        let since = now.saturating_duration_since(self.heard);
        let unacked = self.unacked_since.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.heard = now;
        self.in_flight = in_flight;
        self.unacked_since = (in_flight > 0).then_some(now);
        self.watch.set_unacked(self.unacked_since);
        if !app_limited {
            self.watch.add_full(since);
        } else if unacked >= DEAD_AFTER {
            self.watch.add_full(unacked);
        }
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.in_flight = self.in_flight.saturating_sub(lost_bytes);
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.watch.is_closing() {
            return u64::MAX;
        }
        let window = self.inner.window();
        let full = self.in_flight + self.mtu >= window;
        if full { window.max(self.probe().unwrap_or(0)) } else { window }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), watch: self.watch.clone(), ..*self })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.inner.into_any()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_the_inner_one_until_the_connection_closes() {
        let now = Instant::now();
        for congestion in [Congestion::Cubic, Congestion::NewReno] {
            let watch = PathWatch::default();
            let mut gate = controller(congestion, 1200, watch.clone()).build(now, 1200);
            let before = gate.window();
            assert_eq!(before, gate.initial_window());
            let later = now + Duration::from_millis(1);
            gate.on_congestion_event(later, later, false, 1200);
            assert!(gate.window() < before, "{congestion:?} does not hear of loss");
            let copy = gate.clone_box();
            watch.close();
            assert_eq!((gate.window(), copy.window()), (u64::MAX, u64::MAX));
        }
    }

    #[test]
    fn time_counts_while_the_window_is_full() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let watch = PathWatch::default();
        let mut gate = controller(Congestion::Auto, 1200, watch.clone()).build(start, 1200);
        gate.on_end_acks(at(10), 0, true, Some(1));
        assert_eq!(watch.window_full(), Duration::ZERO);
        gate.on_end_acks(at(14), 12_000, false, Some(2));
        gate.on_end_acks(at(15), 12_000, false, Some(3));
        gate.on_end_acks(at(90), 0, true, Some(4));
        assert_eq!(watch.window_full(), Duration::from_millis(5));
    }

    #[test]
    fn time_on_a_dead_path_counts_before_it_is_back() {
        let ago = |ms| Instant::now() - Duration::from_millis(ms);
        let watch = PathWatch::default();
        let mut gate = controller(Congestion::Auto, 1200, watch.clone()).build(ago(9000), 1200);
        gate.on_sent(ago(5000), 1200, 1);
        let second = Duration::from_secs(1);
        assert!((5 * second..7 * second).contains(&watch.window_full()), "{:?}", watch.window_full());
        gate.on_end_acks(ago(500), 0, true, Some(1));
        let dead = watch.window_full();
        assert!((4 * second..5 * second).contains(&dead), "{dead:?}");
        gate.on_sent(ago(400), 1200, 2);
        assert_eq!(watch.window_full(), dead, "acks are not due yet");
        let idle = PathWatch::default();
        let _gate = controller(Congestion::Auto, 1200, idle.clone()).build(ago(9000), 1200);
        assert_eq!(idle.window_full(), Duration::ZERO, "nothing is in flight");
    }

    #[test]
    fn a_silent_path_has_room_for_a_packet_each_second() {
        let now = Instant::now();
        let ago = |ms| now - Duration::from_millis(ms);
        let fill = |gate: &mut Box<dyn Controller>, at| gate.on_sent(at, gate.window(), 1);
        let build = |at| controller(Congestion::Auto, 1200, PathWatch::default()).build(at, 1200);

        let mut silent = build(ago(3000));
        let window = silent.window();
        fill(&mut silent, ago(2000));
        assert_eq!(silent.window(), window + 2 * 1200);
        silent.on_sent(now, 1200, 2);
        assert_eq!(silent.window(), window, "one packet a second");

        let mut busy = build(ago(3000));
        fill(&mut busy, ago(500));
        assert_eq!(busy.window(), window, "sent a moment ago");

        let mut idle = build(ago(3000));
        fill(&mut idle, ago(2500));
        idle.on_end_acks(ago(2000), 0, true, Some(1));
        assert_eq!(idle.window(), window, "nothing is in flight");
    }
}
