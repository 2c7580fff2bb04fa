//! What a receiver does after a transfer, before the sender is told of its end.

use std::pin::Pin;
use std::sync::Arc;

use crate::protocol::program_end::ProgramEnd;

/// What has arrived, or was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivered {
    /// Regular files that were received.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files and links that existed with the same content.
    pub identical: u64,
    /// Existing files and links that were kept.
    pub skipped: u64,
}

/// The program while it runs. It is killed when this is dropped.
pub type Running = Pin<Box<dyn Future<Output = ProgramEnd> + Send>>;

/// Runs a program when everything is under its final name, and durable.
pub trait AfterTransfer: Send + Sync {
    /// Starts it.
    fn run(self: Arc<Self>, delivered: Delivered) -> Running;
}
