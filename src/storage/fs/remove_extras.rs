//! Removes what is in the directories of a transfer and was not announced.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, fstat, statat, utimensat};
use rustix::io::Errno;

use super::attributes::{identity_of, meta_of, timestamps};
use super::dirs::Dirs;
use super::extras::{ExtrasState, next_listed};
use super::open::open_dir;
use super::sys::disk::{mkdirat, renameat_with, unlinkat};
use super::target_disk::TargetDisk;
use super::watch::{Call, Subject};
use crate::protocol::announced::Announced;
use crate::protocol::path::RelPath;
use crate::protocol::removal::{Extra, Removed};
use crate::storage::error::{Result, failed};

impl TargetDisk {
    fn extras_state(&self) -> MutexGuard<'_, ExtrasState> {
        self.extras.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next extras, and how many directories could not be read so far.
    pub(super) fn find_extras(
        &self,
        call: &Call<'_>,
        announced: Option<Arc<Announced>>,
    ) -> Result<(Vec<Extra>, u64)> {
        let top = (!self.is_missing).then_some(&*self.root);
        let found = self.extras_state().find(call, top, announced);
        found.map_err(|errno| failed("list", self.place_of_top(), errno))
    }

    pub(super) fn note_extras(&self, extras: &[Extra]) -> Result<()> {
        let staging = self.volumes.root().staging(&self.incoming);
        let noted = staging.and_then(|staging| self.extras_state().note(staging.dir(), extras));
        noted.map_err(|error| failed("stage a list in", self.place_of_top(), error))
    }

    /// Removes what is noted, or moves it to the same path in `backup`.
    pub(super) fn remove_extras(&self, call: &Call<'_>, backup: Option<&RelPath>) -> Result<Removed> {
        let broken =
            |error| failed("read the list of what is to be removed from", self.place_of_top(), error);
        let Some(mut listed) = self.extras_state().take_noted().map_err(broken)? else {
            return Ok(Removed::default());
        };
        let (mut dirs, mut removed) = (Dirs::for_lookup(), Removed::default());
        while let Some(extra) = next_listed(&mut listed).map_err(broken)? {
            call.step("remove", Subject::Path(extra.path.clone()));
            match self.remove_extra(&mut dirs, &extra, backup) {
                Ok(true) => removed.count += 1,
                Ok(false) => {}
                Err(errno) => {
                    removed.remaining += 1;
                    let why = || format!("{}: {}", extra.path, io::Error::from(errno));
                    removed.example.get_or_insert_with(why);
                }
            }
        }
        Ok(removed)
    }

