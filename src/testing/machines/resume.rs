//! Chunks of an earlier transfer, and checkpoints.

use std::time::Duration;

use super::tree::{CHUNK, entry, path};
use super::{reason, resumed, small, statuses, wanted};
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::engine::receiver::{Begin, BeginClaim, Receiver, ReceiverAction};
use crate::protocol::engine::sender::Parcel;
use crate::protocol::failure::Reason;
use crate::protocol::final_name::{Exists, Lookup};
use crate::protocol::hash::ChunkValue;
use crate::protocol::wire::entry::{EntryId, Kind};
use crate::protocol::wire::limits::{CHUNK_RANGES_MAX, CHUNKS_AHEAD_MAX, CLAIMS_MAX};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::status::Status;

const ZERO: Duration = Duration::ZERO;
const A: EntryId = EntryId(0);

fn write(receiver: &mut Receiver, index: u64) {
    receiver.begin_record(A, index * CHUNK, CHUNK).unwrap();
    receiver.record_written(A, index * CHUNK, CHUNK, [0; 32]).unwrap();
}

/// Checkpoints that have been asked for.
fn checkpoints(receiver: &mut Receiver) -> usize {
    let actions = std::iter::from_fn(|| receiver.poll());
    actions.filter(|action| matches!(action, ReceiverAction::Checkpoint(_))).count()
}

#[test]
fn a_checkpoint_comes_after_some_bytes_or_some_time() {
    let (_, mut receiver) = wanted(1000 * CHUNK);
    (0..63).for_each(|index| write(&mut receiver, index));
    assert_eq!(checkpoints(&mut receiver), 0);
    write(&mut receiver, 63);
    assert_eq!(checkpoints(&mut receiver), 1);
    (64..200).for_each(|index| write(&mut receiver, index));
    assert_eq!(checkpoints(&mut receiver), 0, "one at a time");
    assert_eq!(receiver.begin_checkpoint(A).unwrap().len(), 200);
    write(&mut receiver, 200);
    receiver.checkpointed(A, true);
    let durable = Message::Durable(A, std::iter::once(0..200).collect());
    assert_eq!(statuses(&mut receiver), [durable], "not what was written meanwhile");

    let second = Duration::from_secs(1);
    receiver.checkpoint_due(second.checked_sub(Duration::from_millis(1)).unwrap());
    assert_eq!(checkpoints(&mut receiver), 0);
    receiver.checkpoint_due(second);
    assert_eq!(checkpoints(&mut receiver), 1);
    assert_eq!(receiver.begin_checkpoint(A).unwrap(), [ChunkValue { index: 200, value: [0; 32] }]);
    receiver.checkpointed(A, false);
    assert!(statuses(&mut receiver).is_empty(), "a disk without syncs makes nothing durable");
    receiver.checkpoint_due(10 * second);
    assert_eq!(checkpoints(&mut receiver), 0, "nothing has been written");
}

#[test]
fn values_that_wait_for_a_checkpoint_are_bounded() {
    let (_, mut receiver) = wanted(10_000 * CHUNK);
    let mut index = 0;
    while receiver.begin_record(A, index * CHUNK, CHUNK).unwrap() != Begin::Wait {
        receiver.record_written(A, index * CHUNK, CHUNK, [0; 32]).unwrap();
        index += 1;
    }
    assert_eq!(index, 4096);
    receiver.begin_checkpoint(A).unwrap();
    assert_eq!(receiver.begin_record(A, index * CHUNK, CHUNK), Ok(Begin::Wait), "while it runs");
    receiver.checkpointed(A, true);
    write(&mut receiver, index);
    receiver.on_control(Message::Abandon(A, Reason::SourceChanged, String::new())).unwrap();
    assert_eq!(reason(receiver.begin_claim(A, 0, CHUNK)), Reason::TransferFailed);
}

