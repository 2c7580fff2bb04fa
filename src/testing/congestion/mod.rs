//! The congestion controllers over a simulated link.

mod plots;
mod scenarios;
mod simulator;
