//! The network: an authenticated connection with many streams, as traits, and quinn behind them.

pub mod address;
pub(crate) mod congestion;
mod connection;
mod error;
mod limits;
mod listen;
pub mod quic;

pub use address::ListenAddress;
pub use connection::{Connection, PathStats, RecvStream, SendStream};
pub use error::TransportError;
pub use limits::{Congestion, Limits};
pub use listen::{Arrival, Listen};
pub use quic::endpoint::{Endpoint, Incoming, dial};
