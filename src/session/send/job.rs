//! Background jobs of a sender.

use crate::protocol::failure::Failure;
use crate::protocol::wire::entry::EntryId;
use crate::storage::Walked;

/// A finished background job.
pub(super) enum SendJob<W> {
    Walked(W, Vec<Walked>),
    Roots(Vec<(EntryId, Result<blake3::Hash, Failure>)>),
    /// Whether the source has only grown.
    Verified(EntryId, Result<bool, Failure>),
    /// Which of the names the source lacks.
    Judged(Vec<bool>),
}
