//! Contents, trees and the receiver's disk of the simulator.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::hash::RecordHasher;
use crate::protocol::path::RelPath;
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, Kind, Meta};
use crate::protocol::wire::limits::SMALL_FILE_BYTES_MAX;

pub(super) const CHUNK_LOG2: u8 = 20;
pub(super) const CHUNK: u64 = 1 << CHUNK_LOG2;

/// Sizes around every edge, small ones more often.
const SIZES: [u64; 18] = [
    0,
    1,
    1,
    2,
    777,
    4096,
    100_000,
    SMALL_FILE_BYTES_MAX - 1,
    SMALL_FILE_BYTES_MAX,
    SMALL_FILE_BYTES_MAX + 1,
    CHUNK - 1,
    CHUNK,
    CHUNK + 1,
    2 * CHUNK,
    2 * CHUNK + 1,
    3 * CHUNK - 1,
    4 * CHUNK + SMALL_FILE_BYTES_MAX,
    5 * CHUNK,
];

/// splitmix64.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn micros(&mut self, max: u64) -> Duration {
        Duration::from_micros(self.below(max) + 1)
    }
}

/// The bytes of a file. Each page of it has other ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub(super) fill: u8,
    pub(super) size: u64,
    /// Pieces that differ from those of a version with the same `fill`. Bit `n` is about piece `n`, `n + 8` and so on.
    pub(super) edits: u8,
    /// Pieces that are holes.
    pub(super) holes: u8,
}

/// An edit or a hole covers so much.
pub(super) const PIECE_LOG2: u8 = 16;
const PAGE: usize = 4096;
const PAGE_BYTES: u64 = PAGE as u64;

type Values = HashMap<(Content, u64, u64), [u8; 32]>;

static VALUES: LazyLock<Mutex<Values>> = LazyLock::new(Mutex::default);
const WHOLE: u64 = u64::MAX;

impl Content {
    /// No bytes are the same bytes, whatever they would be.
    pub(super) fn new(fill: u8, size: u64) -> Self {
        Self { fill: if size == 0 { 0 } else { fill }, size, edits: 0, holes: 0 }
    }

    /// The chaining value of a record.
    pub(super) fn value(self, offset: u64, len: u64) -> [u8; 32] {
        *VALUES.lock().unwrap().entry((self, offset, len)).or_insert_with(|| {
            let mut hasher = RecordHasher::new(self.size, offset, len);
            self.feed(offset..offset + len, |bytes| hasher.update(bytes));
            hasher.finish()
        })
    }

    /// The root, by BLAKE3 itself.
    pub(super) fn root(self) -> blake3::Hash {
        let root = *VALUES.lock().unwrap().entry((self, 0, WHOLE)).or_insert_with(|| {
            let mut hasher = blake3::Hasher::new();
            self.feed(0..self.size, |bytes| {
                hasher.update(bytes);
            });
            *hasher.finalize().as_bytes()
        });
        blake3::Hash::from_bytes(root)
    }

    /// The bytes from `range.start` to `range.end`.
    pub(super) fn bytes(self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.feed(range, |more| bytes.extend_from_slice(more));
        bytes
    }

    /// Whether the piece that `offset` is in is a hole.
    pub(super) fn is_hole(self, offset: u64) -> bool {
        self.holes >> ((offset >> PIECE_LOG2) % 8) & 1 == 1
    }

    fn feed(self, range: Range<u64>, mut take: impl FnMut(&[u8])) {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / PAGE_BYTES + 1) * PAGE_BYTES);
            let edit = self.edits >> ((at >> PIECE_LOG2) % 8) & 1;
            let page = u8::try_from((at / PAGE_BYTES) % 256).unwrap();
            // Never zero, which is what a hole has.
            let byte = (self.fill.wrapping_mul(38).wrapping_add(page.wrapping_mul(6)) ^ (edit << 7)) | 1;
            let byte = if self.is_hole(at) { 0 } else { byte };
            take(&[byte; PAGE][..usize::try_from(end - at).unwrap()]);
            at = end;
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    File(Content),
    Dir,
    Link(u8),
}

impl Node {
    fn kind(&self) -> Kind {
        match self {
            Self::File(content) => Kind::File { size: content.size },
            Self::Dir => Kind::Dir,
            Self::Link(target) => Kind::Symlink { target: vec![*target].into() },
        }
    }
}

/// Names and their contents.
pub(super) type Tree = BTreeMap<RelPath, Node>;

pub(super) fn entry(path: &RelPath, kind: Kind) -> Entry {
    Entry { path: path.clone(), meta: Meta::default(), kind, hole_bytes: 0 }
}

pub(super) fn path(path: &str) -> RelPath {
    RelPath::new(path.as_bytes()).unwrap()
}

/// A random tree in walk order, and its contents by name.
pub(super) fn random_source(random: &mut Random) -> (Vec<Entry>, Tree) {
    let (mut walk, mut tree) = (Vec::new(), Tree::new());
    fill_dir(random, None, &mut walk, &mut tree);
    (walk, tree)
}

