//! The disks: what a sender reads from and a receiver writes to, as traits, and the file system behind them.
//!
//! Calls are asynchronous so that a slow disk never holds up the network, and work on batches so that ten
//! thousand small files do not cost ten thousand hops between threads.

pub mod block;
pub mod fs;
mod roots;
pub mod void;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;

use self::block::Block;
pub use self::roots::{read_again, source_roots};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, EntryId, Meta};

/// An operation on a disk that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.sentence(place.own()))]
pub struct StorageError {
    /// What was tried, as a verb: `open`, `write`, `sync`, `rename`.
    pub op: &'static str,
    /// Where.
    pub place: Place,
    /// What the system said.
    pub source: io::Error,
}

impl StorageError {
    fn sentence(&self, path: &str) -> String {
        format!("cannot {} {path}: {}", self.op, self.source)
    }

    /// What it means for `side`, whose disk it was.
    pub fn failure(&self, side: Side, reason: Reason) -> Failure {
        Failure::about(side, reason, &self.place, |path| self.sentence(path))
    }

    /// Whether it says that the name cannot be used here, rather than that the disk has failed: it leads through a
    /// link, a file or another file system, or the file system does not take it.
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

    /// Whether it says that this process may not do it there, or that the directory for it has been removed meanwhile.
    pub fn is_denial(&self) -> bool {
        matches!(self.errno(), Some(Errno::ACCESS | Errno::PERM | Errno::NOENT))
    }

    fn errno(&self) -> Option<Errno> {
        self.source.raw_os_error().map(Errno::from_raw_os_error)
    }
}

/// Result of a storage operation.
pub type Result<T> = std::result::Result<T, StorageError>;

/// What a walk comes upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Something that travels.
    Entry(Entry),
    /// Something that does not: a socket, FIFO, device, an unreadable directory, a name that is not allowed.
    Skipped {
        /// Its path, safe to print.
        path: String,
        /// Why.
        failure: Failure,
    },
}

/// A piece of a file: bytes that are stored, or a hole that reads as zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Bytes of the file, relative to its start.
    pub range: Range<u64>,
    /// Nothing is stored there.
    pub is_hole: bool,
}

/// Whole small files in one block, in the order asked for.
pub struct SmallBatch {
    /// The bytes of all, one behind the other.
    pub block: Block,
    /// For each file asked for: where its bytes lie in the block, or why there are none.
    pub files: Vec<std::result::Result<Range<usize>, Failure>>,
    /// Places of those that have grown since they were announced: their bytes are what was there then.
    pub grown: Vec<usize>,
}

/// What a second look at a source gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is what was announced.
    Same,
    /// It is longer. Whether the bytes that were announced are the same, only reading them again tells.
    Longer,
}

/// What a sender reads from.
///
/// Every path is one that [`Source::walk`] gave. Entries come parents first; a [`Kind::DirEnd`] with the same
/// path closes each [`Kind::Dir`]. Links are not followed anywhere. Failures have the reasons
/// `SourceUnreadable`, `SourceChanged` or `SpecialFile` and side `Sender`.
///
/// [`Kind::Dir`]: crate::protocol::wire::entry::Kind::Dir
/// [`Kind::DirEnd`]: crate::protocol::wire::entry::Kind::DirEnd
pub trait Source: Send + Sync + 'static {
    /// An open file.
    type File: Send + Sync + 'static;

    /// The next few entries of the walk; empty when it has ended. `max` bounds how many.
    fn walk(&self, max: usize) -> impl Future<Output = Vec<Found>> + Send;

    /// Reads whole files into one block. The sum of the sizes in their entries is at most its length. A file
    /// whose size or mtime is not the entry's, before or after the reading, fails with `SourceChanged`, unless it is
    /// longer and a second reading gives the same bytes.
    fn read_small(&self, files: Vec<Entry>, block: Block) -> impl Future<Output = SmallBatch> + Send;

    /// Opens a file; `SourceChanged` when size or mtime is not the entry's, unless it is longer.
    fn open(&self, entry: Entry) -> impl Future<Output = std::result::Result<Self::File, Failure>> + Send;

    /// Data and holes of `range`, in order and without gaps. Never more than `RUNS_MAX` runs.
    fn runs(
        &self,
        file: &Self::File,
        range: Range<u64>,
    ) -> impl Future<Output = std::result::Result<Vec<Run>, Failure>> + Send;

    /// Reads the `len` bytes at `offset` to the front of `block`; fewer than that is `SourceChanged`.
    fn read_at(
        &self,
        file: &Self::File,
        offset: u64,
        len: usize,
        block: Block,
    ) -> impl Future<Output = std::result::Result<Block, Failure>> + Send;

    /// Whether the open file, and what is under its path now, still are what the entry said; `SourceChanged` when
    /// they are something else than that or longer.
    fn verify(&self, file: &Self::File)
    -> impl Future<Output = std::result::Result<Verdict, Failure>> + Send;

    /// The call to the disk that has been under way for longest, as a failure, if that is longer than `limit`. It
    /// answers at once, also while the disk does not.
    fn hanging(&self, limit: Duration) -> Option<Failure>;
}

