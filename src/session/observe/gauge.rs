//! Counters that parallel streams share.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The number of streams currently at one kind of work.
#[derive(Debug, Default)]
pub(in crate::session) struct Gauge(AtomicU64);

impl Gauge {
    /// Counts `work` while it runs.
    pub(in crate::session) async fn during<F: Future>(&self, work: F) -> F::Output {
        let _entered = Entered::new(self);
        work.await
    }

    /// Number of streams currently at it.
    pub(in crate::session) fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counts until dropped, so that cancelled work ends its count too.
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
