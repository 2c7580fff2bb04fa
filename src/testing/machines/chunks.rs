//! Messages about chunks: that they are durable, and where a file of unknown size ends.

use std::time::Duration;

use super::tree::{CHUNK, entry, path};
use super::{reason, small, wanted};
use crate::protocol::engine::receiver::{Begin, Receiver, ReceiverAction};
use crate::protocol::engine::sender::{Parcel, Sender, SenderAction};
use crate::protocol::failure::Reason;
use crate::protocol::final_name::{Exists, Lookup};
use crate::protocol::wire::entry::{EntryId, Kind};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::status::Status;

const ZERO: Duration = Duration::ZERO;
const A: EntryId = EntryId(0);

/// A sender and a receiver of a file of unknown size that is wanted.
fn open_ended() -> (Sender, Receiver) {
    let (mut sender, mut receiver) = small(Exists::Refuse);
    receiver.on_manifest(sender.announce(entry(&path("a"), Kind::OpenEnded), ZERO)).unwrap();
    receiver.on_manifest(sender.walk_ended(ZERO)).unwrap();
    receiver.admitted(A, Lookup::Free);
    sender.on_control(Message::Status(A, Status::Want), ZERO).unwrap();
    (sender, receiver)
}

/// [W-29]
#[test]
fn an_open_end_is_read_once_and_in_order() {
    let (mut sender, _) = open_ended();
    let first = Parcel::OpenChunk { id: A, offset: 0 };
    assert_eq!(sender.next_parcel().as_ref(), Some(&first));
    // It had no stream yet.
    sender.parcel_lost(first.clone(), &[], false).unwrap();
    assert_eq!(sender.next_parcel().as_ref(), Some(&first));
    assert_eq!(sender.next_parcel(), None, "the first chunk is being read");
    sender.chunk_read(A, CHUNK, false).unwrap();
    let second = Parcel::OpenChunk { id: A, offset: CHUNK };
    assert_eq!(sender.next_parcel().as_ref(), Some(&second));
    assert!(!sender.are_totals_final());
    sender.chunk_read(A, CHUNK + 3, true).unwrap();
    assert_eq!(sender.next_parcel(), None, "the end is known");
    assert!(sender.are_totals_final());
    assert_eq!(sender.totals().bytes, CHUNK + 3);
    // Bytes of it are read only once.
    sender.parcel_acked(&first, &[(A, [0; 32])], ZERO).unwrap();
    sender.parcel_lost(second, &[], true).unwrap();
    let Some(SenderAction::Control(Message::Abandon(A, reason, _))) = sender.poll() else {
        panic!("it was not abandoned")
    };
    assert_eq!(reason, Reason::SourceUnreadable);
}

/// Its bytes may come from a program that takes its time. Once the last one has come, the usual limit holds.
#[test]
fn a_producer_is_waited_for_as_long_as_its_sender_lives() {
    let (_, mut receiver) = open_ended();
    receiver.begin_record(A, 0, 0).unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    receiver.heard(day);
    receiver.check_stall(day).unwrap();
    receiver.open_record_written(A, 0, 3, [0; 32], true).unwrap();
    assert_eq!(reason(receiver.check_stall(day)), Reason::AckTimeout, "it has no reason to wait any more");
}

/// [S-2] A receiver that skips a large file has found its name taken at the commit, which comes after `Close`.
#[test]
fn attack_14_a_file_that_still_travels_is_not_skipped() {
    let skipped = || Message::Status(A, Status::Skipped);
    let (mut sender, _) = open_ended();
    let first = sender.next_parcel().unwrap();
    sender.chunk_read(A, CHUNK, false).unwrap();
    sender.parcel_acked(&first, &[(A, [0; 32])], ZERO).unwrap();
    assert_eq!(reason(sender.on_control(skipped(), ZERO)), Reason::Protocol, "it is read on");
    let (mut sender, _) = wanted(2 * CHUNK);
    assert_eq!(reason(sender.on_control(skipped(), ZERO)), Reason::Protocol, "nothing of it has come");

    let (mut sender, _) = open_ended();
    let only = sender.next_parcel().unwrap();
    sender.chunk_read(A, 3, true).unwrap();
    sender.parcel_acked(&only, &[(A, [7; 32])], ZERO).unwrap();
    assert_eq!(reason(sender.on_control(skipped(), ZERO)), Reason::Protocol, "it is looked at once more");
    let (mut sender, _) = open_ended();
    let only = sender.next_parcel().unwrap();
    sender.chunk_read(A, 3, true).unwrap();
    sender.parcel_acked(&only, &[(A, [7; 32])], ZERO).unwrap();
    sender.verified(A, false);
    sender.on_control(skipped(), ZERO).unwrap();
    assert_eq!((sender.totals().settled_files, sender.totals().settled_bytes), (1, 3));
}

