//! Both ends as directories, by the code that the program has for them.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use super::ground::{Ground, TREE, fingerprint};
use crate::event::{Event, Report, Reporter};
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::engine::receiver::Existing;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::hash::ChunkValue;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta, Outcome, Settled};
use crate::storage::block::{Block, BlockCount, BlockPool};
use crate::storage::fs::simulation::SimulatedDisk;
use crate::storage::fs::{Bounds, FsFile, FsSource, FsTarget, Incoming, NetworkThreads, Version};
use crate::storage::{
    Commit, Final, Source, StorageError, Target, Verdict, Walk, Walked, Write, look_and_prepare, source_roots,
};
use crate::testing::machines::tree::{Content, Random};
use crate::testing::machines::world::Record;
use crate::testing::machines::world::ends::{Ends, WriteFailure};

pub(super) const CHUNK_LOG2: u8 = 16;
pub(super) const SENDER: [u8; 32] = [7; 32];

pub(super) struct Directories {
    ground: Ground,
    source: FsSource,
    target: FsTarget,
    pool: BlockPool,
    files: HashMap<EntryId, FsFile>,
    /// Of the entries, by their numbers.
    paths: Vec<RelPath>,
    /// Files that have arrived, and their final names.
    arrived: Vec<(RelPath, Version, RelPath)>,
    changes_percent: u64,
    warned: Arc<Warned>,
}

/// Whether the receiver has said that it cannot keep a journal, so that an interrupted file may start over.
#[derive(Default)]
struct Warned(AtomicBool);

impl Reporter for Warned {
    fn take(&self, report: Report) {
        self.0.fetch_or(matches!(report.event, Event::Warning { .. }), Relaxed);
    }
}

/// What a future is at once. On a simulated disk none waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a call waits"),
    }
}

impl Directories {
    /// Opens both ends for one attempt, and walks over the source.
    pub(super) fn open(mut ground: Ground, changes_percent: u64) -> (Self, Vec<Entry>) {
        let (threads, warned) = (|| NetworkThreads::new(1), Arc::new(Warned::default()));
        let incoming = Incoming {
            transfer: format!("{:032x}", ground.begin()),
            sender: fingerprint(),
            sync: true,
            atomic: false,
            verify: false,
            privileged: false,
            only_looks: false,
            quota: None,
            bounds: Bounds::default(),
            reporter: Arc::clone(&warned) as Arc<dyn Reporter>,
        };
        let source = FsSource::new(&[ground.source().join(TREE)], threads()).unwrap();
        if ground.moves {
            source.note_found().unwrap();
        }
        let mut walk = source.walk();
        let mut entries = Vec::new();
        loop {
            let more = now(walk.next(100));
            if more.is_empty() {
                break;
            }
            entries.extend(more.into_iter().map(|walked| match walked {
                Walked::Entry(entry) => entry,
                other => panic!("unexpected: {other:?}"),
            }));
        }
        let target = FsTarget::new(&ground.target(), incoming, threads()).unwrap();
        let pool = BlockPool::new(4, BlockCount::default());
        let paths = entries.iter().map(|entry: &Entry| entry.path.clone()).collect();
        let (files, arrived) = (HashMap::new(), Vec::new());
        (Self { ground, source, target, pool, files, paths, arrived, changes_percent, warned }, entries)
    }

    fn block(&self) -> Block {
        now(self.pool.acquire())
    }

    fn path_of(&self, id: EntryId) -> RelPath {
        self.paths[usize::try_from(id.0).unwrap()].clone()
    }

    fn open_source(&mut self, id: EntryId, entry: &Entry) -> Result<(), Failure> {
        if !self.files.contains_key(&id) {
            self.files.insert(id, now(self.source.open(entry.clone()))?);
        }
        Ok(())
    }

    /// The transfer has failed.
    pub(super) fn abort(&mut self) {
        now(self.target.abort());
    }

    /// The transfer is done: a move removes what has arrived. Unless all `is_calm`, the source may change before, and the
    /// sender may be killed.
    pub(super) fn remove_sources(&mut self, random: &mut Random, is_calm: bool) {
        if !self.ground.moves {
            return;
        }
        let mut arrived = std::mem::take(&mut self.arrived);
        if !is_calm && random.percent(30) {
            self.ground.edit(random);
        }
        let is_killed = !is_calm && random.percent(20);
        if is_killed {
            arrived.truncate(random.index(arrived.len() + 1));
        }
        let files = arrived.iter().map(|(path, version, _)| (path.clone(), *version)).collect();
        let (removed, _) = now(self.source.remove(files));
        for ((path, _, name), _) in arrived.iter().zip(removed).filter(|(_, is_removed)| *is_removed) {
            self.ground.removed(path, name);
        }
        if !is_killed {
            now(self.source.remove_dirs()).unwrap();
        }
    }

