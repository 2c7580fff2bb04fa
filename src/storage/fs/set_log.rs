//! The log of a set that gets its names all at once: what is to be done for each of its entries, in order.
//!
//! Each line is 16 digits of a BLAKE3 hash over its number and its text, a space, and the step as JSON. The log counts
//! when its last line says that it ends, and for nothing before that.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::incoming::Incoming;
use super::open::open_file;
use crate::protocol::path::RelPath;
use crate::protocol::wire::attributes::Attributes;
use crate::protocol::wire::entry::{Meta, Time};
use crate::protocol::wire::limits::ATTRIBUTE_BYTES_MAX;

/// Its name in the staging directory of its transfer.
pub(super) const SET_LOG: &str = "set";
/// What has that name in the staging directory of another file system of the target.
const ELSEWHERE: &[u8] = b"the log of this set is in a directory above\n";
/// The format.
const VERSION: u32 = 1;
/// Permission bits with which others could have changed the log.
const OTHERS_WRITE: u32 = 0o022;
/// Digits of a line's hash.
const HASH_DIGITS: usize = 16;
/// A line has the digits of two paths and of the attributes of one entry at most.
const LINE_BYTES_MAX: u64 = 16 * 1024 + 2 * ATTRIBUTE_BYTES_MAX as u64;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SetStep {
    /// The first.
    Begin {
        version: u32,
        /// Fingerprint of the sender.
        sender: [u8; 32],
        /// Whether data is synced.
        sync: bool,
        /// Whether the sender may set privileged attributes.
        privileged: bool,
    },
    /// Makes a directory, unless it is there.
    Dir {
        #[serde(with = "hexadecimal")]
        path: RelPath,
        mode: u32,
    },
    /// Gives a staged entry its name.
    Name {
        /// Its name in staging.
        id: u64,
        #[serde(with = "hexadecimal")]
        path: RelPath,
        /// The number of the name beside that, 0 for the path itself.
        number: u32,
        /// Whether it replaces what has the name.
        replaces: bool,
        /// There may be a partial file of it.
        has_partial: bool,
        /// It is not on the file system of the target directory itself.
        is_inside: bool,
    },
    /// Sets mode and time of a file or link that exists.
    Update {
        #[serde(with = "hexadecimal")]
        path: RelPath,
        meta: LoggedMeta,
        is_link: bool,
    },
    /// Ends a directory; with its mode and time, if it gets any.
    DirEnd {
        #[serde(with = "hexadecimal")]
        path: RelPath,
        meta: Option<LoggedMeta>,
    },
    /// The last, behind this many.
    End { steps: u64 },
}

/// Mode, time and attributes as the log has them: the last ones in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "MetaFields", into = "MetaFields")]
pub(super) struct LoggedMeta(pub(super) Meta);

type MetaFields = (u32, i64, u32, Option<String>);

impl From<LoggedMeta> for MetaFields {
    fn from(LoggedMeta(Meta { mode, mtime, attributes }): LoggedMeta) -> Self {
        let attributes = attributes.map(|attributes| HEXLOWER.encode(&attributes.encoded()));
        (mode, mtime.seconds, mtime.nanos, attributes)
    }
}

impl TryFrom<MetaFields> for LoggedMeta {
    type Error = String;

    fn try_from((mode, seconds, nanos, attributes): MetaFields) -> Result<Self, String> {
        let decoded = |digits: String| {
            let bytes = HEXLOWER.decode(digits.as_bytes()).map_err(|error| error.to_string())?;
            Attributes::decode(bytes.into()).map(Arc::new).map_err(|error| error.to_string())
        };
        let attributes = attributes.map(decoded).transpose()?;
        Ok(Self(Meta { mode, mtime: Time { seconds, nanos }, attributes }))
    }
}

