//! Entries of the manifest: files, directories and links.

use std::sync::Arc;

use bytes::Bytes;

use crate::protocol::failure::Reason;
use crate::protocol::path::RelPath;
use crate::protocol::planned::Planned;
use crate::protocol::wire::attributes::Attributes;
use crate::protocol::wire::limits::SMALL_FILE_BYTES_MAX;

/// Number of an entry in its manifest, from 0 in walk order. The end of a directory has its own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u64);

/// A point in time: seconds since 1970 (negative before), and nanoseconds below 1e9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Whole seconds.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nanos: u32,
}

/// Attributes that travel with an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission bits, 0 to 0o777; set-id and sticky bits are attributes.
    pub mode: u32,
    /// Modification time.
    pub mtime: Time,
    /// What else the sender was asked to keep.
    pub attributes: Option<Arc<Attributes>>,
}

/// The outcome of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was sent and is under its final name.
    Written,
    /// It was sent, and gets its final name with all others at the end.
    Staged,
    /// The same existed already.
    Identical,
    /// A file of the same size and time existed. Its content was not compared.
    Unchanged,
    /// The same content existed, and got the new mode and time (`--exists replace`).
    Updated,
    /// Another file existed and `--exists skip` kept it.
    Skipped,
    /// A link, and the receiver's file system does not support links.
    NotKept,
    /// A dry run: this would be done.
    Planned(Planned),
    /// It is missing or differs from the source; the reason says why.
    Failed(Reason),
}

impl Outcome {
    /// Whether it was sent, and is or will be under its final name.
    pub fn is_delivered(self) -> bool {
        matches!(self, Self::Written | Self::Staged)
    }
}

/// An entry that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Its number.
    pub id: EntryId,
    /// The entry.
    pub entry: Entry,
    /// Its other name at the receiver.
    pub renamed: Option<RelPath>,
    /// Root of a file whose bytes were hashed.
    pub root: Option<blake3::Hash>,
    /// The outcome.
    pub outcome: Outcome,
    /// Why it failed.
    pub message: Option<String>,
}

/// Totals of a transfer so far, as one side knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Files announced.
    pub files: u64,
    /// Bytes of files announced.
    pub bytes: u64,
    /// Bytes written, verified and acked, including those of files that need not be sent.
    pub settled_bytes: u64,
    /// Files settled.
    pub settled_files: u64,
    /// Bytes in `settled_bytes` that an earlier transfer left at the receiver.
    pub resumed_bytes: u64,
    /// Bytes in `settled_bytes` that the receiver took from old files.
    pub copied_bytes: u64,
    /// Bytes that an earlier transfer left at the receiver, and of which it is not known yet whether they are still the
    /// same.
    pub held_bytes: u64,
}

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of `size` bytes.
    File {
        /// Bytes, holes counted.
        size: u64,
    },
    /// A regular file of unknown size: its last record and its `Close` tell the size.
    OpenEnded,
    /// A directory, before its contents.
    Dir,
    /// The end of a directory: its contents are all announced. Its attributes are applied when all of them are
    /// settled.
    DirEnd,
    /// A symbolic link; its target is arbitrary bytes and is never followed.
    Symlink {
        /// As returned by `readlink`.
        target: Bytes,
    },
}

/// One line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path under the target directory.
    pub path: RelPath,
    /// Permission bits and times.
    pub meta: Meta,
    /// File, directory or link.
    pub kind: Kind,
    /// Bytes of a file that need no space at the sender, as far as its disk tells.
    pub hole_bytes: u64,
}

impl Entry {
    /// Whether it is a regular file, of known or unknown size.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. } | Kind::OpenEnded)
    }

    /// Whether it is a file sent as one record, without a `Close`.
    pub fn is_small(&self) -> bool {
        matches!(self.kind, Kind::File { size } if size <= SMALL_FILE_BYTES_MAX)
    }

    /// Whether it is a file of several chunks of 2^`chunk_log2` bytes, so that a later transfer can resume it.
    pub fn is_resumable(&self, chunk_log2: u8) -> bool {
        matches!(self.kind, Kind::File { size } if size > 1 << chunk_log2)
    }

    /// Size of the file; 0 for anything else and while it is unknown.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size } => size,
            _ => 0,
        }
    }

    /// Its share of [`crate::protocol::wire::limits::OPEN_PATH_BYTES_MAX`].
    pub fn path_bytes(&self) -> usize {
        let target = if let Kind::Symlink { target } = &self.kind { target.len() } else { 0 };
        let attributes = self.meta.attributes.as_ref().map_or(0, |attributes| attributes.memory_bytes());
        self.path.as_bytes().len() + target + attributes
    }
}
