//! What is in the directories of a transfer and was not announced: finding it, and noting what is to be removed.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, statat};
use rustix::io::Errno;

use super::attributes::identity_of;
use super::descriptors::patiently;
use super::names_made::has_other_case;
use super::open::open_dir;
use super::sys::disk::{openat, unlinkat};
use super::sys::volume::VolumeId;
use super::watch::{Call, Subject};
use crate::protocol::announced::Announced;
use crate::protocol::path::RelPath;
use crate::protocol::removal::Extra;
use crate::protocol::wire::limits::{EXTRAS_BYTES_MAX, EXTRAS_MAX, PATH_BYTES_MAX};

/// The walk over the directories that were announced, and what is in them.
#[derive(Default)]
struct ExtrasWalk {
    has_begun: bool,
    stack: Vec<Level>,
    /// Directories that could not be read. What is in them stays.
    unread: u64,
}

/// A directory that is being read.
struct Level {
    /// `None` for the target itself.
    path: Option<RelPath>,
    names: Dir,
    volume: VolumeId,
    /// Of a directory that was not announced: it is an extra too, unless something in it has to stay.
    extra: Option<(u64, u64)>,
    holds_more: bool,
}

impl ExtrasWalk {
    /// The next extras, as many as one message takes; empty at the end.
    fn next(
        &mut self,
        call: &Call<'_>,
        top: Option<&OwnedFd>,
        announced: &Announced,
    ) -> Result<Vec<Extra>, Errno> {
        if !self.has_begun {
            self.has_begun = true;
            if let Some(top) = top {
                let fd = open_dir(top, b".", OFlags::RDONLY)?;
                let (volume, names) = (VolumeId::of(&fd)?, Dir::new(fd)?);
                self.stack.push(Level { path: None, names, volume, extra: None, holds_more: false });
            }
        }
        let mut found = Vec::new();
        while found.len() < EXTRAS_MAX
            && bytes(&found) < EXTRAS_BYTES_MAX
            && let Some(level) = self.stack.last_mut()
        {
            // A large tree without extras is no disk that hangs.
            call.step("list", level.path.clone().map_or(Subject::Top, Subject::Path));
            match level.names.read() {
                Some(Ok(entry)) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Some(Ok(entry)) => {
                    let name = entry.file_name().to_owned();
                    match level.look(name.to_bytes(), announced) {
                        Ok(Some(Looked::Extra(extra))) => found.push(extra),
                        Ok(Some(Looked::Level(below))) => self.stack.push(below),
                        Ok(None) => {}
                        // It is another name by now, or may not be read: it stays.
                        Err(_) => {
                            level.holds_more = true;
                            self.unread += 1;
                        }
                    }
                }
                Some(Err(_)) => {
                    level.holds_more = true;
                    self.unread += 1;
                }
                None => found.extend(self.leave()),
            }
        }
        Ok(found)
    }

    /// The end of a directory.
    fn leave(&mut self) -> Option<Extra> {
        let level = self.stack.pop()?;
        match (level.path, level.extra) {
            (Some(path), Some(identity)) if !level.holds_more => Some(Extra { path, is_dir: true, identity }),
            _ => {
                if let Some(above) = self.stack.last_mut() {
                    above.holds_more |= level.holds_more;
                }
                None
            }
        }
    }
}

/// Bytes of their paths.
fn bytes(extras: &[Extra]) -> usize {
    extras.iter().map(|extra| extra.path.as_bytes().len()).sum()
}

enum Looked {
    Extra(Extra),
    Level(Level),
}

