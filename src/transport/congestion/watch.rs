//! What a connection and the congestion controllers of its paths tell each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What a connection and the controllers of its paths tell each other.
#[derive(Debug, Clone, Default)]
pub(in crate::transport) struct PathWatch(Arc<PathNotes>);

#[derive(Debug, Default)]
struct PathNotes {
    closing: AtomicBool,
    full_micros: AtomicU64,
}

impl PathWatch {
    /// The connection is about to be closed.
    pub(in crate::transport) fn close(&self) {
        self.0.closing.store(true, Relaxed);
    }

    /// How long the congestion window was what held the connection back.
    pub(in crate::transport) fn window_full(&self) -> Duration {
        Duration::from_micros(self.0.full_micros.load(Relaxed))
    }

    pub(super) fn is_closing(&self) -> bool {
        self.0.closing.load(Relaxed)
    }

    pub(super) fn add_full(&self, time: Duration) {
        self.0.full_micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}
