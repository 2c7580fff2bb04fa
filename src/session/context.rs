//! What both drivers need besides the connection and the disk.

use std::sync::Arc;

use tokio::sync::watch;

use super::after::AfterTransfer;
use super::compression::Compression;
use super::consent::Consent;
use super::lease::Lease;
use super::observe::processor::ProcessorGauge;
use super::throttle::Throttle;
use crate::auth::Identity;
use crate::event::{Event, Reporter};
use crate::protocol::engine::patience::Patience;
use crate::protocol::failure::{Failure, Side};
use crate::protocol::request::Request;

/// The settings of one side of a transfer.
#[derive(Clone)]
pub struct Context {
    /// Memory and streams.
    pub memory: Lease,
    /// How long to wait for the peer. `disk_timeout` is also the limit for this side's own disk.
    pub patience: Patience,
    /// The rate limit.
    pub throttle: Arc<Throttle>,
    /// Processor time used so far.
    pub processor_use: ProcessorGauge,
    /// Whether a sender takes from old files what they have.
    pub delta: bool,
    /// What a sender compresses.
    pub compression: Compression,
    /// Whether the receiver syncs; reported in the summary.
    pub synced: bool,
    /// Whether the sender wants a receipt.
    pub receipt: bool,
    /// What else the sender asks of the receiver.
    pub request: Request,
    /// The key of this side. Without it, a receiver signs nothing.
    pub identity: Option<Arc<Identity>>,
    /// Whether the receiver hands a single file on, in order and verified, and keeps nothing.
    pub piped: bool,
    /// Whether the receiver reads each file back from its disk.
    pub verify_disk: bool,
    /// Whether the receiver gives all entries their names together, or none.
    pub atomic: bool,
    /// Decides whether a receiver receives. Without it, it does.
    pub consent: Option<Arc<dyn Consent>>,
    /// Runs at a receiver after each transfer that is complete.
    pub program: Option<Arc<dyn AfterTransfer>>,
    /// Receives the events.
    pub reporter: Arc<dyn Reporter>,
    /// Becomes a failure when this process is asked to stop.
    pub stop: watch::Receiver<Option<Failure>>,
}

impl Context {
    /// Waits until this process is asked to stop.
    pub(super) async fn stopped(&mut self) -> Failure {
        let stopped = self.stop.wait_for(Option::is_some).await.map(|failure| failure.clone());
        match stopped {
            Ok(Some(failure)) => failure,
            // The sender of the request is gone.
            _ => std::future::pending().await,
        }
    }
}

/// The id of a transfer, which also names its staging directory.
pub fn name_of(transfer: [u8; 16]) -> String {
    data_encoding::HEXLOWER.encode(&transfer)
}

/// The event for the start of a transfer.
pub(super) fn started(side: Side, transfer: [u8; 16]) -> Event {
    Event::Started { side, transfer: transfer.into() }
}
