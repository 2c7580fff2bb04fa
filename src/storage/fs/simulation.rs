//! What the simulation of crashes looks at in a target directory.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::journal::{Chunking, SLOT_BYTES, decode_slot, slot_at};
use super::journal_file::Journal;
use super::partial_names::{PartialName, find_partials};
pub(crate) use super::sys::simulated_disk::{Faults, SimulatedDisk};
use super::trust::Trust;
use crate::auth::Fingerprint;
use crate::protocol::hash::RecordHasher;
use crate::protocol::path::{RelPath, STAGING_DIR};

/// The path, below the target, of the staged file that is for `path`.
pub(crate) fn staged_path(sender: &Fingerprint, path: &RelPath) -> String {
    format!("{STAGING_DIR}/{}", PartialName::new(sender, path).data())
}

/// Records in the journals of the target `dir` that the next receiver would take as they are, although the staged file
/// has other bytes.
pub(crate) fn false_records(dir: &Path) -> Vec<String> {
    let hub = dir.join(STAGING_DIR);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let Ok(fd) = openat(CWD, &hub, flags, Mode::empty()) else { return Vec::new() };
    let trust = Trust::of(&fd);
    let mut found = Vec::new();
    for name in find_partials(&fd).unwrap() {
        let (Ok(journal), Ok(bytes)) =
            (File::open(hub.join(name.journal())), fs::read(hub.join(name.data())))
        else {
            continue;
        };
        let Some((identity, state)) = Journal::read(&journal).unwrap() else { continue };
        if !trust.covers(&state, fs::metadata(hub.join(name.data())).unwrap().ino()) {
            continue;
        }
        let chunks = Chunking { size: state.size, log2: identity.chunk_log2 };
        for index in 0..chunks.count() {
            let mut slot = [0; SLOT_BYTES];
            if journal.read_exact_at(&mut slot, slot_at(index)).is_err() {
                continue;
            }
            let (start, len) = (chunks.start_of(index), chunks.len_of(index));
            let range = usize::try_from(start).unwrap()..usize::try_from(start + len).unwrap();
            let (Some(value), Some(bytes)) = (decode_slot(index, len, &slot), bytes.get(range)) else {
                continue;
            };
            let mut hasher = RecordHasher::new(state.size, start, len);
            hasher.update(bytes);
            if hasher.finish() != value {
                found.push(format!("chunk {index} of {}", identity.path));
            }
        }
    }
    found
}
