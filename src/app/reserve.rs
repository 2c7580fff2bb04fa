//! The second of two workers, which stays back while the first does the work and the machine has nothing left for it.
//!
//! tokio wakes an idle worker when another one has more than one task. Where cores are idle that is what one wants.
//! Where both ends of a transfer share two cores, or other programs take them, it costs more than it gives: bytes leave
//! one processor's cache for another's, and the two workers are in the way of the other end (`docs/performance.md`).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::processor::processor_use;
use crate::session::ProcessorUse;
use crate::storage::fs::was_called_in_place_within;

/// Calls to the disk that follow each other within this: more than a gigabit a second.
const CLOSE: Duration = Duration::from_millis(2);
/// Without such a call for so long the worker is there again, at its next look: a disk that hangs does not hold up the
/// network for longer.
const GONE: Duration = Duration::from_millis(20);
/// How often it looks, and how many times until it asks whether the machine has something left: the system counts in
/// hundredths of a second.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS: u32 = 40;
/// So much of all cores, in percent, leaves nothing that would help.
const BUSY_PERCENT: u64 = 75;
/// Over so long it is seen whether that is so before a worker stays back.
const WINDOW: Duration = Duration::from_millis(100);
/// A look longer ago says nothing of now.
const STALE: Duration = Duration::from_secs(1);
/// After a machine that had something left no worker stays back for so long, twice as long each time.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(64);

/// The worker in reserve, whichever it is.
pub(super) struct Reserve {
    is_held: AtomicBool,
    judgement: Mutex<Judgement>,
    flows: fn(Duration) -> bool,
    processor_use: fn() -> ProcessorUse,
}

#[derive(Debug)]
struct Judgement {
    /// The last look at the machine, and whether it had nothing left by then.
    looked: Option<(Instant, ProcessorUse)>,
    nothing_left: bool,
    pause: Duration,
    not_before: Option<Instant>,
}

impl Reserve {
    pub(super) fn new() -> Self {
        Self::with(was_called_in_place_within, processor_use)
    }

    fn with(flows: fn(Duration) -> bool, processor_use: fn() -> ProcessorUse) -> Self {
        let judgement = Mutex::default();
        Self { is_held: AtomicBool::new(false), judgement, flows, processor_use }
    }

    /// This worker has nothing to do. If it is to stay back, a task keeps it: to the runtime it is busy then, so that
    /// who has work wakes others, and when the task ends it looks for work before it sleeps.
    pub(super) fn on_idle(self: &Arc<Self>) {
        if !(self.flows)(CLOSE)
            || !self.judgement().has_nothing_left(Instant::now(), self.processor_use)
            || self.is_held.swap(true, Relaxed)
        {
            return;
        }
        let (reserve, here) = (Arc::clone(self), thread::current().id());
        Handle::current().spawn(async move {
            // Another one has work.
            if thread::current().id() == here {
                reserve.stay_back();
            }
            reserve.is_held.store(false, Relaxed);
        });
    }

    fn judgement(&self) -> MutexGuard<'_, Judgement> {
        self.judgement.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stay_back(&self) {
        let before = (self.processor_use)();
        for _ in 0..LOOKS {
            if !(self.flows)(GONE) {
                return;
            }
            thread::sleep(LOOK);
        }
        let busy = (self.processor_use)().busy_percent_since(&before);
        self.judgement().note(busy);
    }
}

impl Default for Judgement {
    fn default() -> Self {
        Self { looked: None, nothing_left: false, pause: PAUSE, not_before: None }
    }
}

impl Judgement {
    /// Whether the machine has had nothing left lately.
    fn has_nothing_left(&mut self, now: Instant, look: impl FnOnce() -> ProcessorUse) -> bool {
        if self.not_before.is_some_and(|at| now < at) {
            return false;
        }
        let age = self.looked.map_or(Duration::MAX, |(at, _)| now.saturating_duration_since(at));
        if age >= WINDOW {
            let used = look();
            let before = self.looked.replace((now, used)).filter(|_| age < STALE);
            self.nothing_left =
                before.is_some_and(|(_, before)| leaves_nothing(used.busy_percent_since(&before)));
        }
        self.nothing_left
    }

