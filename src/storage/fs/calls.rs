//! Which thread makes a disk call that moves one block.
//!
//! A hop to a blocking thread and back costs two wake-ups and moves the block between the caches of two cores: a sixth of
//! the time of a large file in the page cache (docs/performance.md). But a call that waits for a disk must not hold up the
//! network. So calls start on blocking threads. After some calls in a row that did not wait, a network thread makes them
//! itself, until one waits. One network thread never does, so a disk that hangs cannot stop them all.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use super::blocking::blocking;

/// A call that takes less time does not count as waiting, even if it sleeps.
const WAIT: Duration = Duration::from_millis(1);
/// Calls in a row that must not wait before a network thread makes one.
const TRIAL: u32 = 16;
/// Maximum number of such calls, which grows for a disk that waits now and then: 4 GiB in blocks.
const TRIAL_MAX: u32 = 16384;

/// The network threads of a process that may make disk calls at the same time.
#[derive(Clone)]
pub struct NetworkThreads(Arc<AtomicUsize>);

impl NetworkThreads {
    /// Of `threads` network threads, all but one.
    pub fn new(threads: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(threads.saturating_sub(1))))
    }

    fn take(&self) -> Option<Taken> {
        let taken = self.0.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(1));
        taken.ok().map(|_| Taken(self.clone()))
    }
}

/// A network thread in a disk call.
struct Taken(NetworkThreads);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Relaxed);
    }
}

/// The calls to one disk.
pub(super) struct BlockCalls {
    threads: NetworkThreads,
    pace: Mutex<Pace>,
}

impl BlockCalls {
    pub(super) fn new(threads: NetworkThreads) -> Self {
        Self { threads, pace: Mutex::default() }
    }

    /// Makes a call that moves one block.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        if self.pace().is_quick()
            && let Some(_taken) = self.threads.take()
        {
            release_woken_task();
            let (value, waited) = observe(work);
            self.pace().note(true, waited);
            return value;
        }
        let (value, waited) = blocking(move || observe(work)).await;
        self.pace().note(false, waited);
        value
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// tokio reserves the task that a thread woke last for that thread. A newer task takes its place and sends it to the
/// queue, from which the other threads take tasks while this one is in a call.
fn release_woken_task() {
    tokio::spawn(async {});
}

/// How a disk has answered so far.
struct Pace {
    /// Calls that must still pass without waiting.
    left: u32,
    /// The value of `left` after a call that waited.
    trial: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { left: TRIAL, trial: TRIAL }
    }
}

impl Pace {
    fn is_quick(&self) -> bool {
        self.left == 0
    }

    fn note(&mut self, on_network_thread: bool, waited: bool) {
        if !waited {
            self.left = self.left.saturating_sub(1);
            return;
        }
        if on_network_thread {
            self.trial = (self.trial * 2).min(TRIAL_MAX);
        }
        self.left = self.trial;
    }
}

/// Does `work`, and tells whether the thread waited in it. Time in which other threads had the processor does not count.
fn observe<T>(work: impl FnOnce() -> T) -> (T, bool) {
    let (before, start) = (sleeps(), Instant::now());
    let value = work();
    let waited = start.elapsed() >= WAIT && before.is_none_or(|before| sleeps() != Some(before));
    (value, waited)
}

