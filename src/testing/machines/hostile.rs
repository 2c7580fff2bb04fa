//! Each machine against a peer that says anything at any time (attacks 7, 14, 16, 24).

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::tree::{CHUNK, CHUNK_LOG2, Content, entry, path};
use super::{FINISHED, reason, settled, small, statuses, wanted};
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::engine::receiver::{Begin, BeginClaim, Existing, Receiver, ReceiverAction};
use crate::protocol::engine::sender::{Parcel, Sender, SenderAction};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::hash::ChunkValue;
use crate::protocol::request::Request;
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::entry::{EntryId, Kind, Outcome};
use crate::protocol::wire::limits::{CHUNKS_AHEAD_MAX, FILE_BYTES_MAX, SMALL_FILE_BYTES_MAX};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::role::Role;
use crate::protocol::wire::status::Status;

const ZERO: Duration = Duration::ZERO;
const A: EntryId = EntryId(0);

/// How a machine may blame its peer.
fn is_blame(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Protocol
            | Reason::UnknownTransfer
            | Reason::TransferFailed
            | Reason::TransferEnded
            | Reason::Verification
    )
}

///
#[test]
fn attack_14_records_outside_any_chunk() {
    let (_, mut receiver) = wanted(2 * CHUNK + 5);
    for (offset, len) in [
        (0, 0),
        (0, 1),
        (0, CHUNK - 1),
        (0, CHUNK + 1),
        (0, 2 * CHUNK + 5),
        (1, CHUNK),
        (CHUNK / 2, CHUNK),
        (2 * CHUNK, 4),
        (2 * CHUNK, 6),
        (2 * CHUNK, CHUNK),
        (3 * CHUNK, 0),
        (3 * CHUNK, 5),
        (FILE_BYTES_MAX, CHUNK),
        (u64::MAX, u64::MAX),
        (u64::MAX - CHUNK + 1, CHUNK),
    ] {
        assert_eq!(reason(receiver.begin_record(A, offset, len)), Reason::Protocol, "{len} at {offset}");
    }
    assert_eq!(receiver.begin_record(A, 2 * CHUNK, 5), Ok(Begin::Take(2 * CHUNK + 5)));
}

///
#[test]
fn attack_7_records_of_what_was_not_asked_for() {
    let (mut sender, mut receiver) = small(Exists::Refuse);
    for (name, kind) in [("f", Kind::File { size: 3 }), ("d", Kind::Dir), ("d", Kind::DirEnd)] {
        receiver.on_manifest(sender.announce(entry(&path(name), kind), ZERO)).unwrap();
    }
    for id in 0..3 {
        assert_eq!(reason(receiver.begin_record(EntryId(id), 0, 3)), Reason::Protocol, "entry {id}");
    }
    receiver.admitted(A, same_size());
    assert_eq!(reason(receiver.begin_record(A, 0, 3)), Reason::Protocol, "it is being compared");
}

/// Fault 12: a stream may overtake the reset of the one before it. A chunk is written by one stream at a time, and once.
#[test]
fn fault_12_attack_14_a_chunk_twice() {
    let (_, mut receiver) = wanted(2 * CHUNK);
    assert_eq!(receiver.begin_record(A, 0, CHUNK), Ok(Begin::Take(2 * CHUNK)));
    assert_eq!(receiver.begin_record(A, 0, CHUNK), Ok(Begin::Wait), "while it comes");
    receiver.record_cut(A, 0);
    assert_eq!(receiver.begin_record(A, 0, CHUNK), Ok(Begin::TakeAgain(2 * CHUNK)));
    receiver.record_written(A, 0, CHUNK, [1; 32]).unwrap();
    assert_eq!(receiver.begin_record(A, 0, CHUNK), Ok(Begin::Pass), "after it came");
    assert_eq!(reason(receiver.record_written(A, 0, CHUNK, [1; 32])), Reason::Protocol);
    assert_eq!(reason(receiver.begin_record(A, 0, 5)), Reason::Protocol, "no chunk at all");
}

