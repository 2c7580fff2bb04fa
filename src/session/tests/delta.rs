//! Sessions that take bytes from the file to be replaced, and peers that lie about it.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{sleep, timeout};

use super::hand::HandOut;
use super::peers::{HandSender, entry, header};
use super::replaced::Rig;
use super::resume::value;
use super::{MIB, Session, Setup, bytes, greet, random, receive_on, seeds, send_on};
use crate::event::Summary;
use crate::protocol::delta::pieces::{Piece, SignatureState};
use crate::protocol::delta::recipe::{Recipe, RunSource};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::final_name::Exists;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::SIGNATURES_MAX;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::record::{RecordHeader, RecordKind};
use crate::protocol::wire::status::Status;
use crate::session::Throttle;
use crate::session::messages::{MessageReader, write_message};
use crate::session::schedule::Schedule;
use crate::testing::disk::{MemorySource, MemoryTarget, Node};
use crate::transport::{Connection, SendStream};

const OLD_BYTES: u64 = 6 * MIB;

/// A rate at which an old file is worth its signature.
fn slow(side: &mut Setup) {
    let schedule = Schedule { windows: Vec::new(), otherwise: NonZeroU64::new(2 * MIB) };
    side.context.throttle = Arc::new(Throttle::new(schedule, || Duration::ZERO));
}

fn session(seed: u64) -> Session {
    let mut session = Session::new(seed);
    slow(&mut session.sender);
    session.exists = Exists::Replace;
    session
}

fn old() -> Vec<u8> {
    bytes(1, OLD_BYTES)
}

/// The old file with 10 bytes in front, 100,000 bytes changed and 5000 removed.
fn new() -> Vec<u8> {
    let mut new = [bytes(2, 10), old()].concat();
    new[1_500_000..1_600_000].copy_from_slice(&bytes(3, 100_000));
    new.drain(4_500_000..4_505_000);
    new
}

/// Bytes of `new` that may be sent: what was changed, and the pieces at three places.
const SENT_BYTES_MAX: u64 = 100_000 + 4 * 50_000;

fn with_old(content: Vec<u8>) -> MemoryTarget {
    MemoryTarget::new().with("f", Node::File(content))
}

fn assert_arrived(target: &MemoryTarget, content: &[u8], context: &str) {
    assert!(
        target.files().get(&b"f"[..]).is_some_and(|there| there == content),
        "{context}: another content"
    );
    assert_eq!(target.kept(), [].into(), "{context}: something is left");
}

