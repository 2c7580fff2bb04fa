//! The disk that a sender reads from.

use std::ops::Range;
use std::time::Duration;

use super::block::Block;
use crate::protocol::failure::Failure;
use crate::protocol::wire::entry::Entry;
use crate::protocol::wire::record::Run;

/// What a walk comes upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walked {
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

/// A way through a source, and where on it somebody is. Entries come parents first; a [`Kind::DirEnd`] with the same
/// path closes each [`Kind::Dir`].
///
/// [`Kind::Dir`]: crate::protocol::wire::entry::Kind::Dir
/// [`Kind::DirEnd`]: crate::protocol::wire::entry::Kind::DirEnd
pub trait Walk: Send + 'static {
    /// The next few entries, at most `max`; none at the end.
    fn next(&mut self, max: usize) -> impl Future<Output = Vec<Walked>> + Send;
}

/// What a sender reads from.
///
/// Several sessions may use one source at once, each with a walk of its own. Every path is one that a walk gave. Links
/// are not followed anywhere. Failures have the reasons `SourceUnreadable`, `SourceChanged` or `SpecialFile` and side
/// `Sender`.
pub trait Source: Send + Sync + 'static {
    /// An open file.
    type File: Send + Sync + 'static;
    /// A walk over all of it.
    type Walk: Walk;

    /// A new walk from the start.
    fn walk(&self) -> Self::Walk;

    /// Reads whole files into one block. The sum of the sizes in their entries is at most its length. A file
    /// whose size or mtime is not the entry's, before or after the reading, fails with `SourceChanged`, unless it is
    /// longer and a second reading gives the same bytes.
    fn read_small(&self, files: Vec<Entry>, block: Block) -> impl Future<Output = SmallBatch> + Send;

    /// Opens a file; `SourceChanged` when size or mtime is not the entry's, unless it is longer.
    fn open(&self, entry: Entry) -> impl Future<Output = std::result::Result<Self::File, Failure>> + Send;

    /// Data and holes of `range`, from its start and without gaps. Never more than `RUNS_MAX` runs.
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

    /// Reads what comes at `offset` of a file of unknown size to the front of `block`: as many bytes as it has room for,
    /// and fewer only at the end of the file. Each read begins where the one before it ended.
    fn read_on(
        &self,
        file: &Self::File,
        offset: u64,
        block: Block,
    ) -> impl Future<Output = std::result::Result<(Block, usize), Failure>> + Send;

    /// Whether the open file, and what is under its path now, still are what the entry said; `SourceChanged` when
    /// they are something else than that or longer. Of a file of unknown size only whether it is the same file.
    fn verify(&self, file: &Self::File)
    -> impl Future<Output = std::result::Result<Verdict, Failure>> + Send;

    /// The call to the disk that has been under way for longest, as a failure, if that is longer than `limit`. It
    /// answers at once, also while the disk does not.
    fn hanging(&self, limit: Duration) -> Option<Failure>;
}
