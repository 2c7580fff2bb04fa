//! Counters that parallel streams share.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// How many streams are at one kind of work just now, and how long they were in all.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    now: AtomicU64,
    micros: AtomicU64,
}

impl Gauge {
    /// Counts `work` while it goes on.
    pub(super) async fn during<F: Future>(&self, work: F) -> F::Output {
        let _entered = Entered::new(self);
        work.await
    }

    /// Streams at it now.
    pub(super) fn now(&self) -> u64 {
        self.now.load(Relaxed)
    }

    /// Time of all streams added up.
    pub(super) fn total(&self) -> Duration {
        Duration::from_micros(self.micros.load(Relaxed))
    }
}

/// Counts until dropped, so that work that is cancelled is counted to its end.
struct Entered<'a> {
    gauge: &'a Gauge,
    since: Instant,
}

impl<'a> Entered<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.now.fetch_add(1, Relaxed);
        Self { gauge, since: Instant::now() }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.gauge.now.fetch_sub(1, Relaxed);
        let micros = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.gauge.micros.fetch_add(micros, Relaxed);
    }
}