#[tokio::test(start_paused = true)]
async fn what_the_old_file_has_is_taken_from_it() {
    for (seed, old, new, sent_max) in [
        (1, old(), new(), SENT_BYTES_MAX),
        // Twice the same, and a tail that is new.
        (2, old(), [old(), old(), bytes(4, 20_000)].concat(), 100_000),
        (3, new(), old(), SENT_BYTES_MAX),
        // Zeros are pieces like any other.
        (4, [vec![0; 3_000_000], old()].concat(), [old(), vec![0; 3_000_000]].concat(), 150_000),
    ] {
        let (session, target, size) = (session(seed), with_old(old), new.len() as u64);
        let ended = session.run(&MemorySource::file("f", new.clone()), &target).await;
        let (sent, received) = (ended.sent.unwrap(), ended.received.unwrap());
        assert_arrived(&target, &new, &format!("case {seed}"));
        assert_eq!(sent.copied_bytes, received.copied_bytes);
        assert_eq!(sent.sent_bytes + sent.copied_bytes, size, "case {seed}");
        assert_eq!(received.sent_bytes, sent.sent_bytes);
        assert!(sent.sent_bytes <= sent_max, "case {seed}: {} bytes", sent.sent_bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_file_is_of_no_use_where_it_is_not_wanted() {
    for (what, exists, delta, is_slow) in [
        ("the rule is rename", Exists::Rename, true, true),
        ("the sender has --delta off", Exists::Replace, false, true),
        ("the path is fast", Exists::Replace, true, false),
    ] {
        let mut session = Session::new(1);
        if is_slow {
            slow(&mut session.sender);
        }
        (session.exists, session.sender.context.delta) = (exists, delta);
        let (target, new) = (with_old(old()), new());
        let ended = session.run(&MemorySource::file("f", new.clone()), &target).await;
        let Summary { sent_bytes, copied_bytes, .. } = ended.sent.unwrap();
        assert_eq!((sent_bytes, copied_bytes), (new.len() as u64, 0), "{what}");
        assert_eq!(ended.received.unwrap().copied_bytes, 0, "{what}");
        assert!(target.files().values().any(|there| *there == new), "{what}");
    }
}

/// [W-48] The old file changes at any moment: before, during or after its signature, while chunks are made of it.
#[tokio::test(start_paused = true)]
async fn an_old_file_that_changes_costs_its_chunks() {
    let mut changed_in_time = 0;
    for seed in seeds() {
        let session = session(seed);
        let target = with_old(old()).with_write_pace(Duration::from_millis(100));
        let changing = async {
            sleep(Duration::from_millis(random(seed) % 800)).await;
            let mut other = old();
            match seed % 3 {
                0 => other.truncate(2_000_000),
                1 => other = bytes(7, OLD_BYTES),
                _ => other[3_000_000..4_000_000].fill(1),
            }
            target.overwrite("f", other);
        };
        let source = MemorySource::file("f", new());
        let run = timeout(Duration::from_secs(600), session.run(&source, &target));
        let (ended, ()) = tokio::join!(run, changing);
        let ended = ended.unwrap_or_else(|_| panic!("seed {seed} hangs"));
        let sent = ended.sent.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        ended.received.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        assert_arrived(&target, &new(), &format!("seed {seed}"));
        changed_in_time += u64::from(sent.copied_bytes > 0 && sent.sent_bytes > MIB);
    }
    assert!(changed_in_time > 0, "no old file changed while it was in use");
}

/// The second attempt resumes what the first one left, and takes the rest from the old file.
#[tokio::test(start_paused = true)]
async fn a_transfer_that_is_cut_goes_on_with_what_is_left_and_the_old_file() {
    let mut resumed = 0;
    for seed in seeds() {
        let (first, source) = (session(seed), MemorySource::file("f", new()));
        let target = with_old(old()).with_write_pace(Duration::from_secs(3));
        let (ends, link) = first.connect();
        let (sending, receiving) = greet(ends).await;
        let cut = async {
            sleep(Duration::from_millis(4000 + random(seed) % 4000)).await;
            link.cut();
        };
        let (sent, received, ()) = tokio::join!(
            send_on(sending, &source, &first.sender.context),
            receive_on(receiving, &target, Exists::Replace, &first.receiver.context),
            cut
        );
        if sent.is_ok() || received.is_ok() {
            continue;
        }
        assert!(target.files()[&b"f"[..]] == old(), "seed {seed}: the old file was touched");
        let target = target.beside();
        let ended = session(seed + 100).run(&source, &target).await;
        let sent = ended.sent.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        ended.received.unwrap();
        assert_arrived(&target, &new(), &format!("seed {seed}"));
        assert!(sent.sent_bytes <= SENT_BYTES_MAX, "seed {seed}: {} bytes", sent.sent_bytes);
        let there = sent.sent_bytes + sent.copied_bytes + sent.resumed_bytes;
        assert_eq!(there, new().len() as u64, "seed {seed}");
        resumed += sent.resumed_bytes;
    }
    assert!(resumed > 0, "nothing was resumed");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_replaced_asks_again_for_what_it_lost() {
    let mut copied = 0;
    for seed in seeds() {
        let Rig { mut session, sending, receiving, attacher, first } = Rig::new(seed).await;
        slow(&mut session.sender);
        let target = with_old(old()).with_write_pace(Duration::from_millis(100));
        let source = MemorySource::file("f", new());
        let cutting = async {
            // Before that, there is no session to go on with.
            while session.receiver.told.0.lock().unwrap().is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
            let mut link = first;
            for cut in 0..2 {
                sleep(Duration::from_millis(random(seed * 10 + cut) % 900)).await;
                link.cut();
                sleep(Duration::from_millis(300)).await;
                link = attacher.attach(seed * 10 + cut + 1000, 0).await;
            }
        };
        let all = async {
            tokio::join!(
                send_on(sending, &source, &session.sender.context),
                receive_on(receiving, &target, Exists::Replace, &session.receiver.context),
                cutting
            )
        };
        let ended = timeout(Duration::from_secs(600), all).await;
        let (sent, received, ()) = ended.unwrap_or_else(|_| panic!("seed {seed} hangs"));
        let sent = sent.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        received.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        assert_arrived(&target, &new(), &format!("seed {seed}"));
        assert!(sent.sent_bytes <= 3 * SENT_BYTES_MAX, "seed {seed}: {} bytes", sent.sent_bytes);
        copied += sent.copied_bytes;
    }
    assert!(copied > 0);
}

fn parcel(kind: RecordKind, offset: u64, len: u64) -> Vec<u8> {
    let mut out = BytesMut::new();
    RecordHeader { id: EntryId(0), offset, len, kind, runs: Vec::new() }.encode(&mut out);
    out.to_vec()
}

fn request(piece_bytes: u64) -> Vec<u8> {
    parcel(RecordKind::Signature, 0, piece_bytes)
}

/// A recipe of the first chunk that copies it from `from`, with this value.
fn copy(from: u64, value: [u8; 32]) -> Vec<u8> {
    let (mut recipe, mut out) = (Recipe::default(), BytesMut::new());
    recipe.push(MIB, RunSource::Old(from));
    recipe.encode(&mut out);
    [&parcel(RecordKind::Recipe, 0, MIB)[..], &out, &value].concat()
}

/// Runs `hand` against a receiver of a file of 2 MiB with an old one of 3 MiB.
async fn against_receiver<T>(
    exists: Exists,
    hand: impl AsyncFnOnce(&mut HandSender) -> T,
) -> (T, Result<MemoryTarget, Failure>) {
    let session = Session::new(1);
    let (sending, receiving) = greet(session.connect().0).await;
    let target = with_old(bytes(1, 3 * MIB));
    let hand = async {
        let mut sender = HandSender::begin(sending, &[entry("f", 2 * MIB), Message::End(1)]).await;
        assert_eq!(sender.status().await, Status::Want);
        hand(&mut sender).await
    };
    let received = receive_on(receiving, &target, exists, &session.receiver.context);
    let (said, received) = tokio::join!(hand, received);
    (said, received.map(|_| target))
}

/// All messages of an answer.
async fn answers(sender: &HandSender, parcel: &[u8]) -> Vec<Message> {
    let mut reader = MessageReader::new(sender.parcel(&[parcel]).await);
    let mut all = Vec::new();
    while let Ok(Some(message)) = reader.next().await {
        all.push(message);
    }
    all
}

/// [W-47], [W-48]
#[tokio::test(start_paused = true)]
async fn a_recipe_is_written_or_asked_for_as_data() {
    let old = bytes(1, 3 * MIB);
    let content = [&old[1 << 20..2 << 20], &old[..1 << 20]].concat();
    let ((), received) = against_receiver(Exists::Replace, async |sender| {
        let signature = answers(sender, &request(8192)).await;
        let pieces = signature.iter().flat_map(|message| match message {
            Message::Pieces(SignatureState::More | SignatureState::Complete, pieces) => pieces.clone(),
            other => panic!("{other:?}"),
        });
        assert_eq!(pieces.map(|piece| piece.len).sum::<u64>(), 3 * MIB);
        assert!(matches!(signature.last(), Some(Message::Pieces(SignatureState::Complete, _))));
        // The bytes are others than the sender has, so the chunk has to be sent.
        assert_eq!(answers(sender, &copy(0, value(&content, 0))).await, [Message::Matched(0)]);
        let data = [&header(0, 0, MIB, vec![])[..], &content[..1 << 20], &value(&content, 0)].concat();
        assert_eq!(answers(sender, &data).await, [Message::Ack(1)]);
        let mut second = copy(0, value(&content, 1));
        second.splice(..parcel(RecordKind::Recipe, 0, MIB).len(), parcel(RecordKind::Recipe, MIB, MIB));
        assert_eq!(answers(sender, &second).await, [Message::Matched(1)]);
        assert_eq!(answers(sender, &second).await, [Message::Matched(1)], "it was written before");
        sender.say(Message::Close(EntryId(0), *blake3::hash(&content).as_bytes(), false, None)).await;
        assert_eq!(sender.status().await, Status::Done(None));
        sender.connection.close(0, b"");
    })
    .await;
    assert_arrived(&received.unwrap(), &content, "by hand");
}

/// [W-46], [R-17], [R-18], [R-19]
#[tokio::test(start_paused = true)]
async fn attack_34_requests_and_recipes_that_no_sender_makes() {
    let old = bytes(1, 3 * MIB);
    let right = value(&old, 0);
    let record = [&header(0, 0, MIB, vec![])[..], &old[..1 << 20], &right].concat();
    let signed = |parcels: &[Vec<u8>]| [&[request(8192)], parcels].concat();
    let mut unknown = request(8192);
    unknown[0] = 1;
    for (what, exists, parcels, reason) in [
        ("no replacing", Exists::Rename, vec![request(8192)], Reason::Protocol),
        ("no replacing", Exists::Rename, vec![copy(0, right)], Reason::Protocol),
        ("no signature", Exists::Replace, vec![copy(0, right)], Reason::Protocol),
        ("an unknown entry", Exists::Replace, vec![unknown], Reason::UnknownTransfer),
        ("small pieces", Exists::Replace, vec![request(4096)], Reason::Protocol),
        ("large pieces", Exists::Replace, vec![request(1 << 23)], Reason::Protocol),
        ("odd pieces", Exists::Replace, vec![request(10_000)], Reason::Protocol),
        ("at an offset", Exists::Replace, vec![parcel(RecordKind::Signature, MIB, 8192)], Reason::Protocol),
        ("too often", Exists::Replace, vec![request(8192); SIGNATURES_MAX as usize + 1], Reason::Protocol),
        ("something after it", Exists::Replace, vec![[request(8192), vec![0]].concat()], Reason::Protocol),
        ("after the end", Exists::Replace, signed(&[copy(2 * MIB + 1, right)]), Reason::Protocol),
        ("far after the end", Exists::Replace, signed(&[copy(1 << 60, right)]), Reason::Protocol),
        ("a second recipe", Exists::Replace, signed(&[copy(5, right), copy(0, right)]), Reason::Protocol),
        ("two recipes", Exists::Replace, signed(&[copy(0, right).repeat(2)]), Reason::Protocol),
        ("after a record", Exists::Replace, signed(&[[record, copy(0, right)].concat()]), Reason::Protocol),
        ("cut short", Exists::Replace, signed(&[copy(0, right)[..20].to_vec()]), Reason::Protocol),
        ("no chunk", Exists::Replace, signed(&[parcel(RecordKind::Recipe, 1, MIB)]), Reason::Protocol),
    ] {
        let (told, received) = against_receiver(exists, async |sender| {
            for parcel in &parcels {
                answers(sender, parcel).await;
            }
            sender.closed().await
        })
        .await;
        let failure = received.err().unwrap_or_else(|| panic!("{what}"));
        assert_eq!((failure.reason, told.reason), (reason, reason), "{what}: {failure}");
    }
}

/// Runs a sender of a file against a receiver that says this, and answers the parcels after that.
async fn against_sender(size: u64, said: &[Message], answers: &[Vec<Message>]) -> Failure {
    let mut session = Session::new(1);
    slow(&mut session.sender);
    let (sending, link) = greet(session.connect().0).await;
    let hand = async {
        let mut control = HandOut::new(link.control_out);
        for message in said {
            control.say(message).await.unwrap();
        }
        let mut open = Vec::new();
        for answer in answers {
            let (mut out, parcel) = link.connection.accept_bi().await.unwrap();
            for message in answer {
                write_message(&mut out, message).await.unwrap();
            }
            out.finish().unwrap();
            open.push((out, parcel));
        }
        link.connection.closed().await
    };
    let source = MemorySource::file("f", bytes(1, size));
    let (sent, _) = tokio::join!(send_on(sending, &source, &session.sender.context), hand);
    sent.unwrap_err()
}

/// [S-2], [S-8]
#[tokio::test(start_paused = true)]
async fn attack_34_receivers_with_an_old_file_that_is_none() {
    let old = |bytes| Message::Old(EntryId(0), bytes);
    let want = Message::Status(EntryId(0), Status::Want);
    for (what, size, said) in [
        ("of a small file", 3, vec![old(5)]),
        ("of one chunk", MIB, vec![old(5)]),
        ("twice", 3 * MIB, vec![old(5), old(5)]),
        ("late", 3 * MIB, vec![want.clone(), old(5)]),
    ] {
        let failure = against_sender(size, &said, &[]).await;
        assert_eq!(failure.reason, Reason::Protocol, "{what}: {failure}");
    }
    let piece = |len| Piece { len, hash: [1; 16] };
    let complete = |pieces| vec![Message::Pieces(SignatureState::Complete, pieces)];
    for (what, answer) in [
        ("too short", complete(vec![piece(9000)])),
        ("too long", complete(vec![piece(9000), piece(1001)])),
        ("no answer to it", vec![Message::Ack(1)]),
        ("without an end", vec![Message::Pieces(SignatureState::More, vec![piece(10_000)])]),
        ("not at its end", [complete(vec![piece(10_000)]), vec![Message::Ack(1)]].concat()),
    ] {
        let failure = against_sender(3 * MIB, &[old(10_000), want.clone()], &[answer]).await;
        assert_eq!(failure.reason, Reason::Protocol, "{what}: {failure}");
    }
}
