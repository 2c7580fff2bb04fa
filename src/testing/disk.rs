//! Disks in memory for tests: they fail, stall and crash on request, and record every operation.
//!
//! Time passes only by `tokio::time::sleep`, so a paused clock works.

mod contents;
mod kept;
mod source;
mod target;
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::source::MemorySource;
pub(crate) use self::target::{MemoryTarget, On, Op};
use super::session::Nobody;
use crate::auth::Fingerprint;
use crate::protocol::failure::Failure;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, Meta, Time};
use crate::storage::block::{BlockCount, BlockPool};
use crate::storage::fs::{Bounds, Incoming};
use crate::storage::{Result, Source, Target, source_roots};

const MIB: f64 = (1 << 20) as f64;

/// The content under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    File(Vec<u8>),
    Dir,
    Link(Vec<u8>),
}

impl Node {
    /// Default attributes, for tests that do not care.
    pub(crate) fn default_meta(&self) -> Meta {
        let mode = match self {
            Self::File(_) => 0o644,
            Self::Dir => 0o755,
            Self::Link(_) => 0o777,
        };
        Meta { mode, mtime: Time { seconds: 1_700_000_000, nanos: 123_456_789 }, attributes: None }
    }
}

/// The transfer with this number, of the one sender that these tests have.
pub(crate) fn incoming(number: u32, sync: bool) -> Incoming {
    let sender = Fingerprint::from_bytes([7; 32]);
    let transfer = format!("{number:032x}");
    Incoming {
        transfer,
        sender,
        sync,
        atomic: false,
        verify: false,
        only_looks: false,
        quota: None,
        bounds: Bounds::default(),
        privileged: false,
        reporter: Arc::new(Nobody),
    }
}

/// A path known to be valid.
pub(crate) fn rel_path(path: impl AsRef<[u8]>) -> RelPath {
    RelPath::new(path.as_ref()).unwrap()
}

/// The root of one file of a source.
pub(crate) async fn source_root(
    source: &impl Source,
    entry: Entry,
) -> std::result::Result<blake3::Hash, Failure> {
    source_roots(source, vec![entry], BlockPool::new(1, BlockCount::default()).acquire().await)
        .await
        .remove(0)
}

/// The root of one file under a final name.
pub(crate) async fn target_root(target: &impl Target, path: impl AsRef<[u8]>) -> Result<blake3::Hash> {
    target
        .roots(vec![rel_path(path)], BlockPool::new(1, BlockCount::default()).acquire().await)
        .await
        .remove(0)
}

/// Time for `bytes` at this duration per MiB.
fn pause(per_mib: Duration, bytes: usize) -> Duration {
    #[expect(clippy::cast_precision_loss)]
    per_mib.mul_f64(bytes as f64 / MIB)
}
