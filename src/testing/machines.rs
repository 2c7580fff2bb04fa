//! The two machines against each other, and each against a peer that breaks the rules; without socket, file or
//! clock.

mod chunks;
mod crashes;
mod extras;
mod hostile;
mod resume;
mod tree;
mod unchanged;
mod unpacks;
mod world;

use std::time::Duration;

use self::tree::{CHUNK, CHUNK_LOG2, Content, Node, entry, path};
use self::world::{Conditions, PATIENCE, TIMEOUT, World};
use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::engine::receiver::{Begin, Receiver, ReceiverAction};
use crate::protocol::engine::sender::{Parcel, Sender, SenderAction};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta, Outcome};
use crate::protocol::wire::limits::{CHUNKS_AHEAD_MAX, OPEN_ENTRIES_MAX};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::status::Status;

/// Number of seeds per simulation, unless `TOWLINE_SEEDS` is set. `TOWLINE_SEEDS=10000 cargo test machines` is a long
/// run; `TOWLINE_SEED=7` repeats a failed one.
const SEEDS: u64 = 100;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn for_each_seed(run: impl Fn(u64)) {
    let seeds = match number("TOWLINE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TOWLINE_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed))) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            panic!("TOWLINE_SEED={seed} fails: {text}");
        }
    }
}

const CALM: Conditions = Conditions {
    exists: Exists::Refuse,
    existing_percent: 0,
    changing_percent: 0,
    intruding_percent: 0,
    losing_percent: 0,
    held_percent: 0,
    disk_max: Duration::from_millis(500),
    delay_max: Duration::from_millis(20),
};

const POLICIES: [Exists; 4] = [Exists::Refuse, Exists::Skip, Exists::Replace, Exists::Rename];

#[test]
fn trees_arrive_however_streams_overtake_each_other() {
    for_each_seed(|seed| {
        let mut world = World::new(seed, CALM);
        world.run().unwrap();
        world.check_end();
        assert!(world.sent.values().all(|settled| settled.outcome == Outcome::Written));
        assert_eq!(world.sender.parcels_on_the_way(), 0);
    });
}

#[test]
fn every_policy_holds_with_anything_under_the_names() {
    for exists in POLICIES {
        for_each_seed(|seed| {
            let mut world = World::new(seed, Conditions { exists, existing_percent: 50, ..CALM });
            world.run().unwrap();
            world.check_end();
            for settled in world.received.values() {
                let is_allowed = match settled.outcome {
                    Outcome::Failed(Reason::TargetExists) => {
                        let there = world.ends.disk.get(&settled.entry.path);
                        exists == Exists::Refuse
                            || settled.entry.kind == Kind::Dir
                            || there == Some(&Node::Dir)
                    }
                    Outcome::Failed(reason) => reason == Reason::Refused,
                    Outcome::Skipped => exists == Exists::Skip,
                    Outcome::Written => settled.renamed.is_none() || exists == Exists::Rename,
                    Outcome::Identical => settled.renamed.is_none() || exists == Exists::Rename,
                    Outcome::Updated => exists == Exists::Replace,
                    Outcome::NotKept | Outcome::Staged | Outcome::Unchanged | Outcome::Planned(_) => false,
                };
                assert!(is_allowed, "{settled:?} with {exists:?}");
            }
        });
    }
}

#[test]
fn a_name_may_be_taken_while_the_bytes_travel() {
    for exists in POLICIES {
        for_each_seed(|seed| {
            let mut world = World::new(seed, Conditions { exists, intruding_percent: 60, ..CALM });
            world.run().unwrap();
            world.check_end();
        });
    }
}

#[test]
fn a_source_that_changes_costs_its_own_file_only() {
    for exists in POLICIES {
        for_each_seed(|seed| {
            let conditions = Conditions { exists, existing_percent: 30, changing_percent: 15, ..CALM };
            let mut world = World::new(seed, conditions);
            world.run().unwrap();
            world.check_end();
        });
    }
}