    fn remove_extra(
        &self,
        dirs: &mut Dirs,
        extra: &Extra,
        backup: Option<&RelPath>,
    ) -> std::result::Result<bool, Errno> {
        let (holder, name) = dirs.parent(&self.root, &extra.path).map_err(|blocked| blocked.errno)?;
        let stat = statat(&holder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_same(&stat, extra) {
            return Err(Errno::STALE);
        }
        let flags = if extra.is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        // The directory keeps its time, which may be that of the source.
        let before = fstat(&holder)?;
        if let Some(backup) = backup.filter(|_| !extra.is_dir) {
            self.move_to_backup(dirs, (&*holder, name), &extra.path, backup)?;
        } else {
            match unlinkat(&holder, name, flags) {
                Ok(()) => {}
                // Something in it stays.
                Err(Errno::NOTEMPTY | Errno::EXIST) if extra.is_dir => return Ok(false),
                Err(errno) => return Err(errno),
            }
        }
        let _ = utimensat(&holder, c".", &timestamps(meta_of(&before).mtime), AtFlags::SYMLINK_NOFOLLOW);
        if self.volumes.syncs_one_by_one() {
            let dir = open_dir(&holder, b".", OFlags::RDONLY)?;
            self.volumes.root().sync(dir.as_fd())?;
        }
        Ok(true)
    }

    /// Moves an extra to the same path in `backup`, whose directories are made.
    fn move_to_backup(
        &self,
        dirs: &mut Dirs,
        (holder, name): (&OwnedFd, &[u8]),
        path: &RelPath,
        backup: &RelPath,
    ) -> std::result::Result<(), Errno> {
        let whole = [backup.as_bytes(), b"/", path.as_bytes()].concat();
        let to = RelPath::new(&whole).map_err(|_| Errno::NAMETOOLONG)?;
        let above: Vec<_> = std::iter::successors(to.parent(), RelPath::parent).collect();
        for dir in above.iter().rev() {
            let (holder, name) = dirs.parent(&self.root, dir).map_err(|blocked| blocked.errno)?;
            match mkdirat(&holder, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        let (there, to_name) = dirs.parent(&self.root, &to).map_err(|blocked| blocked.errno)?;
        renameat_with(holder, name, &there, to_name, RenameFlags::NOREPLACE)
    }
}

/// Whether it is what was found by the walk.
fn is_same(stat: &Stat, extra: &Extra) -> bool {
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    is_dir == extra.is_dir && identity_of(stat) == extra.identity
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::testing::disk::{incoming, rel_path};

    fn disk(dir: &Path) -> TargetDisk {
        TargetDisk::open(&dir.into(), incoming(1, true)).unwrap()
    }

    fn announced(dirs: &[&str], files: &[&str]) -> Arc<Announced> {
        let mut announced = Announced::new([7; 32], 100);
        dirs.iter().for_each(|name| announced.add(&rel_path(name), true));
        files.iter().for_each(|name| announced.add(&rel_path(name), false));
        Arc::new(announced.sorted())
    }

    fn find(disk: &TargetDisk, announced: Arc<Announced>) -> Vec<Extra> {
        let call = disk.watch.begin("list", Subject::Top);
        let (found, unread) = disk.find_extras(&call, Some(announced)).unwrap();
        assert_eq!((unread, disk.find_extras(&call, None).unwrap().0), (0, vec![]));
        found
    }

    /// Each name is a call of its own: a large tree is not taken for a disk that hangs.
    #[test]
    fn a_walk_without_extras_is_many_calls() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("d")).unwrap();
        fs::write(temp.path().join("d/f"), "f").unwrap();
        let disk = disk(temp.path());
        let call = disk.watch.begin("begin", Subject::Top);
        let (found, _) = disk.find_extras(&call, Some(announced(&["d"], &["d/f"]))).unwrap();
        assert_eq!(found, []);
        let longest = disk.watch.hanging(Duration::ZERO).unwrap();
        assert_eq!(longest, ("list", Subject::Top), "the walk has not said that it goes on");
        drop(call);
    }

    fn names(extras: &[Extra]) -> Vec<String> {
        let mut names: Vec<_> = extras.iter().map(|extra| extra.path.to_string()).collect();
        names.sort();
        names
    }

    fn remove(disk: &TargetDisk) -> Removed {
        let call = disk.watch.begin("remove", Subject::Top);
        disk.remove_extras(&call, None).unwrap()
    }

    #[test]
    fn only_what_lies_in_announced_directories_is_found() {
        let temp = tempfile::tempdir().unwrap();
        for dir in ["d/e", "d/old/deep", "beside", "d/.towline"] {
            fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        for file in ["d/a", "d/extra", "d/e/extra", "d/old/deep/x", "beside/x", "top", "d/.towline/x"] {
            fs::write(temp.path().join(file), "x").unwrap();
        }
        symlink("e", temp.path().join("d/link")).unwrap();
        let found = find(&disk(temp.path()), announced(&["d", "d/e"], &["d/a"]));
        let expected = ["d/e/extra", "d/extra", "d/link", "d/old", "d/old/deep", "d/old/deep/x"];
        assert_eq!(names(&found), expected);
        let at = |name: &str| found.iter().position(|extra| extra.path == rel_path(name)).unwrap();
        assert!(at("d/old/deep/x") < at("d/old/deep") && at("d/old/deep") < at("d/old"));
    }

    #[test]
    fn a_directory_above_a_staging_directory_stays() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("d/old/.towline")).unwrap();
        fs::write(temp.path().join("d/old/x"), "x").unwrap();
        let found = find(&disk(temp.path()), announced(&["d"], &[]));
        assert_eq!(names(&found), ["d/old/x"]);
    }

    #[test]
    fn attack_2_nothing_is_removed_through_a_link_that_was_swapped_in() {
        let temp = tempfile::tempdir().unwrap();
        let (inbox, outside) = (temp.path().join("inbox"), temp.path().join("outside"));
        for dir in [inbox.join("d/old"), inbox.join("d/gone"), outside.clone()] {
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("x"), "x").unwrap();
        }
        fs::write(inbox.join("d/file"), "x").unwrap();
        fs::write(temp.path().join("another"), "y").unwrap();
        let disk = disk(&inbox);
        let found = find(&disk, announced(&["d"], &[]));
        assert_eq!(names(&found), ["d/file", "d/gone", "d/gone/x", "d/old", "d/old/x"]);
        disk.note_extras(&found).unwrap();
        fs::rename(inbox.join("d/old"), temp.path().join("away")).unwrap();
        symlink(&outside, inbox.join("d/old")).unwrap();
        fs::rename(temp.path().join("another"), inbox.join("d/file")).unwrap();
        let removed = remove(&disk);
        assert_eq!((removed.count, removed.remaining), (2, 3), "{removed:?}");
        assert!(outside.join("x").exists() && temp.path().join("away/x").exists());
        assert!(inbox.join("d/old").is_symlink() && inbox.join("d/file").exists());
        assert!(!inbox.join("d/gone").exists());
    }
}