/// [W-17] Claims keep the same distance as records.
#[test]
fn claims_are_bounded_in_number_and_distance() {
    let chunks = 2 * CHUNKS_AHEAD_MAX as u64;
    let (mut sender, mut receiver) = resumed(chunks * CHUNK, ChunkSet::of(1..chunks));
    assert_eq!(sender.totals().held_bytes, (chunks - 1) * CHUNK);
    let mut claimed = 0;
    let mut late = None;
    while let Some(parcel) = sender.next_parcel() {
        let Parcel::Claims { id, chunks } = parcel else {
            late = Some(parcel);
            continue;
        };
        assert!(chunks.len() <= CLAIMS_MAX);
        for index in &chunks {
            assert_eq!(receiver.begin_claim(id, index * CHUNK, CHUNK), Ok(BeginClaim::Compare(*index)));
            receiver.claimed(id, ChunkValue { index: *index, value: [7; 32] }, true).unwrap();
        }
        claimed += chunks.len();
        let values = vec![(id, [7; 32]); chunks.len()];
        sender.claims_answered(id, &chunks, &values, u64::MAX, ZERO).unwrap();
    }
    assert_eq!(claimed, CHUNKS_AHEAD_MAX, "chunk 0 is missing");
    assert_eq!(late, Some(Parcel::Chunk { id: A, offset: 0, len: CHUNK }));
    for totals in [sender.totals(), receiver.totals()] {
        assert_eq!(totals.resumed_bytes, claimed as u64 * CHUNK);
        assert_eq!(totals.resumed_bytes + totals.held_bytes, (chunks - 1) * CHUNK);
    }
    let behind = CHUNKS_AHEAD_MAX as u64 + 1;
    assert_eq!(reason(receiver.begin_claim(A, behind * CHUNK, CHUNK)), Reason::Protocol, "too far ahead");
}

#[test]
fn most_parcels_carry_data_while_claims_are_compared() {
    let (mut sender, _) = resumed(1000 * CHUNK, ChunkSet::of(0..500));
    let parcels: Vec<_> = (0..8).map(|_| sender.next_parcel().unwrap()).collect();
    let claims = parcels.iter().filter(|parcel| matches!(parcel, Parcel::Claims { .. }));
    assert_eq!(claims.count(), 2);
}

/// What is not told of is written again, holes included.
#[test]
fn a_disk_may_hold_more_ranges_than_a_message() {
    let mut held = ChunkSet::default();
    (0..300).for_each(|n| held.insert(2 * n..2 * n + 1));
    let (_, mut receiver) = small(Exists::Refuse);
    receiver.on_manifest(Message::Entry(entry(&path("a"), Kind::File { size: 1000 * CHUNK }))).unwrap();
    receiver.admitted(A, Lookup::Free);
    receiver.held(A, held);
    let said = statuses(&mut receiver);
    let [Message::Status(A, Status::Resume(told))] = &said[..] else { panic!("{said:?}") };
    assert_eq!(told.len(), CHUNK_RANGES_MAX);
    assert_eq!(receiver.begin_record(A, 512 * CHUNK, CHUNK), Ok(Begin::TakeAgain(1000 * CHUNK)));
    assert_eq!(receiver.begin_record(A, 511 * CHUNK, CHUNK), Ok(Begin::Take(1000 * CHUNK)));
    assert_eq!(receiver.begin_record(A, 0, CHUNK), Ok(Begin::TakeAgain(1000 * CHUNK)), "it was not claimed");
    assert_eq!(reason(receiver.begin_claim(A, 512 * CHUNK, CHUNK)), Reason::Protocol);
}

/// What an earlier transfer left of an entry that is given up stays for the next one, whichever comes first.
#[test]
fn an_entry_may_be_given_up_while_the_disk_looks_for_it() {
    let (_, mut receiver) = small(Exists::Refuse);
    receiver.on_manifest(Message::Entry(entry(&path("a"), Kind::File { size: 2 * CHUNK }))).unwrap();
    receiver.admitted(A, Lookup::Free);
    receiver.on_control(Message::Abandon(A, Reason::SourceChanged, String::new())).unwrap();
    while receiver.poll().is_some() {}
    receiver.held(A, ChunkSet::of(0..2));
    assert_eq!(receiver.poll(), Some(ReceiverAction::GiveUp(A)));
    assert_eq!(receiver.totals().held_bytes, 0);
}
