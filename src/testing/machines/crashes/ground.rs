//! What outlives an attempt: the directories, and what has been promised about them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::directories::{CHUNK_LOG2, SENDER};
use crate::auth::Fingerprint;
use crate::protocol::final_name::Exists;
use crate::protocol::path::{RelPath, STAGING_DIR};
use crate::protocol::wire::limits::SMALL_FILE_BYTES_MAX;
use crate::storage::fs::list_partials;
use crate::storage::fs::simulation::{SimulatedDisk, false_records, staged_path};
use crate::testing::machines::tree::{Content, Random, path};

/// The name of the source.
pub(super) const TREE: &str = "t";
const CHUNK: u64 = 1 << CHUNK_LOG2;
const SMALL_SIZES: [u64; 6] = [0, 1, 777, 4096, 10_000, CHUNK];
/// Of several chunks.
const LARGE_SIZES: [u64; 5] =
    [SMALL_FILE_BYTES_MAX + 1, 5 * CHUNK - 1, 5 * CHUNK, 6 * CHUNK + 4097, 7 * CHUNK];
/// Where the link points to.
const LINK_TARGET: &str = "n0";

/// What the receiver has said about a final name.
struct Promise {
    content: Content,
    /// A newer version may have taken the name since.
    may_be_newer: bool,
}

pub(super) struct Ground {
    dir: TempDir,
    pub(super) exists: Exists,
    /// Sources are removed.
    pub(super) moves: bool,
    /// Attempts so far.
    attempts: u32,
    /// All versions that a file of the source has had.
    versions: BTreeMap<RelPath, Vec<Content>>,
    /// Files of the source now.
    pub(super) current: BTreeMap<RelPath, Content>,
    /// Files that were at the target before.
    foreign: BTreeMap<RelPath, Content>,
    /// Chunks of staged files that are durable, as the receiver has said.
    acked: BTreeMap<(RelPath, u64), Content>,
    /// What was last written to the chunks of staged files.
    pub(super) staged: BTreeMap<(RelPath, u64), Content>,
    named: BTreeMap<RelPath, Promise>,
    /// Files that have got their names in this attempt.
    written: BTreeSet<RelPath>,
    /// Counts changes of the source.
    changes: u64,
}

