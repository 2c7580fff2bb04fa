//! Standard output as a target: one file, handed on in the order of its bytes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::pipe::{has_no_reader, write};
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::failure::Failure;
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::hash::ChunkValue;
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, EntryId, Meta};
use crate::storage::block::Block;
use crate::storage::error::{Result, StorageError, failed};
use crate::storage::fs::blocking;
use crate::storage::target::{Commit, Target, Write};

/// The name of standard output for users of both sides.
const NAME: &str = "standard output";

/// Standard output. It takes the writes of one file in order, and has no staging, no names and no syncs.
pub struct StdoutTarget {
    output: Arc<Mutex<Output>>,
    /// The same descriptor, for looks at it while a write waits.
    watched: File,
}

struct Output {
    file: File,
    /// Bytes written so far.
    position: u64,
}

impl StdoutTarget {
    /// Writes to `output`.
    ///
    /// # Errors
    ///
    /// The descriptor cannot be duplicated.
    pub fn new(output: impl AsFd) -> std::result::Result<Self, Failure> {
        let clone = || Ok(File::from(output.as_fd().try_clone_to_owned()?));
        let opened = |error: io::Error| failed("open", place(), error).of_target();
        let (file, watched) = (clone().map_err(opened)?, clone().map_err(opened)?);
        Ok(Self { output: Arc::new(Mutex::new(Output { file, position: 0 })), watched })
    }
}

impl Output {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset != self.position {
            return Err(io::Error::other("the bytes before have not been written"));
        }
        write(&self.file, bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

fn place() -> Place {
    Place::new(NAME, NAME)
}

impl Target for StdoutTarget {
    async fn look(&self, entries: Vec<Entry>, _: Exists) -> Vec<Result<Lookup>> {
        entries.iter().map(|_| Ok(Lookup::Free)).collect()
    }

    async fn prepare(&self, entries: Vec<(EntryId, Entry)>) -> Vec<Result<Option<Lookup>>> {
        entries.iter().map(|_| Ok(None)).collect()
    }

    async fn held(&self, entries: Vec<(EntryId, Entry)>, _: u8) -> Vec<ChunkSet> {
        entries.iter().map(|_| ChunkSet::default()).collect()
    }

    async fn old(&self, paths: Vec<RelPath>) -> Vec<Option<u64>> {
        vec![None; paths.len()]
    }

    async fn read_old(
        &self,
        _: EntryId,
        _: RelPath,
        _: u64,
        _: Range<usize>,
        block: Block,
    ) -> (usize, Block) {
        (0, block)
    }

    async fn holds(&self, _: EntryId, chunks: Vec<ChunkValue>) -> Vec<bool> {
        vec![false; chunks.len()]
    }

    async fn update(&self, entries: Vec<Entry>) -> Vec<Result<bool>> {
        entries.iter().map(|_| Ok(false)).collect()
    }

    /// Waits for the program that reads, as long as it takes.
    async fn write(&self, writes: Vec<Write>, block: Block) -> Result<Vec<StorageError>> {
        let output = Arc::clone(&self.output);
        blocking(move || {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            let mut each = writes.into_iter();
            each.try_for_each(|write| output.write(write.offset, &block[write.range]))
        })
        .await
        .map(|()| Vec::new())
        .map_err(|error| failed("write to", place(), error))
    }

    async fn checkpoint(&self, entries: Vec<(EntryId, Vec<ChunkValue>)>) -> Vec<Result<bool>> {
        entries.iter().map(|_| Ok(false)).collect()
    }

    async fn commit(&self, commits: Vec<Commit>) -> Vec<Result<Committed>> {
        commits.iter().map(|_| Ok(Committed::Done(None))).collect()
    }

    async fn finish_dirs(&self, dirs: Vec<(RelPath, Option<Meta>)>) -> Vec<Result<()>> {
        dirs.iter().map(|_| Ok(())).collect()
    }

    async fn roots(&self, paths: Vec<RelPath>, _: Block) -> Vec<Result<blake3::Hash>> {
        paths.iter().map(|_| Err(failed("read", place(), io::ErrorKind::NotFound))).collect()
    }

    async fn discard(&self, _: EntryId) {}

    async fn give_up(&self, _: EntryId) {}

    async fn finish(&self) -> Result<Vec<NotKept>> {
        Ok(Vec::new())
    }

    async fn abort(&self) {}

    /// A program that reads may take as long as it likes, but one that is gone is noticed even when there is nothing to
    /// write.
    fn hanging(&self, _: Duration) -> Option<(StorageError, Option<EntryId>)> {
        let gone = has_no_reader(&self.watched);
        gone.then(|| (failed("write to", place(), rustix::io::Errno::PIPE), None))
    }

    fn place(&self, _: &RelPath) -> Place {
        place()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::protocol::failure::Reason;
    use crate::protocol::wire::limits::BLOCK_BYTES;
    use crate::storage::block::{BlockCount, BlockPool};

    async fn write(target: &StdoutTarget, offset: u64, len: usize) -> Result<Vec<StorageError>> {
        let mut block = BlockPool::new(1, BlockCount::default()).acquire().await;
        block.fill(7);
        target.write(vec![Write { id: EntryId(0), offset, range: 0..len, whole: None }], block).await
    }

    #[tokio::test]
    async fn bytes_are_handed_on_in_order_only() {
        let (mut input, output) = io::pipe().unwrap();
        let target = StdoutTarget::new(&output).unwrap();
        drop(output);
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            input.read_to_end(&mut bytes).unwrap();
            bytes.len()
        });
        write(&target, 0, BLOCK_BYTES).await.unwrap();
        assert!(write(&target, BLOCK_BYTES as u64 + 1, 3).await.is_err());
        write(&target, BLOCK_BYTES as u64, 3).await.unwrap();
        assert!(target.hanging(Duration::ZERO).is_none());
        drop(target);
        assert_eq!(reader.join().unwrap(), BLOCK_BYTES + 3);
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_noticed_without_a_write() {
        let (input, output) = io::pipe().unwrap();
        let target = StdoutTarget::new(&output).unwrap();
        assert!(target.hanging(Duration::ZERO).is_none());
        drop(input);
        let (error, _) = target.hanging(Duration::ZERO).unwrap();
        let failure = error.of_target();
        assert_eq!(failure.reason, Reason::Storage);
        assert!(failure.message.starts_with("cannot write to standard output: Broken pipe"), "{failure}");
        assert_eq!(failure.for_peer(), failure.message);
        assert!(write(&target, 0, 1).await.is_err());
    }
}
