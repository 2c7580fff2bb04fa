//! A disk whose power can fail.
//!
//! A thread can [install](SimulatedDisk::install) such a disk over a directory. The calls of that thread
//! (`simulated.rs`) then do what they say in the real directory, which stands for what the kernel has in memory. The
//! simulated disk notes what of it a device would have: what was synced. When the power fails, it changes the directory
//! to what a disk might hold: of the changes that no sync has covered, some are there, some are not, and writes are torn.
//!
//! What it assumes is what ext4, XFS and btrfs keep: a rename is there or not, and never half; a change of a name is not
//! there without the changes of the same names before it; a directory whose sync succeeded has its own name.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::mem;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Stat, statat};
use rustix::io::Errno;

const SECTOR_BYTES: u64 = 512;

thread_local! {
    static DISK: RefCell<Option<SimulatedDisk>> = const { RefCell::new(None) };
}

/// A name in a directory.
pub(super) type Name = (usize, Vec<u8>);

/// What happens to the calls of one start of the program; each number counts calls.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// From then on no call does anything: the program was killed, or the power has failed.
    pub(crate) dies_at: Option<u64>,
    /// After so many ranges were made zeros, the same.
    pub(crate) dies_behind_zeros: Option<u64>,
    /// From then on the disk is full.
    pub(crate) full_at: Option<u64>,
    /// The next sync after that fails.
    pub(crate) sync_fails_at: Option<u64>,
    /// No rename to a free name alone.
    pub(crate) lacks_rename: bool,
}

/// A disk over a directory.
pub(crate) struct SimulatedDisk {
    top: PathBuf,
    /// Holds what has no name.
    attic: PathBuf,
    random: u64,
    pub(super) boot: u64,
    pub(super) numbers: HashMap<u64, usize>,
    pub(super) nodes: Vec<Node>,
    /// As the kernel has them.
    pub(super) names: BTreeMap<Name, usize>,
    /// As the device has them.
    pub(super) synced_names: BTreeMap<Name, usize>,
    /// Changes from those to these.
    pub(super) renames: Vec<NameChange>,
    pub(super) faults: Faults,
    calls: u64,
    pub(super) is_dead: bool,
    /// All calls, in short.
    history: blake3::Hasher,
}

/// One change of names: each has something else under it from now on, or nothing.
#[derive(Debug, Clone)]
pub(super) struct NameChange(Vec<(Name, Option<usize>)>);

#[derive(Debug)]
pub(super) struct Node {
    inode: u64,
    kind: FileType,
    /// What the device has of a file.
    synced: Vec<u8>,
    /// What was changed since.
    pub(super) changes: Vec<Change>,
    /// A sync has failed, so the kernel may have bytes that never get to the device.
    has_lost: bool,
}

#[derive(Debug)]
pub(super) enum Change {
    Write(u64, Vec<u8>),
    Zeros(Range<u64>),
    Len(u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Write(usize),
    /// Takes space.
    Make,
    Change,
    Sync,
}

/// How much of a write is done, and how the call ends.
pub(super) struct Permit {
    pub(super) bytes: usize,
    pub(super) result: Result<(), Errno>,
}

pub(super) fn with<T>(work: impl FnOnce(&mut SimulatedDisk) -> T) -> T {
    DISK.with_borrow_mut(|disk| work(disk.as_mut().expect("no simulated disk")))
}

/// Whether this thread has a simulated disk.
pub(crate) fn is_simulated() -> bool {
    DISK.with_borrow(Option::is_some)
}

/// `None` without a simulated disk.
pub(super) fn ask(call: Call, about: &[u8]) -> Option<Permit> {
    is_simulated().then(|| with(|disk| disk.permit(call, about)))
}

impl SimulatedDisk {
    /// Gives this thread a disk that holds what is in `top`. What loses its name is kept in the directory `attic`, on
    /// the same file system.
    pub(crate) fn install(top: &Path, attic: &Path, seed: u64) {
        let mut disk = Self {
            top: top.to_owned(),
            attic: attic.to_owned(),
            random: seed,
            boot: 1,
            numbers: HashMap::new(),
            nodes: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            renames: Vec::new(),
            faults: Faults::default(),
            calls: 0,
            is_dead: false,
            history: blake3::Hasher::new(),
        };
        disk.node(&statat(CWD, top, AtFlags::empty()).unwrap());
        disk.find(top, 0);
        disk.synced_names = disk.names.clone();
        DISK.set(Some(disk));
    }

