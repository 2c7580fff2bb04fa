//! Peers that read nothing, and last messages.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::hand::{HandOut, hear};
use super::peers::{HandSender, entry};
use super::told;
use super::{Session, TIMEOUT, greet, one_file, receive_on, send_on, source};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::final_name::Exists;
use crate::protocol::wire::entry::{EntryId, Kind};
use crate::protocol::wire::message::{Message, Received};
use crate::protocol::wire::status::Status;
use crate::session::messages::{MessageReader, write_message};
use crate::testing::connection::MemoryLimits;
use crate::testing::disk::{MemorySource, MemoryTarget};
use crate::transport::{Connection, SendStream};

const FINISHED: Message = Message::Finished { synced: true, not_kept: vec![] };

/// Small files with names of `name_bytes` bytes.
fn many(files: usize, name_bytes: usize) -> MemorySource {
    let names: Vec<_> = (0..files).map(|n| format!("{n:0name_bytes$}")).collect();
    MemorySource::new(names.iter().map(|name| (&name[..], Kind::File { size: 0 }, vec![1])).collect())
}

/// Fault 4: the answers to refused entries must not pile up. Once the sender reads, everything continues.
#[tokio::test(start_paused = true)]
async fn fault_4_a_sender_that_reads_no_answers_is_not_read_on() {
    const ENTRIES: usize = 60_000;
    let session = Session::new(1);
    let (sending, receiving) = greet(session.connect().0).await;
    let hand = async {
        let HandSender { connection, mut control_out, mut control_in, manifest: mut out } =
            HandSender::open(sending).await;
        let mut written = 0;
        for message in (0..ENTRIES).map(|n| entry(&format!("no-directory/{n}"), 3)) {
            if timeout(Duration::from_secs(5), out.say(&message)).await.is_err() {
                break;
            }
            written += 1;
        }
        assert!((1000..ENTRIES / 2).contains(&written), "{written} entries were taken");
        // The message that waited was not written, or only in part; this is its end.
        let mut answers = 0;
        while answers < written {
            let message = timeout(Duration::from_secs(5), hear(&mut control_in)).await;
            let message =
                message.unwrap_or_else(|_| panic!("{answers} answers to {written} entries")).unwrap();
            if !matches!(message, Message::Status(..)) {
                continue;
            }
            answers += 1;
            if answers.is_multiple_of(1000) {
                // Heart-beats have no numbers, and the receiver sends nothing else.
                let received = Received { control: answers as u64, manifest: 0 };
                let _ = control_out.say(&Message::Confirm(received)).await;
            }
        }
        connection.close(0, b"");
    };
    let target = MemoryTarget::new();
    let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
    let ((), received) = tokio::join!(hand, received);
    assert_eq!(received.unwrap_err().reason, Reason::ConnectionLost);
}

/// Fault 4, the other way: a receiver that gives up entries without reading any gets no further ones.
#[tokio::test(start_paused = true)]
async fn fault_4_a_receiver_that_reads_no_manifest_gets_no_more_of_it() {
    const ENTRIES: usize = 20_000;
    let session = Session::new(1);
    let (sending, link) = greet(session.connect().0).await;
    let hand = async {
        let mut control = HandOut::new(link.control_out);
        for id in 0..ENTRIES as u64 {
            let status = Message::Status(EntryId(id), Status::Failed(Reason::Refused, String::new()));
            if control.say(&status).await.is_err() {
                return id;
            }
            if id % 256 == 0 {
                sleep(Duration::from_millis(200)).await;
            }
        }
        ENTRIES as u64
    };
    let source = many(ENTRIES, 200);
    let (given_up, sent) = tokio::join!(hand, send_on(sending, &source, &session.sender.context));
    assert_eq!(sent.unwrap_err().reason, Reason::UnknownTransfer);
    assert!(given_up < 6000, "{given_up} entries were announced to nobody");
}

/// Both control streams and the manifest are always full here, and neither side waits forever.
/// [W-23]
#[tokio::test(start_paused = true)]
async fn fault_4_two_honest_sides_with_the_smallest_windows_end() {
    let mut session = Session::new(1);
    session.limits =
        MemoryLimits { connection_window_bytes: 4096, stream_window_bytes: 1024, ..session.limits };
    let target = MemoryTarget::new();
    let ended = session.run(&many(3000, 100), &target).await;
    assert_eq!((ended.sent.unwrap().files, ended.received.unwrap().files), (3000, 3000));
    // Once more: now all entries are refused or compared.
    let ended = session.run(&many(3000, 100), &target).await;
    assert_eq!((ended.sent.unwrap().identical, ended.received.unwrap().identical), (3000, 3000));
}