#[test]
fn a_connection_that_is_lost_takes_nothing_with_it() {
    for exists in POLICIES {
        for_each_seed(|seed| {
            let conditions = Conditions { exists, existing_percent: 20, losing_percent: 50, ..CALM };
            let mut world = World::new(seed, conditions);
            world.run().unwrap();
            world.check_end();
            let mut world = World::new(seed, Conditions { changing_percent: 10, ..conditions });
            world.run().unwrap();
            world.check_end();
        });
    }
}

#[test]
fn what_an_earlier_transfer_left_is_sent_only_where_it_differs() {
    for exists in POLICIES {
        for_each_seed(|seed| {
            let held = Conditions { exists, held_percent: 80, ..CALM };
            let losing = Conditions { losing_percent: 50, existing_percent: 20, ..held };
            for conditions in [held, losing, Conditions { changing_percent: 10, ..losing }] {
                let mut world = World::new(seed, conditions);
                world.run().unwrap();
                world.check_end();
            }
        });
    }
}

#[test]
fn a_disk_that_takes_minutes_is_waited_for() {
    for_each_seed(|seed| {
        let mut world = World::new(seed, Conditions { disk_max: 10 * TIMEOUT, ..CALM });
        world.run().unwrap();
        world.check_end();
    });
}

#[test]
fn a_cut_is_success_for_nobody_and_named_after_the_timeout() {
    for_each_seed(|seed| {
        let mut world = World::new(seed, Conditions { existing_percent: 20, ..CALM });
        for _ in 0..1 + seed * 7919 % 400 {
            if !world.step().unwrap() {
                break;
            }
        }
        // From here on nothing arrives.
        if world.sender.finished().is_some() {
            world.check_end();
            return;
        }
        assert!(!world.receiver.is_done() || world.received.len() == world.entries_in_all());
        let late = world.now + TIMEOUT + Duration::from_millis(1);
        if world.is_sender_waiting() {
            assert_eq!(reason(world.sender.check_stall(Bottleneck::Network, late)), Reason::AckTimeout);
        }
        if !world.is_finishing() {
            assert_eq!(reason(world.receiver.check_stall(late)), Reason::AckTimeout);
        }
    });
}

fn small(exists: Exists) -> (Sender, Receiver) {
    let sender = Sender::new(CHUNK_LOG2, PATIENCE, Duration::ZERO).comparing(true);
    (sender, Receiver::new(CHUNK_LOG2, exists, "/t".into(), PATIENCE, Duration::ZERO))
}

/// Both machines know one file of `size` bytes, and the receiver wants it.
fn wanted(size: u64) -> (Sender, Receiver) {
    resumed(size, ChunkSet::default())
}

/// The same, and an earlier transfer left the chunks `held` of it.
fn resumed(size: u64, held: ChunkSet) -> (Sender, Receiver) {
    let (mut sender, mut receiver) = small(Exists::Refuse);
    let message = sender.announce(entry(&path("a"), Kind::File { size }), Duration::ZERO);
    receiver.on_manifest(message).unwrap();
    receiver.on_manifest(sender.walk_ended(Duration::ZERO)).unwrap();
    receiver.admitted(EntryId(0), Lookup::Free);
    if size > CHUNK {
        receiver.held(EntryId(0), held);
    }
    for message in statuses(&mut receiver) {
        sender.on_control(message, Duration::ZERO).unwrap();
    }
    (sender, receiver)
}

/// The receiver's messages; its other actions are dropped.
fn statuses(receiver: &mut Receiver) -> Vec<Message> {
    let actions = std::iter::from_fn(|| receiver.poll());
    let said = actions.filter_map(|action| match action {
        ReceiverAction::Control(message) => Some(message),
        ReceiverAction::Unchanged(settled) => Some(Message::Unchanged(settled[0].id, settled.len() as u64)),
        _ => None,
    });
    said.collect()
}

fn settled(sender: &mut Sender) -> Vec<Outcome> {
    let actions = std::iter::from_fn(|| sender.poll());
    let ended = actions.filter_map(|action| match action {
        SenderAction::Settled(settled) => Some(settled.outcome),
        _ => None,
    });
    ended.collect()
}