    /// Takes the disk from this thread.
    pub(crate) fn remove() {
        DISK.set(None);
    }

    /// The program starts, and its calls have `faults`.
    pub(crate) fn start(faults: Faults) {
        with(|disk| {
            disk.faults = faults;
            disk.calls = 0;
            disk.is_dead = false;
        });
    }

    /// From now on no call does anything.
    pub(crate) fn kill() {
        with(|disk| disk.is_dead = true);
    }

    /// Whether the program was killed.
    pub(crate) fn is_dead() -> bool {
        with(|disk| disk.is_dead)
    }

    /// A hash of all calls so far.
    pub(crate) fn history() -> blake3::Hash {
        with(|disk| disk.history.finalize())
    }

    /// The power fails; the system starts anew.
    pub(crate) fn cut_power() {
        with(|disk| {
            disk.lose_names();
            disk.lose_data();
            disk.rebuild();
            disk.boot += 1;
        });
    }

    /// What the device has for sure under `path`; `None` if it may have nothing, or something else than a file.
    pub(crate) fn synced_file(path: &[u8]) -> Option<Vec<u8>> {
        with(|disk| {
            let is_certain = |name: &Name| {
                !disk.renames.iter().any(|change| change.0.iter().any(|(changed, _)| changed == name))
            };
            let mut at = 0;
            for part in path.split(|byte| *byte == b'/') {
                let name = (at, part.to_vec());
                at = *disk.synced_names.get(&name).filter(|_| is_certain(&name))?;
            }
            let node = &disk.nodes[at];
            (node.kind == FileType::RegularFile && node.changes.is_empty()).then(|| node.synced.clone())
        })
    }

    /// Compares the directory with what the calls of this file have made of it.
    pub(crate) fn check() {
        with(|disk| {
            let (noted, nodes) = (mem::take(&mut disk.names), disk.nodes.len());
            let top = disk.top.clone();
            disk.find(&top, 0);
            assert_eq!(disk.names, noted, "names were changed by calls that are not in `disk.rs`");
            assert_eq!(disk.nodes.len(), nodes);
            for (path, number) in disk.paths() {
                let node = &disk.nodes[number];
                if node.kind == FileType::RegularFile && !node.has_lost {
                    let mut bytes = node.synced.clone();
                    node.changes.iter().for_each(|change| change.apply(&mut bytes));
                    assert!(fs::read(&path).unwrap() == bytes, "{path:?} was changed by other calls");
                }
            }
        });
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random() % end
    }

    pub(super) fn permit(&mut self, call: Call, about: &[u8]) -> Permit {
        let len = if let Call::Write(len) = call { len } else { 0 };
        if self.is_dead {
            return Permit { bytes: 0, result: Err(Errno::IO) };
        }
        self.calls += 1;
        self.history.update(&self.calls.to_be_bytes());
        self.history.update(about);
        let is_after = |at: Option<u64>| at.is_some_and(|at| self.calls >= at);
        let takes_space = matches!(call, Call::Write(_) | Call::Make);
        let result = if is_after(self.faults.dies_at) {
            self.is_dead = true;
            Err(Errno::IO)
        } else if takes_space && is_after(self.faults.full_at) {
            Err(Errno::NOSPC)
        } else if call == Call::Sync && is_after(self.faults.sync_fails_at) {
            self.faults.sync_fails_at = None;
            Err(Errno::IO)
        } else {
            Ok(())
        };
        let part = usize::try_from(self.below(len as u64 + 1)).unwrap();
        Permit { bytes: if result.is_ok() { len } else { part }, result }
    }

    /// A range was made zeros.
    pub(super) fn made_zeros(&mut self) {
        if let Some(left) = &mut self.faults.dies_behind_zeros {
            *left -= 1;
            self.is_dead |= *left == 0;
        }
    }

