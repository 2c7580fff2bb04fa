//! Standard input as a source: one file of unknown size.

use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::pipe::fill;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, Kind, Meta, Time};
use crate::protocol::wire::record::Run;
use crate::storage::block::Block;
use crate::storage::fs::blocking;
use crate::storage::source::{SmallBatch, Source, Verdict, Walk, Walked};

/// Permission bits of a file that a shell makes, before its umask.
const MODE: u32 = 0o666;
/// The usual umask.
const UMASK: u32 = 0o022;

/// Standard input. It is read once, so it serves one transfer.
#[derive(Clone)]
pub struct StdinSource {
    name: RelPath,
    input: Arc<Mutex<Input>>,
}

struct Input {
    file: File,
    /// Bytes read so far.
    position: u64,
}

/// A walk over a [`StdinSource`]: its only entry.
pub struct StdinWalk(Option<Entry>);

impl StdinSource {
    /// Takes all that `input` has; the receiver gets it as `name`.
    ///
    /// # Errors
    ///
    /// The descriptor cannot be duplicated.
    pub fn new(input: impl AsFd, name: RelPath) -> Result<Self, Failure> {
        let file = input.as_fd().try_clone_to_owned().map_err(|error| unreadable(&error))?.into();
        Ok(Self { name, input: Arc::new(Mutex::new(Input { file, position: 0 })) })
    }

    /// It is asked for something that only a file has.
    fn is_no_file(&self) -> Failure {
        Failure::on(Side::Sender, Reason::Internal, format!("{} has no size and no holes", self.name))
    }
}

impl Input {
    fn read(&mut self, offset: u64, block: &mut [u8]) -> Result<usize, Failure> {
        if offset != self.position {
            return Err(unreadable(&"its bytes have been read already"));
        }
        let read = fill(&self.file, block).map_err(|error| unreadable(&error))?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Walk for StdinWalk {
    async fn next(&mut self, _: usize) -> Vec<Walked> {
        self.0.take().map(Walked::Entry).into_iter().collect()
    }
}

impl Source for StdinSource {
    type File = ();
    type Walk = StdinWalk;

    fn walk(&self) -> StdinWalk {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(0);
        let meta = Meta {
            mode: MODE & !umask(),
            mtime: Time { seconds, nanos: now.subsec_nanos() },
            attributes: None,
        };
        StdinWalk(Some(Entry { path: self.name.clone(), meta, kind: Kind::OpenEnded, hole_bytes: 0 }))
    }

    async fn read_small(&self, files: Vec<Entry>, block: Block) -> SmallBatch {
        let files = files.iter().map(|_| Err(self.is_no_file())).collect();
        SmallBatch { block, files, grown: Vec::new() }
    }

    async fn open(&self, _: Entry) -> Result<(), Failure> {
        Ok(())
    }

    async fn runs(&self, (): &(), _: Range<u64>) -> Result<Vec<Run>, Failure> {
        Err(self.is_no_file())
    }

    async fn read_at(&self, (): &(), _: u64, _: usize, _: Block) -> Result<Block, Failure> {
        Err(self.is_no_file())
    }

    async fn read_on(&self, (): &(), offset: u64, mut block: Block) -> Result<(Block, usize), Failure> {
        let input = Arc::clone(&self.input);
        blocking(move || {
            let read = input.lock().unwrap_or_else(PoisonError::into_inner).read(offset, &mut block)?;
            Ok((block, read))
        })
        .await
    }

    async fn verify(&self, (): &()) -> Result<Verdict, Failure> {
        Ok(Verdict::Same)
    }

    /// The program that writes to it may take as long as it likes.
    fn hanging(&self, _: Duration) -> Option<Failure> {
        None
    }
}

/// The umask of this process, read without changing it for a moment.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(UMASK)
}

fn unreadable(why: &dyn std::fmt::Display) -> Failure {
    let sentence = format!("cannot read standard input: {why}");
    Failure::on(Side::Sender, Reason::SourceUnreadable, sentence.clone()).telling(sentence)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::thread;

    use super::*;
    use crate::protocol::wire::limits::BLOCK_BYTES;
    use crate::storage::block::{BlockCount, BlockPool};

    /// The program that writes does so in small pieces, and a block is filled all the same, until the end.
    #[tokio::test]
    async fn blocks_are_full_until_the_end_however_the_writer_writes() {
        for size in [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1] {
            let (input, mut output) = io::pipe().unwrap();
            let writer = thread::spawn(move || {
                for piece in vec![7; size].chunks(4999) {
                    output.write_all(piece).unwrap();
                }
            });
            let name = RelPath::new(b"db.sql").unwrap();
            let source = StdinSource::new(&input, name.clone()).unwrap();
            let walked = source.walk().next(9).await;
            let [Walked::Entry(entry)] = &walked[..] else { panic!("{walked:?}") };
            assert_eq!((&entry.path, &entry.kind, entry.meta.mode & 0o111), (&name, &Kind::OpenEnded, 0));
            let pool = BlockPool::new(1, BlockCount::default());
            let mut at = 0;
            loop {
                let (_, read) = source.read_on(&(), at as u64, pool.acquire().await).await.unwrap();
                at += read;
                if read < BLOCK_BYTES {
                    break;
                }
            }
            assert_eq!(at, size);
            let again = source.read_on(&(), 1 << 30, pool.acquire().await).await.err().unwrap();
            assert_eq!(again.reason, Reason::SourceUnreadable);
            writer.join().unwrap();
        }
    }

    /// Such as the terminal side of ssh leaves behind.
    #[tokio::test]
    async fn a_pipe_that_another_process_has_made_non_blocking_is_waited_for() {
        let (input, mut output) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&input, true).unwrap();
        let source = StdinSource::new(&input, RelPath::new(b"f").unwrap()).unwrap();
        let writer = thread::spawn(move || {
            // Long enough that the reader usually finds nothing at first.
            thread::sleep(Duration::from_millis(20));
            output.write_all(b"late").unwrap();
        });
        let block = BlockPool::new(1, BlockCount::default()).acquire().await;
        let (block, read) = source.read_on(&(), 0, block).await.unwrap();
        assert_eq!(&block[..read], b"late");
        writer.join().unwrap();
    }
}
