//! Who a peer is: identities, fingerprints and tickets. Codes, known peers and PKI will have their place here.
//!
//! A machine is its key: [`Fingerprint`] names it, [`Identity`] holds it. A [`Ticket`] lets a stranger reach a
//! waiting side and prove, with its [`Secret`], that the ticket was handed over. Names and dates in certificates
//! mean nothing here.

mod expected;
mod fingerprint;
pub mod handshake;
mod identity;
pub mod methods;
mod secret;
mod ticket;

pub use expected::Expected;
pub use fingerprint::{Fingerprint, FingerprintError};
pub use identity::{Identity, IdentityError, default_path};
pub use secret::{JoinKey, Secret};
pub use ticket::{
    ADDRESSES_MAX, Ticket, TicketError, resembles_ticket, without_parts_of_tickets, without_tickets,
};