#[test]
fn attack_16_chunks_far_ahead_are_not_kept() {
    let (_, mut receiver) = wanted(FILE_BYTES_MAX);
    let far = (CHUNKS_AHEAD_MAX as u64 + 1) * CHUNK;
    assert_eq!(reason(receiver.begin_record(A, far, CHUNK)), Reason::Protocol);
    assert!(receiver.begin_record(A, far - CHUNK, CHUNK).is_ok());
}

#[test]
fn a_close_before_all_is_acked_or_with_another_root() {
    let size = CHUNK + 1;
    let content = Content::new(1, size);
    let (_, mut receiver) = wanted(size);
    let close = |root: blake3::Hash| Message::Close(A, *root.as_bytes(), false, None);
    assert_eq!(reason(receiver.on_control(close(content.root()))), Reason::Protocol);
    for (offset, len) in [(0, CHUNK), (CHUNK, 1)] {
        receiver.begin_record(A, offset, len).unwrap();
        receiver.record_written(A, offset, len, content.value(offset, len)).unwrap();
    }
    let failure = receiver.on_control(close(blake3::hash(b"other"))).unwrap_err();
    assert_eq!((failure.reason, failure.side), (Reason::Verification, Some(Side::Receiver)));
    assert!(failure.message.starts_with("a: "), "{failure}");
    receiver.on_control(close(content.root())).unwrap();
    assert_eq!(reason(receiver.on_control(close(content.root()))), Reason::Protocol, "it is closed already");
}

///
#[test]
fn attack_14_a_manifest_that_does_not_add_up() {
    let a = || Message::Entry(entry(&path("a"), Kind::Dir));
    let new = || small(Exists::Refuse).1;
    for count in [0, 2, u64::MAX] {
        let mut receiver = new();
        receiver.on_manifest(a()).unwrap();
        assert_eq!(reason(receiver.on_manifest(Message::End(count))), Reason::Protocol);
    }
    let mut receiver = new();
    receiver.on_manifest(Message::End(0)).unwrap();
    for message in [a(), Message::Omitted(Reason::SpecialFile, String::new()), Message::End(0)] {
        assert_eq!(reason(receiver.on_manifest(message)), Reason::Protocol);
    }
    assert_eq!(reason(new().on_manifest(Message::Ack(1))), Reason::Protocol);
}

/// Messages that only the sender sends, with one that only the receiver sends.
fn by_role() -> (Vec<Message>, Vec<Message>) {
    let anyone = [
        Message::Hello {
            role: Role::Send,
            agent: String::new(),
            method: 0,
            auth: Bytes::new(),
            connections: None,
        },
        Message::Auth(Bytes::new()),
        Message::Welcome { agent: String::new(), ports: vec![] },
        Message::Offer {
            transfer: [0; 16],
            chunk_log2: 20,
            wants_receipt: false,
            request: Request::default(),
        },
        Message::Entry(entry(&path("a"), Kind::Dir)),
        Message::End(0),
        Message::Ack(0),
        Message::Nack(Reason::Protocol),
    ];
    let mut senders = anyone.to_vec();
    let mut receivers = anyone.to_vec();
    senders.extend([
        Message::Digest(A, [0; 32]),
        Message::Close(A, [0; 32], false, None),
        Message::Abandon(A, Reason::SourceChanged, String::new()),
    ]);
    receivers.extend([Message::Status(A, Status::Want), Message::Unchanged(A, 1), FINISHED]);
    (senders, receivers)
}

#[test]
fn nobody_takes_the_part_of_the_other() {
    let (senders, receivers) = by_role();
    for message in senders {
        let (mut sender, _) = wanted(3);
        assert_eq!(reason(sender.on_control(message.clone(), ZERO)), Reason::Protocol, "{message:?}");
    }
    for message in receivers {
        let (_, mut receiver) = wanted(3);
        assert_eq!(reason(receiver.on_control(message.clone())), Reason::Protocol, "{message:?}");
    }
}

