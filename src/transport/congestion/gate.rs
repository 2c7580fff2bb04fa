//! The controllers of quinn and of this crate, behind a gate that lets the last packet out.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig, NewRenoConfig};

use super::rate::{Manner, RateConfig};
use super::watch::PathWatch;
use crate::transport::limits::Congestion;

/// Datagrams of the first round trip. RFC 9002, section 7.2, has 10, for senders that let them go at once; these are
/// paced but for the first ten.
pub(crate) const INITIAL_WINDOW_DATAGRAMS: u64 = 32;

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
            let config = RateConfig { initial_window: window_bytes, manner };
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
        Box::new(Gate { inner, watch: self.watch.clone(), heard: now })
    }
}

struct Gate {
    inner: Box<dyn Controller>,
    watch: PathWatch,
    /// The last acks.
    heard: Instant,
}

impl Controller for Gate {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
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
        self.heard = now;
        if !app_limited {
            self.watch.add_full(since);
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
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.watch.is_closing() { u64::MAX } else { self.inner.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), watch: self.watch.clone(), heard: self.heard })
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
    use std::time::Duration;

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
}