/// A sender's result, when the receiver wants its file, sends these messages once it has arrived, and closes with
/// `code`.
async fn close_after(said: &[Message], code: u32, acks: bool) -> Result<u64, Failure> {
    let mut session = Session::new(1);
    session.limits.delay_max = Duration::ZERO;
    let (sending, link) = greet(session.connect().0).await;
    let hand = async {
        let mut manifest = MessageReader::new(link.connection.accept_uni().await.unwrap());
        while !matches!(hear(&mut manifest).await.unwrap(), Message::End(_)) {}
        let mut control = HandOut::new(link.control_out);
        control.say(&Message::Status(EntryId(0), Status::Want)).await.unwrap();
        let (mut out, parcel) = link.connection.accept_bi().await.unwrap();
        let mut parcel = parcel;
        while crate::transport::RecvStream::read(&mut parcel, &mut [0; 100]).await.unwrap().is_some() {}
        for message in said {
            control.say(message).await.unwrap();
        }
        if acks {
            write_message(&mut out, &Message::Ack(1)).await.unwrap();
            out.finish().unwrap();
        }
        if said.contains(&FINISHED) {
            control.finish();
        }
        // All messages have arrived and none has been read when the close arrives.
        link.connection.close(code, b"");
    };
    let source = source(&one_file(3));
    let (sent, ()) = tokio::join!(send_on(sending, &source, &session.sender.context), hand);
    sent.map(|summary| summary.files)
}

/// Fault 8: a receiver may close after `Finished`, before the sender has read it or the acks.
/// [W-24]
#[tokio::test(start_paused = true)]
async fn fault_8_what_a_receiver_said_before_it_closed_counts() {
    let done = Message::Status(EntryId(0), Status::Done(None));
    for acks in [true, false] {
        assert_eq!(close_after(&[done.clone(), FINISHED], 0, acks).await, Ok(1), "acks: {acks}");
        let failure = close_after(std::slice::from_ref(&done), 0, acks).await.unwrap_err();
        assert_eq!(failure.reason, Reason::ConnectionLost, "not without Finished; acks: {acks}");
    }
    assert!(close_after(&[], 0, true).await.is_err());
}

/// Fault 8: the receiver waits for a sender that is slow to hear the end, but not for one that never closes.
#[tokio::test(start_paused = true)]
async fn fault_8_a_receiver_waits_for_the_sender_to_close() {
    for closes in [true, false] {
        let session = Session::new(1);
        let (sending, receiving) = greet(session.connect().0).await;
        let hand = async {
            let mut sender = HandSender::begin(sending, &[Message::End(0)]).await;
            while hear(&mut sender.control_in).await != Ok(FINISHED) {}
            sleep(TIMEOUT - Duration::from_secs(5)).await;
            assert!(!sender.connection.is_closed());
            if closes {
                sender.connection.close(0, b"");
            } else {
                sleep(TIMEOUT).await;
                assert!(sender.connection.is_closed());
            }
        };
        let (start, target) = (Instant::now(), MemoryTarget::new());
        let received = async {
            let ended = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context).await;
            (ended, start.elapsed())
        };
        let ((), (received, took)) = tokio::join!(hand, received);
        received.unwrap();
        assert!(took < TIMEOUT + Duration::from_secs(2), "{took:?}");
    }
}

/// Fault 15: a transfer needs its control and manifest streams.
/// [W-10]
#[tokio::test(start_paused = true)]
async fn fault_15_a_peer_that_stops_reading_a_stream_ends_the_transfer() {
    for stops_manifest in [true, false] {
        let mut session = Session::new(1);
        session.limits.stream_window_bytes = 16 * 1024;
        let (sending, link) = greet(session.connect().0).await;
        let start = Instant::now();
        let hand = async {
            let manifest = link.connection.accept_uni().await.unwrap();
            let (_out, heard) = (link.control_out, link.control_in);
            let _kept = if stops_manifest {
                drop(manifest);
                Some(heard)
            } else {
                drop(heard);
                None
            };
            told(link.connection.closed().await);
        };
        let source = many(10_000, 200);
        let (sent, ()) = tokio::join!(send_on(sending, &source, &session.sender.context), hand);
        let failure = sent.unwrap_err();
        assert_eq!(failure.reason, Reason::Protocol, "{failure}");
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
    let session = Session::new(1);
    let (sending, receiving) = greet(session.connect().0).await;
    let (start, target) = (Instant::now(), MemoryTarget::new());
    let hand = async {
        let sender = HandSender::begin(sending, &[entry("f", 3), Message::End(1)]).await;
        let (connection, _out) = (sender.connection, sender.control_out);
        let heard: MessageReader<_> = sender.control_in;
        drop(heard);
        connection.closed().await
    };
    let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
    let (_, received) = tokio::join!(hand, received);
    assert_eq!(received.unwrap_err().reason, Reason::Protocol);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// [W-18], [S-4]
#[tokio::test(start_paused = true)]
async fn an_ack_of_another_number_of_records_is_a_breach() {
    let session = Session::new(1);
    let (sending, link) = greet(session.connect().0).await;
    let hand = async {
        let mut manifest = MessageReader::new(link.connection.accept_uni().await.unwrap());
        while !matches!(hear(&mut manifest).await.unwrap(), Message::End(_)) {}
        let mut control = HandOut::new(link.control_out);
        control.say(&Message::Status(EntryId(0), Status::Want)).await.unwrap();
        let (mut out, _parcel) = link.connection.accept_bi().await.unwrap();
        write_message(&mut out, &Message::Ack(2)).await.unwrap();
        out.finish().unwrap();
        link.connection.closed().await
    };
    let source = source(&one_file(3));
    let (sent, _) = tokio::join!(send_on(sending, &source, &session.sender.context), hand);
    assert_eq!(sent.unwrap_err().reason, Reason::Protocol);
}