impl Level {
    fn look(&mut self, name: &[u8], announced: &Announced) -> Result<Option<Looked>, Errno> {
        let path = match self.path.as_ref().map_or_else(|| RelPath::new(name), |dir| dir.join(name)) {
            Ok(path) => path,
            // Staging, and what no sender could announce.
            Err(_) => {
                self.holds_more = true;
                return Ok(None);
            }
        };
        let holder = self.names.fd()?;
        let stat = statat(holder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let is_announced = announced.has(&path);
        if self.path.is_none() && !is_announced {
            // Nothing was sent that would hold it.
            return Ok(None);
        }
        // It may be what was announced in another spelling.
        if !is_announced && has_other_case(holder, name) == Some(true) {
            self.holds_more = true;
            return Ok(None);
        }
        match (is_announced, is_dir) {
            (true, true) if announced.has_dir(&path) => self.enter(path, name, None),
            (true, _) => {
                self.holds_more = true;
                Ok(None)
            }
            (false, true) => self.enter(path, name, Some(identity_of(&stat))),
            (false, false) => Ok(Some(Looked::Extra(Extra { path, is_dir, identity: identity_of(&stat) }))),
        }
    }

    /// Another mount is not entered, and stays.
    fn enter(
        &mut self,
        path: RelPath,
        name: &[u8],
        extra: Option<(u64, u64)>,
    ) -> Result<Option<Looked>, Errno> {
        let holder = self.names.fd()?;
        let fd = open_dir(holder, name, OFlags::RDONLY)?;
        let volume = VolumeId::of(&fd)?;
        if volume != self.volume {
            self.holds_more = true;
            return Ok(None);
        }
        let names = Dir::new(fd)?;
        Ok(Some(Looked::Level(Level { path: Some(path), names, volume, extra, holds_more: false })))
    }
}

/// The search for extras, and those that are to be removed.
#[derive(Default)]
pub(super) struct ExtrasState {
    announced: Option<Arc<Announced>>,
    walk: ExtrasWalk,
    noted: Option<ToRemove>,
}

/// Names that are to be removed, in a file without a name.
struct ToRemove {
    list: BufWriter<File>,
}

impl ToRemove {
    /// Beside the staged files.
    fn create(staging: &OwnedFd) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let name = "extras";
        let mode = Mode::from_raw_mode(0o600);
        let file = patiently(|| openat(staging, name, flags, mode), || ())?;
        unlinkat(staging, name, AtFlags::empty())?;
        Ok(Self { list: BufWriter::new(File::from(file)) })
    }

    fn add(&mut self, extra: &Extra) -> io::Result<()> {
        let len = u32::try_from(extra.path.as_bytes().len()).map_err(io::Error::other)?;
        self.list.write_all(&len.to_le_bytes())?;
        self.list.write_all(extra.path.as_bytes())?;
        self.list.write_all(&[u8::from(extra.is_dir)])?;
        self.list.write_all(&extra.identity.0.to_le_bytes())?;
        self.list.write_all(&extra.identity.1.to_le_bytes())
    }

    fn into_reader(self) -> io::Result<BufReader<File>> {
        let mut file = self.list.into_inner().map_err(|error| error.into_error())?;
        file.rewind()?;
        Ok(BufReader::new(file))
    }
}

pub(super) fn next_listed(list: &mut impl Read) -> io::Result<Option<Extra>> {
    let mut len = [0; 4];
    match list.read_exact(&mut len) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut path = vec![0; usize::try_from(u32::from_le_bytes(len)).unwrap_or(0).min(PATH_BYTES_MAX)];
    list.read_exact(&mut path)?;
    let path = RelPath::new(&path).map_err(io::Error::other)?;
    let (mut is_dir, mut numbers) = ([0], [[0; 8]; 2]);
    list.read_exact(&mut is_dir)?;
    for number in &mut numbers {
        list.read_exact(number)?;
    }
    let [device, inode] = numbers.map(u64::from_le_bytes);
    Ok(Some(Extra { path, is_dir: is_dir[0] == 1, identity: (device, inode) }))
}

impl ExtrasState {
    /// The next extras below `top`, if that is there, and how many directories could not be read so far.
    pub(super) fn find(
        &mut self,
        call: &Call<'_>,
        top: Option<&OwnedFd>,
        announced: Option<Arc<Announced>>,
    ) -> Result<(Vec<Extra>, u64), Errno> {
        let announced = self.announced.get_or_insert_with(|| announced.unwrap_or_default());
        Ok((self.walk.next(call, top, announced)?, self.walk.unread))
    }

    /// Notes that these are to be removed, in `staging`.
    pub(super) fn note(&mut self, staging: &OwnedFd, extras: &[Extra]) -> io::Result<()> {
        let noted = match &mut self.noted {
            Some(noted) => noted,
            none => none.insert(ToRemove::create(staging)?),
        };
        extras.iter().try_for_each(|extra| noted.add(extra))
    }

    /// What is noted; none if nothing is.
    pub(super) fn take_noted(&mut self) -> io::Result<Option<BufReader<File>>> {
        self.noted.take().map(ToRemove::into_reader).transpose()
    }
}
