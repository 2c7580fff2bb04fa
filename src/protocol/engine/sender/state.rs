//! The states of an outgoing entry.

use crate::protocol::engine::plan::Plan;
use crate::protocol::failure::Failure;
use crate::protocol::hash::RootBuilder;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, Outcome};

#[derive(Debug)]
pub(super) enum OutgoingState {
    /// No answer yet.
    Announced,
    /// The receiver has a file of this size and asked for the root.
    Checking { root: Option<blake3::Hash> },
    /// The receiver wants it.
    Wanted(Box<OutgoingFile>),
    /// Given up here, not yet confirmed by the receiver.
    Abandoned(Failure),
}

impl OutgoingState {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Checking { .. } => "compared",
            Self::Wanted(_) => "wanted",
            Self::Abandoned(_) => "abandoned",
        }
    }
}

#[derive(Debug)]
pub(super) struct OutgoingFile {
    pub(super) root: RootBuilder,
    pub(super) plan: Plan,
    /// Bytes that the receiver holds of an earlier transfer, and that have not been compared.
    pub(super) unresolved: u64,
    /// Announced without a size. Its chunks are read once, one after the other.
    pub(super) is_open_ended: bool,
    /// [`Message::Close`] was sent.
    pub(super) closed: bool,
    /// The final status arrived before the last ack: the outcome, and the other name if any.
    pub(super) done: Option<(Outcome, Option<RelPath>)>,
    /// Chaining value of a small file whose ack was lost with a connection; the final status replaces it.
    pub(super) unacked: Option<[u8; 32]>,
}

#[derive(Debug)]
pub(super) struct OutgoingEntry {
    pub(super) entry: Entry,
    pub(super) state: OutgoingState,
    pub(super) is_grown: bool,
}
