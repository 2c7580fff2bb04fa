//! What a connection and the congestion controllers of its paths tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::known::KnownPath;

/// A path on which nothing has been acked for this long is dead, for now.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(1);

/// What a connection and the controllers of its paths tell each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct PathWatch(Arc<PathNotes>);

#[derive(Debug, Default)]
struct PathNotes {
    closing: AtomicBool,
    full_micros: AtomicU64,
    /// When the last acks came that did not cover everything, or the first packet was sent after those that did.
    unacked_since: Mutex<Option<Instant>>,
    /// An earlier transfer has told something, and no controller has taken it.
    is_known: AtomicBool,
    known: Mutex<Option<KnownPath>>,
    learned: Mutex<Option<KnownPath>>,
}

impl PathWatch {
    /// The connection is about to be closed.
    pub(in crate::transport) fn close(&self) {
        self.0.closing.store(true, Relaxed);
    }

    /// How long the congestion window, or a dead path, was what held the connection back.
    pub(in crate::transport) fn window_full(&self) -> Duration {
        let silent = lock(&self.0.unacked_since).map_or(Duration::ZERO, |since| since.elapsed());
        let dead = if silent >= DEAD_AFTER { silent } else { Duration::ZERO };
        Duration::from_micros(self.0.full_micros.load(Relaxed)) + dead
    }

    /// An earlier transfer over this path found `known`.
    pub(crate) fn know(&self, known: KnownPath) {
        *lock(&self.0.known) = Some(known);
        self.0.is_known.store(true, Relaxed);
    }

    /// What the path carries, once that is known.
    pub(in crate::transport) fn learned(&self) -> Option<KnownPath> {
        *lock(&self.0.learned)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.0.closing.load(Relaxed)
    }

    pub(super) fn add_full(&self, time: Duration) {
        self.0.full_micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// From `since` on, something is in flight and nothing has been acked; `None` while nothing is in flight.
    pub(super) fn set_unacked(&self, since: Option<Instant>) {
        *lock(&self.0.unacked_since) = since;
    }

    /// What an earlier transfer found. It is told once: a connection that moves to another path begins anew there.
    pub(super) fn take_known(&self) -> Option<KnownPath> {
        // Asked for each packet.
        if !self.0.is_known.load(Relaxed) {
            return None;
        }
        self.0.is_known.store(false, Relaxed);
        lock(&self.0.known).take()
    }

    pub(super) fn learn(&self, learned: KnownPath) {
        *lock(&self.0.learned) = Some(learned);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