/// [W-30]
#[test]
fn attack_14_open_ends_that_do_not_fit() {
    for (len, is_last) in [(CHUNK - 1, false), (0, false), (CHUNK + 1, true)] {
        let (_, mut receiver) = open_ended();
        assert_eq!(receiver.begin_record(A, 0, 0), Ok(Begin::TakeOpen(CHUNK)));
        let written = receiver.open_record_written(A, 0, len, [0; 32], is_last);
        assert_eq!(reason(written), Reason::Protocol, "{len} bytes, the last: {is_last}");
    }
    let (_, mut receiver) = open_ended();
    assert_eq!(reason(receiver.begin_record(A, 0, CHUNK)), Reason::Protocol, "it has no length");
    assert_eq!(reason(receiver.begin_record(A, 1, 0)), Reason::Protocol);
    for index in [0, 1] {
        receiver.begin_record(A, index * CHUNK, 0).unwrap();
    }
    receiver.open_record_written(A, CHUNK, 3, [0; 32], true).unwrap();
    assert_eq!(reason(receiver.begin_record(A, 2 * CHUNK, 0)), Reason::Protocol, "it lies behind the end");
    let again = receiver.open_record_written(A, 0, CHUNK, [0; 32], true);
    assert_eq!(reason(again), Reason::Protocol, "a chunk lies behind this end");

    let root = |receiver: &mut Receiver, size| {
        receiver.begin_record(A, 0, 0).unwrap();
        receiver.open_record_written(A, 0, 3, [7; 32], true).unwrap();
        receiver.on_control(Message::Close(A, [7; 32], false, size))
    };
    for size in [None, Some(2), Some(4)] {
        assert_eq!(reason(root(&mut open_ended().1, size)), Reason::Protocol, "closed with {size:?}");
    }
    let (_, mut receiver) = open_ended();
    root(&mut receiver, Some(3)).unwrap();
    let committed = std::iter::from_fn(|| receiver.poll()).find_map(|action| match action {
        ReceiverAction::Commit(_, entry) => Some(entry.kind),
        _ => None,
    });
    assert_eq!(committed, Some(Kind::File { size: 3 }));
}

/// [W-28]
#[test]
fn a_receiver_that_has_synced_all_but_never_said_that_a_file_is_durable() {
    for (said, synced, is_breach) in [(0, true, true), (1, true, true), (2, true, false), (0, false, false)] {
        let (mut sender, _) = wanted(2 * CHUNK);
        sender.walk_ended(ZERO);
        // It does not count before the ack.
        sender.on_control(Message::Durable(A, std::iter::once(0..2).collect()), ZERO).unwrap();
        while let Some(parcel) = sender.next_parcel() {
            sender.parcel_acked(&parcel, &[(A, [0; 32])], ZERO).unwrap();
        }
        sender.verified(A, false);
        for first in 0..said {
            let range = std::iter::once(first..first + 1).collect();
            sender.on_control(Message::Durable(A, range), ZERO).unwrap();
        }
        sender.on_control(Message::Status(A, Status::Done(None)), ZERO).unwrap();
        let ended = sender.on_control(Message::Finished { synced, not_kept: vec![] }, ZERO);
        assert_eq!(ended.is_err(), is_breach, "synced: {synced}");
    }
    let (mut sender, _) = wanted(2 * CHUNK);
    let none = Message::Durable(A, std::iter::once(0..3).collect());
    assert_eq!(reason(sender.on_control(none, ZERO)), Reason::Protocol, "there is no such chunk");
    let (mut announced, _) = small(Exists::Refuse);
    announced.announce(entry(&path("a"), Kind::File { size: 3 }), ZERO);
    let early = Message::Durable(A, std::iter::once(0..1).collect());
    assert_eq!(reason(announced.on_control(early, ZERO)), Reason::Protocol, "nothing was sent");
}
