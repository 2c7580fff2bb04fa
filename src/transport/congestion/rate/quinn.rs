//! The controller behind quinn's traits.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory};

use crate::transport::congestion::rate::controller::RateController;
use crate::transport::congestion::rate::phase::Manner;
use crate::transport::congestion::watch::PathWatch;

/// Makes a [`RateController`] for each path.
#[derive(Debug)]
pub(crate) struct RateConfig {
    /// First window, bytes.
    pub(crate) initial_window: u64,
    pub(crate) manner: Manner,
    pub(crate) watch: PathWatch,
}

impl ControllerFactory for RateConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let packet_bytes = u64::from(current_mtu);
        Box::new(RateController::new(now, self.manner, self.initial_window, packet_bytes, self.watch.clone()))
    }
}

impl Controller for RateController {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.in_flight += bytes;
        self.resume(now);
        self.sampler.sent(now, bytes, self.path.min_rtt.get());
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        _app_limited: bool,
        rtt: &quinn_proto::RttEstimator,
    ) {
        self.acked(now, sent, bytes, rtt.get());
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _largest_acked: Option<u64>) {
        self.acks_end(now, in_flight, app_limited);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.congested(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.packet_bytes = u64::from(new_mtu);
        self.window = self.window.max(self.window_min());
    }

    fn window(&self) -> u64 {
        self.paced_window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