/// [S-5]
#[test]
fn a_receiver_that_has_finished_too_early() {
    let (mut sender, _) = wanted(3);
    assert_eq!(reason(sender.on_control(FINISHED, ZERO)), Reason::Protocol, "an entry is open");
    let (mut sender, _) = small(Exists::Refuse);
    assert_eq!(reason(sender.on_control(FINISHED, ZERO)), Reason::Protocol, "the walk goes on");
    sender.walk_ended(ZERO);
    sender.on_control(FINISHED, ZERO).unwrap();
    assert!(sender.finished().is_some());
}

/// A sender that has announced a file of `size` bytes.
fn announced(size: u64) -> Sender {
    let (mut sender, _) = small(Exists::Refuse);
    sender.announce(entry(&path("a"), Kind::File { size }), ZERO);
    sender
}

/// [S-2]
#[test]
fn a_receiver_cannot_claim_what_it_has_not_seen() {
    let say = |mut sender: Sender, status| reason(sender.on_control(Message::Status(A, status), ZERO));
    assert_eq!(say(announced(3), Status::Done(None)), Reason::Protocol, "not one byte has travelled");
    assert_eq!(say(announced(3), Status::Identical(None)), Reason::Protocol, "no root was compared");
    let mut checking = announced(3);
    checking.on_control(Message::Status(A, Status::Check), ZERO).unwrap();
    assert_eq!(say(checking, Status::Identical(None)), Reason::Protocol, "the root has not been told");
    for status in [Status::Check, Status::Want, Status::Updated] {
        assert_eq!(say(wanted(3).0, status), Reason::Protocol);
    }
    for size in [SMALL_FILE_BYTES_MAX + 1, 2 * CHUNK] {
        let (mut sender, _) = wanted(size);
        for status in [Status::Done(None), Status::Identical(None)] {
            let done = Message::Status(A, status);
            assert_eq!(reason(sender.on_control(done, ZERO)), Reason::Protocol, "it was not closed");
        }
    }
    let (mut sender, _) = small(Exists::Refuse);
    sender.announce(entry(&path("d"), Kind::Dir), ZERO);
    for status in [Status::Want, Status::Check] {
        assert_eq!(reason(sender.on_control(Message::Status(A, status), ZERO)), Reason::Protocol);
    }
}

/// [W-25]
#[test]
fn what_is_wanted_is_sent_while_other_statuses_are_held_back() {
    let mut sender = announced(3);
    for name in ["b", "c"] {
        sender.announce(entry(&path(name), Kind::File { size: 3 }), ZERO);
    }
    sender.on_control(Message::Status(EntryId(1), Status::Want), ZERO).unwrap();
    assert_eq!(sender.next_parcel(), Some(Parcel::Files(vec![EntryId(1)])));
}

/// [W-11], [S-6]
#[test]
fn attack_4_what_the_peer_says_of_a_failure_is_escaped() {
    let mut sender = announced(3);
    let status = Status::Failed(Reason::Refused, "\x1b]0;x\x07".into());
    sender.on_control(Message::Status(A, status), ZERO).unwrap();
    let Some(SenderAction::Settled(ended)) = sender.poll() else { panic!("not settled") };
    assert_eq!(ended.message.as_deref(), Some("\\u{1b}]0;x\\u{7}"));
    let (_, mut receiver) = wanted(3);
    receiver.on_control(Message::Abandon(A, Reason::SourceChanged, "\x1b[2J".into())).unwrap();
    let ended = std::iter::from_fn(|| receiver.poll()).find_map(|action| match action {
        ReceiverAction::Settled(settled) => settled.message,
        _ => None,
    });
    assert_eq!(ended.as_deref(), Some("\\u{1b}[2J"));
}

#[test]
fn an_entry_that_fails_leaves_the_rest_alone() {
    let (mut sender, _) = wanted(3);
    let failed = Status::Failed(Reason::Refused, "no".into());
    sender.on_control(Message::Status(A, failed), ZERO).unwrap();
    sender.on_control(FINISHED, ZERO).unwrap();
    assert_eq!(settled(&mut sender), [Outcome::Failed(Reason::Refused)]);
    assert!(sender.finished().is_some());
}

fn ids() -> impl Strategy<Value = EntryId> {
    prop_oneof![12 => 0u64..6, 1 => Just(u64::MAX), 1 => Just(7)].prop_map(EntryId)
}