fn reason<T: std::fmt::Debug>(result: Result<T, Failure>) -> Reason {
    result.unwrap_err().reason
}

const FINISHED: Message = Message::Finished { synced: true, not_kept: vec![] };

#[test]
fn the_end_may_overtake_the_last_ack() {
    let (mut sender, mut receiver) = wanted(3);
    let content = Content::new(1, 3);
    let parcel = sender.next_parcel().unwrap();
    receiver.begin_record(EntryId(0), 0, 3).unwrap();
    receiver.record_written(EntryId(0), 0, 3, content.value(0, 3)).unwrap();
    receiver.committed(EntryId(0), Committed::Done(None));
    receiver.finished(true, vec![]);
    for message in statuses(&mut receiver) {
        sender.on_control(message, Duration::ZERO).unwrap();
    }
    assert_eq!(sender.finished(), None);
    sender.parcel_acked(&parcel, &[(EntryId(0), content.value(0, 3))], Duration::ZERO).unwrap();
    assert!(sender.finished().is_some());
    assert_eq!(settled(&mut sender), [Outcome::Written]);
}

/// [W-20]
#[test]
fn an_entry_that_is_given_up_too_late_ends_all_the_same() {
    let (mut sender, _) = wanted(3);
    sender.abandon(EntryId(0), Failure::on(Side::Sender, Reason::SourceChanged, "changed"));
    sender.on_control(Message::Status(EntryId(0), Status::Done(None)), Duration::ZERO).unwrap();
    sender.on_control(FINISHED, Duration::ZERO).unwrap();
    assert_eq!(settled(&mut sender), [Outcome::Failed(Reason::SourceChanged)]);
    assert!(sender.finished().is_some());
}

/// The attributes of directories whose contents have ended: an existing one and a new one.
fn attributes(exists: Exists) -> [Option<Meta>; 2] {
    let mut receiver = Receiver::new(CHUNK_LOG2, exists, "/t".into(), world::PATIENCE, Duration::ZERO);
    let meta = Meta { mode: 0o755, ..Meta::default() };
    let entries = [
        ("there", Kind::Dir),
        ("there/new", Kind::Dir),
        ("there/new", Kind::DirEnd),
        ("there", Kind::DirEnd),
    ];
    for (name, kind) in entries {
        receiver
            .on_manifest(Message::Entry(Entry { meta: meta.clone(), ..entry(&path(name), kind) }))
            .unwrap();
    }
    // The answers follow the ends, as with a slow disk.
    receiver.admitted(EntryId(0), Lookup::Same { number: 0, is_current: true });
    receiver.admitted(EntryId(1), Lookup::Free);
    let finished = std::iter::from_fn(|| receiver.poll()).filter_map(|action| match action {
        ReceiverAction::FinishDir(_, path, meta) => Some((path.to_string(), meta)),
        _ => None,
    });
    let finished: Vec<_> = finished.collect();
    let [(new, of_new), (there, of_there)] = &finished[..] else { panic!("{finished:?}") };
    assert_eq!((new.as_str(), there.as_str()), ("there/new", "there"));
    [of_there.clone(), of_new.clone()]
}

#[test]
fn fault_3_a_directory_that_was_there_keeps_its_attributes_unless_replaced() {
    let meta = Some(Meta { mode: 0o755, ..Meta::default() });
    for exists in [Exists::Refuse, Exists::Skip, Exists::Rename] {
        assert_eq!(attributes(exists), [None, meta.clone()], "{exists:?}");
    }
    assert_eq!(attributes(Exists::Replace), [meta.clone(), meta]);
}