/// A path of any bytes in JSON.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::protocol::path::RelPath;

    pub(super) fn serialize<S: Serializer>(path: &RelPath, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&data_encoding::HEXLOWER.encode(path.as_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<RelPath, D::Error> {
        let digits = String::deserialize(from)?;
        let bytes = data_encoding::HEXLOWER.decode(digits.as_bytes()).map_err(de::Error::custom)?;
        RelPath::new(&bytes).map_err(de::Error::custom)
    }
}

/// A log that is being written.
pub(super) struct SetLog {
    file: BufWriter<File>,
    steps: u64,
}

impl SetLog {
    /// Begins the log in `dir`, the staging directory of the transfer.
    pub(super) fn begin(dir: &OwnedFd, incoming: &Incoming) -> io::Result<Self> {
        let mut log = Self { file: BufWriter::new(File::from(make(dir)?)), steps: 0 };
        let Incoming { sender, sync, privileged, .. } = incoming;
        let (sender, sync, privileged) = (*sender.as_bytes(), *sync, *privileged);
        log.add(&SetStep::Begin { version: VERSION, sender, sync, privileged })?;
        Ok(log)
    }

    pub(super) fn add(&mut self, step: &SetStep) -> io::Result<()> {
        let text = serde_json::to_string(step)?;
        writeln!(self.file, "{} {text}", hash(self.steps, text.as_bytes()))?;
        self.steps += 1;
        Ok(())
    }

    /// Hands everything to the system, and to the disk if `sync`.
    pub(super) fn flush(&mut self, sync: bool) -> io::Result<()> {
        self.file.flush()?;
        if sync { self.file.get_ref().sync_all() } else { Ok(()) }
    }

    /// Writes the end: from now on the set counts.
    pub(super) fn end(&mut self, sync: bool) -> io::Result<()> {
        // So that the last line is never on the disk without one before it.
        self.flush(sync)?;
        self.add(&SetStep::End { steps: self.steps })?;
        self.flush(sync)
    }
}

/// Says in `dir`, the staging directory on another file system of the target, that its files belong to a set.
pub(super) fn mark_elsewhere(dir: &OwnedFd) -> io::Result<()> {
    match make(dir) {
        Ok(file) => File::from(file).write_all(ELSEWHERE),
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn make(dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, SET_LOG, flags, Mode::RUSR | Mode::WUSR)
}

/// Reads a log from its beginning.
pub(super) struct SetReader {
    lines: BufReader<File>,
    number: u64,
}

impl SetReader {
    /// Opens the log in `dir`.
    pub(super) fn open(dir: impl AsFd) -> Result<Self, Errno> {
        open_file(dir, SET_LOG.as_bytes()).map(|file| Self { lines: BufReader::new(file), number: 0 })
    }

    /// Whether this user has written the log, and nobody else can have.
    pub(super) fn is_own(&self) -> bool {
        let stat = fstat(self.lines.get_ref());
        stat.is_ok_and(|stat| stat.st_uid == geteuid().as_raw() && stat.st_mode & OTHERS_WRITE == 0)
    }

    /// The next step; `None` when there is none, or none that counts.
    pub(super) fn next(&mut self) -> io::Result<Option<SetStep>> {
        let mut line = Vec::new();
        self.lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        let step = line.strip_suffix(b"\n").and_then(|line| step(self.number, line));
        self.number += 1;
        Ok(step)
    }

    /// Reads to the end: what the log is worth.
    fn state(mut self) -> io::Result<SetState> {
        let mut first = [0; ELSEWHERE.len()];
        let beginning = self.lines.fill_buf()?;
        let len = beginning.len().min(first.len());
        first[..len].copy_from_slice(&beginning[..len]);
        if first == ELSEWHERE {
            return Ok(SetState::Elsewhere);
        }
        let Some(SetStep::Begin { version: VERSION, .. }) = self.next()? else {
            return Ok(SetState::Incomplete);
        };
        while let Some(step) = self.next()? {
            if let SetStep::End { steps } = step {
                return Ok(match steps + 1 == self.number {
                    true => SetState::Complete,
                    false => SetState::Incomplete,
                });
            }
        }
        Ok(SetState::Incomplete)
    }
}

/// What a staging directory says about a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetState {
    /// It is of no set.
    None,
    /// The log has no end, so the set gets none of its names.
    Incomplete,
    /// The set gets all of its names.
    Complete,
    /// The log is in another directory.
    Elsewhere,
}

/// What the staging directory `dir` says.
pub(super) fn set_state(dir: impl AsFd) -> io::Result<SetState> {
    match SetReader::open(dir) {
        Ok(log) => log.state(),
        Err(Errno::NOENT) => Ok(SetState::None),
        Err(errno) => Err(errno.into()),
    }
}

fn step(number: u64, line: &[u8]) -> Option<SetStep> {
    let (digits, text) = line.split_at_checked(HASH_DIGITS)?;
    let text = text.strip_prefix(b" ").filter(|text| digits == hash(number, text).as_bytes())?;
    serde_json::from_slice(text).ok()
}

fn hash(number: u64, text: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(text);
    hasher.finalize().to_hex()[..HASH_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::CWD;

    use super::*;
    use crate::testing::disk::incoming;

    fn dir() -> (tempfile::TempDir, OwnedFd) {
        let temp = tempfile::tempdir().unwrap();
        let dir = openat(CWD, temp.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (temp, dir)
    }

    fn meta() -> Meta {
        let attributes = Attributes { special_bits: Some(4), ..Attributes::default() };
        let mtime = Time { seconds: -1, nanos: 999_999_999 };
        Meta { mode: 0o600, mtime, attributes: Some(Arc::new(attributes)) }
    }

    fn steps() -> Vec<SetStep> {
        let path = |bytes: &[u8]| RelPath::new(bytes).unwrap();
        vec![
            SetStep::Dir { path: path(b"d"), mode: 0o755 },
            SetStep::Name {
                id: 7,
                path: path(b"d/\xff\n \""),
                number: 2,
                replaces: false,
                has_partial: true,
                is_inside: false,
            },
            SetStep::Update { path: path(b"u"), meta: LoggedMeta(meta()), is_link: true },
            SetStep::DirEnd { path: path(b"d"), meta: Some(LoggedMeta(meta())) },
        ]
    }

    fn written(dir: &OwnedFd) {
        let mut log = SetLog::begin(dir, &incoming(1, true)).unwrap();
        steps().iter().for_each(|step| log.add(step).unwrap());
        log.end(true).unwrap();
    }

    #[test]
    fn what_is_written_is_read() {
        let (_temp, dir) = dir();
        assert_eq!(set_state(&dir).unwrap(), SetState::None);
        written(&dir);
        assert_eq!(set_state(&dir).unwrap(), SetState::Complete);
        let mut reader = SetReader::open(&dir).unwrap();
        assert_eq!(
            reader.next().unwrap(),
            Some(SetStep::Begin { version: VERSION, sender: [7; 32], sync: true, privileged: false })
        );
        for step in steps() {
            assert_eq!(reader.next().unwrap(), Some(step));
        }
        assert_eq!(reader.next().unwrap(), Some(SetStep::End { steps: 5 }));
    }

    /// One that somebody else could have written vouches for no right.
    #[test]
    fn attack_18_a_log_that_others_can_write_is_not_own() {
        let (temp, dir) = dir();
        written(&dir);
        assert!(SetReader::open(&dir).unwrap().is_own());
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o622);
        fs::set_permissions(temp.path().join(SET_LOG), mode).unwrap();
        assert!(!SetReader::open(&dir).unwrap().is_own());
    }

    #[test]
    fn a_log_that_ends_or_differs_at_any_byte_counts_for_nothing() {
        let (temp, dir) = dir();
        written(&dir);
        let path = temp.path().join(SET_LOG);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(set_state(&dir).unwrap(), SetState::Incomplete, "cut at {at}");
            let mut other = whole.clone();
            other[at] ^= 1;
            fs::write(&path, &other).unwrap();
            assert_eq!(set_state(&dir).unwrap(), SetState::Incomplete, "changed at {at}");
        }
        // Lines in another order, or one that is missing.
        let mut lines: Vec<&[u8]> = whole.split_inclusive(|b| *b == b'\n').collect();
        lines.swap(1, 2);
        fs::write(&path, lines.concat()).unwrap();
        assert_eq!(set_state(&dir).unwrap(), SetState::Incomplete);
    }

    #[test]
    fn attack_18_a_path_out_of_the_target_counts_for_nothing() {
        let (temp, dir) = dir();
        for (path, is_taken) in [("2e2e2f78", false), ("2f78", false), ("78", true)] {
            let text = format!(r#"{{"Dir":{{"path":"{path}","mode":448}}}}"#);
            let line = format!("{} {text}\n", hash(0, text.as_bytes()));
            fs::write(temp.path().join(SET_LOG), line).unwrap();
            let step = SetReader::open(&dir).unwrap().next().unwrap();
            assert_eq!(step.is_some(), is_taken, "{path}");
        }
    }

    #[test]
    fn a_mark_says_that_the_log_is_elsewhere() {
        let (_temp, dir) = dir();
        mark_elsewhere(&dir).unwrap();
        mark_elsewhere(&dir).unwrap();
        assert_eq!(set_state(&dir).unwrap(), SetState::Elsewhere);
    }
}
