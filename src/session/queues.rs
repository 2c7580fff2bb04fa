//! Queues of work: batches, and files to hash for a comparison.

use std::collections::VecDeque;

use crate::protocol::wire::limits::BLOCK_BYTES;

/// A full queue grows by at least this many items, so that searches for stale ones stay rare.
const PRUNE_ITEMS: usize = 256;
/// Maximum parallel jobs that hash files for comparison. Each has a block.
pub(super) const ROOTS_AT_ONCE: usize = 4;
/// Maximum small files per such job.
const ROOTS_BATCH: usize = 256;
/// Maximum items per batch, for work that takes little time per item.
const BATCH: usize = 1024;

/// Queued work of one kind, done in batches, one at a time.
pub(super) struct BatchQueue<I> {
    waiting: VecDeque<I>,
    batch_max: usize,
    running: bool,
}

impl<I> BatchQueue<I> {
    pub(super) fn new() -> Self {
        Self::with_batches_of(BATCH)
    }

    /// Of at most `batch_max` items each.
    pub(super) fn with_batches_of(batch_max: usize) -> Self {
        Self { waiting: VecDeque::new(), batch_max, running: false }
    }

    pub(super) fn push(&mut self, item: I) {
        self.waiting.push_back(item);
    }

    /// Drops stale items when the queue is full: a peer can end queued entries and announce others.
    pub(super) fn prune(&mut self, is_alive: impl FnMut(&I) -> bool) {
        prune(&mut self.waiting, is_alive);
    }

    /// The next batch; none while one is running.
    pub(super) fn next_batch(&mut self) -> Option<Vec<I>> {
        if self.running || self.waiting.is_empty() {
            return None;
        }
        self.running = true;
        let n = self.waiting.len().min(self.batch_max);
        Some(self.waiting.drain(..n).collect())
    }

    /// The batch is done.
    pub(super) fn batch_done(&mut self) {
        self.running = false;
    }
}

/// Files to hash for a comparison. The peer can end queued entries.
pub(super) struct RootsQueue<T> {
    /// The files, with their sizes.
    waiting: VecDeque<(T, u64)>,
    running: usize,
}

impl<T> RootsQueue<T> {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), running: 0 }
    }

    /// Queues a file of `size` bytes; drops stale ones when the queue is full.
    pub(super) fn push(&mut self, file: T, size: u64, mut is_alive: impl FnMut(&T) -> bool) {
        prune(&mut self.waiting, |(file, _)| is_alive(file));
        self.waiting.push_back((file, size));
    }

    /// Files for one more job, if one may run: several that fit one block, or one large file.
    pub(super) fn next_job(&mut self) -> Option<Vec<T>> {
        if self.running == ROOTS_AT_ONCE || self.waiting.is_empty() {
            return None;
        }
        self.running += 1;
        let (mut batch, mut bytes) = (Vec::new(), 0u64);
        while batch.len() < ROOTS_BATCH
            && let Some((_, size)) = self.waiting.front()
        {
            bytes = bytes.saturating_add(*size);
            if !batch.is_empty() && bytes > BLOCK_BYTES as u64 {
                break;
            }
            batch.extend(self.waiting.pop_front().map(|(file, _)| file));
        }
        Some(batch)
    }

    /// A job is done.
    pub(super) fn job_done(&mut self) {
        self.running -= 1;
    }
}

fn prune<I>(queue: &mut VecDeque<I>, is_alive: impl FnMut(&I) -> bool) {
    if queue.len() == queue.capacity() {
        queue.retain(is_alive);
        // Doubles the size, so that this stays rare.
        queue.reserve(queue.len() + PRUNE_ITEMS);
    }
}
