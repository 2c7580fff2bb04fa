//! The network: how authenticated connections with many streams are made, as traits, and quinn behind them.

pub mod address;
pub(crate) mod congestion;
mod connection;
mod error;
mod inherited;
mod limits;
mod network;
mod pipe;
pub mod quic;

pub use address::ListenAddress;
pub use congestion::KnownPath;
pub use connection::{Connection, PathStats, RecvStream, SendStream};
pub use error::TransportError;
pub use inherited::InheritedSocket;
pub use limits::{Congestion, Limits};
pub use network::{Arrival, Endpoint, Network};
pub use pipe::BytePipe;