fn sizes() -> impl Strategy<Value = u64> {
    let edges = [0, 1, SMALL_FILE_BYTES_MAX, SMALL_FILE_BYTES_MAX + 1, CHUNK, CHUNK + 1, FILE_BYTES_MAX];
    prop::sample::select(edges.to_vec())
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        5 => sizes().prop_map(|size| Kind::File { size }),
        1 => Just(Kind::Dir),
        1 => Just(Kind::DirEnd),
        1 => Just(Kind::Symlink { target: b"x".as_slice().into() }),
    ]
}

fn roots() -> impl Strategy<Value = [u8; 32]> {
    prop::sample::select(vec![[0; 32], [1; 32]])
}

/// What the sender, the streams and the disk do to a receiver.
#[derive(Debug, Clone)]
enum ToReceiver {
    Manifest(Message),
    Control(Message),
    /// A record begins, at a chunk or anywhere.
    Begin(EntryId, u64, u64),
    /// The whole of a file comes, in order, chaining values all the same.
    Whole(EntryId),
    Written,
    Cut,
    /// A chunk is claimed, and is the same or not.
    Claim(EntryId, u64, bool),
    /// The oldest wish is granted.
    Disk(Lookup, Committed, [u8; 32], bool),
}

fn same_size() -> Lookup {
    Lookup::SameSize { numbers: [0].into(), is_current: true, is_unchanged: false }
}

fn refused() -> Failure {
    Failure::on(Side::Receiver, Reason::Refused, "no")
}

fn to_receiver() -> impl Strategy<Value = ToReceiver> {
    let found = prop::sample::select(vec![
        Lookup::Free,
        Lookup::Free,
        Lookup::Free,
        Lookup::Same { number: 0, is_current: true },
        Lookup::Same { number: 1, is_current: false },
        same_size(),
        Lookup::SameSize { numbers: [0, 2, 1].into(), is_current: false, is_unchanged: false },
        Lookup::SameSize { numbers: [0].into(), is_current: true, is_unchanged: true },
        Lookup::SameSize { numbers: [0, 1].into(), is_current: false, is_unchanged: true },
        Lookup::Conflict,
        Lookup::Refused(refused()),
    ]);
    let committed = prop::sample::select(vec![
        Committed::Done(None),
        Committed::Done(Some(path("a~1"))),
        Committed::Exists,
        Committed::Refused(refused()),
    ]);
    let offsets = prop::sample::select(vec![0, 1, CHUNK, 2 * CHUNK, u64::MAX]);
    let text = String::new;
    prop_oneof![
        4 => kinds().prop_map(|kind| ToReceiver::Manifest(Message::Entry(entry(&path("a"), kind)))),
        1 => Just(ToReceiver::Manifest(Message::Omitted(Reason::SpecialFile, "\x1b".into()))),
        1 => (0u64..6).prop_map(|count| ToReceiver::Manifest(Message::End(count))),
        1 => (ids(), roots()).prop_map(|(id, root)| ToReceiver::Control(Message::Digest(id, root))),
        1 => (ids(), roots()).prop_map(|(id, root)| ToReceiver::Control(Message::Close(id, root, false, None))),
        1 => ids().prop_map(move |id| ToReceiver::Control(Message::Abandon(id, Reason::Internal, text()))),
        1 => Just(ToReceiver::Control(Message::Heartbeat(Activity::Waiting))),
        2 => (ids(), offsets, sizes()).prop_map(|(id, at, len)| ToReceiver::Begin(id, at, len)),
        4 => ids().prop_map(ToReceiver::Whole),
        3 => Just(ToReceiver::Written),
        1 => Just(ToReceiver::Cut),
        3 => (ids(), 0u64..4, any::<bool>()).prop_map(|(id, index, same)| ToReceiver::Claim(id, index, same)),
        9 => (found, committed, roots(), any::<bool>()).prop_map(|(f, c, r, ok)| ToReceiver::Disk(f, c, r, ok)),
    ]
}