impl Ground {
    pub(super) fn new(random: &mut Random) -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let exists = match random.below(8) {
            0 => Exists::Refuse,
            1 => Exists::Skip,
            2 => Exists::Rename,
            _ => Exists::Replace,
        };
        let mut ground = Self {
            dir: dir.unwrap(),
            exists,
            moves: random.percent(30),
            attempts: 0,
            versions: BTreeMap::new(),
            current: BTreeMap::new(),
            foreign: BTreeMap::new(),
            acked: BTreeMap::new(),
            staged: BTreeMap::new(),
            named: BTreeMap::new(),
            written: BTreeSet::new(),
            changes: 0,
        };
        for dir in [ground.attic(), ground.target(), ground.source().join(TREE).join("d/e")] {
            fs::create_dir_all(dir).unwrap();
        }
        ground.make_source(random);
        SimulatedDisk::install(&ground.target(), &ground.attic(), random.next());
        ground
    }

    /// Another attempt begins. Returns its number.
    pub(super) fn begin(&mut self) -> u32 {
        self.attempts += 1;
        self.written.clear();
        self.attempts
    }

    fn make_source(&mut self, random: &mut Random) {
        let dirs = [TREE.to_owned(), format!("{TREE}/d"), format!("{TREE}/d/e")];
        for number in 0..1 + random.below(4) {
            let dir = &dirs[random.index(dirs.len())];
            let path = path(&format!("{dir}/n{number}"));
            let size = match random.percent(if number == 0 { 90 } else { 15 }) {
                true => LARGE_SIZES[random.index(LARGE_SIZES.len())],
                false => SMALL_SIZES[random.index(SMALL_SIZES.len())],
            };
            let fill = u8::try_from(10 * number + 1).unwrap();
            self.put(&path, content(random, fill, size));
            if random.percent(15) {
                let before = Content::new(fill + 5, if random.percent(50) { size } else { 5000 });
                let there = self.target().join(os(&path));
                fs::create_dir_all(there.parent().unwrap()).unwrap();
                write(&there, before, 0);
                self.foreign.insert(path, before);
            }
        }
        if random.percent(20) {
            symlink(LINK_TARGET, self.source().join(TREE).join("link")).unwrap();
        }
    }

    pub(super) fn source(&self) -> PathBuf {
        self.dir.path().join("from")
    }

    /// Whether a move has removed all of the source.
    pub(super) fn is_gone(&self) -> bool {
        !self.source().join(TREE).exists()
    }

    pub(super) fn target(&self) -> PathBuf {
        self.dir.path().join("to")
    }

    fn attic(&self) -> PathBuf {
        self.dir.path().join("attic")
    }

    /// Gives a file of the source another version.
    fn put(&mut self, path: &RelPath, content: Content) {
        self.changes += 1;
        write(&self.source().join(os(path)), content, self.changes);
        self.versions.entry(path.clone()).or_default().push(content);
        self.current.insert(path.clone(), content);
    }

    /// Somebody changes a file of the source, and perhaps its size.
    pub(super) fn change_any(&mut self, random: &mut Random) {
        self.edit(random);
        if let Some((path, content)) = self.any(random)
            && random.percent(30)
        {
            let sizes = if content.size > SMALL_FILE_BYTES_MAX { &LARGE_SIZES[..] } else { &SMALL_SIZES };
            let size = sizes[random.index(sizes.len())];
            self.put(&path, Content { size, ..content });
        }
    }

    /// Somebody changes bytes of a file of the source.
    pub(super) fn edit(&mut self, random: &mut Random) {
        let Some((path, content)) = self.any(random) else { return };
        let next = match random.below(6) {
            0 => Content { fill: content.fill + 1, ..content },
            1 => Content { holes: some_bits(random), ..content },
            _ => Content { edits: some_bits(random), ..content },
        };
        self.put(&path, next);
    }

    fn any(&self, random: &mut Random) -> Option<(RelPath, Content)> {
        let count = self.current.len();
        let (path, content) = self.current.iter().nth(random.index(count.max(1)))?;
        Some((path.clone(), *content))
    }

    /// The receiver has said that chunks are durable.
    pub(super) fn ack(&mut self, path: &RelPath, index: u64) {
        let key = (path.clone(), index);
        // It may have been given up meanwhile.
        if let Some(content) = self.staged.get(&key) {
            self.acked.insert(key, *content);
        }
    }

    /// The receiver cannot keep a journal, and has said that files may start over.
    pub(super) fn expect_nothing_staged(&mut self) {
        self.acked.clear();
    }

    /// A chunk is about to get other bytes.
    pub(super) fn rewrite(&mut self, path: &RelPath, index: u64, content: Content) {
        self.acked.remove(&(path.clone(), index));
        self.staged.insert((path.clone(), index), content);
    }

    /// Nothing is staged of a file any more.
    pub(super) fn forget(&mut self, path: &RelPath) {
        self.acked.retain(|(acked, _), _| acked != path);
        self.staged.retain(|(staged, _), _| staged != path);
    }

    /// A file is sent that has this size now: what it has no longer needs not be kept.
    pub(super) fn resize(&mut self, path: &RelPath, size: u64) {
        let len = |size: u64, index: u64| size.saturating_sub(index << CHUNK_LOG2).min(CHUNK);
        self.acked.retain(|(acked, index), content| {
            acked != path || len(content.size, *index) == len(size, *index)
        });
    }

    /// Chunks of a file that the receiver has said are durable, and that must be found in staging. What is under a final
    /// name already, after a crash in a commit, may be sent again.
    pub(super) fn acked(&mut self, path: &RelPath) -> Vec<u64> {
        let mut found = BTreeMap::new();
        list(&self.target(), None, &mut found);
        self.acked
            .retain(|(acked, index), content| acked != path || !is_named(&found, path, *index, *content));
        self.acked.keys().filter(|(acked, _)| acked == path).map(|(_, index)| *index).collect()
    }

    /// Whether the staged file has these bytes.
    pub(super) fn is_staged(&self, path: &RelPath, index: u64, content: Content) -> bool {
        let bytes = fs::read(self.target().join(staged_path(&fingerprint(), path))).unwrap_or_default();
        let range = chunk_range(content, index);
        bytes.get(range.start..range.end.min(bytes.len())).is_some_and(|there| {
            let wanted = content.bytes(range.start as u64..range.end as u64);
            // Behind its end, a file may still become longer by a hole.
            there == &wanted[..there.len()] && wanted[there.len()..].iter().all(|byte| *byte == 0)
        })
    }

    /// A file is about to get a final name.
    pub(super) fn begin_naming(&mut self, path: &RelPath) {
        if let Some(promise) = self.named.get_mut(path) {
            promise.may_be_newer = true;
        }
    }

    /// The receiver has said that `path` is durable under its final `name`.
    pub(super) fn done(&mut self, path: &RelPath, name: &RelPath) {
        let bytes = SimulatedDisk::synced_file(name.as_bytes());
        let bytes = bytes.unwrap_or_else(|| panic!("{name} is done, and a power failure could take it away"));
        let version = self.version(path, &bytes);
        let content = version.unwrap_or_else(|| panic!("{name} is done, and no version of its source"));
        self.named.insert(name.clone(), Promise { content, may_be_newer: false });
        self.written.insert(path.clone());
        self.forget(path);
    }

    /// The version of a file of the source that has these bytes.
    fn version(&self, path: &RelPath, bytes: &[u8]) -> Option<Content> {
        let versions = self.versions.get(path).into_iter().flatten();
        versions.copied().find(|version| has_bytes(*version, bytes))
    }

    pub(super) fn is_version(&self, path: &RelPath, root: blake3::Hash) -> bool {
        self.versions[path].iter().any(|version| version.root() == root)
    }

    /// A file of the source has been removed by the program.
    pub(super) fn removed(&mut self, path: &RelPath, name: &RelPath) {
        let content = self.current.remove(path).unwrap();
        let kept = SimulatedDisk::synced_file(name.as_bytes());
        assert!(kept.is_some_and(|bytes| has_bytes(content, &bytes)), "the only copy of {path} is gone");
    }

    /// What holds after each attempt, however it ended.
    pub(super) fn check(&mut self) {
        assert_eq!(false_records(&self.target()), Vec::<String>::new(), "records vouch for other bytes");
        let mut found = BTreeMap::new();
        list(&self.target(), None, &mut found);
        for (name, bytes) in &found {
            let is_foreign = |name| self.foreign.get(name).is_some_and(|content| has_bytes(*content, bytes));
            let is_version =
                self.version(&original(name), bytes).is_some() || self.version(name, bytes).is_some();
            assert!(is_foreign(name) || is_version, "{name} has {} bytes of no version", bytes.len());
        }
        for (name, content) in &self.foreign {
            let is_kept = found.get(name).is_some_and(|bytes| has_bytes(*content, bytes));
            assert!(is_kept || self.exists == Exists::Replace, "{name} was there before and is changed");
        }
        for (name, Promise { content, may_be_newer }) in &self.named {
            let bytes = found.get(name).unwrap_or_else(|| panic!("{name} was done and is gone"));
            let is_newer = *may_be_newer && self.version(&original(name), bytes).is_some();
            assert!(has_bytes(*content, bytes) || is_newer, "{name} was done and is changed");
        }
        for ((path, index), content) in &self.acked {
            assert!(
                is_named(&found, path, *index, *content) || self.is_staged(path, *index, *content),
                "chunk {index} of {path} was acked as durable and is gone"
            );
        }
    }

    /// What holds once an attempt without faults has ended.
    pub(super) fn check_done(&self) {
        for (path, content) in &self.current {
            let mut names = (0..10).map(|n| if n == 0 { path.clone() } else { path.numbered(n).unwrap() });
            let has_it = |name: RelPath| {
                SimulatedDisk::synced_file(name.as_bytes()).is_some_and(|bytes| has_bytes(*content, &bytes))
            };
            let may_differ =
                matches!(self.exists, Exists::Refuse | Exists::Skip) && self.target().join(os(path)).exists();
            assert!(names.any(has_it) || may_differ, "{path} has not arrived");
        }
        for partial in list_partials(&self.target()).unwrap() {
            let path = &partial.path;
            assert!(!self.written.contains(path), "{path} has arrived, and is left in staging too");
        }
        for left in fs::read_dir(self.target().join(STAGING_DIR)).into_iter().flatten() {
            let kind = left.as_ref().unwrap().file_type().unwrap();
            assert!(kind.is_file(), "{left:?} is left in staging");
        }
    }
}

