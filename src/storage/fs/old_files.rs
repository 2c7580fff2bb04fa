//! Files that entries replace, open for reading while chunks take bytes from them.

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::descriptors::{OpenFiles, share};
use crate::protocol::wire::entry::EntryId;

/// Maximum files kept open. One that was closed for another is opened again.
const OPEN_MAX: usize = 64;

/// The old files in use.
pub(super) struct OldFiles(Mutex<OpenFiles<EntryId, File>>);

impl OldFiles {
    pub(super) fn new() -> Self {
        Self(Mutex::new(OpenFiles::new(share(OPEN_MAX))))
    }

    pub(super) fn open(&self) -> MutexGuard<'_, OpenFiles<EntryId, File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry has its name or is dropped.
    pub(super) fn close(&self, id: EntryId) {
        let closed = self.open().remove(&id);
        drop(closed);
    }

    pub(super) fn close_all(&self) {
        self.open().clear();
    }
}
