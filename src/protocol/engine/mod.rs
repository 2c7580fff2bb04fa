//! The sender and the receiver as state machines.

pub mod bottleneck;
pub mod log;
mod open_dirs;
pub mod patience;
pub mod plan;
pub mod receiver;
pub mod sender;
