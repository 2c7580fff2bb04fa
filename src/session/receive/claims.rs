//! Compares claims with what an earlier transfer left on the disk.

use crate::protocol::engine::receiver::BeginClaim;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::hash::ChunkValue;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::CLAIMS_MAX;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::record::{RecordHeader, RecordKind};
use crate::session::receive::parcel::{IncomingParcel, NotAcked};
use crate::session::receive::shared::Receiving;
use crate::storage::Target;
use crate::transport::RecvStream;

/// A claim as it came: a chunk, its length and its chaining value.
struct Claim {
    offset: u64,
    len: u64,
    value: [u8; 32],
}

/// Compares the claims of one parcel, which are in order and no more than bits. Bit `n` says whether claim `n` is true.
///
/// # Errors
///
/// As `Receiver::begin_claim`.
async fn compare_claims<T: Target>(
    shared: &Receiving<T>,
    id: EntryId,
    claims: &[Claim],
) -> Result<u64, Failure> {
    let mut matched = 0;
    let (mut places, mut chunks) = (Vec::new(), Vec::new());
    for (place, claim) in claims.iter().enumerate() {
        match begin(shared, id, claim).await? {
            BeginClaim::Compare(index) => {
                places.push(place);
                chunks.push(ChunkValue { index, value: claim.value });
            }
            BeginClaim::Matches => matched |= 1 << place,
            BeginClaim::Differs | BeginClaim::Wait => {}
        }
    }
    let found = shared.writing.during(shared.target.holds(id, chunks.clone())).await;
    shared.with_machine(|machine| {
        for ((place, chunk), is_same) in places.into_iter().zip(chunks).zip(found) {
            matched |= u64::from(is_same) << place;
            machine.claimed(id, chunk, is_same)?;
        }
        Ok(())
    })?;
    shared.released.notify_waiters();
    Ok(matched)
}

/// What to do with a claim, once its chunk is on no other stream.
async fn begin<T>(shared: &Receiving<T>, id: EntryId, claim: &Claim) -> Result<BeginClaim, Failure> {
    loop {
        let released = shared.released.notified();
        tokio::pin!(released);
        released.as_mut().enable();
        match shared.machine().begin_claim(id, claim.offset, claim.len)? {
            BeginClaim::Wait => {}
            begin => return Ok(begin),
        }
        released.await;
    }
}

impl<T: Target, R: RecvStream> IncomingParcel<T, R> {
    /// Receives a parcel of claims, which begins with `header`.
    pub(super) async fn claims(&mut self, mut header: RecordHeader) -> Result<Message, NotAcked> {
        let id = header.id;
        if self.records > 0 || !self.gathered.pieces.is_empty() {
            return Err(Failure::protocol("a parcel has records and claims").into());
        }
        let mut claims: Vec<Claim> = Vec::new();
        loop {
            let is_next = claims.last().is_none_or(|last| last.offset < header.offset);
            if header.kind != RecordKind::Claim || header.id != id || !is_next || claims.len() == CLAIMS_MAX {
                return Err(Failure::protocol("a parcel of claims has something else in it").into());
            }
            let (offset, len, value) = (header.offset, header.len, self.trailer().await?);
            claims.push(Claim { offset, len, value });
            match self.header().await? {
                Some(next) => header = next,
                None => break,
            }
        }
        let compared = compare_claims(&self.shared, id, &claims).await;
        compared.map(Message::Matched).map_err(|failure| match failure.reason {
            reason @ (Reason::TransferEnded | Reason::TransferFailed) => NotAcked::NotTaken(reason),
            _ => NotAcked::Failed(failure),
        })
    }
}
