//! Hand-made peers that send things no machine would.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use rustix::io::Errno;
use tokio::time::{sleep, timeout};

use super::hand::{HandOut, hear};
use super::told;
use super::{MIB, Session, bytes, greet, one_file, receive_on, seeds, send_on, source};
use crate::protocol::engine::patience::Patience;
use crate::protocol::engine::sender::Sender;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::Exists;
use crate::protocol::hash::RecordHasher;
use crate::protocol::path::RelPath;
use crate::protocol::request::Request;
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::record::{PieceHeader, RecordHeader, RecordKind, Run};
use crate::protocol::wire::status::Status;
use crate::session::Link;
use crate::session::messages::{MessageReader, write_message};
use crate::testing::connection::{MemoryConnection, MemoryRecv};
use crate::testing::disk::{MemoryTarget, On, Op};
use crate::transport::{Connection, RecvStream, SendStream};

const PATIENCE: Patience = Patience { timeout: super::TIMEOUT, disk_timeout: super::DISK_TIMEOUT };

/// A sender controlled by a test.
pub(super) struct HandSender {
    pub(super) connection: MemoryConnection,
    pub(super) control_out: HandOut,
    pub(super) control_in: MessageReader<MemoryRecv>,
    pub(super) manifest: HandOut,
}

impl HandSender {
    /// Offers a transfer, with an empty manifest so far.
    pub(super) async fn open(mut link: Link<MemoryConnection>) -> Self {
        link.welcome().await.unwrap();
        let offer = Message::Offer {
            transfer: [1; 16],
            chunk_log2: 20,
            wants_receipt: false,
            request: Request::default(),
        };
        let Link { connection, control_out, control_in, .. } = link;
        let mut control_out = HandOut::new(control_out);
        control_out.say(&offer).await.unwrap();
        let manifest = HandOut::new(connection.open_uni().await.unwrap());
        Self { connection, control_out, control_in, manifest }
    }

    /// Offers a transfer and sends `manifest`.
    pub(super) async fn begin(link: Link<MemoryConnection>, manifest: &[Message]) -> Self {
        let mut sender = Self::open(link).await;
        for message in manifest {
            sender.manifest.say(message).await.unwrap();
        }
        sender.manifest.finish();
        sender
    }

