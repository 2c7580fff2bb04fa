//! What is at the two ends of the simulated link: the source, and the disk of the receiver.

use std::collections::BTreeMap;

use super::Record;
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::engine::receiver::Existing;
use crate::protocol::failure::Failure;
use crate::protocol::final_name::{Committed, Lookup};
use crate::protocol::hash::ChunkValue;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, EntryId, Meta, Settled};
use crate::testing::machines::tree::{Content, Random};

/// A write that failed.
pub(in crate::testing::machines) enum WriteFailure {
    /// It ends this entry alone.
    Entry(Failure),
    Transfer(Failure),
}

/// The source and the disk of the receiver. A failure ends the transfer, unless its text says something else.
pub(in crate::testing::machines) trait Ends {
    /// The size of a chunk.
    const CHUNK_LOG2: u8;

    /// What is read of an entry now; a failure ends the entry.
    fn read(&mut self, id: EntryId, entry: &Entry) -> Result<Content, Failure>;

    /// The root of an entry of the source; a failure ends the entry.
    fn source_root(&mut self, id: EntryId, entry: &Entry) -> Result<blake3::Hash, Failure>;

    /// Whether an entry of the source is still what was announced; a failure ends the entry.
    fn verify(&mut self, id: EntryId, entry: &Entry) -> Result<(), Failure>;

    /// Looks up an entry, and prepares for it.
    fn admit(&mut self, id: EntryId, entry: &Entry) -> Result<Lookup, Failure>;

    /// The root of an existing file.
    fn target_root(&mut self, path: &RelPath) -> Result<Existing, Failure>;

    /// The chunks that an earlier transfer left.
    fn recall(&mut self, id: EntryId, entry: &Entry, random: &mut Random) -> ChunkSet;

    /// Whether a chunk that was left is the one of this claim.
    fn holds(&mut self, claim: &Record) -> bool;

    fn write(&mut self, entry: &Entry, record: &Record) -> Result<(), WriteFailure>;

    /// Whether the chunks are durable.
    fn checkpoint(
        &mut self,
        id: EntryId,
        entry: &Entry,
        values: Vec<ChunkValue>,
    ) -> Result<bool, WriteFailure>;

    /// Gives a complete entry its name, or another one if need be.
    fn commit(&mut self, id: EntryId, entry: &Entry, is_beside: bool) -> Result<Committed, Failure>;

    /// Sets the attributes of an existing entry; a failure ends the entry.
    fn update(&mut self, id: EntryId, entry: &Entry) -> Result<bool, Failure>;

    /// A failure ends the entry.
    fn finish_dir(&mut self, path: &RelPath, meta: Option<Meta>) -> Result<(), Failure>;

    fn finish(&mut self) -> Result<(), Failure>;

    fn discard(&mut self, id: EntryId);

    /// An entry has failed alone. What is recorded of it is kept.
    fn give_up(&mut self, id: EntryId);

    /// Somebody else takes one of these names if it is free.
    fn intrude(&mut self, name: RelPath);

    /// Something of an entry is staged.
    fn is_staged(&self, id: EntryId) -> bool;

    /// A tenth of a second has passed.
    fn tick(&mut self, random: &mut Random);

    /// An entry has ended at the sender.
    fn sent(&mut self, settled: &Settled);

    /// Whether this root may be that of the entry.
    fn check_root(&self, settled: &Settled);

    /// What holds when the sender has been told that everything is safe.
    fn check_end(&self, received: &BTreeMap<EntryId, Settled>);
}