    pub(super) fn node(&mut self, stat: &Stat) -> usize {
        let next = self.nodes.len();
        let number = *self.numbers.entry(stat.st_ino).or_insert(next);
        if number == next {
            let kind = FileType::from_raw_mode(stat.st_mode);
            self.nodes.push(Node {
                inode: stat.st_ino,
                kind,
                synced: Vec::new(),
                changes: Vec::new(),
                has_lost: false,
            });
        }
        number
    }

    /// Notes what is in a directory, and in those below it.
    fn find(&mut self, dir: &Path, number: usize) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let stat = statat(CWD, entry.path(), AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let known = self.nodes.len();
            let found = self.node(&stat);
            self.names.insert((number, entry.file_name().as_bytes().to_vec()), found);
            match self.nodes[found].kind {
                FileType::Directory => self.find(&entry.path(), found),
                FileType::RegularFile if found == known => {
                    self.nodes[found].synced = fs::read(entry.path()).unwrap();
                }
                _ => {}
            }
        }
    }

    /// Everything that has a name: directories before what is in them.
    fn paths(&self) -> Vec<(PathBuf, usize)> {
        let (mut paths, mut at) = (vec![(self.top.clone(), 0)], 0);
        while let Some((dir, number)) = paths.get(at).cloned() {
            for ((_, name), inside) in self.names.range((number, vec![])..(number + 1, vec![])) {
                paths.push((dir.join(std::ffi::OsStr::from_bytes(name)), *inside));
            }
            at += 1;
        }
        paths.remove(0);
        paths
    }

    pub(super) fn rename(&mut self, changes: Vec<(Name, Option<usize>)>) {
        for (name, node) in &changes {
            match node {
                Some(node) => self.names.insert(name.clone(), *node),
                None => self.names.remove(name),
            };
        }
        self.renames.push(NameChange(changes));
    }

    /// Makes the names in a directory durable, and its own.
    fn sync_names(&mut self, dir: usize) {
        let mut named = BTreeSet::from([dir]);
        let mut wanted: BTreeSet<Name> = BTreeSet::new();
        let (mut kept, mut synced) = (Vec::new(), Vec::new());
        for change in mem::take(&mut self.renames).into_iter().rev() {
            // A change needs those before it that are about the same names.
            let is_inside = change.0.iter().any(|(name, _)| name.0 == dir || wanted.contains(name));
            let above = change.0.iter().find(|(_, node)| node.is_some_and(|node| named.contains(&node)));
            named.extend(above.map(|(name, _)| name.0));
            if is_inside || above.is_some() {
                wanted.extend(change.0.iter().map(|(name, _)| name.clone()));
                synced.push(change);
            } else {
                kept.push(change);
            }
        }
        kept.reverse();
        self.renames = kept;
        synced.iter().rev().for_each(|change| change.apply(&mut self.synced_names));
    }

    pub(super) fn sync_node(&mut self, number: usize) {
        match self.nodes[number].kind {
            FileType::Directory => self.sync_names(number),
            _ => self.nodes[number].sync(),
        }
    }

    /// A sync has failed: bytes get to the device or not, and the kernel does not try again. Lengths are not lost.
    pub(super) fn fail_sync(&mut self, number: usize) {
        let changes = mem::take(&mut self.nodes[number].changes);
        self.nodes[number].has_lost |= !changes.is_empty();
        for change in changes {
            let is_lost = self.below(2) == 0;
            let synced = &mut self.nodes[number].synced;
            match change {
                Change::Write(at, bytes) if is_lost => {
                    lengthen(synced, usize::try_from(at).unwrap() + bytes.len());
                }
                Change::Zeros(_) if is_lost => {}
                change => change.apply(synced),
            }
        }
    }

    fn lose_names(&mut self) {
        let (renames, keeps_order) = (mem::take(&mut self.renames), self.below(2) == 0);
        let mut names = mem::take(&mut self.synced_names);
        let mut lost: BTreeSet<Name> = BTreeSet::new();
        let mut is_over = false;
        for change in renames {
            let is_free = |dir: usize| names.range((dir, vec![])..(dir + 1, vec![])).next().is_none();
            let removes_dir = |(name, node): &(Name, Option<usize>)| {
                node.is_none() && names.get(name).is_some_and(|dir| !is_free(*dir))
            };
            let depends =
                change.0.iter().any(|(name, _)| lost.contains(name)) || change.0.iter().any(removes_dir);
            let is_lost = self.below(100) < 40;
            is_over |= keeps_order && is_lost;
            if depends || is_lost || is_over {
                lost.extend(change.0.into_iter().map(|(name, _)| name));
            } else {
                change.apply(&mut names);
            }
        }
        self.synced_names = names;
    }

