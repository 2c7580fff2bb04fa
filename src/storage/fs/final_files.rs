//! Files under their final names: reading them, and setting their attributes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FileType, fstat};

use super::attributes::size_of;
use super::descriptors::patiently;
use super::dirs::Dirs;
use super::existing::update;
use super::lacks::{Lacks, is_lacking_sync};
use super::open::open_file;
use super::sys::disk::fsync;
use super::target_disk::TargetDisk;
use crate::protocol::not_kept::Aspect;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::Entry;
use crate::storage::error::{Result, failed};

impl TargetDisk {
    pub(super) fn update(&self, dirs: &mut Dirs, entry: &Entry) -> Result<bool> {
        let (holder, name) = dirs.parent(&self.root, &entry.path).map_err(|blocked| self.blocked(blocked))?;
        let mut lacks = Lacks::new();
        let updated = update(&self.keeper, &holder, name, entry, &mut lacks)
            .map_err(|error| failed("set mode and time of", self.place(&entry.path), error))?;
        lacks.into_iter().for_each(|(aspect, cause)| self.note(aspect, &entry.path.to_string(), cause));
        Ok(updated)
    }

    /// Reads the regular file under a final name through `buffer`, if it fits.
    pub(super) fn look_into(&self, dirs: &mut Dirs, path: &RelPath, buffer: &mut [u8]) -> Result<FinalFile> {
        let file = self.open_final(dirs, path)?;
        let mut read = || -> io::Result<std::result::Result<blake3::Hash, u64>> {
            let stat = fstat(&file)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(io::Error::other("it is no regular file"));
            }
            let size = size_of(&stat);
            match usize::try_from(size).ok().and_then(|len| buffer.get_mut(..len)) {
                Some(bytes) => file.read_exact_at(bytes, 0).map(|()| Ok(blake3::hash(bytes))),
                None => Ok(Err(size)),
            }
        };
        let content = read();
        if self.volumes.syncs_one_by_one() {
            // It may have been written without a sync.
            match fsync(&file) {
                Ok(()) => {}
                Err(errno) if is_lacking_sync(errno) => {
                    self.note(Aspect::Sync, &path.to_string(), errno);
                }
                Err(errno) => return Err(failed("sync", self.place(path), errno)),
            }
        }
        match content {
            Ok(Ok(root)) => Ok(FinalFile::Small(root)),
            Ok(Err(size)) => Ok(FinalFile::Large(file, size)),
            Err(error) => Err(failed("read", self.place(path), error)),
        }
    }

    /// Opens the file under a final name for reading.
    fn open_final(&self, dirs: &mut Dirs, path: &RelPath) -> Result<File> {
        let (holder, name) = dirs.parent(&self.root, path).map_err(|blocked| self.blocked(blocked))?;
        patiently(|| open_file(&holder, name), || dirs.release())
            .map_err(|errno| failed("open", self.place(path), errno))
    }
}

/// The result of reading a file under a final name.
pub(super) enum FinalFile {
    /// Its root.
    Small(blake3::Hash),
    /// It is larger than the block: the open file, and its size.
    Large(File, u64),
}
