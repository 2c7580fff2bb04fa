//! Both ends as trees in memory.

use std::collections::{BTreeMap, HashMap};

use super::ends::{Ends, WriteFailure};
use super::{Conditions, Record};
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::engine::receiver::Existing;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::{Committed, Lookup};
use crate::protocol::hash::ChunkValue;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta, Outcome, Settled};
use crate::testing::machines::tree::{self, CHUNK_LOG2, Content, Node, Random, Tree};

pub(in crate::testing::machines) struct Trees {
    pub(in crate::testing::machines) disk: Tree,
    source: Tree,
    conditions: Conditions,
    /// What was on the disk that did not come through the transfer.
    foreign: Tree,
    staged: HashMap<EntryId, BTreeMap<u64, Record>>,
}

impl Trees {
    pub(super) fn new(source: Tree, disk: Tree, conditions: Conditions) -> Self {
        Self { foreign: disk.clone(), disk, source, conditions, staged: HashMap::new() }
    }

    fn content(&self, path: &RelPath) -> Content {
        match self.source[path] {
            Node::File(content) => content,
            ref other => panic!("{other:?} has no content"),
        }
    }

    /// What a commit gives its name to: whole, and of one file.
    fn assemble(&self, id: EntryId, entry: &Entry) -> Node {
        let node = self.source[&entry.path].clone();
        let Node::File(content) = node else { return node };
        let mut end = 0;
        for (offset, record) in self.staged.get(&id).cloned().unwrap_or_default() {
            assert_eq!(offset, end, "a hole in {}", entry.path);
            assert_eq!(record.content, content, "bytes of another file in {}", entry.path);
            end += record.len;
        }
        assert_eq!(end, content.size, "{} was committed before it was whole", entry.path);
        node
    }
}

impl Ends for Trees {
    const CHUNK_LOG2: u8 = CHUNK_LOG2;

    fn read(&mut self, _: EntryId, entry: &Entry) -> Result<Content, Failure> {
        Ok(self.content(&entry.path))
    }

    fn source_root(&mut self, _: EntryId, entry: &Entry) -> Result<blake3::Hash, Failure> {
        Ok(self.content(&entry.path).root())
    }

    fn verify(&mut self, _: EntryId, _: &Entry) -> Result<(), Failure> {
        Ok(())
    }

    fn admit(&mut self, _: EntryId, entry: &Entry) -> Result<Lookup, Failure> {
        Ok(tree::admit(&mut self.disk, entry, self.conditions.exists))
    }

    fn target_root(&mut self, path: &RelPath) -> Result<Existing, Failure> {
        match self.disk.get(path) {
            Some(Node::File(content)) => Ok(Existing::Root(content.root())),
            other => panic!("{other:?} was to be hashed"),
        }
    }

    /// Some chunks of the source as it is, and some of another version.
    fn recall(&mut self, id: EntryId, entry: &Entry, random: &mut Random) -> ChunkSet {
        let mut held = ChunkSet::default();
        if random.percent(self.conditions.held_percent) {
            let content = self.content(&entry.path);
            for index in 0..content.size.div_ceil(1 << CHUNK_LOG2) {
                if random.percent(60) {
                    held.insert(index..index + 1);
                    let is_old = random.percent(25);
                    let fill = if is_old { content.fill.wrapping_add(1) } else { content.fill };
                    let offset = index << CHUNK_LOG2;
                    let len = (content.size - offset).min(1 << CHUNK_LOG2);
                    let record =
                        Record { id, offset, len, content: Content { fill, ..content }, is_again: false };
                    self.staged.entry(id).or_default().insert(offset, record);
                }
            }
        }
        assert!(held.is_empty() || entry.is_resumable(CHUNK_LOG2));
        held
    }

    fn holds(&mut self, claim: &Record) -> bool {
        let there = self.staged.get(&claim.id).and_then(|staged| staged.get(&claim.offset));
        there.is_some_and(|there| there.content == claim.content)
    }

    fn write(&mut self, _: &Entry, record: &Record) -> Result<(), WriteFailure> {
        self.staged.entry(record.id).or_default().insert(record.offset, record.clone());
        Ok(())
    }

    fn checkpoint(&mut self, _: EntryId, _: &Entry, _: Vec<ChunkValue>) -> Result<bool, WriteFailure> {
        Ok(true)
    }

    fn commit(&mut self, id: EntryId, entry: &Entry, is_beside: bool) -> Result<Committed, Failure> {
        let node = self.assemble(id, entry);
        let committed = tree::commit(&mut self.disk, &entry.path, node, self.conditions.exists, is_beside);
        if committed != Committed::Exists {
            self.staged.remove(&id);
        }
        Ok(committed)
    }

    fn update(&mut self, id: EntryId, _: &Entry) -> Result<bool, Failure> {
        Ok(id.0.is_multiple_of(2))
    }

    fn finish_dir(&mut self, path: &RelPath, _: Option<Meta>) -> Result<(), Failure> {
        match self.disk.get(path) {
            Some(Node::Dir) if tree::parents_are_dirs(&self.disk, path) => Ok(()),
            _ => Err(Failure::on(Side::Receiver, Reason::Refused, format!("{path} is no directory"))),
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn discard(&mut self, id: EntryId) {
        self.staged.remove(&id);
    }

    fn give_up(&mut self, id: EntryId) {
        self.staged.remove(&id);
    }

    fn intrude(&mut self, name: RelPath) {
        if !self.disk.contains_key(&name) && tree::parents_are_dirs(&self.disk, &name) {
            let node = Node::File(Content::new(9, 3));
            self.disk.insert(name.clone(), node.clone());
            self.foreign.insert(name, node);
        }
    }

    fn is_staged(&self, id: EntryId) -> bool {
        self.staged.contains_key(&id)
    }

    fn tick(&mut self, _: &mut Random) {}

    fn sent(&mut self, _: &Settled) {}

    fn check_root(&self, settled: &Settled) {
        assert_eq!(settled.root, Some(self.content(&settled.entry.path).root()), "{settled:?}");
    }

    fn check_end(&self, received: &BTreeMap<EntryId, Settled>) {
        let mut expected = self.foreign.clone();
        for settled in received.values() {
            let node = match (settled.outcome, &settled.entry.kind) {
                (Outcome::Written, Kind::DirEnd) => continue,
                (Outcome::Written, _) => self.source[&settled.entry.path].clone(),
                (Outcome::Identical | Outcome::Updated, _) => {
                    let path = &settled.entry.path;
                    let there = settled.renamed.as_ref().unwrap_or(path);
                    assert_eq!(self.disk.get(there), self.source.get(path));
                    continue;
                }
                _ => continue,
            };
            expected.insert(settled.renamed.as_ref().unwrap_or(&settled.entry.path).clone(), node);
        }
        assert_eq!(self.disk, expected);
    }
}
