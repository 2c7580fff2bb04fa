//! Congestion controllers for quinn, and a gate that lets the last packet out.

pub(crate) mod cubic;
mod filter;
mod gate;
pub(crate) mod rate;
mod sampler;
mod tally;
mod tuning;
mod watch;

#[cfg(test)]
pub(crate) use gate::INITIAL_WINDOW_DATAGRAMS;
pub(super) use gate::controller;
pub(super) use watch::PathWatch;
