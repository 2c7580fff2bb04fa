//! What may be under a final name, and what becomes of an entry whose name is taken.

use std::collections::VecDeque;

use crate::protocol::failure::Failure;
use crate::protocol::path::RelPath;

/// What becomes of an entry whose name is taken by something else. A file with the same bytes is no conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exists {
    /// It fails, and what is there stays.
    #[default]
    Refuse,
    /// What is there stays, and that is no failure. Bytes are not compared.
    Skip,
    /// It takes the place of what is there.
    Replace,
    /// It gets another name.
    Rename,
}

/// What a look-up under a final name found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Nothing; a directory has been made.
    Free,
    /// The very same directory or link.
    Same {
        /// The number of its name, 0 for the name itself.
        number: u32,
        /// It has the entry's mode and time too.
        is_current: bool,
    },
    /// Files of the same size: the bytes decide.
    SameSize {
        /// The numbers of their names, in the order to compare them: 0 is the name itself. Never none.
        numbers: VecDeque<u32>,
        /// The one under the name itself has the entry's mode and time too.
        is_current: bool,
    },
    /// Something else.
    Conflict,
    /// The name cannot be used, and why.
    Refused(Failure),
    /// The system does not permit it, and why.
    Denied(Failure),
}

/// How a commit went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Under its final name, another one if there is one here.
    Done(Option<RelPath>),
    /// The name was taken in the meantime. The entry is still staged.
    Exists,
    /// The name cannot be used, and why.
    Refused(Failure),
    /// The system does not permit it, and why.
    Denied(Failure),
    /// It is a link, and the file system holds none.
    NotKept,
}