    /// Closes both ends.
    pub(super) fn leave(self) -> Ground {
        self.ground
    }
}

/// The receiver's disk failed.
fn failure(error: &StorageError) -> Failure {
    error.of_target()
}

fn entry_failure(error: &StorageError) -> Failure {
    if error.is_refusal() { error.refusal() } else { failure(error) }
}

fn changed() -> Failure {
    Failure::on(Side::Sender, Reason::SourceChanged, "it has another size")
}

impl Ends for Directories {
    const CHUNK_LOG2: u8 = CHUNK_LOG2;

    fn read(&mut self, id: EntryId, entry: &Entry) -> Result<Content, Failure> {
        if entry.is_small() {
            let mut batch = now(self.source.read_small(vec![entry.clone()], self.block()));
            let range = batch.files.remove(0)?;
            let content = self.ground.current[&entry.path];
            assert!(batch.block[range] == content.bytes(0..content.size));
            return Ok(content);
        }
        self.open_source(id, entry)?;
        let content = self.ground.current[&entry.path];
        if content.size == entry.size() { Ok(content) } else { Err(changed()) }
    }

    fn source_root(&mut self, _: EntryId, entry: &Entry) -> Result<blake3::Hash, Failure> {
        now(source_roots(&self.source, vec![entry.clone()], self.block())).remove(0)
    }

    fn verify(&mut self, id: EntryId, entry: &Entry) -> Result<(), Failure> {
        self.open_source(id, entry)?;
        match now(self.source.verify(&self.files[&id]))? {
            Verdict::Same => Ok(()),
            Verdict::Longer => Err(changed()),
        }
    }

    fn admit(&mut self, id: EntryId, entry: &Entry) -> Result<Lookup, Failure> {
        let found = now(look_and_prepare(&self.target, vec![(id, entry.clone())], self.ground.exists));
        found.into_iter().next().unwrap().map_err(|error| failure(&error))
    }

    fn target_root(&mut self, path: &RelPath) -> Result<Existing, Failure> {
        let root = now(self.target.roots(vec![path.clone()], self.block())).remove(0);
        root.map(Existing::Root).map_err(|error| failure(&error))
    }

    fn recall(&mut self, id: EntryId, entry: &Entry, _: &mut Random) -> ChunkSet {
        self.ground.resize(&entry.path, entry.size());
        let acked = self.ground.acked(&entry.path);
        let held = now(self.target.held(vec![(id, entry.clone())], CHUNK_LOG2)).remove(0);
        if self.warned.0.load(Relaxed) {
            self.ground.expect_nothing_staged();
        } else if !SimulatedDisk::is_dead() {
            for index in acked {
                assert!(held.contains(index), "chunk {index} of {} was acked and is not held", entry.path);
            }
        }
        held
    }

    fn holds(&mut self, claim: &Record) -> bool {
        let index = claim.offset >> CHUNK_LOG2;
        let chunk = ChunkValue { index, value: claim.content.value(claim.offset, claim.len) };
        let holds = now(self.target.holds(claim.id, vec![chunk])).remove(0);
        if holds {
            let path = self.path_of(claim.id);
            assert!(
                self.ground.is_staged(&path, index, claim.content),
                "chunk {index} of {path} is not there"
            );
            self.ground.staged.insert((path, index), claim.content);
        }
        holds
    }

    fn write(&mut self, entry: &Entry, record: &Record) -> Result<(), WriteFailure> {
        let Record { id, offset, len, content, is_again } = *record;
        self.ground.rewrite(&entry.path, offset >> CHUNK_LOG2, content);
        if len == 0 || (content.is_hole(offset) && !is_again && !entry.is_small()) {
            return Ok(());
        }
        let mut block = self.block();
        let range = 0..usize::try_from(len).unwrap();
        block[range.clone()].copy_from_slice(&content.bytes(offset..offset + len));
        let whole = (len == entry.size()).then_some(entry.meta.clone());
        let written = now(self.target.write(vec![Write { id, offset, range, whole }], block));
        written.map(drop).map_err(|error| {
            let is_of_all = entry.is_small() || error.is_of_all_files();
            if error.is_of_all_files() {
                // A record that cannot be taken back, because the disk is full, costs all records of its file.
                self.ground.forget(&entry.path);
            }
            if is_of_all {
                WriteFailure::Transfer(failure(&error))
            } else {
                WriteFailure::Entry(failure(&error))
            }
        })
    }

