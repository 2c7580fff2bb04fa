//! Doubles of the seams, the suites that every implementation of a seam must pass, and simulators. Compiled only for
//! tests.

pub(crate) mod auth;
pub(crate) mod certificates;
mod congestion;
pub(crate) mod connection;
pub(crate) mod connection_suite;
pub(crate) mod disk;
mod machines;
pub(crate) mod memory;
pub(crate) mod network;
mod network_suite;
mod quic;
pub(crate) mod secrets;
pub(crate) mod session;
pub(crate) mod slot;
mod storage_suite;
pub(crate) mod ticket;

/// Properties of the host that tests need; shared with the tests of the whole program.
#[path = "../../tests/end_to_end/support/host.rs"]
pub(crate) mod host;