/// How often this thread gave up the processor voluntarily (`ru_nvcsw`, getrusage(2)).
fn sleeps() -> Option<i64> {
    getrusage(UsageWho::RUSAGE_THREAD).ok().map(|usage| usage.voluntary_context_switches())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::{current, sleep};

    use tokio::runtime::{Builder, Runtime};
    use tokio::task;

    use super::*;

    fn runtime(threads: usize) -> (Runtime, Arc<BlockCalls>) {
        let runtime = Builder::new_multi_thread().worker_threads(threads).build().unwrap();
        (runtime, Arc::new(BlockCalls::new(NetworkThreads::new(threads))))
    }

    /// How many of `calls` calls that take `rest` are made by the task that asks. A blocking thread runs a task of its
    /// own.
    async fn made_here(disk: &BlockCalls, calls: u32, rest: Duration) -> u32 {
        let here = task::id();
        let mut count = 0;
        for _ in 0..calls {
            let call = move || {
                sleep(rest);
                task::id()
            };
            count += u32::from(disk.run(call).await == here);
        }
        count
    }

    #[test]
    fn a_network_thread_makes_calls_until_one_waits() {
        let (runtime, disk) = runtime(2);
        let count = |calls, rest| {
            let disk = Arc::clone(&disk);
            runtime.block_on(runtime.spawn(async move { made_here(&disk, calls, rest).await })).unwrap()
        };
        assert_eq!(count(TRIAL, Duration::ZERO), 0);
        assert_eq!(count(100, Duration::ZERO), 100);
        assert_eq!(count(1, WAIT), 1);
        assert_eq!(count(2 * TRIAL, Duration::ZERO), 0);
        assert_eq!(count(1, Duration::ZERO), 1);
    }

    #[test]
    fn a_disk_that_hangs_leaves_a_network_thread_and_what_the_other_one_woke() {
        let (runtime, disk) = runtime(2);
        let other = Arc::new(BlockCalls::new(disk.threads.clone()));
        for disk in [&disk, &other] {
            let disk = Arc::clone(disk);
            let trial = runtime.spawn(async move { made_here(&disk, TRIAL, Duration::ZERO).await });
            assert_eq!(runtime.block_on(trial).unwrap(), 0);
        }
        let (let_go, held) = mpsc::channel::<()>();
        let (begins, begun) = mpsc::channel();
        let hanging = runtime.spawn(async move {
            let woken = task::spawn(async move { begins.send(task::id()).unwrap() });
            let here = task::id();
            let (there, _) = disk.run(move || (task::id(), held.recv())).await;
            assert_eq!(there, here, "a network thread makes the call");
            woken.await.unwrap();
        });
        begun.recv_timeout(Duration::from_secs(10)).expect("the woken task waits for the disk");
        while other.threads.0.load(Relaxed) != 0 {
            std::thread::yield_now();
        }
        let count = runtime.spawn(async move { made_here(&other, 10, Duration::ZERO).await });
        assert_eq!(runtime.block_on(count).unwrap(), 0, "no network thread would be left");
        drop(let_go);
        runtime.block_on(hanging).unwrap();
    }

    #[tokio::test]
    async fn the_only_network_thread_makes_no_call() {
        let (disk, here) = (BlockCalls::new(NetworkThreads::new(1)), current().id());
        for _ in 0..2 * TRIAL {
            assert_ne!(disk.run(|| current().id()).await, here);
        }
        assert!(disk.pace().is_quick());
    }

    #[test]
    fn a_busy_processor_is_no_disk_that_waits() {
        let spin = || {
            let start = Instant::now();
            while start.elapsed() < 2 * WAIT {}
        };
        assert!(!observe(spin).1);
        assert!(observe(|| sleep(WAIT)).1);
        assert!(!observe(|| ()).1);
    }

    #[test]
    fn a_disk_that_waits_now_and_then_is_tried_less_and_less() {
        let mut pace = Pace::default();
        let mut tries = 0;
        // 40 calls that do not wait, then one that does.
        for n in 0..41 * 1000 {
            let here = pace.is_quick();
            tries += u32::from(here);
            pace.note(here, n % 41 == 40);
        }
        assert_eq!(tries, 25 + 9);
        for _ in 0..64 {
            assert!(!pace.is_quick());
            pace.note(false, false);
        }
        assert!(pace.is_quick());
        for _ in 0..40 {
            pace.note(true, true);
        }
        assert_eq!(pace.left, TRIAL_MAX);
    }
}
