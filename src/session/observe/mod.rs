//! What a transfer is waiting for, how far it is, and what came of it.

pub(super) mod bottleneck;
pub(super) mod gauge;
pub(super) mod processor;
pub(super) mod progress;
pub(super) mod tally;
