//! Disk errors.

use std::io;

use rustix::io::Errno;

use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::place::Place;
use crate::protocol::wire::entry::EntryId;

/// A peer has used up its quota, or what it sends does not fit.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct OverQuota(pub(super) String);

/// A failed disk operation.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.sentence(place.own()))]
pub struct StorageError {
    /// The operation, as a verb: `open`, `write`, `sync`, `rename`.
    pub op: &'static str,
    /// Its place.
    pub place: Place,
    /// The system's error.
    pub source: io::Error,
    /// The staged entry that it is about, if it is about one.
    pub entry: Option<EntryId>,
}

impl StorageError {
    fn sentence(&self, path: &str) -> String {
        format!("cannot {} {path}: {}", self.op, self.source)
    }

    /// The failure it means for `side`, the owner of the disk.
    pub fn failure(&self, side: Side, reason: Reason) -> Failure {
        Failure::about(side, reason, &self.place, |path| self.sentence(path))
    }

    /// The receiver's disk failed.
    pub fn of_target(&self) -> Failure {
        // A rule of the receiver, and no fault of its disk.
        let reason = if self.is_quota() { Reason::Refused } else { Reason::Storage };
        self.failure(Side::Receiver, reason)
    }

    /// The receiver's disk does not accept a name.
    pub fn refusal(&self) -> Failure {
        self.failure(Side::Receiver, Reason::Refused)
    }

    /// Whether the name cannot be used here, rather than the disk failing: its path leads through a link, a file or
    /// another file system, or the file system does not accept it.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self.errno(),
            Some(
                Errno::LOOP
                    | Errno::NOTDIR
                    | Errno::NAMETOOLONG
                    | Errno::ILSEQ
                    | Errno::INVAL
                    | Errno::XDEV
                    | Errno::FBIG
            )
        )
    }

    /// Whether this process lacks permission there, or the directory was removed meanwhile.
    pub fn is_denial(&self) -> bool {
        matches!(self.errno(), Some(Errno::ACCESS | Errno::PERM | Errno::NOENT))
    }

    /// Whether it is about one entry, and others may go well.
    pub fn is_of_one_entry(&self) -> bool {
        self.entry.is_some() && !self.is_of_all_files()
    }

    /// Whether the name of one entry cannot be given, and those of others may be: it is denied, or an I/O error.
    pub(super) fn is_of_one_name(&self) -> bool {
        self.is_denial() || self.errno() == Some(Errno::IO)
    }

    /// Whether the file system does not take any writes.
    pub(super) fn is_read_only(&self) -> bool {
        self.errno() == Some(Errno::ROFS)
    }

    /// Whether the peer has used up its quota.
    fn is_quota(&self) -> bool {
        self.source.get_ref().is_some_and(|error| error.is::<OverQuota>())
    }

    /// Whether later writes of other files fail as well: the disk is full, a quota is used up, or the file system is
    /// read-only.
    pub fn is_of_all_files(&self) -> bool {
        self.is_quota() || matches!(self.errno(), Some(Errno::NOSPC | Errno::DQUOT | Errno::ROFS))
    }

    fn errno(&self) -> Option<Errno> {
        self.source.raw_os_error().map(Errno::from_raw_os_error)
    }
}

/// Result of a storage operation.
pub type Result<T> = std::result::Result<T, StorageError>;

/// `op`, a verb, failed at `place`.
pub(super) fn failed(op: &'static str, place: Place, source: impl Into<io::Error>) -> StorageError {
    StorageError { op, place, source: source.into(), entry: None }
}

impl StorageError {
    /// The same error, about a staged entry.
    pub(super) fn about(self, id: EntryId) -> Self {
        Self { entry: Some(id), ..self }
    }
}
