//! What the processor was used for.

use std::sync::Arc;
use std::time::Duration;

/// Above this share of all cores that this process may run on, in percent, they have next to nothing left.
const HOST_BUSY_PERCENT: u64 = 85;

/// What has been used of the processor so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessorUse {
    /// Time of this process, on all cores together.
    pub own: Duration,
    /// For so long the system let this process, and others that share a quota with it, not run.
    pub withheld: Duration,
    /// What all processes used of the cores that this one may run on, where the system tells.
    pub machine: Option<Ticks>,
}

/// Asks the host for it.
pub type ProcessorGauge = Arc<dyn Fn() -> ProcessorUse + Send + Sync>;

/// Time of several cores together, in a unit of the system's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ticks {
    /// In which they worked.
    pub busy: u64,
    /// All there were.
    pub all: u64,
}

impl ProcessorUse {
    /// How much of these cores was in use between `before` and now, if the system tells.
    pub fn busy_percent_since(&self, before: &Self) -> Option<u64> {
        let (now, before) = (self.machine?, before.machine?);
        let (busy, all) = (now.busy.saturating_sub(before.busy), now.all.saturating_sub(before.all));
        (busy * 100).checked_div(all)
    }

    /// Between `before` and now these cores had next to nothing left.
    pub(super) fn is_exhausted_since(&self, before: &Self) -> bool {
        self.busy_percent_since(before).is_some_and(|percent| percent >= HOST_BUSY_PERCENT)
    }
}
