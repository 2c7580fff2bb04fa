//! towline hauls files between two machines over QUIC.
//!
//! `ARCHITECTURE.md` shows the rooms of the house and which may import which.

pub mod app;
pub mod auth;
pub mod cli;
pub mod connect;
pub mod event;
pub mod node;
pub mod protocol;
pub mod session;
pub mod storage;
#[cfg(test)]
mod testing;
pub mod transport;
pub mod ui;
