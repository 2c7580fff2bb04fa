//! Authentication of peers: identities, fingerprints, tickets, one-time codes and certificates of an organisation.
//!
//! A host is identified by its key: [`Identity`] holds the key, [`Fingerprint`] names it. A [`Ticket`] tells a
//! stranger how to reach a waiting side, and its [`Secret`] proves that the ticket was handed over. Names and dates
//! in the certificates of TLS are ignored; those of an [`Authority`] are shown after TLS and checked ([`Certified`]).

mod by_code;
mod certificate;
mod certificate_files;
mod code;
mod distrust;
mod expected;
mod fingerprint;
pub mod handshake;
mod identity;
pub mod methods;
mod pake;
mod receipt;
mod secret;
mod ticket;
mod ticket_secrets;
mod verification;

pub use by_code::{ByCode, OpenCode};
pub use certificate::{ByCertificate, Certified};
pub use certificate_files::{Authority, CertificateFileError, OwnCertificate};
pub use code::{CODE_WORDS, Code, CodeError, resembles_code};
pub use expected::Expected;
pub use fingerprint::{Fingerprint, FingerprintError, FingerprintHead};
pub use identity::{Identity, IdentityError, default_path};
pub use receipt::{RECEIPT_BYTES_MAX, Receipt, ReceiptError, Statement};
pub use secret::{JoinKey, Secret};
pub use ticket::{
    ADDRESSES_MAX, Ticket, TicketError, resembles_ticket, without_parts_of_tickets, without_tickets,
};
pub use ticket_secrets::TicketSecrets;
pub use verification::verification;
