//! Blocks: memory for file bytes. Their number is the budget.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::protocol::wire::limits::BLOCK_BYTES;

/// A fixed number of blocks of [`BLOCK_BYTES`]. They are allocated when first needed, zeroed once and reused.
#[derive(Clone)]
pub struct BlockPool {
    credits: Arc<Semaphore>,
    free: Arc<Mutex<Vec<Box<[u8]>>>>,
    count: BlockCount,
}

/// Blocks in use, by all pools that share this counter.
#[derive(Clone, Default)]
pub struct BlockCount(Arc<Counts>);

#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    max: AtomicUsize,
}

impl BlockCount {
    /// Maximum in use at one time.
    pub fn max(&self) -> usize {
        self.0.max.load(Relaxed)
    }

    fn add(&self) {
        let now = self.0.now.fetch_add(1, Relaxed) + 1;
        self.0.max.fetch_max(now, Relaxed);
    }

    fn remove(&self) {
        self.0.now.fetch_sub(1, Relaxed);
    }
}

impl BlockPool {
    /// A pool of `blocks` blocks, at least one, counted in `count`.
    pub fn new(blocks: usize, count: BlockCount) -> Self {
        Self { credits: Arc::new(Semaphore::new(blocks.max(1))), free: Arc::default(), count }
    }

    /// Adds blocks.
    pub fn grow(&self, blocks: usize) {
        self.credits.add_permits(blocks);
    }

    /// Waits for a block. Its content is arbitrary.
    pub async fn acquire(&self) -> Block {
        let permit = Arc::clone(&self.credits).acquire_owned().await.expect("the semaphore is never closed");
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = free.unwrap_or_else(|| vec![0; BLOCK_BYTES].into_boxed_slice());
        self.count.add();
        Block { bytes: Some(bytes), free: Arc::clone(&self.free), count: self.count.clone(), _permit: permit }
    }

    /// Free blocks.
    pub fn available(&self) -> usize {
        self.credits.available_permits()
    }
}

/// [`BLOCK_BYTES`] bytes that return to their pool when dropped.
pub struct Block {
    bytes: Option<Box<[u8]>>,
    free: Arc<Mutex<Vec<Box<[u8]>>>>,
    count: BlockCount,
    _permit: OwnedSemaphorePermit,
}

impl Block {
    /// The block as shared bytes; it returns to the pool with the last reference.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for Block {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
            self.count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_block_returns_when_its_last_slice_is_dropped() {
        let count = BlockCount::default();
        let pool = BlockPool::new(1, count.clone());
        let mut block = pool.acquire().await;
        block[0] = 7;
        let bytes = block.into_bytes();
        let slice = bytes.slice(..1);
        drop(bytes);
        assert_eq!(pool.available(), 0);
        assert_eq!(slice[0], 7);
        assert_eq!(count.0.now.load(Relaxed), 1);
        drop(slice);
        assert_eq!(pool.available(), 1);
        assert_eq!((count.0.now.load(Relaxed), count.max()), (0, 1));
        assert_eq!(pool.acquire().await.len(), BLOCK_BYTES);
    }
}
