//! A transfer from the first message to the last. Drivers connect the protocol's machines to transport and storage.
//!
//! A failure of either side travels as the code and reason of QUIC's connection close, so that it reaches a peer
//! whose streams are blocked.

mod after;
mod budget;
mod carried;
mod carrier;
mod clock;
mod closing;
mod compression;
mod consent;
mod context;
pub mod handshake;
mod hold;
mod joining;
mod lanes;
mod lease;
mod link;
mod messages;
mod observe;
mod outbox;
mod queues;
pub mod receive;
mod retry;
pub mod schedule;
pub mod send;
#[cfg(test)]
mod tests;
mod throttle;

pub use self::after::{AfterTransfer, Delivered, Running};
pub use self::budget::Budget;
pub use self::carried::Carried;
pub use self::closing::{close_reason, close_with, transport_failure};
pub use self::compression::Compression;
pub use self::consent::{Answer, Consent, Offered};
pub use self::context::{Context, name_of};
pub use self::handshake::verification_exporter;
pub use self::hold::hold;
pub use self::joining::{Joiner, Joining};
pub use self::lease::Lease;
pub use self::link::{Link, connected};
pub use self::observe::processor::{ProcessorGauge, ProcessorUse, Ticks};
pub use self::retry::Retry;
pub use self::throttle::Throttle;
