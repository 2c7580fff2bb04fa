//! The receiver's status of an entry.

use std::ops::Range;

use crate::protocol::failure::Reason;
use crate::protocol::path::RelPath;
use crate::protocol::planned::Planned;

/// The status of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Send it.
    Want,
    /// Send it. The receiver takes its chunks in order, and at most so many at a time, 1 to
    /// [`CHUNKS_AHEAD_MAX`](crate::protocol::wire::limits::CHUNKS_AHEAD_MAX): the first one that is not acked and those
    /// after it.
    WantInOrder(u64),
    /// Send it; an earlier transfer left these chunks here, so claim them. Ranges in order that do not touch, 1 to
    /// [`CHUNK_RANGES_MAX`](crate::protocol::wire::limits::CHUNK_RANGES_MAX).
    Resume(Vec<Range<u64>>),
    /// A file of this size exists; send its root.
    Check,
    /// Under its final name, or under this other one.
    Done(Option<RelPath>),
    /// Complete, and durable if the receiver syncs. It gets its final name, or this other one, with all others at the
    /// end.
    Staged(Option<RelPath>),
    /// The same exists, or exists under this other name.
    Identical(Option<RelPath>),
    /// The same content exists, and got the new mode and time.
    Updated,
    /// A dry run: this would be done; [`Planned::Rename`] and only that gives the other name.
    Planned(Planned, Option<RelPath>),
    /// Another file exists and stays.
    Skipped,
    /// The entry failed.
    Failed(Reason, String),
    /// It is a link, and the file system does not support links. [`Message::Finished`] says why.
    NotKept,
}

impl Status {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Want | Self::WantInOrder(_) => "Want",
            Self::Resume(_) => "Resume",
            Self::Check => "Check",
            Self::Done(_) => "Done",
            Self::Staged(_) => "Staged",
            Self::Identical(_) => "Identical",
            Self::Updated => "Updated",
            Self::Planned(..) => "Planned",
            Self::Skipped => "Skipped",
            Self::Failed(..) => "Failed",
            Self::NotKept => "NotKept",
        }
    }
}
