//! Compresses blocks before they are sent, on threads that may be busy.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::protocol::failure::{Failure, Reason};
use crate::session::closing::joined;
use crate::session::compression::Packer;
use crate::storage::block::{Block, BlockPool};

/// Blocks that are compressed at the same time, where the memory has a block to spare for each.
const PACKERS_MAX: usize = 2;
/// Free blocks for each packer.
const BLOCKS_PER_PACKER: usize = 16;
/// Fewer bytes are not worth a frame.
const PACKED_BYTES_MIN: usize = 512;
/// Blocks that are left alone after one that did not shrink; after each further one, twice as many.
const REST_MAX: u32 = 64;

/// Compresses what is sent, once the driver has given it a level.
pub(super) struct Packing {
    /// 0 compresses nothing.
    level: AtomicI32,
    has_begun: AtomicBool,
    is_ready: AtomicBool,
    /// Packers that have no work.
    idle: Mutex<Vec<Packer>>,
    ready: Semaphore,
    /// Of small files.
    small: Trials,
    /// Bytes that compression has kept off the network.
    saved_bytes: AtomicU64,
}

/// Whether data shrinks, as far as the blocks before show.
#[derive(Debug, Default)]
pub(super) struct Trials {
    /// Blocks to leave alone.
    resting: AtomicU32,
    /// So many after the next one that does not shrink, or one.
    next_rest: AtomicU32,
    /// The last one shrank.
    has_shrunk: AtomicBool,
}

impl Trials {
    /// Whether to try the next block, and whether to try only a part of it first.
    fn next(&self) -> Option<bool> {
        let less = |resting: u32| resting.checked_sub(1);
        let is_due = self.resting.fetch_update(Relaxed, Relaxed, less).is_err();
        is_due.then(|| !self.has_shrunk.load(Relaxed))
    }

    fn note(&self, has_shrunk: bool) {
        self.has_shrunk.store(has_shrunk, Relaxed);
        let rest = if has_shrunk { 0 } else { self.next_rest.load(Relaxed).max(1) };
        self.resting.store(rest, Relaxed);
        self.next_rest.store((rest * 2).min(REST_MAX), Relaxed);
    }
}

impl Packing {
    pub(super) fn new() -> Self {
        Self {
            level: AtomicI32::new(0),
            has_begun: AtomicBool::new(false),
            is_ready: AtomicBool::new(false),
            idle: Mutex::default(),
            ready: Semaphore::new(0),
            small: Trials::default(),
            saved_bytes: AtomicU64::new(0),
        }
    }

    /// Compresses at `level` from now on; 0 compresses nothing. True the first time: [`Packing::get_ready`] is to be called.
    pub(super) fn set_level(&self, level: i32) -> bool {
        self.level.store(level, Relaxed);
        level > 0 && !self.has_begun.swap(true, Relaxed)
    }

    /// Gets memory for the packers. Until they have it, nothing is compressed.
    pub(super) async fn get_ready(&self, pool: &BlockPool) -> io::Result<()> {
        for _ in 0..(pool.available() / BLOCKS_PER_PACKER).clamp(1, PACKERS_MAX) {
            let packer = Packer::new(pool.acquire().await)?;
            self.idle_packers().push(packer);
            self.is_ready.store(true, Relaxed);
            self.ready.add_permits(1);
        }
        Ok(())
    }

    /// Bytes that compression has kept off the network.
    pub(super) fn saved_bytes(&self) -> u64 {
        self.saved_bytes.load(Relaxed)
    }

    /// Whether records are compressed now.
    pub(super) fn is_on(&self) -> bool {
        self.level.load(Relaxed) > 0 && self.is_ready.load(Relaxed)
    }

    /// Compresses the first `len` bytes of a block in their place. Returns how many bytes they are now, or 0 if they
    /// stay as they are.
    pub(super) async fn pack(
        &self,
        mut block: Block,
        len: usize,
        trials: &Trials,
    ) -> Result<(Block, usize), Failure> {
        let level = if self.is_on() { self.level.load(Relaxed) } else { 0 };
        let trial = if level > 0 && len >= PACKED_BYTES_MIN { trials.next() } else { None };
        let Some(is_trial) = trial else { return Ok((block, 0)) };
        let pack = move |packer: &mut Packer| {
            let packed = packer.pack(level, &mut block[..len], is_trial);
            (block, packed)
        };
        let (block, packed) = self.with_packer(pack).await?;
        self.note(trials, len, packed);
        Ok((block, packed))
    }

    /// Compresses small files in a block, each by itself and in its place. Returns how many bytes each one has now, or 0
    /// if it stays as it is.
    pub(super) async fn pack_files(
        &self,
        mut block: Block,
        files: Vec<Range<usize>>,
    ) -> Result<(Block, Vec<usize>), Failure> {
        let level = if self.is_on() { self.level.load(Relaxed) } else { 0 };
        let next = |file: &Range<usize>| match level > 0 && file.len() >= PACKED_BYTES_MIN {
            true => self.small.next(),
            false => None,
        };
        let trials: Vec<_> = files.iter().map(next).collect();
        let lens: Vec<_> = files.iter().map(Range::len).collect();
        if trials.iter().all(Option::is_none) {
            return Ok((block, vec![0; files.len()]));
        }
        let tried = trials.clone();
        let pack = move |packer: &mut Packer| {
            let of = |(file, trial): (Range<usize>, Option<bool>)| {
                trial.map_or(0, |is_trial| packer.pack(level, &mut block[file], is_trial))
            };
            let packed: Vec<_> = files.into_iter().zip(tried).map(of).collect();
            (block, packed)
        };
        let (block, packed) = self.with_packer(pack).await?;
        let each = lens.into_iter().zip(&packed).zip(trials);
        for ((len, packed), _) in each.filter(|(_, trial)| trial.is_some()) {
            self.note(&self.small, len, *packed);
        }
        Ok((block, packed))
    }

    fn note(&self, trials: &Trials, len: usize, packed: usize) {
        trials.note(packed > 0);
        if packed > 0 {
            self.saved_bytes.fetch_add((len - packed) as u64, Relaxed);
        }
    }

    /// Does `work` with a packer, on another thread. Whoever has one waits for nothing else.
    async fn with_packer<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Packer) -> R + Send + 'static,
    ) -> Result<R, Failure> {
        let _turn = self.ready.acquire().await;
        let packer = self.idle_packers().pop();
        let mut packer =
            packer.ok_or_else(|| Failure::new(Reason::Internal, "a thread that compresses is gone"))?;
        let done = spawn_blocking(move || {
            let done = work(&mut packer);
            (packer, done)
        });
        let (packer, done) = joined(done.await)?;
        self.idle_packers().push(packer);
        Ok(done)
    }

    fn idle_packers(&self) -> MutexGuard<'_, Vec<Packer>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_does_not_shrink_is_left_alone_for_longer_each_time() {
        let trials = Trials::default();
        let mut tried = Vec::new();
        for block in 0..400 {
            if let Some(is_trial) = trials.next() {
                assert!(is_trial);
                tried.push(block);
                trials.note(false);
            }
        }
        let rests: Vec<_> = tried.windows(2).map(|two| two[1] - two[0] - 1).collect();
        assert_eq!(rests[..9], [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        // One that shrinks ends that.
        while trials.next().is_none() {}
        trials.note(true);
        assert_eq!([trials.next(), trials.next()], [Some(false); 2]);
    }
}
