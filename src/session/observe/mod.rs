//! What a transfer is waiting for, how far it is, and what came of it.

pub(super) mod gauge;
pub(super) mod observer;
pub(super) mod progress;
pub(super) mod tally;
