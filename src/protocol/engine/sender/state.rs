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
    pub(super) delta: Delta,
    /// Announced without a size. Its chunks are read once, one after the other.
    pub(super) is_open_ended: bool,
    /// Maximum chunks in flight, from the first one that is not acked on.
    pub(super) at_a_time: u64,
    /// [`Message::Close`] was sent.
    pub(super) closed: bool,
    /// The final status arrived before the last ack: the outcome, and the other name if any.
    pub(super) done: Option<(Outcome, Option<RelPath>)>,
    /// Chaining value of a small file whose ack was lost with a connection; the final status replaces it.
    pub(super) unacked: Option<[u8; 32]>,
}

/// How far taking bytes from an old file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delta {
    /// All chunks are sent: there is no old file, or it is of no use.
    None,
    /// There is an old file of this size, and its signature was lost with connections so often.
    Possible { old_bytes: u64, lost: u32 },
    /// Its signature is on its way. Memory is reserved for so many pieces.
    Asked { old_bytes: u64, lost: u32, pieces: usize },
    /// Chunks have recipes.
    Matching { pieces: usize },
}

impl Delta {
    /// Pieces for which memory is reserved.
    pub(super) fn pieces(self) -> usize {
        match self {
            Self::None | Self::Possible { .. } => 0,
            Self::Asked { pieces, .. } | Self::Matching { pieces } => pieces,
        }
    }
}

#[derive(Debug)]
pub(super) struct OutgoingEntry {
    pub(super) entry: Entry,
    pub(super) state: OutgoingState,
    pub(super) is_grown: bool,
    /// Size of the file that it replaces at the receiver.
    pub(super) old_bytes: Option<u64>,
}
