//! Claims by hand: what a sender may say of held chunks, and a receiver of claims.

use bytes::BytesMut;
use tokio::time::sleep;

use super::hand::HandOut;
use super::peers::{HandSender, entry, header};
use super::resume::{leave, value};
use super::{MIB, Session, bytes, greet, receive_on, send_on};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::final_name::Exists;
use crate::protocol::wire::entry::EntryId;
use crate::protocol::wire::limits::CLAIMS_MAX;
use crate::protocol::wire::message::Message;
use crate::protocol::wire::record::{RecordHeader, RecordKind};
use crate::protocol::wire::status::Status;
use crate::session::messages::{MessageReader, write_message};
use crate::testing::disk::{MemorySource, MemoryTarget};
use crate::transport::{Connection, SendStream};

/// A claim that `len` bytes at `offset` have this value.
fn claim(id: u64, offset: u64, len: u64, value: [u8; 32]) -> Vec<u8> {
    let mut out = BytesMut::new();
    RecordHeader { id: EntryId(id), offset, len, kind: RecordKind::Claim, runs: Vec::new() }.encode(&mut out);
    [&out[..], &value].concat()
}

/// The chunk `index` of `content` as a record.
fn record(content: &[u8], index: u64) -> Vec<u8> {
    let start = usize::try_from(index * MIB).unwrap();
    let data = &content[start..content.len().min(start + (1 << 20))];
    [&header(0, index * MIB, data.len() as u64, vec![])[..], data, &value(content, index)].concat()
}

/// Runs `hand` against a receiver that holds chunks 1 and 2 of the four of `content`.
async fn against_receiver<T>(
    content: &[u8],
    hand: impl AsyncFnOnce(&mut HandSender) -> T,
) -> (T, Result<MemoryTarget, Failure>) {
    let session = Session::new(1);
    let (sending, receiving) = greet(session.connect().0).await;
    let target = MemoryTarget::new();
    leave(&target.beside(), content, 1..3).await;
    let size = content.len() as u64;
    let hand = async {
        let mut sender = HandSender::begin(sending, &[entry("f", size), Message::End(1)]).await;
        assert_eq!(sender.status().await, Status::Resume(std::iter::once(1..3).collect()));
        hand(&mut sender).await
    };
    let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
    let (said, received) = tokio::join!(hand, received);
    (said, received.map(|_| target))
}

async fn answer(sender: &HandSender, parcel: &[&[u8]]) -> Result<Message, Failure> {
    MessageReader::new(sender.parcel(parcel).await).expect().await
}

async fn close(sender: &mut HandSender, content: &[u8]) {
    sender.say(Message::Close(EntryId(0), *blake3::hash(content).as_bytes(), false, None)).await;
    assert_eq!(sender.status().await, Status::Done(None));
    sender.connection.close(0, b"");
}

/// [W-44], [W-45] A chunk that differs is wanted, and what is claimed again after its answer was lost gets the same
/// answer.
#[tokio::test(start_paused = true)]
async fn claims_are_answered_with_what_is_on_the_disk() {
    let content = bytes(1, 4 * MIB);
    let (again, received) = against_receiver(&content, async |sender| {
        let claims = [claim(0, MIB, MIB, value(&content, 1)), claim(0, 2 * MIB, MIB, [7; 32])].concat();
        let mut answers = Vec::new();
        for _ in 0..2 {
            answers.push(answer(sender, &[&claims]).await.unwrap());
        }
        for index in [0, 2, 3] {
            let acked = answer(sender, &[&record(&content, index)]).await;
            assert_eq!(acked, Ok(Message::Ack(1)));
        }
        answers.push(answer(sender, &[&claims]).await.unwrap());
        close(sender, &content).await;
        answers
    })
    .await;
    assert_eq!(again, [Message::Matched(1), Message::Matched(1), Message::Matched(3)]);
    assert!(received.unwrap().files()[&b"f"[..]] == content);
}

/// A sender that does not know claims sends everything.
#[tokio::test(start_paused = true)]
async fn held_chunks_may_be_sent() {
    let content = bytes(1, 4 * MIB);
    let ((), received) = against_receiver(&content, async |sender| {
        for index in 0..4 {
            assert_eq!(answer(sender, &[&record(&content, index)]).await, Ok(Message::Ack(1)));
        }
        close(sender, &content).await;
    })
    .await;
    assert!(received.unwrap().files()[&b"f"[..]] == content);
}