/// A receiver with what a driver keeps, and a record of what has really been written.
struct ReceiverRig {
    machine: Receiver,
    sizes: Vec<Kind>,
    wishes: VecDeque<ReceiverAction>,
    begun: VecDeque<(EntryId, u64, u64)>,
    written: BTreeMap<EntryId, u64>,
    held: BTreeSet<(EntryId, u64)>,
    commits: BTreeSet<EntryId>,
    ended: BTreeSet<EntryId>,
    finishes: u32,
}

impl ReceiverRig {
    fn new(exists: Exists) -> Self {
        Self {
            machine: small(exists).1,
            sizes: Vec::new(),
            wishes: VecDeque::new(),
            begun: VecDeque::new(),
            written: BTreeMap::new(),
            held: BTreeSet::new(),
            commits: BTreeSet::new(),
            ended: BTreeSet::new(),
            finishes: 0,
        }
    }

    fn apply(&mut self, operation: ToReceiver) -> Result<(), Failure> {
        match operation {
            ToReceiver::Manifest(message) => {
                let kind = if let Message::Entry(entry) = &message { Some(entry.kind.clone()) } else { None };
                self.machine.on_manifest(message)?;
                self.sizes.extend(kind);
            }
            ToReceiver::Control(message) => self.machine.on_control(message)?,
            ToReceiver::Begin(id, offset, len) => self.begin(id, offset, len)?,
            ToReceiver::Whole(id) => {
                let size = self.machine.entry(id).map_or(1, |entry| entry.size());
                let mut offset = 0;
                while offset < size.min(3 * CHUNK) {
                    let len = (size - offset).min(CHUNK);
                    self.begin(id, offset, len)?;
                    self.write()?;
                    offset += len;
                }
            }
            ToReceiver::Written => self.write()?,
            ToReceiver::Cut => {
                if let Some((id, offset, _)) = self.begun.pop_front() {
                    self.machine.record_cut(id, offset);
                }
            }
            ToReceiver::Claim(id, index, is_same) => self.claim(id, index, is_same)?,
            ToReceiver::Disk(found, committed, root, is_ok) => self.disk(found, committed, root, is_ok),
        }
        Ok(())
    }

