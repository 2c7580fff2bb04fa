//! Congestion controllers for quinn, and a gate that lets the last packet out.

pub(crate) mod cubic;
mod fill;
mod filter;
mod gate;
mod known;
mod loss;
mod open;
mod path;
pub(crate) mod rate;
mod sampler;
mod tally;
mod tuning;
mod watch;

#[cfg(test)]
pub(crate) use gate::INITIAL_WINDOW_DATAGRAMS;
pub(crate) use gate::PROBE_INTERVAL;
pub(super) use gate::controller;
pub use known::KnownPath;
pub(super) use open::Open;
#[cfg(test)]
pub(crate) use tuning::LOSS_DELAY_PERCENT;
pub(super) use tuning::LOSS_DELAY_ROUND_TRIPS;
pub(crate) use watch::PathWatch;