/// Whether a final name of a file has this chunk of it.
fn is_named(found: &BTreeMap<RelPath, Vec<u8>>, path: &RelPath, index: u64, content: Content) -> bool {
    let range = chunk_range(content, index);
    let has_it = |name: RelPath| {
        let there = found.get(&name).and_then(|bytes| bytes.get(range.clone()));
        there.is_some_and(|there| there == content.bytes(range.start as u64..range.end as u64))
    };
    (0..3).map(|n| if n == 0 { path.clone() } else { path.numbered(n).unwrap() }).any(has_it)
}

fn content(random: &mut Random, fill: u8, size: u64) -> Content {
    let holes = if size > SMALL_FILE_BYTES_MAX && random.percent(40) { some_bits(random) } else { 0 };
    Content { holes, ..Content::new(fill, size) }
}

/// A few of eight bits.
fn some_bits(random: &mut Random) -> u8 {
    u8::try_from(random.below(256) & random.below(256)).unwrap()
}

/// Writes a version with a time of its own.
fn write(path: &Path, content: Content, time: u64) {
    let file = File::create(path).unwrap();
    file.write_all_at(&content.bytes(0..content.size), 0).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + time)).unwrap();
}

fn has_bytes(content: Content, bytes: &[u8]) -> bool {
    content.size == bytes.len() as u64 && content.bytes(0..content.size) == bytes
}

