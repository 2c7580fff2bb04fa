//! The room that a peer has in a directory of its own.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::storage::error::OverQuota;

/// What a file or directory counts at least, beside its content: very many empty ones fill a disk too.
const ENTRY_BYTES: u64 = 4096;
/// Bytes of a block in `st_blocks`.
const BLOCK_BYTES: u64 = 512;

/// The bytes in a directory, counted when they are first asked for. Transfers at the same time share it.
#[derive(Debug)]
pub struct Usage {
    dir: PathBuf,
    bytes: Mutex<Option<u64>>,
}

/// The room that a peer has in a directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerQuota {
    usage: Arc<Usage>,
    limit_bytes: u64,
}

impl Usage {
    /// Of `dir`, which need not exist yet.
    pub fn of(dir: &Path) -> Arc<Self> {
        Arc::new(Self { dir: dir.to_owned(), bytes: Mutex::new(None) })
    }

    /// Works with the number of bytes.
    fn with<T>(&self, work: impl FnOnce(&mut u64) -> T) -> io::Result<T> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = match *bytes {
            Some(counted) => counted,
            None => count(&self.dir)?,
        };
        Ok(work(bytes.insert(counted)))
    }
}

impl PeerQuota {
    /// At most `limit_bytes` in the directory of `usage`.
    pub fn new(usage: Arc<Usage>, limit_bytes: u64) -> Self {
        Self { usage, limit_bytes }
    }

    /// Takes room for `bytes` that will be written.
    ///
    /// # Errors
    ///
    /// There is not so much room, or what is there cannot be counted.
    pub(super) fn take(&self, bytes: u64) -> io::Result<()> {
        let limit_bytes = self.limit_bytes;
        self.usage.with(|used| match used.checked_add(bytes).filter(|used| *used <= limit_bytes) {
            Some(now) => {
                *used = now;
                Ok(())
            }
            None => {
                let why = format!("the quota of {limit_bytes} bytes is used up");
                Err(io::Error::other(OverQuota(why)))
            }
        })?
    }

    /// Takes room for a new entry without its content.
    ///
    /// # Errors
    ///
    /// As [`PeerQuota::take`].
    pub(super) fn take_entry(&self) -> io::Result<()> {
        self.take(ENTRY_BYTES)
    }

    /// Why `needed` bytes surely do not fit, when up to `staged` of them are there already.
    pub(super) fn lacks(&self, needed: u64, staged: u64) -> io::Result<()> {
        let left = self.usage.with(|used| self.limit_bytes.saturating_sub(*used))?;
        if needed <= left.saturating_add(staged) {
            return Ok(());
        }
        let all = self.limit_bytes;
        let why = format!("it needs {needed} bytes, and {left} of the quota of {all} bytes are left");
        Err(io::Error::other(OverQuota(why)))
    }
}

/// The bytes that everything below `dir` takes on its disk. Links are not followed, and what vanishes meanwhile takes
/// none.
fn count(dir: &Path) -> io::Result<u64> {
    let mut bytes: u64 = 0;
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_dir() {
                dirs.push(entry.path());
            }
            let content = if metadata.is_dir() { 0 } else { metadata.blocks().saturating_mul(BLOCK_BYTES) };
            bytes = bytes.saturating_add(content).saturating_add(ENTRY_BYTES);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_counts_and_transfers_at_the_same_time_share_the_room() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("ann");
        assert!(PeerQuota::new(Usage::of(&own), 1 << 20).take(1 << 20).is_ok(), "nothing is there");
        fs::create_dir_all(own.join("sub")).unwrap();
        fs::write(own.join("sub/file"), vec![1; 100 << 10]).unwrap();
        std::os::unix::fs::symlink("/usr", own.join("link")).unwrap();
        let used = count(&own).unwrap();
        assert!((112 << 10..160 << 10).contains(&used), "{used}");
        let one = PeerQuota::new(Usage::of(&own), 300 << 10);
        let other = one.clone();
        one.take(100 << 10).unwrap();
        let refused = other.take(100 << 10).unwrap_err();
        assert_eq!(refused.to_string(), "the quota of 307200 bytes is used up");
        assert!(other.lacks(100 << 10, 0).is_err() && other.lacks(100 << 10, 100 << 10).is_ok());
        other.take_entry().unwrap();
        assert!(PeerQuota::new(Usage::of(&own.join("sub/file")), 1).take_entry().is_err(), "not a directory");
    }
}
