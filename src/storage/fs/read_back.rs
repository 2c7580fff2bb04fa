//! Reading a complete staged file back from its device, to compare it with what was verified on the way.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, Mode, OFlags, chmodat, fchmod, openat, statat};
use rustix::io::Errno;

use super::attributes::MODE_BITS;
use super::descriptors::patiently;
use super::sys::cache;

/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;
/// Direct reads need memory and offsets at multiples of the block size of the device.
const ALIGN: usize = 4096;

/// The BLAKE3 root of `size` bytes of a staged file, as its device returns them; `None` if it has fewer bytes. `step` is
/// called before each read.
///
/// Direct reads go past the page cache. Where the file system has none, the cache is dropped first. The kernel keeps
/// pages that somebody has mapped, and file systems in memory have nothing else.
pub(super) fn root_on_device(
    dir: &OwnedFd,
    name: &str,
    size: u64,
    mut step: impl FnMut(),
) -> io::Result<Option<blake3::Hash>> {
    let (mut file, mut is_direct) = match open(dir, name, OFlags::DIRECT) {
        Ok(file) => (file, true),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => (open(dir, name, OFlags::empty())?, false),
        Err(errno) => return Err(errno.into()),
    };
    // Best effort: some file systems have no cache to drop.
    let _ = cache::forget(&file);
    let mut memory = vec![0; READ_BYTES + ALIGN];
    let start = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
    let buffer = &mut memory[start..start + READ_BYTES];
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < size {
        step();
        let read = match file.read_at(buffer, at) {
            Err(error) if is_direct && error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                (file, is_direct) = (open(dir, name, OFlags::empty())?, false);
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok(None);
        }
        let wanted = usize::try_from(size - at).unwrap_or(read).min(read);
        hasher.update(&buffer[..wanted]);
        at += wanted as u64;
    }
    Ok(Some(hasher.finalize()))
}

