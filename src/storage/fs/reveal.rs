//! Giving a set its names, by its log. A process that is killed in the middle leaves the rest to the next one, so each
//! step may have been done before.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags, statat};
use rustix::io::Errno;

use super::dirs::Dirs;
use super::names_made::Folding;
use super::naming::{NotNamed, StagedName};
use super::open::open_dir;
use super::partial_names::PartialName;
use super::set_log::{LoggedMeta, SetReader, SetStep};
use super::sys::disk::unlinkat;
use super::target_disk::TargetDisk;
use super::volumes::{Synced, Volume};
use super::watch::{Call, Subject};
use crate::protocol::final_name::Lookup;
use crate::protocol::not_kept::Aspect;
use crate::protocol::path::{RelPath, STAGING_DIR};
use crate::protocol::wire::entry::{Entry, Kind, Meta};
use crate::storage::error::{Result, StorageError, failed};

/// The staging directory of the set on one file system.
pub(super) struct SetPlace {
    pub(super) volume: Arc<Volume>,
    /// `.towline`, and the directory of the transfer in it.
    pub(super) hub: OwnedFd,
    pub(super) dir: OwnedFd,
}

/// Does every step of a log that counts. Returns the staging directories that it found outside the target's own file
/// system.
pub(super) fn reveal(disk: &TargetDisk, call: &Call<'_>, mut log: SetReader) -> Result<Vec<SetPlace>> {
    let mut revealing = Revealing {
        disk,
        dirs: Dirs::for_sync(),
        folding: Folding::default(),
        places: Vec::new(),
        changed: None,
    };
    let read = |error| failed("read the log of", disk.place_of_top(), error);
    while let Some(step) = log.next().map_err(read)? {
        if let SetStep::Dir { path, .. } | SetStep::Name { path, .. } | SetStep::DirEnd { path, .. } = &step {
            call.step("complete", Subject::Path(path.clone()));
        }
        revealing.step(step)?;
    }
    revealing.sync_changed()?;
    let root = disk.volumes.root();
    Ok(revealing.places.into_iter().filter(|place| !Arc::ptr_eq(&place.volume, root)).collect())
}

struct Revealing<'a> {
    disk: &'a TargetDisk,
    dirs: Dirs,
    folding: Folding,
    places: Vec<SetPlace>,
    /// The directory in which the last name appeared, if it must be synced by itself.
    changed: Option<(Arc<OwnedFd>, Arc<Volume>, RelPath)>,
}

