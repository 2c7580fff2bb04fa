//! Final names, and how to resolve conflicts over them.

use std::collections::VecDeque;

use crate::protocol::failure::Failure;
use crate::protocol::path::RelPath;

/// How to resolve a conflict over a final name. A file with the same bytes is not a conflict.
///
/// The order is that of what may happen: who may do one may do those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Exists {
    /// The entry fails, and the existing file stays.
    #[default]
    Refuse,
    /// The existing file stays, without a failure. Bytes are not compared.
    Skip,
    /// The entry gets another name.
    Rename,
    /// The entry replaces the existing file.
    Replace,
}

impl Exists {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Refuse, Self::Skip, Self::Rename, Self::Replace];

    /// The number on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The policy with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// The result of a look-up of a final name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Nothing exists, or the directory has been made.
    Free,
    /// The same directory or link exists.
    Same {
        /// The number of its name, 0 for the name itself.
        number: u32,
        /// Mode and time are the same too.
        is_current: bool,
    },
    /// Files of the same size exist: compare their bytes.
    SameSize {
        /// The numbers of their names, in the order of comparison: 0 is the name itself. Never empty.
        numbers: VecDeque<u32>,
        /// The file under the name itself has the entry's mode and time.
        is_current: bool,
        /// The file under the name itself has the entry's size, and its time as this file system keeps times. A size
        /// that is not known never agrees.
        is_unchanged: bool,
    },
    /// Something different exists.
    Conflict,
    /// A directory has the name of a file or link. It is never replaced.
    Directory,
    /// The name cannot be used, and why.
    Refused(Failure),
    /// The system denies permission, and why.
    Denied(Failure),
}

impl Lookup {
    /// The same, but size and time do not say that a file has not changed.
    pub fn to_be_compared(self) -> Self {
        match self {
            Self::SameSize { numbers, is_current, .. } => {
                Self::SameSize { numbers, is_current, is_unchanged: false }
            }
            other => other,
        }
    }
}

/// The result of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Under its final name, or under this other one.
    Done(Option<RelPath>),
    /// The name was taken in the meantime. The entry is still staged.
    Exists,
    /// The name cannot be used, and why.
    Refused(Failure),
    /// The system denies permission, or its disk fails for this entry, and why.
    Denied(Failure),
    /// The disk returns other bytes than were written, as this says.
    Differs(Failure),
    /// It is a link, and the file system does not support links.
    NotKept,
}