    fn lose_data(&mut self) {
        for number in 0..self.nodes.len() {
            for change in mem::take(&mut self.nodes[number].changes) {
                let change = match (self.below(100), change) {
                    (..30, _) => continue,
                    (30..70, Change::Write(at, bytes)) if !bytes.is_empty() => self.tear(at, &bytes),
                    (_, change) => change,
                };
                change.apply(&mut self.nodes[number].synced);
            }
        }
    }

    /// What is left of a write: its start or its end, at any byte or at a sector.
    fn tear(&mut self, at: u64, bytes: &[u8]) -> Change {
        let len = bytes.len() as u64;
        let mut cut = self.below(len + 1);
        if self.below(2) == 0 {
            cut -= cut.min((at + cut) % SECTOR_BYTES);
        }
        let middle = usize::try_from(cut).unwrap();
        match self.below(3) {
            0 => Change::Write(at + cut, bytes[middle..].to_vec()),
            _ => Change::Write(at, bytes[..middle].to_vec()),
        }
    }

    /// Makes the real directory what the device has.
    fn rebuild(&mut self) {
        let mut paths = self.paths();
        while let Some((path, number)) = paths.pop() {
            let place = self.place(number);
            if place.symlink_metadata().is_ok() {
                fs::remove_file(path).unwrap();
            } else {
                fs::rename(path, place).unwrap();
            }
        }
        self.names = mem::take(&mut self.synced_names);
        let mut placed: HashMap<usize, PathBuf> = HashMap::new();
        for (path, number) in self.paths() {
            match placed.get(&number) {
                Some(first) => fs::hard_link(first, &path).unwrap(),
                None => fs::rename(self.place(number), &path).unwrap(),
            }
            placed.entry(number).or_insert(path);
        }
        let is_reachable = |dir: usize| dir == 0 || placed.contains_key(&dir);
        self.names.retain(|(dir, _), _| is_reachable(*dir));
        self.synced_names = self.names.clone();
        for (number, path) in placed {
            if self.nodes[number].kind == FileType::RegularFile {
                let file = File::options().write(true).open(path).unwrap();
                let before = file.metadata().unwrap().modified().unwrap();
                file.set_len(0).unwrap();
                file.write_all_at(&self.nodes[number].synced, 0).unwrap();
                file.set_modified(before).unwrap();
                self.nodes[number].has_lost = false;
            }
        }
    }

    pub(super) fn place(&self, number: usize) -> PathBuf {
        self.attic.join(self.nodes[number].inode.to_string())
    }

    pub(super) fn has_name(&self, number: usize) -> bool {
        self.names.values().any(|named| *named == number)
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<Name, usize>) {
        for (name, node) in &self.0 {
            match node {
                Some(node) => names.insert(name.clone(), *node),
                None => names.remove(name),
            };
        }
    }
}

impl Node {
    pub(super) fn sync(&mut self) {
        for change in mem::take(&mut self.changes) {
            change.apply(&mut self.synced);
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let size = |n: u64| usize::try_from(n).unwrap();
        match self {
            Self::Write(at, written) => {
                let end = size(*at) + written.len();
                lengthen(bytes, end);
                bytes[size(*at)..end].copy_from_slice(written);
            }
            Self::Zeros(range) => {
                let end = size(range.end).min(bytes.len());
                let start = size(range.start).min(end);
                bytes[start..end].fill(0);
            }
            Self::Len(len) => {
                lengthen(bytes, size(*len));
                bytes.truncate(size(*len));
            }
        }
    }
}

/// Adds zeros. `Vec::resize` adds byte by byte where code is not optimized.
fn lengthen(bytes: &mut Vec<u8>, len: usize) {
    bytes.extend_from_slice(&vec![0; len.saturating_sub(bytes.len())]);
}
