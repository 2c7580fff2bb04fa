//! Whether what was recorded earlier can be taken as it is: only if neither the system nor the mount has been started
//! anew since, for then nothing that was written can have been lost.

use std::os::fd::AsFd;

use super::journal::JournalState;
use super::sys::disk;

/// This start of the system and this mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trust {
    pub(super) boot: [u8; 16],
    pub(super) mount: u64,
}

impl Trust {
    /// Of the mount that `dir` is on. All zeros where the system does not tell.
    pub(super) fn of(dir: impl AsFd) -> Self {
        Self { boot: boot_id().unwrap_or_default(), mount: disk::mount_of(dir).unwrap_or_default() }
    }

    /// Whether the records of an attempt in this state hold without a look at the disk, in the file `inode`.
    pub(super) fn covers(self, state: &JournalState, inode: u64) -> bool {
        let is_known = self.boot != [0; 16] && self.mount != 0;
        is_known
            && state.is_synced
            && (state.boot, state.mount, state.inode) == (self.boot, self.mount, inode)
    }
}

fn boot_id() -> Option<[u8; 16]> {
    let text = disk::boot_id().ok()?;
    let digits = text.trim().replace('-', "");
    data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::entry::Time;

    #[test]
    fn only_the_same_boot_mount_and_file_are_trusted() {
        let now = Trust { boot: [1; 16], mount: 2 };
        let mtime = Time { seconds: 0, nanos: 0 };
        let state =
            JournalState { sequence: 1, size: 9, mtime, boot: [1; 16], mount: 2, inode: 3, is_synced: true };
        assert!(now.covers(&state, 3));
        assert!(!now.covers(&state, 4));
        assert!(!now.covers(&JournalState { boot: [9; 16], ..state.clone() }, 3));
        assert!(!now.covers(&JournalState { mount: 9, ..state.clone() }, 3));
        assert!(!now.covers(&JournalState { is_synced: false, ..state.clone() }, 3));
        let unknown = Trust { boot: [0; 16], mount: 0 };
        assert!(!unknown.covers(&JournalState { boot: [0; 16], mount: 0, ..state }, 3));
    }
}