fn chunk_range(content: Content, index: u64) -> std::ops::Range<usize> {
    let start = index << CHUNK_LOG2;
    let end = content.size.min(start + CHUNK);
    usize::try_from(start).unwrap()..usize::try_from(end).unwrap()
}

pub(super) fn fingerprint() -> Fingerprint {
    Fingerprint::from_bytes(SENDER)
}

/// The name that a file has at the source.
fn original(name: &RelPath) -> RelPath {
    let bytes = name.as_bytes();
    let end = bytes.iter().position(|byte| *byte == b'~').unwrap_or(bytes.len());
    RelPath::new(&bytes[..end]).unwrap()
}

fn os(path: &RelPath) -> &OsStr {
    OsStr::from_bytes(path.as_bytes())
}

/// All files in a directory, without what is staged.
fn list(dir: &Path, path: Option<&RelPath>, found: &mut BTreeMap<RelPath, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        if name == STAGING_DIR {
            continue;
        }
        let inside = match path {
            Some(path) => path.join(name.as_bytes()).unwrap(),
            None => RelPath::new(name.as_bytes()).unwrap(),
        };
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            list(&entry.path(), Some(&inside), found);
        } else if kind.is_symlink() {
            assert_eq!(fs::read_link(entry.path()).unwrap(), Path::new(LINK_TARGET), "{inside}");
        } else {
            found.insert(inside, fs::read(entry.path()).unwrap());
        }
    }
}