/// Opens a staged file to read it. It has the permission bits of its source, which may deny that.
fn open(dir: &OwnedFd, name: &str, direct: OFlags) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | direct;
    let open = || patiently(|| openat(dir, name, flags, Mode::empty()), || ());
    match open() {
        Err(Errno::ACCESS) => {}
        opened => return opened.map(File::from),
    }
    let bits = Mode::from_raw_mode(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode & MODE_BITS);
    chmodat(dir, name, bits | Mode::RUSR, AtFlags::empty())?;
    let file = open()?;
    fchmod(&file, bits)?;
    Ok(File::from(file))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileExt, PermissionsExt};

    use rustix::fs::CWD;

    use super::*;
    use crate::protocol::failure::Reason;
    use crate::protocol::final_name::{Committed, Exists, Lookup};
    use crate::protocol::hash::{ChunkValue, RecordHasher};
    use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta};
    use crate::storage::block::{BlockCount, BlockPool};
    use crate::storage::fs::simulation::staged_path;
    use crate::storage::fs::{FsTarget, Incoming, NetworkThreads};
    use crate::storage::{Commit, Final, Target, Write, look_and_prepare};
    use crate::testing::disk::{incoming, rel_path};
    use crate::testing::host::bound_by_permissions;

    #[test]
    fn files_of_any_size_and_mode_are_read_whole() {
        let temp = tempfile::tempdir().unwrap();
        let dir = openat(CWD, temp.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let path = temp.path().join("0");
        for (size, mode) in [(1, 0o644), (ALIGN, 0), (READ_BYTES, 0o200), (READ_BYTES * 2 + 17, 0o444)] {
            let bytes: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let _ = fs::remove_file(&path);
            fs::write(&path, &bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let mut steps = 0;
            let read = |size: usize, steps: &mut u32| {
                bound_by_permissions(|| root_on_device(&dir, "0", size as u64, || *steps += 1)).unwrap()
            };
            assert_eq!(read(size, &mut steps), Some(blake3::hash(&bytes)));
            assert!(steps > 0);
            assert_eq!(read(size + 1, &mut steps), None, "it is shorter");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode);
        }
    }

    /// A file of one record, and one in pieces; the disk changes the one or the other.
    #[tokio::test]
    async fn a_file_whose_bytes_change_on_the_disk_gets_no_name() {
        for (changed, is_atomic) in [(0, false), (1, false), (1, true), (2, false)] {
            let temp = tempfile::tempdir().unwrap();
            let incoming = Incoming { verify: true, atomic: is_atomic, ..incoming(1, true) };
            let staging = temp.path().join(".towline").join(&incoming.transfer);
            let target = FsTarget::new(temp.path(), incoming, NetworkThreads::new(2)).unwrap();
            let pool = BlockPool::new(1, BlockCount::default());
            let meta = Meta { mode: 0o644, ..Meta::default() };
            let mut commits = Vec::new();
            for (number, whole) in [(0, Some(meta.clone())), (1, None)] {
                let (id, path, kind) =
                    (EntryId(number), rel_path(number.to_string()), Kind::File { size: 5 });
                let entry = Entry { path: path.clone(), meta: meta.clone(), kind, hole_bytes: 0 };
                look_and_prepare(&target, vec![(id, entry)], Exists::Refuse).await.remove(0).unwrap();
                let mut block = pool.acquire().await;
                block[..5].copy_from_slice(b"bytes");
                target.write(vec![Write { id, offset: 0, range: 0..5, whole }], block).await.unwrap();
                let root = Some(blake3::hash(b"bytes"));
                let (kind, exists) = (Final::File { size: 5 }, Exists::Refuse);
                let meta = meta.clone();
                commits.push(Commit { id, path, kind, meta, root, exists });
            }
            if changed < 2 {
                fs::write(staging.join(changed.to_string()), "other").unwrap();
            }
            for (number, committed) in target.commit(commits).await.into_iter().enumerate() {
                match committed.unwrap() {
                    Committed::Done(None) => assert_ne!(number, changed),
                    Committed::Differs(failure) => {
                        assert_eq!((number, failure.reason), (changed, Reason::Verification));
                        assert!(!staging.join(number.to_string()).exists(), "it is still staged");
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!(temp.path().join(number.to_string()).exists(), number != changed && !is_atomic);
            }
        }
    }

    /// What is recorded of it would be taken as it is, without reading it.
    #[tokio::test]
    async fn of_a_file_whose_bytes_change_on_the_disk_no_record_is_kept() {
        const CHUNK_LOG2: u8 = 20;
        const PIECE: usize = 1 << 18;
        let temp = tempfile::tempdir().unwrap();
        let open = |transfer| {
            let incoming = Incoming { verify: true, ..incoming(transfer, true) };
            FsTarget::new(temp.path(), incoming, NetworkThreads::new(2)).unwrap()
        };
        let (id, path, meta) = (EntryId(0), rel_path("file"), Meta { mode: 0o644, ..Meta::default() });
        let (kind, bytes) = (Kind::File { size: 3 << CHUNK_LOG2 }, vec![7; 3 << CHUNK_LOG2]);
        let entry = Entry { path: path.clone(), meta: meta.clone(), kind, hole_bytes: 0 };
        for (transfer, is_changed) in [(1, true), (2, false)] {
            let target = open(transfer);
            let found = look_and_prepare(&target, vec![(id, entry.clone())], Exists::Refuse).await.remove(0);
            assert_eq!(found.unwrap(), Lookup::Free);
            let held = target.held(vec![(id, entry.clone())], CHUNK_LOG2).await.remove(0);
            assert!(held.is_empty(), "{held:?}");
            let pool = BlockPool::new(1, BlockCount::default());
            let mut values = Vec::new();
            for index in 0..3 {
                let mut hasher = RecordHasher::new(3 << CHUNK_LOG2, index << CHUNK_LOG2, 1 << CHUNK_LOG2);
                for offset in ((index << CHUNK_LOG2)..((index + 1) << CHUNK_LOG2)).step_by(PIECE) {
                    let mut block = pool.acquire().await;
                    block[..PIECE].fill(7);
                    hasher.update(&block[..PIECE]);
                    let write = Write { id, offset, range: 0..PIECE, whole: None };
                    target.write(vec![write], block).await.unwrap();
                }
                values.push(ChunkValue { index, value: hasher.finish() });
            }
            assert!(target.checkpoint(vec![(id, values)]).await.remove(0).unwrap());
            if is_changed {
                let staged = staged_path(&incoming(transfer, true).sender, &path);
                let staged = fs::File::options().write(true).open(temp.path().join(staged)).unwrap();
                staged.write_all_at(b"other", 100).unwrap();
            }
            let root = Some(blake3::hash(&bytes));
            let kind = Final::File { size: bytes.len() as u64 };
            let meta = meta.clone();
            let commit = Commit { id, path: path.clone(), kind, meta, root, exists: Exists::Refuse };
            let committed = target.commit(vec![commit]).await.remove(0).unwrap();
            assert_eq!(matches!(committed, Committed::Differs(_)), is_changed, "{committed:?}");
        }
    }
}