    /// The next status; heart-beats, `Durable` and `Old` are skipped.
    pub(super) async fn status(&mut self) -> Status {
        loop {
            match hear(&mut self.control_in).await.unwrap() {
                Message::Status(_, status) => return status,
                Message::Heartbeat(_) | Message::Came(_) | Message::Durable(..) | Message::Old(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Sends a parcel of these pieces; returns the stream of the answer.
    pub(super) async fn parcel(&self, pieces: &[&[u8]]) -> MemoryRecv {
        let (mut out, answer) = self.connection.open_bi().await.unwrap();
        let mut pieces: Vec<_> = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
        // A receiver that refuses a piece closes everything in the middle of this.
        let _ = out.write_all(&mut pieces).await;
        let _ = out.finish();
        answer
    }

    pub(super) async fn say(&mut self, message: Message) {
        self.control_out.say(&message).await.unwrap();
    }

    /// The receiver's close.
    pub(super) async fn closed(&self) -> Failure {
        told(self.connection.closed().await)
    }
}

pub(super) fn entry(name: &str, size: u64) -> Message {
    let path = RelPath::new(name.as_bytes()).unwrap();
    Message::Entry(Entry { path, meta: Meta::default(), kind: Kind::File { size }, hole_bytes: 0 })
}

pub(super) fn header(id: u64, offset: u64, len: u64, runs: Vec<Run>) -> Vec<u8> {
    let mut out = BytesMut::new();
    RecordHeader { id: EntryId(id), offset, len, kind: RecordKind::Data, runs }.encode(&mut out);
    out.to_vec()
}

fn value(size: u64, offset: u64, data: &[u8]) -> [u8; 32] {
    let mut hasher = RecordHasher::new(size, offset, data.len() as u64);
    hasher.update(data);
    hasher.finish()
}

/// Runs a receiver against `hand`. Both see the same failure, and nothing is left behind.
async fn refuse(manifest: &[Message], hand: impl AsyncFnOnce(&mut HandSender)) -> Failure {
    let session = Session::new(1);
    let (sending, receiving) = greet(session.connect().0).await;
    let target = MemoryTarget::new();
    let hand = async {
        let mut sender = HandSender::begin(sending, manifest).await;
        hand(&mut sender).await;
        sender.closed().await
    };
    let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
    let (told, received) = tokio::join!(hand, received);
    let failure = received.unwrap_err();
    assert_eq!((told.reason, &told.message), (failure.reason, &failure.message));
    assert_eq!(target.ops().last(), Some(&Op::Abort));
    assert!(target.files().is_empty() && target.staged().is_empty());
    failure
}

fn assert_verification(failure: &Failure, name: &str) {
    assert_eq!((failure.reason, failure.side), (Reason::Verification, Some(Side::Receiver)));
    assert!(failure.message.starts_with(&format!("{name}: ")), "{failure}");
}

/// [W-19], [R-9]
#[tokio::test(start_paused = true)]
async fn bytes_that_are_not_what_their_value_says() {
    for size in [3, MIB] {
        let data = bytes(1, size);
        let mut corrupt = data.clone();
        *corrupt.last_mut().unwrap() ^= 1;
        let other = value(size, 0, &corrupt);
        for (data, value) in [(&corrupt, value(size, 0, &data)), (&data, other)] {
            let failure = refuse(&[entry("d", size), Message::End(1)], async |sender| {
                assert_eq!(sender.status().await, Status::Want);
                sender.parcel(&[&header(0, 0, size, vec![]), data, &value]).await;
            })
            .await;
            assert_verification(&failure, "d");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_root_that_the_chunks_do_not_make() {
    let size = MIB + 1;
    let data = bytes(1, size);
    let at = usize::try_from(MIB).unwrap();
    let failure = refuse(&[entry("d", size), Message::End(1)], async |sender| {
        assert_eq!(sender.status().await, Status::Want);
        for (offset, part) in [(0, &data[..at]), (MIB, &data[at..])] {
            let head = header(0, offset, part.len() as u64, vec![]);
            let answer = sender.parcel(&[&head, part, &value(size, offset, part)]).await;
            assert_eq!(MessageReader::new(answer).expect().await, Ok(Message::Ack(1)));
        }
        sender.say(Message::Close(EntryId(0), [0; 32], false, None)).await;
    })
    .await;
    assert_verification(&failure, "d");
}

/// Written and durable are acked separately: one on the stream of a chunk, one after the sync of the file.
/// [W-27]
#[tokio::test(start_paused = true)]
async fn a_file_of_several_chunks_is_durable_before_it_is_done() {
    for syncs in [true, false] {
        let session = Session::new(1);
        let (sending, receiving) = greet(session.connect().0).await;
        let target = MemoryTarget::new();
        let target = if syncs { target } else { target.without_sync() };
        let size = MIB + 1;
        let data = bytes(1, size);
        let hand = async {
            let mut sender = HandSender::begin(sending, &[entry("d", size), Message::End(1)]).await;
            assert_eq!(sender.status().await, Status::Want);
            let at = usize::try_from(MIB).unwrap();
            for (offset, part) in [(0, &data[..at]), (MIB, &data[at..])] {
                let head = header(0, offset, part.len() as u64, vec![]);
                let answer = sender.parcel(&[&head, part, &value(size, offset, part)]).await;
                assert_eq!(MessageReader::new(answer).expect().await, Ok(Message::Ack(1)));
            }
            sender.say(Message::Close(EntryId(0), *blake3::hash(&data).as_bytes(), false, None)).await;
            let mut said = Vec::new();
            loop {
                match hear(&mut sender.control_in).await.unwrap() {
                    Message::Heartbeat(_) | Message::Came(_) => {}
                    Message::Finished { .. } => break,
                    message => said.push(message),
                }
            }
            sender.connection.close(0, b"");
            said
        };
        let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
        let (said, received) = tokio::join!(hand, received);
        received.unwrap();
        let mut expected = vec![Message::Status(EntryId(0), Status::Done(None))];
        if syncs {
            expected.insert(0, Message::Durable(EntryId(0), std::iter::once(0..2).collect()));
        }
        assert_eq!(said, expected, "syncs: {syncs}");
    }
}

#[tokio::test(start_paused = true)]
async fn unrequested_records() {
    let zeros = [0; 32];
    for (id, offset, len, reason) in [
        (1, 0, 3, Reason::UnknownTransfer),
        (0, 1, 2, Reason::Protocol),
        (0, 0, 4, Reason::Protocol),
        (0, MIB, 3, Reason::Protocol),
    ] {
        let failure = refuse(&[entry("d", 3), Message::End(1)], async |sender| {
            assert_eq!(sender.status().await, Status::Want);
            sender.parcel(&[&header(id, offset, len, vec![]), b"abcd", &zeros]).await;
        })
        .await;
        assert_eq!(failure.reason, reason, "{len} bytes at {offset} of {id}");
    }
}

/// [W-30] BLAKE3 has no value for a chunk without a byte, and asserts that it is not asked for one.
#[tokio::test(start_paused = true)]
async fn attack_14_open_records_without_a_byte() {
    let path = RelPath::new(b"d").unwrap();
    let open = Message::Entry(Entry { path, meta: Meta::default(), kind: Kind::OpenEnded, hole_bytes: 0 });
    for (offset, is_last) in [(0, false), (MIB, false), (MIB, true)] {
        let failure = refuse(&[open.clone(), Message::End(1)], async |sender| {
            assert_eq!(sender.status().await, Status::Want);
            let mut end = BytesMut::new();
            PieceHeader::End { is_last }.encode(&mut end);
            sender.parcel(&[&header(0, offset, 0, vec![]), &end, &[0; 32]]).await;
        })
        .await;
        assert_eq!(failure.reason, Reason::Protocol, "at {offset}, the last: {is_last}");
    }
}

/// Fault 12: a parcel that was reset may be sent again at once, and the new stream may overtake the reset.
#[tokio::test(start_paused = true)]
async fn fault_12_a_parcel_is_reset_and_sent_again_at_once() {
    for seed in seeds() {
        const CHUNKS: u64 = 20;
        let (large, small) = (bytes(seed, CHUNKS * MIB), bytes(seed + 1, 1000));
        let session = Session::new(seed);
        let (sending, receiving) = greet(session.connect().0).await;
        let target = MemoryTarget::new();
        let hand = async {
            let manifest = [entry("large", CHUNKS * MIB), entry("small", 1000), Message::End(2)];
            let mut sender = HandSender::begin(sending, &manifest).await;
            assert_eq!((sender.status().await, sender.status().await), (Status::Want, Status::Want));
            for index in 0..CHUNKS {
                let at = usize::try_from(index * MIB).unwrap();
                let chunk = &large[at..at + (1 << 20)];
                let head = header(0, index * MIB, MIB, vec![]);
                let (mut out, _answer) = sender.connection.open_bi().await.unwrap();
                out.write_all(&mut [head.clone().into(), chunk[..100_000].to_vec().into()]).await.unwrap();
                drop(out);
                let answer = sender.parcel(&[&head, chunk, &value(CHUNKS * MIB, index * MIB, chunk)]).await;
                assert_eq!(MessageReader::new(answer).expect().await, Ok(Message::Ack(1)), "chunk {index}");
            }
            // A whole record may be written before the reset comes.
            let record = [&header(1, 0, 1000, vec![])[..], &small, &value(1000, 0, &small)].concat();
            for _ in 0..5 {
                let (mut out, _answer) = sender.connection.open_bi().await.unwrap();
                out.write_all(&mut [record.clone().into()]).await.unwrap();
            }
            let answer = sender.parcel(&[&record, &record]).await;
            assert_eq!(MessageReader::new(answer).expect().await, Ok(Message::Ack(2)));
            sender.say(Message::Close(EntryId(0), *blake3::hash(&large).as_bytes(), false, None)).await;
            assert_eq!(
                (sender.status().await, sender.status().await),
                (Status::Done(None), Status::Done(None))
            );
            sender.connection.close(0, b"");
        };
        let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
        let ((), received) = tokio::join!(hand, received);
        received.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        assert!(target.files()[&b"large"[..]] == large && target.files()[&b"small"[..]] == small);
    }
}

/// Bytes of a stream that was cut off must not show through a hole of the next one.
#[tokio::test(start_paused = true)]
async fn fault_12_a_hole_covers_what_an_earlier_stream_wrote() {
    let half = 512 * 1024;
    let (first, rest) = (bytes(1, MIB), bytes(2, half));
    let content = [vec![0; 512 * 1024], rest.clone()].concat();
    let session = Session::new(1);
    let (sending, receiving) = greet(session.connect().0).await;
    let target = MemoryTarget::new();
    let hand = async {
        let mut sender = HandSender::begin(sending, &[entry("f", MIB), Message::End(1)]).await;
        assert_eq!(sender.status().await, Status::Want);
        let (mut out, _answer) = sender.connection.open_bi().await.unwrap();
        let begun = first[..600_000].to_vec();
        out.write_all(&mut [header(0, 0, MIB, vec![]).into(), begun.into()]).await.unwrap();
        // Waits until two blocks of it are written.
        sleep(Duration::from_secs(5)).await;
        drop(out);
        let runs = vec![Run { len: half, is_hole: true }, Run { len: half, is_hole: false }];
        let answer = sender.parcel(&[&header(0, 0, MIB, runs), &rest, &value(MIB, 0, &content)]).await;
        assert_eq!(MessageReader::new(answer).expect().await, Ok(Message::Ack(1)));
        sender.say(Message::Close(EntryId(0), *blake3::hash(&content).as_bytes(), false, None)).await;
        assert_eq!(sender.status().await, Status::Done(None));
        sender.connection.close(0, b"");
    };
    let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
    let ((), received) = tokio::join!(hand, received);
    received.unwrap();
    assert!(target.files()[&b"f"[..]] == content, "bytes of the first stream are left");
}

#[tokio::test(start_paused = true)]
async fn parcels_that_are_cut_short() {
    let record = [&header(0, 0, 3, vec![])[..], b"abc", &value(3, 0, b"abc")].concat();
    for len in 1..record.len() {
        let failure = refuse(&[entry("d", 3), Message::End(1)], async |sender| {
            assert_eq!(sender.status().await, Status::Want);
            sender.parcel(&[&record[..len]]).await;
        })
        .await;
        assert_eq!(failure.reason, Reason::Protocol, "{len} bytes of it");
    }
}

#[tokio::test(start_paused = true)]
async fn manifests_that_do_not_add_up() {
    for manifest in [
        vec![entry("d", 3), Message::End(2)],
        vec![entry("d", 3), Message::End(1), entry("e", 3)],
        vec![Message::Ack(1)],
    ] {
        let failure = refuse(&manifest, async |_| {}).await;
        assert_eq!(failure.reason, Reason::Protocol, "{manifest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hole_costs_nothing_on_the_wire_and_is_verified_all_the_same() {
    let runs = vec![Run { len: MIB, is_hole: true }];
    let failure = refuse(&[entry("d", MIB), Message::End(1)], async |sender| {
        assert_eq!(sender.status().await, Status::Want);
        sender.parcel(&[&header(0, 0, MIB, runs), &[1; 32]]).await;
    })
    .await;
    assert_verification(&failure, "d");
}

/// Each record takes 50 bytes on the wire and a MiB to hash.
#[tokio::test(start_paused = true)]
async fn attack_15_many_holes_in_one_parcel_are_hashed_as_they_come() {
    let (size, session) = (400 * MIB, Session::new(1));
    let (sending, receiving) = greet(session.connect().0).await;
    let zeros = BytesMut::zeroed(usize::try_from(MIB).unwrap());
    let hand = async {
        let mut sender = HandSender::begin(sending, &[entry("d", size), Message::End(1)]).await;
        assert_eq!(sender.status().await, Status::Want);
        let mut records = Vec::new();
        for offset in (0..400).map(|n| n * MIB) {
            records.extend(header(0, offset, MIB, vec![Run { len: MIB, is_hole: true }]));
            records.extend(value(size, offset, &zeros));
        }
        let answer = sender.parcel(&[&records]).await;
        assert_eq!(MessageReader::new(answer).expect().await, Ok(Message::Ack(400)));
        sender.connection.close(18, b"");
    };
    let target = MemoryTarget::new();
    let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
    let ((), received) = tokio::join!(hand, received);
    assert_eq!(received.unwrap_err().reason, Reason::Interrupted);
}

/// A parcel that the sender resets may be sent again, and is then accepted.
#[tokio::test(start_paused = true)]
async fn a_record_that_was_cut_off_may_come_again() {
    let session = Session::new(1);
    let (sending, receiving) = greet(session.connect().0).await;
    let target = MemoryTarget::new();
    let data = bytes(1, MIB);
    let hand = async {
        let mut sender = HandSender::begin(sending, &[entry("d", MIB), Message::End(1)]).await;
        assert_eq!(sender.status().await, Status::Want);
        let head = header(0, 0, MIB, vec![]);
        let (mut out, answer) = sender.connection.open_bi().await.unwrap();
        out.write_all(&mut [head.clone().into(), data[..300_000].to_vec().into()]).await.unwrap();
        drop(out);
        // The receiver drops it, and shows that by ending its half.
        let mut answer = answer;
        assert!(answer.read(&mut [0]).await.is_err());
        let answer = sender.parcel(&[&head, &data, &value(MIB, 0, &data)]).await;
        assert_eq!(MessageReader::new(answer).expect().await, Ok(Message::Ack(1)));
        sender.say(Message::Close(EntryId(0), value(MIB, 0, &data), false, None)).await;
        assert_eq!(sender.status().await, Status::Done(None));
        sender.connection.close(0, b"");
    };
    let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
    let ((), received) = tokio::join!(hand, received);
    received.unwrap();
    assert!(target.files()[&b"d"[..]] == data);
}

/// Bytes of a file that was given up may still arrive when its staging is gone.
#[tokio::test(start_paused = true)]
async fn a_write_that_fails_after_its_file_was_given_up_ends_nothing() {
    let session = Session::new(1);
    let (sending, receiving) = greet(session.connect().0).await;
    let target = MemoryTarget::new().failing(On::Write, 1..2, Errno::IO);
    let (given_up, other) = (bytes(1, 2 * MIB), bytes(2, 3));
    let hand = async {
        let manifest = [entry("d", 2 * MIB), entry("e", 3), Message::End(2)];
        let mut sender = HandSender::begin(sending, &manifest).await;
        assert_eq!((sender.status().await, sender.status().await), (Status::Want, Status::Want));
        let (mut out, answer) = sender.connection.open_bi().await.unwrap();
        let (first, rest) = given_up[..1 << 20].split_at(300_000);
        let head = header(0, 0, MIB, vec![]);
        out.write_all(&mut [head.into(), first.to_vec().into()]).await.unwrap();
        sender.say(Message::Abandon(EntryId(0), Reason::SourceChanged, "it has changed".into())).await;
        assert!(matches!(sender.status().await, Status::Failed(Reason::SourceChanged, _)));
        // The receiver may drop it before all of this has arrived.
        let _ = out.write_all(&mut [rest.to_vec().into()]).await;
        let nack = MessageReader::new(answer).expect().await;
        assert_eq!(nack, Ok(Message::Nack(Reason::TransferFailed)));
        let answer = sender.parcel(&[&header(1, 0, 3, vec![]), &other, &value(3, 0, &other)]).await;
        assert_eq!(MessageReader::new(answer).expect().await, Ok(Message::Ack(1)));
        assert_eq!(sender.status().await, Status::Done(None));
        sender.connection.close(0, b"");
    };
    let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
    let ((), received) = tokio::join!(hand, received);
    assert_eq!(received.unwrap().failed, 1);
    assert!(target.files()[&b"e"[..]] == other);
}

/// The manifest is read only as far as entries may be open, so a long one takes no memory.
#[tokio::test(start_paused = true)]
async fn attack_14_a_manifest_that_goes_ahead_is_not_read() {
    let session = Session::new(1);
    let max = session.receiver.context.memory.open_entries();
    let (sending, receiving) = greet(session.connect().0).await;
    let target = MemoryTarget::new();
    let hand = async {
        let manifest: Vec<_> = (0..max + 100).map(|n| entry(&format!("n{n}"), 3)).collect();
        let mut sender = HandSender::begin(sending, &manifest).await;
        let mut wanted = 0;
        while timeout(Duration::from_secs(2), sender.status()).await.is_ok() {
            wanted += 1;
        }
        sender.connection.close(0, b"");
        wanted
    };
    let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
    let (wanted, received) = tokio::join!(hand, received);
    assert_eq!(wanted, max);
    assert_eq!(received.unwrap_err().reason, Reason::ConnectionLost);
}

/// Runs a sender of one small file against a receiver that answers its parcel with `answer`.
async fn answer_parcel(answer: &[Message]) -> Failure {
    let session = Session::new(1);
    let (sending, link) = greet(session.connect().0).await;
    let hand = async {
        let mut control = HandOut::new(link.control_out);
        control.say(&Message::Status(EntryId(0), Status::Want)).await.unwrap();
        let (mut out, _parcel) = link.connection.accept_bi().await.unwrap();
        for message in answer {
            write_message(&mut out, message).await.unwrap();
        }
        let _ = out.finish();
        told(link.connection.closed().await)
    };
    let source = source(&one_file(3));
    let (told, sent) = tokio::join!(hand, send_on(sending, &source, &session.sender.context));
    let failure = sent.unwrap_err();
    assert_eq!((told.reason, &told.message), (failure.reason, &failure.message));
    failure
}

#[tokio::test(start_paused = true)]
async fn invalid_answers() {
    for (answer, reason) in [
        (vec![Message::Ack(0)], Reason::Protocol),
        (vec![Message::Ack(2)], Reason::Protocol),
        (vec![Message::End(1)], Reason::Protocol),
        (vec![Message::Nack(Reason::TransferFailed)], Reason::TransferFailed),
        // Fault 13: this failure would not be the receiver's.
        (vec![Message::Nack(Reason::SpecialFile)], Reason::Protocol),
        // Fault 15: bytes after the answer.
        (vec![Message::Ack(1), Message::Ack(1)], Reason::Protocol),
        (vec![], Reason::Protocol),
    ] {
        assert_eq!(answer_parcel(&answer).await.reason, reason, "{answer:?}");
    }
}

/// Fault 15: messages about a peer's breach never contain Rust's debug output.
#[tokio::test(start_paused = true)]
async fn fault_15_a_breach_is_told_in_words() {
    for said in [
        Message::Close(EntryId(0), [7; 32], false, None),
        Message::Status(EntryId(0), Status::Done(Some(RelPath::new(b"a").unwrap()))),
        Message::Omitted(Reason::SpecialFile, "text".into()),
    ] {
        let failure = receiver_says(std::slice::from_ref(&said)).await;
        let name = said.name();
        assert!(failure.message.contains(name), "{failure}");
        assert!(!failure.message.contains(['{', '[', '(', '"']), "{failure}");
    }
    let failure = refuse(&[Message::Ack(1)], async |_| {}).await;
    assert_eq!(failure.message, "Ack does not belong on the manifest stream");
}

/// Fault 15: a receiver sends nothing after its last message.
#[tokio::test(start_paused = true)]
async fn fault_15_nothing_stands_behind_finished() {
    let (mut sender, finished) =
        (Sender::new(20, PATIENCE, Duration::ZERO), Message::Finished { synced: true, not_kept: vec![] });
    sender.walk_ended(Duration::ZERO);
    sender.on_control(finished.clone(), Duration::ZERO).unwrap();
    for said in [finished, Message::Heartbeat(Activity::Waiting), Message::Came(0)] {
        let failure = sender.on_control(said, Duration::ZERO).unwrap_err();
        assert_eq!(failure.reason, Reason::Protocol);
    }
}

/// Fault 9: a link target of one byte does not keep its whole receive buffer.
#[test]
fn fault_9_a_link_target_does_not_keep_the_buffer_it_came_in() {
    let mut out = BytesMut::new();
    let path = RelPath::new(b"link").unwrap();
    let kind = Kind::Symlink { target: Bytes::from_static(b"t") };
    Message::Entry(Entry { path, meta: Meta::default(), kind, hole_bytes: 0 }).encode(&mut out);
    let mut payload = out.freeze();
    payload.advance(2);
    let decoded = Message::decode(0x20, payload.clone()).unwrap();
    assert!(matches!(decoded, Some(Message::Entry(_))));
    assert!(payload.is_unique(), "the message holds a part of the buffer");
}

/// The result of a sender of one small file, when the receiver sends this after the manifest.
async fn receiver_says(said: &[Message]) -> Failure {
    let session = Session::new(1);
    let (sending, link) = greet(session.connect().0).await;
    let hand = async {
        // After the manifest, so that the entry is known.
        let mut manifest = MessageReader::new(link.connection.accept_uni().await.unwrap());
        while !matches!(hear(&mut manifest).await.unwrap(), Message::End(_)) {}
        let mut control = HandOut::new(link.control_out);
        for message in said {
            control.say(message).await.unwrap();
        }
        told(link.connection.closed().await).reason
    };
    let source = source(&one_file(3));
    let (told, sent) = tokio::join!(hand, send_on(sending, &source, &session.sender.context));
    let failure = sent.unwrap_err();
    assert_eq!(told, failure.reason, "{said:?}");
    failure
}

#[tokio::test(start_paused = true)]
async fn receivers_that_lie() {
    for said in [
        vec![Message::Finished { synced: true, not_kept: vec![] }],
        vec![Message::Status(EntryId(0), Status::Done(None))],
        vec![Message::Status(EntryId(0), Status::Identical(None))],
        vec![Message::Status(EntryId(0), Status::Want), Message::Status(EntryId(0), Status::Want)],
        vec![Message::Close(EntryId(0), [0; 32], false, None)],
    ] {
        assert_eq!(receiver_says(&said).await.reason, Reason::Protocol, "{said:?}");
    }
}
