//! What a target needs to know of its transfer.

use std::io;
use std::sync::Arc;

use super::bounds::Bounds;
use super::peer_quota::PeerQuota;
use crate::auth::Fingerprint;
use crate::event::{Event, Reporter};

/// What a target needs to know of its transfer.
#[derive(Clone)]
pub struct Incoming {
    /// The name of the transfer: 32 lower-case hexadecimal digits.
    pub transfer: String,
    /// The sender. What is left of its files is resumed when the same sender sends them again.
    pub sender: Fingerprint,
    /// Whether data is synced.
    pub sync: bool,
    /// Whether all entries get their names together, at the end.
    pub atomic: bool,
    /// Whether each file is read back from its device before it gets its name.
    pub verify: bool,
    /// Whether the sender may set what is of weight for the whole machine: owners, set-id bits, `security.*` and
    /// `trusted.*` attributes.
    pub privileged: bool,
    /// Nothing is changed.
    pub only_looks: bool,
    /// The room for what is received, if it is limited.
    pub quota: Option<PeerQuota>,
    /// Bounds of the transfer.
    pub bounds: Bounds,
    /// Takes warnings.
    pub reporter: Arc<dyn Reporter>,
}

impl Incoming {
    /// Takes room for `bytes`.
    pub(super) fn take_room(&self, bytes: usize) -> io::Result<()> {
        self.quota.as_ref().map_or(Ok(()), |quota| quota.take(bytes as u64))
    }

    /// Takes room for an entry without its content.
    pub(super) fn take_entry(&self) -> io::Result<()> {
        self.quota.as_ref().map_or(Ok(()), PeerQuota::take_entry)
    }

    pub(super) fn warn(&self, message: String) {
        self.reporter.report(Event::Warning { path: None, reason: None, message });
    }
}
