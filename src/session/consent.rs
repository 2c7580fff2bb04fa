//! A receiver's consent, before anything is written.

use std::pin::Pin;

/// What a sender offers, as far as its manifest has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Entries at the top, safe to print; directories end with `/`.
    pub names: Vec<String>,
    /// How many more there are at the top.
    pub more_names: u64,
    /// Files in all.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The figures are those of the whole transfer.
    pub is_all: bool,
}

/// The answer to come; dropped when the transfer ends before it.
pub type Answer = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Decides whether a transfer is received.
pub trait Consent: Send + Sync {
    /// Asks about what is `offered`.
    fn ask(&self, offered: Offered) -> Answer;
}