    /// While a worker stayed back the machine was busy for so many percent of its time.
    fn note(&mut self, busy_percent: Option<u64>) {
        if leaves_nothing(busy_percent) {
            self.pause = PAUSE;
            return;
        }
        self.not_before = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

fn leaves_nothing(percent: Option<u64>) -> bool {
    percent.is_some_and(|percent| percent >= BUSY_PERCENT)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc;

    use super::*;
    use crate::session::Ticks;

    /// More than anything takes that does not hang.
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_machine_that_has_something_left_is_left_alone_for_longer_each_time() {
        let mut judgement = Judgement::default();
        for (busy, pause) in [(Some(74), 1), (None, 2), (Some(0), 4), (Some(9), 8), (Some(50), 16)] {
            let before = Instant::now();
            judgement.note(busy);
            assert!(judgement.not_before.unwrap() >= before + pause * PAUSE);
            assert!(judgement.not_before.unwrap() <= Instant::now() + pause * PAUSE);
        }
        for _ in 0..3 {
            judgement.note(Some(50));
        }
        assert_eq!(judgement.pause, PAUSE_MAX);
        let paused = judgement.not_before;
        judgement.note(Some(75));
        assert_eq!((judgement.pause, judgement.not_before), (PAUSE, paused));
    }

    #[test]
    fn a_worker_that_stays_back_is_there_when_the_other_one_hangs() {
        static FLOWS: AtomicBool = AtomicBool::new(true);
        static LOOKED: AtomicU64 = AtomicU64::new(0);
        fn flows(_: Duration) -> bool {
            LOOKED.fetch_add(1, Relaxed);
            FLOWS.load(Relaxed)
        }
        /// A machine with nothing left.
        fn busy() -> ProcessorUse {
            let ticks = LOOKED.load(Relaxed);
            ProcessorUse { machine: Some(Ticks { busy: ticks, all: ticks }), ..ProcessorUse::default() }
        }
        let reserve = Arc::new(Reserve::with(flows, busy));
        let runtime = {
            let reserve = Arc::clone(&reserve);
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .on_thread_park(move || reserve.on_idle())
                .build()
                .unwrap()
        };
        // A worker is woken by what comes from outside.
        let began = Instant::now();
        while !reserve.is_held.load(Relaxed) {
            assert!(began.elapsed() < LONG, "nobody stays back");
            runtime.block_on(runtime.spawn(async {})).unwrap();
            thread::sleep(LOOK);
        }
        // The other one hangs until a task is run that it has woken.
        let (let_go, held) = mpsc::channel::<()>();
        let hanging = runtime.spawn(async move {
            tokio::spawn(async move { let_go.send(()) });
            // The newest is not taken by others.
            tokio::spawn(async {});
            FLOWS.store(false, Relaxed);
            held.recv_timeout(LONG).expect("the other worker is there");
        });
        runtime.block_on(hanging).unwrap();
    }

    #[test]
    fn a_worker_stays_back_from_a_machine_that_has_been_busy_lately() {
        let (mut judgement, began) = (Judgement::default(), Instant::now());
        let mut busy_at = |ms, ticks: Option<(u64, u64)>| {
            judgement.has_nothing_left(began + Duration::from_millis(ms), || {
                let (busy, all) = ticks.expect("it has looked a moment ago");
                ProcessorUse { machine: Some(Ticks { busy, all }), ..ProcessorUse::default() }
            })
        };
        assert!(!busy_at(0, Some((0, 0))), "nothing has been seen");
        assert!(!busy_at(99, None));
        assert!(busy_at(100, Some((75, 100))));
        assert!(busy_at(199, None));
        assert!(!busy_at(200, Some((149, 200))));
        assert!(busy_at(300, Some((249, 300))));
        assert!(!busy_at(1300, Some((1249, 1300))), "that was long ago");
        assert!(busy_at(1400, Some((1349, 1400))));
        judgement.note(Some(74));
        assert!(!judgement.has_nothing_left(began + PAUSE / 2, || unreachable!("it pauses")));
    }

    #[test]
    fn nobody_stays_back_without_calls() {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        /// A machine with nothing left.
        fn busy() -> ProcessorUse {
            let ticks = ASKED.fetch_add(1, Relaxed);
            ProcessorUse { machine: Some(Ticks { busy: ticks, all: ticks }), ..ProcessorUse::default() }
        }
        let quiet = Arc::new(Reserve::with(|_| false, busy));
        quiet.on_idle();
        assert!(!quiet.is_held.load(Relaxed));
        assert_eq!(ASKED.load(Relaxed), 0, "it did not even look");
        quiet.stay_back();
        assert_eq!(ASKED.load(Relaxed), 1, "it did not stay until the end");
    }

    #[test]
    fn nobody_stays_back_from_a_machine_that_has_something_left() {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        /// A machine with nothing to do.
        fn idle() -> ProcessorUse {
            let ticks = ASKED.fetch_add(1, Relaxed);
            ProcessorUse { machine: Some(Ticks { busy: 0, all: ticks }), ..ProcessorUse::default() }
        }
        let reserve = Arc::new(Reserve::with(|_| true, idle));
        reserve.judgement().looked = Some((Instant::now() - WINDOW, idle()));
        reserve.on_idle();
        assert!(!reserve.is_held.load(Relaxed));
        assert_eq!(ASKED.load(Relaxed), 2, "it has looked");
        reserve.stay_back();
        assert!(reserve.judgement().not_before.is_some(), "it could have helped");
    }
}