#[test]
fn unknown_transfer() {
    let (mut sender, mut receiver) = wanted(3);
    let unknown = EntryId(1);
    assert_eq!(reason(receiver.begin_record(unknown, 0, 1)), Reason::UnknownTransfer);
    for message in [
        Message::Digest(unknown, [0; 32]),
        Message::Close(unknown, [0; 32], false, None),
        Message::Abandon(unknown, Reason::SourceChanged, String::new()),
    ] {
        assert_eq!(reason(receiver.on_control(message)), Reason::UnknownTransfer);
    }
    let status = Message::Status(unknown, Status::Want);
    assert_eq!(reason(sender.on_control(status, Duration::ZERO)), Reason::UnknownTransfer);
}

#[test]
fn transfer_has_failed() {
    let (mut sender, mut receiver) = wanted(2 * CHUNK);
    let parcel = sender.next_parcel().unwrap();
    sender.abandon(EntryId(0), Failure::on(Side::Sender, Reason::SourceChanged, "changed"));
    let Some(SenderAction::Control(abandon)) = sender.poll() else { panic!("nothing was said") };
    receiver.on_control(abandon).unwrap();
    let failure = receiver.begin_record(EntryId(0), 0, CHUNK).unwrap_err();
    assert_eq!(failure.reason, Reason::TransferFailed);
    sender.parcel_failed(&parcel, failure).unwrap();
    for message in statuses(&mut receiver) {
        sender.on_control(message, Duration::ZERO).unwrap();
    }
    assert_eq!(settled(&mut sender), [Outcome::Failed(Reason::SourceChanged)]);
    assert_eq!(
        reason(receiver.on_control(Message::Close(EntryId(0), [0; 32], false, None))),
        Reason::TransferFailed
    );
}

#[test]
fn transfer_has_ended() {
    let (mut sender, mut receiver) = wanted(3);
    receiver.begin_record(EntryId(0), 0, 3).unwrap();
    receiver.record_written(EntryId(0), 0, 3, [1; 32]).unwrap();
    receiver.committed(EntryId(0), Committed::Done(None));
    assert_eq!(receiver.begin_record(EntryId(0), 0, 3), Ok(Begin::Pass), "its ack may be lost");
    assert_eq!(reason(receiver.begin_record(EntryId(0), CHUNK, 3)), Reason::TransferEnded);
    assert_eq!(
        reason(receiver.on_control(Message::Close(EntryId(0), [0; 32], false, None))),
        Reason::TransferEnded
    );
    let status = Message::Status(EntryId(0), Status::Failed(Reason::Refused, "no".into()));
    sender.on_control(status.clone(), Duration::ZERO).unwrap();
    assert_eq!(reason(sender.on_control(status, Duration::ZERO)), Reason::TransferEnded);
}

#[test]
fn target_exists() {
    let (mut sender, mut receiver) = small(Exists::Refuse);
    let message = sender.announce(entry(&path("d/\x1b[2J"), Kind::File { size: 3 }), Duration::ZERO);
    receiver.on_manifest(message).unwrap();
    receiver.admitted(EntryId(0), Lookup::Conflict);
    for message in statuses(&mut receiver) {
        let Message::Status(_, Status::Failed(Reason::TargetExists, text)) = &message else {
            panic!("{message:?}")
        };
        assert!(text.starts_with("d/\\u{1b}[2J already exists"), "{text}");
        sender.on_control(message, Duration::ZERO).unwrap();
    }
    assert_eq!(settled(&mut sender), [Outcome::Failed(Reason::TargetExists)]);
    assert_eq!(sender.next_parcel(), None);
}

