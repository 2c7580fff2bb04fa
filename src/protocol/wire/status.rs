//! What a receiver says of an entry.

use crate::protocol::failure::Reason;
use crate::protocol::path::RelPath;

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Send it.
    Want,
    /// A file of this size is here; tell its root.
    Check,
    /// Under its final name: another one than asked for if there is one here.
    Done(Option<RelPath>),
    /// The same was here: under another name if there is one here.
    Identical(Option<RelPath>),
    /// The same content was here, and has got mode and time.
    Updated,
    /// Something was here and stays.
    Skipped,
    /// It will not be there.
    Failed(Reason, String),
    /// It is a link, and the file system holds none. [`Message::Finished`] says why.
    NotKept,
}

impl Status {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Want => "Want",
            Self::Check => "Check",
            Self::Done(_) => "Done",
            Self::Identical(_) => "Identical",
            Self::Updated => "Updated",
            Self::Skipped => "Skipped",
            Self::Failed(..) => "Failed",
            Self::NotKept => "NotKept",
        }
    }
}
