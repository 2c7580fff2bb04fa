//! Chunks that an earlier transfer left, and the claims of them.

use super::ends::Ends;
use super::{World, WorldEvent, changed};
use crate::protocol::engine::receiver::BeginClaim;
use crate::protocol::engine::sender::Parcel;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::hash::ChunkValue;
use crate::protocol::wire::entry::EntryId;

impl<E: Ends> World<E> {
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
                assert_eq!(index, record.offset >> E::CHUNK_LOG2);
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
            let is_same = self.ends.holds(&claim);
            stream.matched |= u64::from(is_same) << place;
            let chunk = ChunkValue { index: claim.offset >> E::CHUNK_LOG2, value };
            self.receiver.claimed(claim.id, chunk, is_same)?;
        }
        Ok(())
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
