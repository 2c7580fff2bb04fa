//! Use of the processor.

use std::sync::Arc;
use std::time::Duration;

/// Above this share of all cores this process may run on, in percent, the cores count as fully used.
const HOST_BUSY_PERCENT: u64 = 85;

/// Processor time used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessorUse {
    /// Time of this process, summed over all cores.
    pub own: Duration,
    /// How long the system paused this process, and others under the same quota.
    pub withheld: Duration,
    /// Use of this process's cores by all processes, where the system reports it.
    pub machine: Option<Ticks>,
}

/// Reads the processor time from the host.
pub type ProcessorGauge = Arc<dyn Fn() -> ProcessorUse + Send + Sync>;

/// Time of several cores together, in the system's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ticks {
    /// Busy time.
    pub busy: u64,
    /// Total time.
    pub all: u64,
}

impl ProcessorUse {
    /// Share of these cores in use between `before` and now, if the system reports it.
    pub fn busy_percent_since(&self, before: &Self) -> Option<u64> {
        let (now, before) = (self.machine?, before.machine?);
        let (busy, all) = (now.busy.saturating_sub(before.busy), now.all.saturating_sub(before.all));
        (busy * 100).checked_div(all)
    }

    /// Whether these cores were fully used between `before` and now.
    pub(super) fn is_exhausted_since(&self, before: &Self) -> bool {
        self.busy_percent_since(before).is_some_and(|percent| percent >= HOST_BUSY_PERCENT)
    }
}
