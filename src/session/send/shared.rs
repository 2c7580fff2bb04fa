//! State shared by the parcels of a sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

use tokio::sync::{Semaphore, mpsc};
use tracing::debug;

use crate::protocol::engine::bottleneck::{Processor, SenderSnapshot};
use crate::protocol::wire::entry::EntryId;
use crate::session::observe::gauge::Gauge;
use crate::session::send::packing::Packing;
use crate::session::throttle::Throttle;
use crate::storage::block::BlockPool;

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
    pub(super) packing: Packing,
    /// Bytes of files offered to QUIC, and bytes it accepted.
    pub(super) offered_bytes: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    /// Messages of signatures that have come.
    signed: AtomicU64,
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
            packing: Packing::new(),
            signed: AtomicU64::new(0),
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

impl<S: Send + Sync + 'static> Sending<S> {
    /// Compresses at `level` from now on; 0 compresses nothing.
    pub(super) fn compress(self: &Arc<Self>, level: i32) {
        if self.packing.set_level(level) {
            let sending = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = sending.packing.get_ready(&sending.pool).await {
                    debug!(%error, "nothing is compressed");
                }
            });
        }
    }
}

impl<S> Sending<S> {
    /// What the parcels wait for; `at_disk` is the number of other jobs at the disk.
    pub(super) fn snapshot(&self, processor: Processor, window_full: bool, at_disk: usize) -> SenderSnapshot {
        SenderSnapshot {
            limited: self.throttle.waiting.now() > 0,
            processor,
            window_full,
            reading: self.reading.now() + at_disk as u64,
            opening: self.opening.now(),
            allocating: self.allocating.now(),
            writing: self.writing.now(),
            acking: self.acking.now(),
        }
    }

    /// A part of a signature has come.
    pub(super) fn note_signed(&self) {
        self.signed.fetch_add(1, Relaxed);
    }

    /// How many parts of signatures have come since the last call.
    pub(super) fn take_signed(&self) -> u64 {
        self.signed.swap(0, Relaxed)
    }
}