    fn begin(&mut self, id: EntryId, offset: u64, len: u64) -> Result<(), Failure> {
        match self.machine.begin_record(id, offset, len) {
            Ok(Begin::Take(_) | Begin::TakeAgain(_)) => self.begun.push_back((id, offset, len)),
            // No file of unknown size is announced here.
            Ok(Begin::Pass | Begin::Wait | Begin::TakeOpen(_)) => {}
            Err(failure) if matches!(failure.reason, Reason::TransferFailed | Reason::TransferEnded) => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn claim(&mut self, id: EntryId, index: u64, is_same: bool) -> Result<(), Failure> {
        let size = self.machine.entry(id).map_or(0, |entry| entry.size());
        let len = size.saturating_sub(index * CHUNK).min(CHUNK);
        match self.machine.begin_claim(id, index * CHUNK, len) {
            Ok(BeginClaim::Compare(index)) => {
                assert!(self.held.contains(&(id, index)), "chunk {index} was not held");
                if is_same {
                    *self.written.entry(id).or_default() += len;
                }
                self.machine.claimed(id, ChunkValue { index, value: [0; 32] }, is_same)?;
            }
            Ok(BeginClaim::Matches | BeginClaim::Differs | BeginClaim::Wait) => {}
            Err(failure) if matches!(failure.reason, Reason::TransferFailed | Reason::TransferEnded) => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Failure> {
        if let Some((id, offset, len)) = self.begun.pop_front() {
            *self.written.entry(id).or_default() += len;
            self.machine.record_written(id, offset, len, [0; 32])?;
        }
        Ok(())
    }

    fn disk(&mut self, found: Lookup, committed: Committed, root: [u8; 32], is_ok: bool) {
        match self.wishes.pop_front() {
            Some(ReceiverAction::Admit(id, _)) => self.machine.admitted(id, found),
            Some(ReceiverAction::Root(id, ..)) => {
                self.machine.hashed(id, Existing::Root(blake3::Hash::from_bytes(root)))
            }
            Some(ReceiverAction::Recall(id, _)) => {
                // More than the file may have.
                let mut held = ChunkSet::of(0..u64::from(root[0]));
                held.insert(2..2 + u64::from(is_ok));
                self.held.extend(held.ranges().flatten().map(|index| (id, index)));
                self.machine.held(id, held);
            }
            Some(ReceiverAction::Checkpoint(id)) => {
                self.machine.begin_checkpoint(id);
                self.machine.checkpointed(id, is_ok);
            }
            Some(ReceiverAction::Commit(id, _) | ReceiverAction::CommitBeside(id, _)) => {
                if committed == Committed::Exists {
                    self.commits.remove(&id);
                }
                self.machine.committed(id, committed);
            }
            Some(ReceiverAction::Update(id, _)) => self.machine.updated(id, Ok(is_ok)),
            Some(ReceiverAction::FinishDir(id, ..)) => {
                self.machine.dir_finished(id, if is_ok { Ok(()) } else { Err(refused()) });
            }
            Some(ReceiverAction::Finish) => self.machine.finished(true, vec![]),
            _ => {}
        }
    }

    fn look(&mut self) {
        while let Some(action) = self.machine.poll() {
            match action {
                ReceiverAction::Unchanged(settled) => {
                    for (one, id) in settled.iter().zip(settled[0].id.0..) {
                        assert_eq!(one.id, EntryId(id));
                        assert!(self.ended.insert(one.id), "settled twice: {one:?}");
                    }
                }
                ReceiverAction::Settled(settled) => {
                    assert!(self.ended.insert(settled.id), "settled twice: {settled:?}");
                    if let (Outcome::Written, Kind::File { .. }) = (settled.outcome, &settled.entry.kind) {
                        assert!(self.commits.contains(&settled.id));
                    }
                }
                ReceiverAction::Commit(id, entry) | ReceiverAction::CommitBeside(id, entry) => {
                    assert_eq!(self.written.get(&id).copied().unwrap_or(0), entry.size(), "not whole");
                    assert!(self.commits.insert(id), "committed twice");
                    self.wishes.push_back(ReceiverAction::Commit(id, entry));
                }
                ReceiverAction::Finish => {
                    self.finishes += 1;
                    assert_eq!((self.finishes, self.ended.len()), (1, self.sizes.len()));
                    self.wishes.push_back(ReceiverAction::Finish);
                }
                ReceiverAction::Omitted(_, why) => assert_eq!(why, "\\u{1b}"),
                ReceiverAction::Control(_)
                | ReceiverAction::Discard(_)
                | ReceiverAction::GiveUp(_)
                | ReceiverAction::Resumed(..) => {}
                wish => self.wishes.push_back(wish),
            }
        }
        let totals = self.machine.totals();
        assert!(totals.settled_bytes.saturating_add(totals.held_bytes) <= totals.bytes, "{totals:?}");
        assert!(totals.settled_bytes <= totals.bytes && totals.settled_files <= totals.files, "{totals:?}");
    }
}

/// What the receiver, the streams and the disk do to a sender.
#[derive(Debug, Clone)]
enum ToSender {
    Walk(Option<Kind>),
    Control(Message),
    Cut,
    Acked(usize),
    Failed(usize, Reason),
    /// The oldest wish is granted, or its source fails.
    Disk([u8; 32], bool),
    Abandon(EntryId),
}

fn to_sender() -> impl Strategy<Value = ToSender> {
    let statuses = prop::sample::select(vec![
        Status::Want,
        Status::Want,
        Status::Want,
        Status::Resume(std::iter::once(0..2).collect()),
        Status::Resume(vec![1..2, 4..6]),
        Status::Check,
        Status::Done(None),
        Status::Done(Some(path("a~1"))),
        Status::Identical(None),
        Status::Identical(Some(path("a~1"))),
        Status::Updated,
        Status::Skipped,
        Status::Failed(Reason::Refused, "no".into()),
    ]);
    let reasons = prop::sample::select(Reason::ALL.to_vec());
    prop_oneof![
        4 => kinds().prop_map(|kind| ToSender::Walk(Some(kind))),
        1 => Just(ToSender::Walk(None)),
        9 => (ids(), statuses).prop_map(|(id, status)| ToSender::Control(Message::Status(id, status))),
        1 => (ids(), 1u64..4).prop_map(|(id, count)| ToSender::Control(Message::Unchanged(id, count))),
        1 => Just(ToSender::Control(FINISHED)),
        1 => Just(ToSender::Control(Message::Heartbeat(Activity::Disk))),
        5 => Just(ToSender::Cut),
        5 => (0usize..4).prop_map(ToSender::Acked),
        1 => (0usize..4, reasons).prop_map(|(at, reason)| ToSender::Failed(at, reason)),
        4 => (roots(), prop::bool::weighted(0.9)).prop_map(|(root, ok)| ToSender::Disk(root, ok)),
        1 => ids().prop_map(ToSender::Abandon),
    ]
}

/// A sender with what a driver keeps, and a record of what has really been acked and closed.
struct SenderRig {
    machine: Sender,
    announced: u64,
    parcels: Vec<Parcel>,
    wishes: VecDeque<SenderAction>,
    acked: BTreeMap<EntryId, u64>,
    closed: BTreeSet<EntryId>,
    told: BTreeSet<EntryId>,
    ended: BTreeSet<EntryId>,
}

impl SenderRig {
    fn new() -> Self {
        Self {
            machine: small(Exists::Refuse).0,
            announced: 0,
            parcels: Vec::new(),
            wishes: VecDeque::new(),
            acked: BTreeMap::new(),
            closed: BTreeSet::new(),
            told: BTreeSet::new(),
            ended: BTreeSet::new(),
        }
    }

    fn apply(&mut self, operation: ToSender) -> Result<(), Failure> {
        match operation {
            ToSender::Walk(_) if !self.machine.can_announce() => {}
            ToSender::Walk(Some(kind)) => {
                self.announced += 1;
                self.machine.announce(entry(&path("a"), kind), ZERO);
            }
            ToSender::Walk(None) => {
                self.machine.walk_ended(ZERO);
            }
            ToSender::Control(message) => self.machine.on_control(message, ZERO)?,
            ToSender::Cut => self.parcels.extend(self.machine.next_parcel()),
            ToSender::Acked(at) if at < self.parcels.len() => {
                let parcel = self.parcels.remove(at);
                if let Parcel::Claims { id, chunks } = &parcel {
                    let size = self.machine.entry(*id).map_or(0, |entry| entry.size());
                    // Every other one is still the same.
                    for index in chunks.iter().step_by(2) {
                        *self.acked.entry(*id).or_default() += size.saturating_sub(index * CHUNK).min(CHUNK);
                    }
                    let values = vec![(*id, [0; 32]); chunks.len()];
                    return self.machine.claims_answered(*id, chunks, &values, 0x5555, ZERO);
                }
                let values: Vec<_> = match &parcel {
                    Parcel::Claims { .. } => unreachable!("claims have an answer of their own"),
                    Parcel::Signature { .. } => unreachable!("no old file is used here"),
                    Parcel::Chunk { id, len, .. } => vec![(*id, *len)],
                    Parcel::OpenChunk { .. } => unreachable!("no file of unknown size is announced here"),
                    Parcel::Files(ids) => {
                        ids.iter().map(|id| (*id, self.machine.entry(*id).map_or(0, |e| e.size()))).collect()
                    }
                };
                for (id, len) in &values {
                    *self.acked.entry(*id).or_default() += len;
                }
                let values: Vec<_> = values.into_iter().map(|(id, _)| (id, [0; 32])).collect();
                self.machine.parcel_acked(&parcel, &values, ZERO)?;
            }
            ToSender::Failed(at, reason) if at < self.parcels.len() => {
                let parcel = self.parcels.remove(at);
                // Whatever else it is ends the transfer, which is no business of the machine.
                let _ = self.machine.parcel_failed(&parcel, Failure::new(reason, "no"));
            }
            ToSender::Acked(_) | ToSender::Failed(..) => {}
            ToSender::Disk(root, is_ok) => self.disk(root, is_ok),
            ToSender::Abandon(id) => self.abandon(id),
        }
        Ok(())
    }

    fn abandon(&mut self, id: EntryId) {
        self.machine.abandon(id, Failure::on(Side::Sender, Reason::SourceChanged, "changed"));
    }

    fn disk(&mut self, root: [u8; 32], is_ok: bool) {
        match self.wishes.pop_front() {
            Some(SenderAction::Root(id) | SenderAction::Verify(id, _)) if !is_ok => self.abandon(id),
            Some(SenderAction::Root(id)) => self.machine.hashed(id, blake3::Hash::from_bytes(root), ZERO),
            Some(SenderAction::Verify(id, _)) => self.machine.verified(id, false),
            _ => {}
        }
    }

    fn look(&mut self) {
        while let Some(action) = self.machine.poll() {
            match action {
                SenderAction::Control(Message::Close(id, ..)) => {
                    assert!(self.closed.insert(id), "closed twice");
                }
                SenderAction::Control(Message::Digest(id, _)) => {
                    self.told.insert(id);
                }
                SenderAction::Control(_) => {}
                SenderAction::Settled(settled) => {
                    let (id, size) = (settled.id, settled.entry.size());
                    assert!(self.ended.insert(id), "settled twice: {settled:?}");
                    if settled.outcome == Outcome::Written {
                        assert_eq!(self.acked.get(&id).copied().unwrap_or(0), size, "{settled:?}");
                        assert!(size <= SMALL_FILE_BYTES_MAX || self.closed.contains(&id), "{settled:?}");
                    }
                    if matches!(settled.outcome, Outcome::Identical | Outcome::Updated) {
                        let all = self.acked.get(&id).copied().unwrap_or(0) == size;
                        assert!(all || self.told.contains(&id), "{settled:?}");
                    }
                }
                wish => self.wishes.push_back(wish),
            }
        }
        assert_eq!(self.machine.parcels_on_the_way(), self.parcels.len() as u64);
        let totals = self.machine.totals();
        assert!(totals.settled_bytes.saturating_add(totals.held_bytes) <= totals.bytes, "{totals:?}");
        assert!(totals.settled_bytes <= totals.bytes && totals.settled_files <= totals.files, "{totals:?}");
        if self.machine.finished().is_some() {
            assert_eq!(self.ended.len() as u64, self.announced);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn attack_24_a_receiver_withstands_anything(
        exists in prop::sample::select(super::POLICIES.to_vec()),
        operations in prop::collection::vec(to_receiver(), 0..80),
    ) {
        let mut rig = ReceiverRig::new(exists);
        for operation in operations {
            let result = rig.apply(operation);
            rig.look();
            if let Err(failure) = result {
                prop_assert!(is_blame(failure.reason), "{failure:?}");
                break;
            }
        }
    }

    #[test]
    fn attack_24_a_sender_withstands_anything(operations in prop::collection::vec(to_sender(), 0..80)) {
        let mut rig = SenderRig::new();
        for operation in operations {
            let result = rig.apply(operation);
            rig.look();
            if let Err(failure) = result {
                prop_assert!(is_blame(failure.reason), "{failure:?}");
                break;
            }
        }
    }

    #[test]
    fn attack_14_a_lone_message_is_blamed_or_taken(id in any::<u64>(), root in any::<[u8; 32]>()) {
        for message in [
            Message::Digest(EntryId(id), root),
            Message::Close(EntryId(id), root, false, None),
            Message::Abandon(EntryId(id), Reason::Internal, String::new()),
        ] {
            let (_, mut receiver) = wanted(3);
            if let Err(failure) = receiver.on_control(message) {
                prop_assert!(is_blame(failure.reason));
                prop_assert!(statuses(&mut receiver).is_empty());
            }
        }
    }
}

#[test]
fn chunk_size_of_these_tests_is_the_smallest() {
    assert_eq!(CHUNK_LOG2, crate::protocol::wire::limits::CHUNK_LOG2_MIN);
}
