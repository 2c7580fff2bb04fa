//! Counters that parallel streams share.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many streams are at one kind of work just now.
#[derive(Debug, Default)]
pub(in crate::session) struct Gauge(AtomicU64);

impl Gauge {
    /// Counts `work` while it goes on.
    pub(in crate::session) async fn during<F: Future>(&self, work: F) -> F::Output {
        let _entered = Entered::new(self);
        work.await
    }

    /// Streams at it now.
    pub(in crate::session) fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counts until dropped, so that work that is cancelled is counted to its end.
struct Entered<'a>(&'a Gauge);

impl<'a> Entered<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.0.fetch_add(1, Relaxed);
        Self(gauge)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}
