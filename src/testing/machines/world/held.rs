//! Chunks that an earlier transfer left, and the claims of them.

use super::{Record, World, WorldEvent, changed};
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::engine::receiver::BeginClaim;
use crate::protocol::engine::sender::Parcel;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::hash::ChunkValue;
use crate::protocol::wire::entry::{Entry, EntryId};
use crate::testing::machines::tree::{CHUNK_LOG2, Content};

impl World {
    /// The disk says what an earlier transfer left: some chunks of the source as it is, and some of another version.
    pub(super) fn recall(&mut self, id: EntryId, entry: &Entry) {
        let mut held = ChunkSet::default();
        if self.random.percent(self.conditions.held_percent) {
            let content = self.content(id);
            for index in 0..content.size.div_ceil(1 << CHUNK_LOG2) {
                if self.random.percent(60) {
                    held.insert(index..index + 1);
                    let is_old = self.random.percent(25);
                    let fill = if is_old { content.fill.wrapping_add(1) } else { content.fill };
                    let offset = index << CHUNK_LOG2;
                    let len = (content.size - offset).min(1 << CHUNK_LOG2);
                    let record = Record { id, offset, len, content: Content { fill, ..content } };
                    self.staged.entry(id).or_default().insert(offset, record);
                }
            }
        }
        assert!(held.is_empty() || entry.is_resumable(CHUNK_LOG2));
        self.receiver.held(id, held);
    }

    /// Claim `.1` of a parcel begins at the receiver. Once all have begun, they are compared.
    pub(super) fn on_claim(&mut self, number: u64, at: usize) -> Result<(), Failure> {
        let Some(record) = self.streams[&number].records.get(at).cloned() else {
            self.compare(number)?;
            let delay = self.delay();
            self.at(delay, WorldEvent::Answer(number, Ok(())));
            return Ok(());
        };
        let mut next = at + 1;
        match self.receiver.begin_claim(record.id, record.offset, record.len) {
            Ok(BeginClaim::Compare(index)) => {
                assert_eq!(index, record.offset >> CHUNK_LOG2);
                self.streams.get_mut(&number).unwrap().unwritten.push(record);
            }
            Ok(BeginClaim::Matches) => self.streams.get_mut(&number).unwrap().matched |= 1 << at,
            Ok(BeginClaim::Differs) => {}
            Ok(BeginClaim::Wait) => next = at,
            Err(failure) if matches!(failure.reason, Reason::TransferEnded | Reason::TransferFailed) => {
                self.streams.get_mut(&number).unwrap().unwritten.clear();
                let delay = self.delay();
                self.at(delay, WorldEvent::Answer(number, Err(failure.reason)));
                return Ok(());
            }
            Err(failure) => return Err(failure),
        }
        let delay = self.delay();
        self.at(delay, WorldEvent::Record(number, next));
        Ok(())
    }

    /// Compares the claims of a parcel that have begun. What has begun is compared even if the answer cannot be sent.
    pub(super) fn compare(&mut self, number: u64) -> Result<(), Failure> {
        let stream = self.streams.get_mut(&number).unwrap();
        for claim in std::mem::take(&mut stream.unwritten) {
            let place = stream.records.iter().position(|record| record.offset == claim.offset).unwrap();
            let value = claim.content.value(claim.offset, claim.len);
            let there = self.staged.get(&claim.id).and_then(|staged| staged.get(&claim.offset));
            let is_same = there.is_some_and(|there| there.content == claim.content);
            stream.matched |= u64::from(is_same) << place;
            let chunk = ChunkValue { index: claim.offset >> CHUNK_LOG2, value };
            self.receiver.claimed(claim.id, chunk, is_same)?;
        }
        Ok(())
    }

    pub(super) fn send_claims(&mut self, id: EntryId, chunks: &[u64]) -> Vec<Record> {
        let content = self.content(id);
        let record = |index: &u64| {
            let offset = index << CHUNK_LOG2;
            Record { id, offset, len: (content.size - offset).min(1 << CHUNK_LOG2), content }
        };
        chunks.iter().map(record).collect()
    }

    /// The sender has the answer to its claims.
    pub(super) fn on_matched(
        &mut self,
        parcel: &Parcel,
        values: &[(EntryId, [u8; 32])],
        matched: u64,
    ) -> Result<(), Failure> {
        let Parcel::Claims { id, chunks } = parcel else { panic!("{parcel:?} has no claims") };
        if self.random.percent(self.conditions.changing_percent) {
            self.sender.abandon(*id, changed());
        }
        self.sender.claims_answered(*id, chunks, values, matched, self.now)
    }
}
