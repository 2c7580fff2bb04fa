//! What both drivers need besides the connection and the disk.

use std::sync::Arc;

use tokio::sync::watch;

use super::lease::Lease;
use super::observe::processor::ProcessorGauge;
use super::throttle::Throttle;
use crate::event::{Event, Reporter};
use crate::protocol::engine::patience::Patience;
use crate::protocol::failure::{Failure, Side};

/// How a side of a transfer is set up.
#[derive(Clone)]
pub struct Context {
    /// Memory, streams.
    pub memory: Lease,
    /// How long the peer is waited for; a disk of this side gets its `disk_timeout`, too.
    pub patience: Patience,
    /// What may travel, and when.
    pub throttle: Arc<Throttle>,
    /// What has been used of the processor so far.
    pub processor_use: ProcessorGauge,
    /// Whether the receiver syncs; the summary says so.
    pub synced: bool,
    /// Takes events.
    pub reporter: Arc<dyn Reporter>,
    /// Turns to a failure when this process is asked to stop.
    pub stop: watch::Receiver<Option<Failure>>,
}

impl Context {
    /// Waits until this process is asked to stop.
    pub(super) async fn stopped(&mut self) -> Failure {
        let stopped = self.stop.wait_for(Option::is_some).await.map(|failure| failure.clone());
        match stopped {
            Ok(Some(failure)) => failure,
            // Nobody is left who could ask.
            _ => std::future::pending().await,
        }
    }
}

/// What a transfer, and its staging directory, is called.
pub fn name_of(transfer: [u8; 16]) -> String {
    data_encoding::HEXLOWER.encode(&transfer)
}

/// The event that tells that entries begin to flow.
pub(super) fn started(side: Side, transfer: [u8; 16]) -> Event {
    Event::Started { side, transfer: transfer.into() }
}
