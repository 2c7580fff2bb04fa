//! What a manifest says of one file, directory or link.

use bytes::Bytes;

use crate::protocol::failure::Reason;
use crate::protocol::path::RelPath;
use crate::protocol::wire::limits::SMALL_FILE_BYTES_MAX;

/// Number of an entry in its manifest, from 0 in the order of the walk. Directories leave under a number of
/// their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u64);

/// A point in time: seconds since 1970 (negative before), and nanoseconds below 1e9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Whole seconds.
    pub seconds: i64,
    /// The rest, 0 to 999,999,999.
    pub nanos: u32,
}

/// Attributes that travel with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission bits, 0 to 0o777; set-id and sticky bits do not travel.
    pub mode: u32,
    /// Modification time.
    pub mtime: Time,
}

/// How an entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It travelled and is under its final name.
    Written,
    /// The same was there before.
    Identical,
    /// The same content was there before, and got the mode and time that were sent (`--exists replace`).
    Updated,
    /// Something was there before and `--exists skip` left it.
    Skipped,
    /// A link that the receiver's file system cannot hold.
    NotKept,
    /// It is not there, or not as it was sent; the reason says why.
    Failed(Reason),
}

/// An entry that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Which one.
    pub id: EntryId,
    /// What it was.
    pub entry: Entry,
    /// Another name that it got at the receiver.
    pub renamed: Option<RelPath>,
    /// Root of a file whose bytes were hashed.
    pub root: Option<blake3::Hash>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed.
    pub message: Option<String>,
}

/// Numbers of a transfer so far, as one side knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Files announced.
    pub files: u64,
    /// Bytes of files announced.
    pub bytes: u64,
    /// Bytes written, verified and acked, and of files that need not travel.
    pub settled_bytes: u64,
    /// Files settled.
    pub settled_files: u64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of `size` bytes.
    File {
        /// Bytes, holes counted.
        size: u64,
    },
    /// A regular file whose size is known at its end: its last record and its `Close` say it.
    OpenEnded,
    /// A directory, before what it holds.
    Dir,
    /// The end of a directory: everything in it has been announced. Its attributes are applied when all of that
    /// is settled.
    DirEnd,
    /// A symbolic link; the target is any bytes and is never followed.
    Symlink {
        /// As `readlink` gives it.
        target: Bytes,
    },
}

/// One line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Under the target directory.
    pub path: RelPath,
    /// Permission bits and times.
    pub meta: Meta,
    /// File, directory or link.
    pub kind: Kind,
}

impl Entry {
    /// A regular file, whether its size is known or not.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. } | Kind::OpenEnded)
    }

    /// A file that is one record, without a `Close`.
    pub fn is_small(&self) -> bool {
        matches!(self.kind, Kind::File { size } if size <= SMALL_FILE_BYTES_MAX)
    }

    /// Bytes of the file, 0 for everything else and while they are not known.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size } => size,
            _ => 0,
        }
    }

    /// What the entry counts against [`crate::protocol::wire::limits::OPEN_PATH_BYTES_MAX`].
    pub fn path_bytes(&self) -> usize {
        self.path.as_bytes().len() + if let Kind::Symlink { target } = &self.kind { target.len() } else { 0 }
    }
}