///
#[tokio::test(start_paused = true)]
async fn attack_14_claims_of_what_is_not_held() {
    let content = bytes(1, 4 * MIB);
    let one = claim(0, MIB, MIB, value(&content, 1));
    let two = claim(0, 2 * MIB, MIB, value(&content, 2));
    let data = record(&content, 0);
    let many = (0..=CLAIMS_MAX as u64).map(|n| claim(0, MIB + n, MIB, [0; 32])).collect::<Vec<_>>().concat();
    for (what, parcel, reason) in [
        ("not held", claim(0, 0, MIB, value(&content, 0)), Reason::Protocol),
        ("behind the end", claim(0, 4 * MIB, MIB, [0; 32]), Reason::Protocol),
        ("far behind the end", claim(0, (1 << 60) - MIB, MIB, [0; 32]), Reason::Protocol),
        ("too short", claim(0, MIB, MIB - 1, [0; 32]), Reason::Protocol),
        ("empty", claim(0, MIB, 0, [0; 32]), Reason::Protocol),
        ("two chunks", claim(0, MIB, 2 * MIB, [0; 32]), Reason::Protocol),
        ("no chunk", claim(0, MIB + 1, MIB, [0; 32]), Reason::Protocol),
        ("an unknown entry", claim(1, MIB, MIB, [0; 32]), Reason::UnknownTransfer),
        ("twice", [&one[..], &one].concat(), Reason::Protocol),
        ("not in order", [&two[..], &one].concat(), Reason::Protocol),
        ("of two entries", [&one[..], &claim(1, 2 * MIB, MIB, [0; 32])].concat(), Reason::Protocol),
        ("with data behind", [&one[..], &data].concat(), Reason::Protocol),
        ("behind data", [&data[..], &one].concat(), Reason::Protocol),
        ("too many", many, Reason::Protocol),
        ("cut short", one[..one.len() - 1].to_vec(), Reason::Protocol),
    ] {
        let (told, received) = against_receiver(&content, async |sender| {
            let _answer = sender.parcel(&[&parcel]).await;
            sender.closed().await
        })
        .await;
        let failure = received.err().unwrap_or_else(|| panic!("{what}"));
        assert_eq!((failure.reason, told.reason), (reason, reason), "{what}: {failure}");
    }
}

/// A sender that claims what is there for a source that has other bytes does not get it under the final name.
#[tokio::test(start_paused = true)]
async fn attack_23_a_claim_of_another_version_fails_at_the_root() {
    let (held, source) = (bytes(1, 4 * MIB), bytes(2, 4 * MIB));
    let (told, received) = against_receiver(&held, async |sender| {
        let claims = [claim(0, MIB, MIB, value(&held, 1)), claim(0, 2 * MIB, MIB, value(&held, 2))].concat();
        assert_eq!(answer(sender, &[&claims]).await, Ok(Message::Matched(3)));
        for index in [0, 3] {
            assert_eq!(answer(sender, &[&record(&source, index)]).await, Ok(Message::Ack(1)));
        }
        sender.say(Message::Close(EntryId(0), *blake3::hash(&source).as_bytes(), false, None)).await;
        sender.closed().await
    })
    .await;
    assert_eq!((received.err().unwrap().reason, told.reason), (Reason::Verification, Reason::Verification));
}

/// Runs a sender of a file against a receiver that says `resume` and answers its first parcel with
/// `answer`.
async fn against_sender(size: u64, resume: Status, answer: Option<Message>) -> Failure {
    let session = Session::new(1);
    let (sending, link) = greet(session.connect().0).await;
    let hand = async {
        let mut control = HandOut::new(link.control_out);
        control.say(&Message::Status(EntryId(0), resume)).await.unwrap();
        if let Some(answer) = answer {
            let (mut out, parcel) = link.connection.accept_bi().await.unwrap();
            write_message(&mut out, &answer).await.unwrap();
            out.finish().unwrap();
            // Both streams stay open.
            sleep(super::TIMEOUT).await;
            drop((out, parcel));
        }
        link.connection.closed().await
    };
    let source = MemorySource::file("f", bytes(1, size));
    let (sent, _) = tokio::join!(send_on(sending, &source, &session.sender.context), hand);
    sent.unwrap_err()
}

/// [S-2], [S-7]
#[tokio::test(start_paused = true)]
async fn attack_14_a_receiver_holds_what_no_file_has() {
    let resume = |start, end| Status::Resume(std::iter::once(start..end).collect());
    for (size, status) in [
        (3, resume(0, 1)),
        (MIB, resume(0, 1)),
        (2 * MIB, resume(0, 3)),
        (2 * MIB, resume(2, 3)),
        (2 * MIB, resume(1, 1 << 60)),
    ] {
        let failure = against_sender(size, status.clone(), None).await;
        assert_eq!(failure.reason, Reason::Protocol, "{size} bytes, {status:?}: {failure}");
    }
    for answer in [Message::Matched(4), Message::Matched(1 << 63), Message::Ack(2), Message::Ack(0)] {
        let failure = against_sender(4 * MIB, resume(1, 3), Some(answer.clone())).await;
        assert_eq!(failure.reason, Reason::Protocol, "{answer:?}: {failure}");
    }
    let failure = against_sender(3, Status::Want, Some(Message::Matched(1))).await;
    assert_eq!(failure.reason, Reason::Protocol, "{failure}");
}
