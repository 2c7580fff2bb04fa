//! QUIC and TLS, by quinn and rustls.

mod buffers;
pub mod connection;
pub mod endpoint;
pub(crate) mod error;
mod gather;
mod mtu;
mod piped;
mod probe;
mod resets;
mod socket;
mod strangers;
pub mod tls;
mod udp;
