//! Where a call to the disk is made: by a thread that may wait, or, if it moves a block of a large file, perhaps by the
//! one that asks.
//!
//! A hop to another thread and back is two wake-ups, and a block that leaves one processor's cache for another's: a
//! tenth of all processor time of a large file, where the kernel's memory takes whatever comes
//! (`docs/performance.md`). But a call that waits for a disk must not hold up the network. So calls begin on threads
//! that may wait; when a few in a row did not, they are made in place, until one does.

use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use tokio::runtime::Handle;
use tokio::task::{spawn, spawn_blocking};

/// A call that takes less holds up nobody, even if it sleeps.
const WAIT: Duration = Duration::from_millis(1);
/// Calls in a row that did not wait, before the first is made in place.
const TRIAL: u32 = 16;
/// The same for a disk that goes on waiting every so often: 4 GiB in blocks.
const TRIAL_MAX: u32 = 16384;

/// Calls in place just now, for whatever disk.
static IN_PLACE: Places = Places(AtomicUsize::new(0));

/// Runs `work` on a blocking thread; a panic in it goes on here.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => panic::resume_unwind(panic),
            // The runtime is shutting down; nobody waits for the value any more.
            Err(_) => std::future::pending().await,
        },
    }
}

/// The calls to one disk.
#[derive(Default)]
pub(super) struct Calls {
    pace: Mutex<Pace>,
}

impl Calls {
    /// Makes a call that moves one block.
    pub(super) async fn block<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        if self.pace().is_quick()
            && let Some(_place) = IN_PLACE.take(Handle::current().metrics().num_workers())
        {
            let_others_take_what_was_woken();
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

/// The task that a thread of tokio's woke last is kept for that thread, which is about to wait; one that is made after
/// it takes its place, and it goes to the queue, where another thread finds it.
fn let_others_take_what_was_woken() {
    spawn(async {});
}

/// How a disk has answered so far.
struct Pace {
    /// Calls that must not wait until one is made in place.
    left: u32,
    /// What `left` is after a call that waited.
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

    fn note(&mut self, in_place: bool, waited: bool) {
        if waited {
            if in_place {
                self.trial = (self.trial * 2).min(TRIAL_MAX);
            }
            self.left = self.trial;
        } else {
            self.left = self.left.saturating_sub(1);
        }
    }
}

/// Threads of the network that are in a call.
struct Places(AtomicUsize);

impl Places {
    /// One of them, unless it is the last of `workers`: should the disk hang, the network does not.
    fn take(&self, workers: usize) -> Option<Place<'_>> {
        let more = |taken| (taken + 1 < workers).then_some(taken + 1);
        self.0.fetch_update(Relaxed, Relaxed, more).ok().map(|_| Place(self))
    }
}

struct Place<'a>(&'a Places);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// Does `work`, and says whether the thread had to wait for it. That another thread had the processor meanwhile is
/// not waiting.
fn observe<T>(work: impl FnOnce() -> T) -> (T, bool) {
    let (sleeps, start) = (sleeps(), Instant::now());
    let value = work();
    let waited = start.elapsed() >= WAIT && sleeps.is_none_or(|before| self::sleeps() != Some(before));
    (value, waited)
}

/// How often this thread gave the processor away of its own accord (`ru_nvcsw`, getrusage(2)).
fn sleeps() -> Option<i64> {
    getrusage(UsageWho::RUSAGE_THREAD).ok().map(|usage| usage.voluntary_context_switches())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread::{current, sleep};

    use tokio::task;

    use super::*;

    /// How many of `n` calls that take `rest` are made in place. A call elsewhere is a task of its own.
    async fn in_place(calls: &Calls, n: u32, rest: Duration) -> u32 {
        let here = task::id();
        let mut count = 0;
        for _ in 0..n {
            let call = move || {
                sleep(rest);
                task::id()
            };
            count += u32::from(calls.block(call).await == here);
        }
        count
    }

    /// One test for both, for they share the places.
    #[test]
    fn calls_are_made_in_place_until_one_waits_and_one_that_hangs_holds_up_nobody() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let calls = Arc::new(Calls::default());
        let count = |n, rest| {
            let calls = Arc::clone(&calls);
            runtime.block_on(runtime.spawn(async move { in_place(&calls, n, rest).await })).unwrap()
        };
        assert_eq!(count(TRIAL, Duration::ZERO), 0);
        assert_eq!(count(100, Duration::ZERO), 100);
        assert_eq!(count(1, WAIT), 1);
        assert_eq!(count(2 * TRIAL, Duration::ZERO), 0);
        assert_eq!(count(1, Duration::ZERO), 1);

        let (let_go, held) = mpsc::channel::<()>();
        let (begins, begun) = mpsc::channel();
        let hanging = runtime.spawn({
            let calls = Arc::clone(&calls);
            async move {
                // Woken by the thread that is about to hang, which must not keep it.
                let woken = task::spawn(async move { begins.send(task::id()).unwrap() });
                let here = task::id();
                let (there, _) = calls.block(move || (task::id(), held.recv())).await;
                assert_eq!(there, here, "in place");
                woken.await.unwrap();
            }
        });
        begun.recv_timeout(Duration::from_secs(10)).expect("what it woke waits for it");
        while IN_PLACE.0.load(Relaxed) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(count(10, Duration::ZERO), 0, "nobody would be left");
        drop(let_go);
        runtime.block_on(hanging).unwrap();
    }

    #[tokio::test]
    async fn the_only_thread_of_the_network_never_waits() {
        let (calls, here) = (Calls::default(), current().id());
        for _ in 0..2 * TRIAL {
            assert_ne!(calls.block(|| current().id()).await, here);
        }
        assert!(calls.pace().is_quick());
    }

    #[test]
    fn one_thread_of_the_network_is_never_in_a_call() {
        let places = Places(AtomicUsize::new(0));
        assert!(places.take(1).is_none());
        let one = places.take(3).unwrap();
        assert!(places.take(2).is_none());
        let other = places.take(3).unwrap();
        assert!(places.take(3).is_none());
        drop(other);
        assert!(places.take(3).is_some());
        drop(one);
        assert!(places.take(2).is_some());
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
        // A short one counts as nothing, unless the machine makes it long each time.
        assert!((0..1000).any(|_| !observe(|| sleep(Duration::from_micros(10))).1));
    }

    #[test]
    fn a_disk_that_waits_every_so_often_is_tried_less_and_less() {
        let mut pace = Pace::default();
        let mut tries = 0;
        // Forty that do not wait, then one that does.
        for n in 0..41 * 1000 {
            let in_place = pace.is_quick();
            tries += u32::from(in_place);
            pace.note(in_place, n % 41 == 40);
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