#[test]
fn ack_timed_out() {
    let (mut sender, mut receiver) = wanted(3);
    let late = TIMEOUT + Duration::from_millis(1);
    sender.check_stall(Bottleneck::ReceiverDisk, TIMEOUT).unwrap();
    receiver.check_stall(TIMEOUT).unwrap();
    for (bottleneck, side) in [
        (Bottleneck::ReceiverDisk, Some(Side::Receiver)),
        (Bottleneck::Credits, Some(Side::Receiver)),
        (Bottleneck::SenderDisk, Some(Side::Sender)),
        (Bottleneck::Memory, Some(Side::Sender)),
        (Bottleneck::Processor, None),
        (Bottleneck::Network, None),
    ] {
        let failure = sender.check_stall(bottleneck, late).unwrap_err();
        assert_eq!((failure.reason, failure.side), (Reason::AckTimeout, side));
        assert!(failure.message.contains(bottleneck.as_str()), "{failure}");
    }
    assert_eq!(reason(receiver.check_stall(late)), Reason::AckTimeout);

    // A waiting receiver says so, and is not taken for a working one.
    sender.on_control(Message::Heartbeat(Activity::Waiting), late).unwrap();
    assert_eq!(reason(sender.check_stall(Bottleneck::Network, late)), Reason::AckTimeout);
    sender.on_control(Message::Heartbeat(Activity::Disk), late).unwrap();
    receiver.heard(late);
    sender.check_stall(Bottleneck::Network, late + TIMEOUT).unwrap();
    receiver.check_stall(late + TIMEOUT).unwrap();
}

#[test]
fn a_walk_that_goes_on_is_no_stall_and_one_that_hangs_is() {
    let (mut sender, _) = small(Exists::Refuse);
    sender.note_progress(9 * TIMEOUT);
    sender.check_stall(Bottleneck::SenderDisk, 10 * TIMEOUT).unwrap();
    assert_eq!(reason(sender.check_stall(Bottleneck::SenderDisk, 11 * TIMEOUT)), Reason::AckTimeout);
}

#[test]
fn open_entries_are_bounded_on_both_sides() {
    let (mut sender, mut receiver) = small(Exists::Refuse);
    let mut announced = 0;
    while sender.can_announce() {
        assert!(receiver.takes_entries());
        let path = path(&format!("n{announced}"));
        let message = sender.announce(entry(&path, Kind::File { size: 1 }), Duration::ZERO);
        receiver.on_manifest(message).unwrap();
        announced += 1;
    }
    assert_eq!(announced, OPEN_ENTRIES_MAX);
    assert!(!receiver.takes_entries());
    receiver.admitted(EntryId(0), Lookup::Conflict);
    assert!(receiver.takes_entries());
    for message in statuses(&mut receiver) {
        sender.on_control(message, Duration::ZERO).unwrap();
    }
    assert!(sender.can_announce());

    let (mut sender, mut receiver) = small(Exists::Refuse);
    let target = vec![b'x'; 4000];
    while sender.can_announce() {
        assert!(receiver.takes_entries());
        let kind = Kind::Symlink { target: target.clone().into() };
        receiver.on_manifest(sender.announce(entry(&path("l"), kind), Duration::ZERO)).unwrap();
    }
    assert!(!receiver.takes_entries());
}

/// [W-17]
#[test]
fn no_chunk_is_sent_too_far_ahead_of_one_that_is_late() {
    let chunks = 3 * CHUNKS_AHEAD_MAX as u64;
    let (mut sender, mut receiver) = wanted(chunks * CHUNK);
    let late = sender.next_parcel().unwrap();
    let mut sent = 1;
    let mut pass = |sender: &mut Sender, parcel: &Parcel| {
        let Parcel::Chunk { id, offset, len } = *parcel else { panic!("{parcel:?}") };
        receiver.begin_record(id, offset, len).unwrap();
        receiver.record_written(id, offset, len, [7; 32]).unwrap();
        // Too much that is in no checkpoint would stop it.
        receiver.begin_checkpoint(id);
        receiver.checkpointed(id, true);
        sender.parcel_acked(parcel, &[(id, [7; 32])], Duration::ZERO).unwrap();
    };
    while let Some(parcel) = sender.next_parcel() {
        pass(&mut sender, &parcel);
        sent += 1;
    }
    assert_eq!(sent, CHUNKS_AHEAD_MAX as u64 + 1);
    pass(&mut sender, &late);
    while let Some(parcel) = sender.next_parcel() {
        pass(&mut sender, &parcel);
        sent += 1;
    }
    assert_eq!(sent, chunks);
    assert_eq!(sender.parcels_on_the_way(), 0);
}
