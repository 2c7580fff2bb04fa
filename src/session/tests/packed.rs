//! Compressed transfers.

use std::time::Duration;

use bytes::BytesMut;

use super::peers::{HandSender, entry};
use super::{Compression, MIB, Session, arrived, bytes, greet, receive_on, seeds, source};
use crate::protocol::failure::Reason;
use crate::protocol::final_name::Exists;
use crate::protocol::wire::codec::put_varint;
use crate::protocol::wire::entry::{EntryId, Kind};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::record::{PieceHeader, RecordHeader, RecordKind};
use crate::protocol::wire::status::Status;
use crate::session::schedule::Schedule;
use crate::testing::disk::{MemorySource, MemoryTarget, Node};

/// Lines of a log, which differ.
fn text(len: u64) -> Vec<u8> {
    let lines =
        (0..).flat_map(|n| format!("2026-11-26 request {n} took {} ms\n", n * 7919 % 1000).into_bytes());
    lines.take(usize::try_from(len).unwrap()).collect()
}

fn session(seed: u64, compression: Compression) -> Session {
    let mut session = Session::new(seed);
    session.limits.delay_max = Duration::from_millis(seed % 3 * 30);
    session.sender.context.compression = compression;
    session
}

#[tokio::test(start_paused = true)]
async fn what_shrinks_is_compressed_and_arrives_as_it_was() {
    let tree = vec![
        ("a", Node::File(text(5 * MIB + 5))),
        ("b", Node::File(bytes(1, 3 * MIB))),
        ("c", Node::File(text(100_000))),
        ("d", Node::File(bytes(2, 100_000))),
        ("e", Node::File(text(100))),
        ("f", Node::File(Vec::new())),
    ];
    for seed in seeds().step_by(4) {
        for level in [1, 6] {
            let target = MemoryTarget::new();
            let ended = session(seed, Compression::Level(level)).run(&source(&tree), &target).await;
            assert!(target.tree() == arrived(&tree), "seed {seed}, level {level}");
            let (sent, received) = (ended.sent.unwrap(), ended.received.unwrap());
            assert_eq!(sent.saved_bytes, received.saved_bytes, "seed {seed}");
            assert_eq!((sent.sent_bytes, received.sent_bytes), (sent.bytes, sent.bytes), "seed {seed}");
            // The first parcels may be on their way before there is memory to compress.
            assert!(sent.saved_bytes > MIB, "seed {seed}: {}", sent.saved_bytes);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_compressed_unless_it_is_worth_it() {
    let noise = vec![("f", Node::File(bytes(1, 8 * MIB)))];
    let logs = vec![("f", Node::File(text(8 * MIB)))];
    for (tree, compression) in
        [(&noise, Compression::Level(3)), (&logs, Compression::Off), (&logs, Compression::Auto)]
    {
        let target = MemoryTarget::new();
        let ended = session(1, compression).run(&source(tree), &target).await;
        assert!(target.tree() == arrived(tree));
        assert_eq!(ended.sent.unwrap().saved_bytes, 0, "{compression:?}");
        assert_eq!(ended.received.unwrap().saved_bytes, 0, "{compression:?}");
    }
}

/// The rate limit is the bottleneck, and counts the bytes on the network.
#[tokio::test(start_paused = true)]
async fn a_slow_path_is_worth_it_by_itself() {
    let logs = vec![("f", Node::File(text(8 * MIB)))];
    let session = session(1, Compression::Auto);
    let schedule = Schedule { windows: Vec::new(), otherwise: std::num::NonZeroU64::new(MIB) };
    let throttle = crate::session::Throttle::new(schedule, || Duration::ZERO);
    let mut context = session.sender.context.clone();
    context.throttle = std::sync::Arc::new(throttle);
    let session = Session { sender: super::Setup { context, ..session.sender }, ..session };
    let begin = tokio::time::Instant::now();
    let ended = session.run(&source(&logs), &MemoryTarget::new()).await;
    ended.received.unwrap();
    let sent = ended.sent.unwrap();
    assert!(sent.saved_bytes > 3 * MIB, "{}", sent.saved_bytes);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn holes_and_files_of_unknown_size_are_compressed_too() {
    let mut data = text(8 * MIB);
    let hole = MIB..3 * MIB + 7;
    data[usize::try_from(hole.start).unwrap()..usize::try_from(hole.end).unwrap()].fill(0);
    let size = data.len() as u64;
    let sparse =
        MemorySource::new(vec![("f", Kind::File { size }, data.clone())]).with_hole("f", MIB..3 * MIB + 7);
    let open = MemorySource::new(vec![("f", Kind::OpenEnded, data.clone())]);
    for (source, what) in [(sparse, "holes"), (open, "unknown size")] {
        let target = MemoryTarget::new();
        let ended = session(2, Compression::Level(3)).run(&source, &target).await;
        assert!(target.files() == [(b"f".to_vec(), data.clone())].into(), "{what}");
        assert!(ended.sent.unwrap().saved_bytes > MIB, "{what}");
        ended.received.unwrap();
    }
}

/// A packed record of `kind` and one piece, which has `packed` in place of `plain` bytes.
fn record(len: u64, plain: Option<u64>, said: u64, packed: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    let (id, runs) = (EntryId(0), Vec::new());
    RecordHeader { id, offset: 0, len, kind: RecordKind::Packed, runs }.encode(&mut out);
    if let Some(plain) = plain {
        PieceHeader::Data(plain).encode(&mut out);
    }
    put_varint(&mut out, said);
    out.extend_from_slice(packed);
    out.extend_from_slice(&[0; 32]);
    out.to_vec()
}

/// [W-93] Each is a breach, whatever the frame says of itself.
#[tokio::test(start_paused = true)]
async fn attack_14_compressed_records_that_lie() {
    let plain = text(200_000);
    let frame = zstd::bulk::compress(&plain, 3).unwrap();
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    let short = zstd::bulk::compress(&plain[..100_000], 3).unwrap();
    let len = |bytes: &[u8]| bytes.len() as u64;
    let size = Message::Entry(crate::protocol::wire::entry::Entry {
        kind: Kind::OpenEnded,
        ..match entry("f", 0) {
            Message::Entry(entry) => entry,
            other => panic!("{other:?}"),
        }
    });
    for (announced, parcel, why) in [
        (entry("f", 200_000), record(200_000, None, len(&bomb), &bomb), "has more bytes"),
        (entry("f", 200_000), record(200_000, None, len(&short), &short), "has fewer bytes"),
        (entry("f", 200_000), record(200_000, None, len(&frame) - 1, &frame), "is no whole frame"),
        (entry("f", 200_000), record(200_000, None, len(&frame) + 2, &frame), "goes on behind its frame"),
        (entry("f", 200_000), record(200_000, None, 200_001, &frame), "compressed piece"),
        (size, record(0, Some(300_000), len(&frame), &frame), "larger than a block"),
    ] {
        let session = Session::new(1);
        let (sending, receiving) = greet(session.connect().0).await;
        let hand = async {
            let mut sender = HandSender::begin(sending, &[announced, Message::End(1)]).await;
            assert_eq!(sender.status().await, Status::Want);
            let _answer = sender.parcel(&[&parcel]).await;
            sender.closed().await
        };
        let target = MemoryTarget::new();
        let received = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context);
        let (closed, received) = tokio::join!(hand, received);
        let failure = received.unwrap_err();
        assert_eq!([failure.reason, closed.reason], [Reason::Protocol; 2]);
        assert!(failure.message.contains(why), "{failure}, not: {why}");
        assert!(target.files().is_empty());
    }
}
