//! Reads files that entries replace.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, fstat, statat};
use rustix::io::Errno;

use super::attributes::size_of;
use super::descriptors::patiently;
use super::dirs::Dirs;
use super::open::open_file;
use super::target_disk::TargetDisk;
use super::watch::Subject;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::EntryId;

impl TargetDisk {
    /// The size of the regular file under a final name.
    pub(super) fn old_size(&self, dirs: &mut Dirs, path: &RelPath) -> Option<u64> {
        let (holder, name) = dirs.parent(&self.root, path).ok()?;
        let stat = statat(&holder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| size_of(&stat))
    }

    /// Reads from `offset` of the old file of `id` into `room`; returns how many bytes there were.
    pub(super) fn read_old(&self, id: EntryId, path: &RelPath, offset: u64, room: &mut [u8]) -> usize {
        let _call = self.watch.begin("read", Subject::Path(path.clone()));
        let read = self.open_old(id, path).map_err(io::Error::from).and_then(|file| {
            let mut read = 0;
            while read < room.len() {
                match file.read_at(&mut room[read..], offset + read as u64) {
                    Ok(0) => break,
                    Ok(n) => read += n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(read)
        });
        match read {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%path, %error, "an old file cannot be read");
                0
            }
        }
    }

    fn open_old(&self, id: EntryId, path: &RelPath) -> Result<Arc<File>, Errno> {
        if let Some(file) = self.old_files.open().get(&id) {
            return Ok(file);
        }
        let mut dirs = Dirs::for_lookup();
        let (holder, name) = dirs.parent(&self.root, path).map_err(|blocked| blocked.errno)?;
        let file = Arc::new(patiently(|| open_file(&holder, name), || ())?);
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let closed = self.old_files.open().insert(id, Arc::clone(&file));
        drop(closed);
        Ok(file)
    }
}
