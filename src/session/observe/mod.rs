//! The bottleneck, progress and result of a transfer.

pub(super) mod bottleneck;
pub(super) mod gauge;
pub(super) mod processor;
pub(super) mod progress;
pub(super) mod receipt;
pub(super) mod tally;