fn fill_dir(random: &mut Random, dir: Option<&RelPath>, walk: &mut Vec<Entry>, tree: &mut Tree) {
    let depth = dir.map_or(0, |dir| dir.components().count());
    for number in 0..random.below(if depth == 0 { 14 } else { 6 }) {
        let name = format!("n{number}");
        let path = match dir {
            Some(dir) => dir.join(name.as_bytes()).unwrap(),
            None => path(&name),
        };
        let node = match random.below(10) {
            0 | 1 if depth < 3 => Node::Dir,
            2 => Node::Link(b'a' + u8::try_from(random.below(3)).unwrap()),
            _ => random_file(random),
        };
        walk.push(entry(&path, node.kind()));
        tree.insert(path.clone(), node.clone());
        if node == Node::Dir {
            fill_dir(random, Some(&path), walk, tree);
            walk.push(entry(&path, Kind::DirEnd));
        }
    }
}

fn random_file(random: &mut Random) -> Node {
    let size = SIZES[random.index(SIZES.len())];
    Node::File(Content::new(u8::try_from(random.below(3)).unwrap(), size))
}

/// Puts something under `percent` of the names of `source`, of every kind that a policy may meet.
pub(super) fn random_target(random: &mut Random, source: &Tree, percent: u64) -> Tree {
    let mut tree = Tree::new();
    for (path, node) in source {
        if !random.percent(percent) || !make_parents(&mut tree, path) {
            continue;
        }
        let there = match (random.below(6), node) {
            (0..=2, node) => node.clone(),
            (3, Node::File(content)) => Node::File(Content::new(content.fill ^ 1, content.size)),
            (3, _) => Node::Link(b'z'),
            (4, _) => Node::Dir,
            _ => Node::File(Content::new(7, 70_000)),
        };
        tree.insert(path.clone(), there);
    }
    tree
}

/// Makes the directories above `path`; false when something else is there.
fn make_parents(tree: &mut Tree, path: &RelPath) -> bool {
    let Some(parent) = path.parent() else { return true };
    make_parents(tree, &parent) && *tree.entry(parent).or_insert(Node::Dir) == Node::Dir
}

pub(super) fn parents_are_dirs(tree: &Tree, path: &RelPath) -> bool {
    path.parent()
        .is_none_or(|parent| tree.get(&parent) == Some(&Node::Dir) && parents_are_dirs(tree, &parent))
}

fn refused(path: &RelPath) -> Failure {
    let sentence = |path: &str| format!("{path} leads through something else");
    Failure::about(Side::Receiver, Reason::Refused, &Place::below("/t", path), sentence)
}

/// What storage does for an announced entry.
pub(super) fn admit(disk: &mut Tree, entry: &Entry, exists: Exists) -> Lookup {
    if !parents_are_dirs(disk, &entry.path) {
        return Lookup::Refused(refused(&entry.path));
    }
    let Some(there) = disk.get(&entry.path) else {
        if entry.kind == Kind::Dir {
            disk.insert(entry.path.clone(), Node::Dir);
        }
        return Lookup::Free;
    };
    let is_alike = |node: &Node| match (&entry.kind, node) {
        (Kind::File { size }, Node::File(content)) => *size == content.size,
        (kind, node) => node.kind() == *kind,
    };
    let mut numbers: VecDeque<u32> = is_alike(there).then_some(0).into_iter().collect();
    if exists == Exists::Rename && entry.kind != Kind::Dir {
        let beside = (1..).map_while(|number| Some((number, disk.get(&entry.path.numbered(number).ok()?)?)));
        numbers.extend(beside.filter(|(_, node)| is_alike(node)).map(|(number, _)| number));
    }
    // Attributes are not simulated; some equal files have others.
    let is_current = entry.path.name().last().is_some_and(|byte| byte % 2 == 0);
    match (numbers.front(), &entry.kind) {
        (None, _) => Lookup::Conflict,
        (_, Kind::File { .. }) => Lookup::SameSize { numbers, is_current, is_unchanged: false },
        (Some(number), _) => Lookup::Same { number: *number, is_current },
    }
}

/// What storage does for a commit; `is_beside` when it may take another name.
pub(super) fn commit(
    disk: &mut Tree,
    path: &RelPath,
    node: Node,
    exists: Exists,
    is_beside: bool,
) -> Committed {
    if !parents_are_dirs(disk, path) {
        return Committed::Refused(refused(path));
    }
    let name = match (disk.get(path), exists) {
        (None, _) | (Some(Node::File(_) | Node::Link(_)), Exists::Replace) => path.clone(),
        (Some(_), _) if is_beside => {
            (1..).map(|n| path.numbered(n).unwrap()).find(|name| !disk.contains_key(name)).unwrap()
        }
        _ => return Committed::Exists,
    };
    disk.insert(name.clone(), node);
    Committed::Done((name != *path).then_some(name))
}