impl Revealing<'_> {
    fn step(&mut self, step: SetStep) -> Result<()> {
        let disk = self.disk;
        match step {
            SetStep::Begin { .. } | SetStep::End { .. } => Ok(()),
            SetStep::Dir { path, mode } => self.dir(path, mode),
            SetStep::Name { id, path, number, replaces, has_partial, is_inside } => {
                let name = &Named { path: &path, number, replaces, has_partial, is_inside };
                self.name(id, name)
            }
            SetStep::Update { path, meta: LoggedMeta(meta), is_link } => {
                let kind = match is_link {
                    true => Kind::Symlink { target: bytes::Bytes::new() },
                    false => Kind::File { size: 0 },
                };
                match disk.update(&mut self.dirs, &Entry { path, meta, kind, hole_bytes: 0 }) {
                    // It is gone since: the user has seen to it.
                    Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
                    updated => updated.map(drop),
                }
            }
            SetStep::DirEnd { path, meta } => {
                self.sync_changed()?;
                disk.finish_dir(&mut self.dirs, &path, meta.as_ref().map(|LoggedMeta(meta)| meta))
            }
        }
    }

    fn dir(&mut self, path: RelPath, mode: u32) -> Result<()> {
        let disk = self.disk;
        let (holder, _) = self.dirs.parent(&disk.root, &path).map_err(|blocked| disk.blocked(blocked))?;
        let meta = Meta { mode, ..Meta::default() };
        let entry = Entry { path, meta, kind: Kind::Dir, hole_bytes: 0 };
        let fails = |error: io::Error| failed("create", disk.place(&entry.path), error);
        match disk.make_dir(&holder, entry.path.name(), &entry).map_err(|errno| fails(errno.into()))? {
            Some(Lookup::Conflict) => Err(fails(Errno::NOTDIR.into())),
            _ => self.note_changed(holder, &entry.path),
        }
    }

    fn name(&mut self, id: u64, named: &Named<'_>) -> Result<()> {
        let disk = self.disk;
        let path = named.path;
        let fails = |error: io::Error| failed("rename to", disk.place(path), error);
        let (holder, _) = self.dirs.parent(&disk.root, path).map_err(|blocked| disk.blocked(blocked))?;
        let volume =
            self.dirs.volume(&disk.root, &disk.volumes, path).map_err(|blocked| disk.blocked(blocked))?;
        if named.is_inside && Arc::ptr_eq(&volume, disk.volumes.root()) {
            return Err(fails(io::Error::other("the file system that was mounted there is missing")));
        }
        // A file that this process has made under another spelling stays.
        let replaces = !(self.may_be_one(&holder, named) && disk.names_made.has(&holder, path));
        let named = &Named { replaces: named.replaces && replaces, ..*named };
        let place = self.place(&volume).map_err(|errno| fails(errno.into()))?;
        let staged = id.to_string();
        let staged = StagedName { dir: &place.dir, name: &staged };
        if let Err(errno) = statat(staged.dir, staged.name, AtFlags::SYMLINK_NOFOLLOW) {
            // It has its name already.
            return if errno == Errno::NOENT { Ok(()) } else { Err(fails(errno.into())) };
        }
        if named.has_partial {
            let partial = PartialName::new(&disk.incoming.sender, path);
            // What another receiver has begun since then is its own.
            if let Ok(Some(_lock)) = partial.lock(&place.hub, false) {
                let _ = partial.remove(&place.hub);
            }
        }
        give(disk, staged, &holder, named).map_err(|errno| fails(errno.into()))?;
        if self.may_be_one(&holder, named) {
            disk.names_made.note(&holder, path);
        }
        self.note_changed(holder, path)
    }

    /// Whether a name that would be replaced may be that of another file of the set in another spelling.
    fn may_be_one(&mut self, holder: &OwnedFd, named: &Named<'_>) -> bool {
        named.replaces && self.folding.concerns(&self.disk.root, &mut self.dirs, holder, named.path)
    }

    /// The staging directory on `volume`.
    fn place(&mut self, volume: &Arc<Volume>) -> std::result::Result<&SetPlace, Errno> {
        let known = self.places.iter().position(|place| Arc::ptr_eq(&place.volume, volume));
        let at = match known {
            Some(at) => at,
            None => {
                let hub = open_dir(volume.top(), STAGING_DIR.as_bytes(), OFlags::RDONLY)?;
                let dir = open_dir(&hub, self.disk.incoming.transfer.as_bytes(), OFlags::RDONLY)?;
                self.places.push(SetPlace { volume: Arc::clone(volume), hub, dir });
                self.places.len() - 1
            }
        };
        Ok(&self.places[at])
    }

    /// A name has appeared in `holder`, which holds `path`.
    fn note_changed(&mut self, holder: Arc<OwnedFd>, path: &RelPath) -> Result<()> {
        let disk = self.disk;
        if !disk.sync || !disk.volumes.may_lack_syncfs() {
            return Ok(());
        }
        let volume =
            self.dirs.volume(&disk.root, &disk.volumes, path).map_err(|blocked| disk.blocked(blocked))?;
        if !volume.lacks_syncfs() {
            return Ok(());
        }
        if self.changed.as_ref().is_some_and(|(_, _, last)| last.parent() != path.parent()) {
            self.sync_changed()?;
        }
        self.changed = Some((holder, volume, path.clone()));
        Ok(())
    }

    fn sync_changed(&mut self) -> Result<()> {
        let Some((holder, volume, path)) = self.changed.take() else { return Ok(()) };
        match volume.sync(&holder) {
            Ok(Synced::Yes) => Ok(()),
            Ok(Synced::Lacking(errno)) => {
                self.disk.note(Aspect::Sync, &path.to_string(), errno);
                Ok(())
            }
            Err(errno) => Err(failed("sync", self.disk.place(&path), errno)),
        }
    }
}

/// The name that an entry is to get.
struct Named<'a> {
    path: &'a RelPath,
    number: u32,
    replaces: bool,
    has_partial: bool,
    is_inside: bool,
}

/// Gives one staged entry its name. If that was taken since the look before the first rename, the entry gets a free
/// name beside it: the set is there, and nothing is lost.
fn give(
    disk: &TargetDisk,
    staged: StagedName<'_>,
    holder: &OwnedFd,
    named: &Named<'_>,
) -> std::result::Result<(), Errno> {
    use crate::protocol::final_name::Exists;

    let other = match named.number {
        0 => named.path.clone(),
        number => named.path.numbered(number).map_err(|_| Errno::NAMETOOLONG)?,
    };
    if !named.replaces && staged.is_also(holder, other.name()) {
        return unlinkat(staged.dir, staged.name, AtFlags::empty());
    }
    let exists = if named.replaces { Exists::Replace } else { Exists::Refuse };
    match staged.give(holder, &other, exists) {
        Ok(_) => return Ok(()),
        Err(NotNamed::Error(errno)) => return Err(errno),
        Err(NotNamed::Exists) => {}
    }
    match staged.give_free(holder, named.path) {
        Ok(beside) => {
            disk.note(Aspect::Name, &other.to_string(), format!("it is under {beside}"));
            Ok(())
        }
        Err(NotNamed::Error(errno)) => Err(errno),
        Err(NotNamed::Exists) => Err(Errno::EXIST),
    }
}

/// The error of a set that waits for its names.
pub(super) fn stuck(error: StorageError) -> StorageError {
    let why =
        format!("{}; an earlier transfer that is all or nothing has to be completed first", error.source);
    StorageError { source: io::Error::new(error.source.kind(), why), ..error }
}
