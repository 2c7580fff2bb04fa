//! State shared by the parcels of a sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64};

use bytes::Bytes;
use tokio::sync::{Mutex, OnceCell, Semaphore, mpsc};

use crate::protocol::failure::Failure;
use crate::protocol::wire::entry::{Entry, EntryId};
use crate::session::observe::gauge::Gauge;
use crate::session::throttle::Throttle;
use crate::storage::block::BlockPool;
use crate::storage::{Source, Verdict, read_again};

/// Maximum chunks read at once. They take turns with blocks, so they all end at about the same time. If all chunks
/// with a stream took part, no credit would return until the last block is written.
const READ_AT_ONCE: usize = 4;

/// How far a file of unknown size has been read, at the end of a chunk.
pub(super) struct ChunkEnd {
    pub(super) id: EntryId,
    pub(super) end: u64,
    /// It is the end of the file.
    pub(super) is_last: bool,
}

/// State shared by all parcels of a transfer.
pub(super) struct Sending<S> {
    pub(super) source: Arc<S>,
    pub(super) pool: BlockPool,
    pub(super) turns: Semaphore,
    /// Priority of the next stream, one less than that of the last.
    pub(super) next_priority: AtomicI32,
    pub(super) throttle: Arc<Throttle>,
    /// Bytes of files offered to QUIC, and bytes it accepted.
    pub(super) offered_bytes: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    /// Tells the driver how far files of unknown size have been read.
    pub(super) chunk_ends: mpsc::Sender<ChunkEnd>,
    /// Waiting for a stream credit.
    pub(super) opening: Gauge,
    /// Waiting for the disk.
    pub(super) reading: Gauge,
    /// Waiting for memory.
    pub(super) allocating: Gauge,
    /// Waiting for QUIC to take bytes.
    pub(super) writing: Gauge,
    /// Waiting for an ack.
    pub(super) acking: Gauge,
}

impl<S> Sending<S> {
    pub(super) fn new(
        source: Arc<S>,
        pool: BlockPool,
        throttle: Arc<Throttle>,
        chunk_ends: mpsc::Sender<ChunkEnd>,
    ) -> Self {
        Self {
            source,
            pool,
            turns: Semaphore::new(READ_AT_ONCE),
            next_priority: AtomicI32::new(0),
            throttle,
            chunk_ends,
            offered_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            opening: Gauge::default(),
            reading: Gauge::default(),
            allocating: Gauge::default(),
            writing: Gauge::default(),
            acking: Gauge::default(),
        }
    }
}

/// A large file, opened when its first chunk is read.
pub(super) struct FileHandle<F> {
    pub(super) entry: Entry,
    file: OnceCell<F>,
    /// Bytes read past the last chunk of a file of unknown size.
    pub(super) ahead: Mutex<Option<Bytes>>,
    pub(super) sent_bytes: AtomicU64,
}

impl<F: Send + Sync> FileHandle<F> {
    pub(super) fn new(entry: Entry) -> Self {
        Self { entry, file: OnceCell::new(), ahead: Mutex::default(), sent_bytes: AtomicU64::new(0) }
    }

    pub(super) async fn open<S: Source<File = F>>(&self, sending: &Sending<S>) -> Result<&F, Failure> {
        self.file.get_or_try_init(|| sending.source.open(self.entry.clone())).await
    }

    /// Whether the source is still as announced and sent with this root; true if it has only grown.
    pub(super) async fn verify<S: Source<File = F>>(
        &self,
        sending: &Sending<S>,
        root: blake3::Hash,
    ) -> Result<bool, Failure> {
        let file = self.open(sending).await?;
        match sending.source.verify(file).await? {
            Verdict::Same => Ok(false),
            Verdict::Longer => {
                let block = sending.pool.acquire().await;
                read_again(&*sending.source, file, &self.entry, root, block).await.map(|()| true)
            }
        }
    }
}