/// What is under the final name of an announced entry.
#[derive(Debug)]
pub enum Admission {
    /// Nothing. (A directory has been made.)
    Free,
    /// The very same: a directory, or a link with the same target.
    Same {
        /// The number of its name (`RelPath::numbered`), 0 for the name itself.
        number: u32,
        /// It has the mode and time of the entry, too.
        is_current: bool,
    },
    /// Regular files of the same size: the bytes decide.
    SameSize {
        /// The numbers of their names, 0 first, then the latest. At least one.
        numbers: VecDeque<u32>,
        /// The one under the name itself has the mode and time of the entry, too.
        is_current: bool,
    },
    /// Something else.
    Conflict,
    /// The name cannot be used here: it leads through a link or a file, or the file system does not take it.
    Refused(StorageError),
    /// This process may not do it there; that concerns no other entry.
    Denied(StorageError),
    /// The disk failed.
    Failed(StorageError),
}

/// Bytes for a staged file: `block[range]` goes to `offset` of `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which file.
    pub id: EntryId,
    /// Where in the file.
    pub offset: u64,
    /// Where in the block.
    pub range: Range<usize>,
    /// The bytes are a whole file, and this is what its commit will say: then it can be made complete at once.
    pub whole: Option<Meta>,
}

/// What to do about something that appeared under a final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Leave it and report [`Committed::Exists`].
    Keep,
    /// Put the new one in its place (files and links only; a directory in the way is [`Committed::Exists`]).
    Replace,
    /// Take another name: `name~1`, or `stem~1.ext`, the number being the first that is free. Where many are taken it
    /// is found by bisection, which may pass over a gap.
    Rename,
}

/// What a staged entry becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Final {
    /// A file of `size` bytes. What was not written of it is a hole; an entry without any write is all hole.
    File {
        /// Its size.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// As given by the sender.
        target: Bytes,
    },
}

/// An entry that is complete and verified, to be given its final name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Which one.
    pub id: EntryId,
    /// Its final name.
    pub path: RelPath,
    /// File or link.
    pub kind: Final,
    /// Permission bits and time, set before the name is.
    pub meta: Meta,
    /// What may happen to something that is there.
    pub on_conflict: OnConflict,
}

/// How a commit went.
#[derive(Debug)]
pub enum Committed {
    /// Under its final name; `Some` when that is another one than asked for.
    Done(Option<RelPath>),
    /// Something else is there; the entry stays staged.
    Exists,
    /// The name cannot be used here; the staged entry is gone.
    Refused(StorageError),
    /// This process may not do it there; the staged entry is gone.
    Denied(StorageError),
    /// It is a link, and the file system holds none. [`Target::finish`] counts it.
    NotKept,
    /// The disk failed.
    Failed(StorageError),
}

/// What a receiver writes to: one transfer into one directory.
///
/// What is written is staged and invisible until [`Target::commit`]; that syncs the data of all its entries, then
/// renames, then syncs the directories (unless syncing is off), so that a final name never holds a part of a
/// file, whenever the machine stops. No access leaves the directory or goes through a link in it.
pub trait Target: Send + Sync + 'static {
    /// Looks at the final names of `entries` and makes directories (with at least `u+rwx` until
    /// [`Target::finish_dirs`]). One answer for each, in order. What is written to these numbers is for these names.
    /// With [`OnConflict::Rename`] the names that a commit would give are looked at as well.
    fn admit(
        &self,
        entries: Vec<(EntryId, Entry)>,
        on_conflict: OnConflict,
    ) -> impl Future<Output = Vec<Admission>> + Send;

    /// Gives files and links that are there permission bits and time of their entries. One answer for each, in order:
    /// whether that has changed anything.
    fn update(&self, entries: Vec<Entry>) -> impl Future<Output = Vec<Result<bool>>> + Send;

    /// Writes pieces of one or several staged files, creating them at the first piece. A short write is
    /// continued, never reported as success.
    fn write(&self, writes: Vec<Write>, block: Block) -> impl Future<Output = Result<Block>> + Send;

    /// Gives entries their final names. One answer for each, in order.
    fn commit(&self, commits: Vec<Commit>) -> impl Future<Output = Vec<Committed>> + Send;

    /// Nothing more comes into these directories. Sets permission bits and times where there are some here; the
    /// others get back what they had when they were opened up. One answer for each, in order.
    fn finish_dirs(&self, dirs: Vec<(RelPath, Option<Meta>)>)
    -> impl Future<Output = Vec<Result<()>>> + Send;

    /// The BLAKE3 roots of the regular files under final names, read through `block`. One answer for each, in order.
    fn roots(
        &self,
        paths: Vec<RelPath>,
        block: Block,
    ) -> impl Future<Output = Vec<Result<blake3::Hash>>> + Send;

    /// Drops a staged entry.
    fn discard(&self, id: EntryId) -> impl Future<Output = ()> + Send;

    /// After the last commit: everything durable (directories and their attributes too), staging removed. Says what
    /// the disk does not keep.
    fn finish(&self) -> impl Future<Output = Result<Vec<NotKept>>> + Send;

    /// After a failure: removes what is staged and can be removed.
    fn abort(&self) -> impl Future<Output = ()> + Send;

    /// The call to the disk that has been under way for longest, as a failure, if that is longer than `limit`. It
    /// answers at once, also while the disk does not. With it comes the entry, if it is one in staging.
    fn hanging(&self, limit: Duration) -> Option<(StorageError, Option<EntryId>)>;

    /// Where an entry lies.
    fn place(&self, path: &RelPath) -> Place;
}
