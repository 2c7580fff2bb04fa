//! Compares claims with what an earlier transfer left on the disk.

use crate::protocol::engine::receiver::BeginClaim;
use crate::protocol::failure::Failure;
use crate::protocol::hash::ChunkValue;
use crate::protocol::wire::entry::EntryId;
use crate::session::receive::shared::Receiving;
use crate::storage::Target;

/// A claim as it came: a chunk, its length and its chaining value.
pub(super) struct Claim {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) value: [u8; 32],
}

/// Compares the claims of one parcel, which are in order and no more than bits. Bit `n` says whether claim `n` is true.
///
/// # Errors
///
/// As `Receiver::begin_claim`.
pub(super) async fn compare_claims<T: Target>(
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