    fn checkpoint(
        &mut self,
        id: EntryId,
        entry: &Entry,
        values: Vec<ChunkValue>,
    ) -> Result<bool, WriteFailure> {
        let indexes: Vec<u64> = values.iter().map(|chunk| chunk.index).collect();
        let done = now(self.target.checkpoint(vec![(id, values)])).remove(0);
        let is_durable = done.map_err(|error| match error.is_of_one_entry() {
            true => WriteFailure::Entry(failure(&error)),
            false => WriteFailure::Transfer(failure(&error)),
        })?;
        if self.warned.0.load(Relaxed) {
            self.ground.expect_nothing_staged();
        } else if is_durable && !SimulatedDisk::is_dead() {
            indexes.into_iter().for_each(|index| self.ground.ack(&entry.path, index));
        }
        Ok(is_durable)
    }

    fn commit(&mut self, id: EntryId, entry: &Entry, is_beside: bool) -> Result<Committed, Failure> {
        let kind = match &entry.kind {
            Kind::Symlink { target } => Final::Symlink { target: target.clone() },
            Kind::File { size } => Final::File { size: *size },
            other => panic!("{other:?} is not committed"),
        };
        let exists = match self.ground.exists {
            Exists::Rename if !is_beside => Exists::Refuse,
            other => other,
        };
        let is_file = matches!(kind, Final::File { .. });
        self.ground.begin_naming(&entry.path);
        let (path, meta) = (entry.path.clone(), entry.meta.clone());
        let commit = Commit { id, path, kind, meta, exists, root: None };
        let committed = now(self.target.commit(vec![commit])).remove(0).map_err(|error| failure(&error))?;
        match &committed {
            _ if SimulatedDisk::is_dead() => {}
            Committed::Done(other) if is_file => {
                self.ground.done(&entry.path, other.as_ref().unwrap_or(&entry.path));
            }
            Committed::Exists | Committed::Done(_) => {}
            _ => self.ground.forget(&entry.path),
        }
        Ok(committed)
    }

    fn update(&mut self, _: EntryId, entry: &Entry) -> Result<bool, Failure> {
        now(self.target.update(vec![entry.clone()])).remove(0).map_err(|error| entry_failure(&error))
    }

    fn finish_dir(&mut self, path: &RelPath, meta: Option<Meta>) -> Result<(), Failure> {
        let finished = now(self.target.finish_dirs(vec![(path.clone(), meta)]));
        finished.into_iter().next().unwrap().map_err(|error| entry_failure(&error))
    }

    fn finish(&mut self) -> Result<(), Failure> {
        now(self.target.finish()).map(drop).map_err(|error| failure(&error))
    }

    fn discard(&mut self, id: EntryId) {
        let path = self.path_of(id);
        self.ground.forget(&path);
        now(self.target.discard(id));
    }

    fn give_up(&mut self, id: EntryId) {
        now(self.target.give_up(id));
    }

    fn intrude(&mut self, _: RelPath) {}

    fn is_staged(&self, _: EntryId) -> bool {
        false
    }

    fn tick(&mut self, random: &mut Random) {
        if random.percent(self.changes_percent) {
            self.ground.edit(random);
        }
    }

    fn sent(&mut self, settled: &Settled) {
        let path = &settled.entry.path;
        if !self.ground.moves {
            return;
        }
        let version = self.source.ended(path);
        if let (Outcome::Written, Some(version), Kind::File { .. }) =
            (settled.outcome, version, &settled.entry.kind)
        {
            let name = settled.renamed.as_ref().unwrap_or(path).clone();
            self.arrived.push((path.clone(), version, name));
        }
    }

    fn check_root(&self, settled: &Settled) {
        let root = settled.root.unwrap();
        assert!(self.ground.is_version(&settled.entry.path, root), "{settled:?} is no version");
    }

    fn check_end(&self, _: &BTreeMap<EntryId, Settled>) {}
}
