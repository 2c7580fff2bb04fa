//! Transfers into a pipe: one file, in order, each chunk once it is verified.

use std::io::{self, PipeReader, Read};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::peers::{HandSender, entry, header};
use super::{CHUNK_LOG2, Ended, MIB, Session, TIMEOUT, bytes, greet, seeds, send_on, source, tree};
use crate::event::Summary;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::Exists;
use crate::protocol::wire::entry::{EntryId, Kind};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::status::Status;
use crate::session::{Budget, Context, Link, receive};
use crate::storage::stdio::StdoutTarget;
use crate::testing::connection::{MemoryConnection, MemoryLimits};
use crate::testing::disk::MemorySource;
use crate::transport::Congestion;

const AT_MOST: Duration = Duration::from_secs(3600);

/// Receives into a pipe, which ends with this.
async fn receive_piped(
    mut link: Link<MemoryConnection>,
    output: io::PipeWriter,
    context: &Context,
) -> Result<Summary, Failure> {
    let context = Context { piped: true, synced: false, ..context.clone() };
    let offer = receive::offer::offer(&mut link, &context).await?;
    let target = Arc::new(StdoutTarget::new(&output)?);
    drop(output);
    receive::driver::run(link, offer, target, "standard output".to_owned(), Exists::Refuse, context).await
}

fn read_all(mut input: PipeReader) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut read = Vec::new();
        input.read_to_end(&mut read).unwrap();
        read
    })
}

/// What was read. Tasks that still hold the other end of the pipe go meanwhile.
async fn all_of(reader: thread::JoinHandle<Vec<u8>>) -> Vec<u8> {
    tokio::task::spawn_blocking(move || reader.join().unwrap()).await.unwrap()
}

/// Runs both sides to their ends; returns the bytes that came out of the pipe, too.
async fn run(session: &Session, source: &MemorySource) -> (Ended, Vec<u8>) {
    let (input, output) = io::pipe().unwrap();
    let reader = read_all(input);
    let (sending, receiving) = greet(session.connect().0).await;
    let both = async {
        tokio::join!(
            send_on(sending, source, &session.sender.context),
            receive_piped(receiving, output, &session.receiver.context)
        )
    };
    // A transfer that stands still fails here and not by its own limits.
    let (sent, received) = tokio::time::timeout(AT_MOST, both).await.expect("it goes on");
    (Ended { sent, received }, all_of(reader).await)
}

/// A session with the windows of this budget.
fn with_memory(seed: u64, mib: u64) -> Session {
    let budget = Budget::new(mib * MIB, None);
    let mut session = Session::with_budget(seed, budget, TIMEOUT);
    let limits = budget.limits(TIMEOUT, TIMEOUT, Congestion::Auto);
    let window = |bytes: u32| usize::try_from(bytes).unwrap();
    session.limits = MemoryLimits {
        connection_window_bytes: window(limits.receive_window_bytes),
        stream_window_bytes: window(limits.stream_window_bytes),
        delay_max: Duration::from_millis(seed % 3 * 50),
        ..session.limits
    };
    session
}

/// The chunks of several streams take different times, and those that overtake the first one wait.
#[tokio::test(start_paused = true)]
async fn a_file_comes_out_of_a_pipe_in_order() {
    for seed in seeds().step_by(4) {
        for (mib, size) in [(8, 0), (8, 1), (8, 3 * MIB + 5), (32, 12 * MIB), (64, 20 * MIB + 1)] {
            let data = bytes(seed, size);
            for kind in [Kind::OpenEnded, Kind::File { size }] {
                let source = MemorySource::new(vec![("f", kind.clone(), data.clone())]);
                let (ended, read) = run(&with_memory(seed, mib), &source).await;
                assert!(read == data, "seed {seed}, {mib} MiB, {kind:?}");
                for summary in [ended.sent.unwrap(), ended.received.unwrap()] {
                    assert_eq!((summary.files, summary.bytes, summary.failed), (1, size, 0));
                    assert!(!summary.synced && (summary.piped || size == 0), "seed {seed}, {kind:?}");
                    assert_eq!(summary.blake3, Some(blake3::hash(&data)));
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn holes_come_out_of_a_pipe_as_zeros() {
    let (hole, size) = (MIB / 2..2 * MIB + 7, 3 * MIB);
    let mut data = bytes(1, size);
    data[usize::try_from(hole.start).unwrap()..usize::try_from(hole.end).unwrap()].fill(0);
    let source = MemorySource::new(vec![("f", Kind::File { size }, data.clone())]).with_hole("f", hole);
    let (ended, read) = run(&Session::new(1), &source).await;
    ended.sent.unwrap();
    ended.received.unwrap();
    assert!(read == data);
}

#[tokio::test(start_paused = true)]
async fn several_entries_are_refused_before_a_byte_is_written() {
    let file = |name| (name, Kind::File { size: 0 }, b"content".to_vec());
    let link = ("link", Kind::Symlink { target: b"x".as_slice().into() }, Vec::new());
    for (source, what) in [
        (source(&tree()), "several files"),
        (MemorySource::new(vec![file("a"), file("b")]), "several files"),
        (MemorySource::new(vec![("d", Kind::Dir, Vec::new())]), "a directory"),
        (MemorySource::new(vec![link]), "a symbolic link"),
    ] {
        let (ended, read) = run(&Session::new(1), &source).await;
        for failure in [ended.sent.unwrap_err(), ended.received.unwrap_err()] {
            assert_eq!((failure.reason, failure.side), (Reason::Refused, Some(Side::Receiver)));
            let message = format!("standard output takes a single file, and the sender offers {what}");
            assert_eq!(failure.message, message);
        }
        assert!(read.is_empty(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_goes_away_ends_both_sides() {
    let session = with_memory(1, 64);
    let (mut input, output) = io::pipe().unwrap();
    let reader = thread::spawn(move || input.read_exact(&mut vec![0; 3 << 20]).unwrap());
    let (sending, receiving) = greet(session.connect().0).await;
    let source = MemorySource::new(vec![("f", Kind::OpenEnded, bytes(1, 8 * MIB))]);
    let (sent, received) = tokio::join!(
        send_on(sending, &source, &session.sender.context),
        receive_piped(receiving, output, &session.receiver.context)
    );
    reader.join().unwrap();
    for failure in [sent.unwrap_err(), received.unwrap_err()] {
        assert_eq!((failure.reason, failure.side), (Reason::Storage, Some(Side::Receiver)));
        assert!(failure.message.starts_with("cannot write to standard output: Broken pipe"), "{failure}");
    }
}

/// Such as `head -c SIZE`. The last messages take longer than a look at the pipe.
#[tokio::test(start_paused = true)]
async fn a_reader_that_has_taken_everything_may_go() {
    for (seed, kind) in [(1, Kind::OpenEnded), (2, Kind::File { size: 2 * MIB + 3 })] {
        let mut session = with_memory(seed, 64);
        session.limits.delay_max = Duration::from_millis(800);
        let (mut input, output) = io::pipe().unwrap();
        let reader = thread::spawn(move || input.read_exact(&mut vec![0; (2 << 20) + 3]).unwrap());
        let (sending, receiving) = greet(session.connect().0).await;
        let source = MemorySource::new(vec![("f", kind.clone(), bytes(seed, 2 * MIB + 3))]);
        let (sent, received) = tokio::join!(
            send_on(sending, &source, &session.sender.context),
            receive_piped(receiving, output, &session.receiver.context)
        );
        reader.join().unwrap();
        sent.unwrap_or_else(|failure| panic!("{kind:?}: {failure}"));
        received.unwrap();
    }
}

/// Each chunk is held until it is verified, so it has to fit.
#[tokio::test(start_paused = true)]
async fn chunks_that_do_not_fit_the_memory_are_refused() {
    let budget = |mib| Budget::new(mib * MIB, None);
    let too_large = budget(64).check_pipe(24).unwrap_err();
    assert_eq!(too_large.reason, Reason::Refused);
    assert!(too_large.message.starts_with("chunks of 16 MiB are too large for the 64 MiB"), "{too_large}");
    for (mib, log2, at_a_time) in [(8, 20, 1), (64, 20, 16), (64, 23, 2), (512, 26, 2)] {
        budget(mib).check_pipe(log2).unwrap();
        assert_eq!(budget(mib).chunks_at_a_time(log2), at_a_time, "{mib} MiB, 2^{log2}");
        assert!(budget(mib).pipe_blocks(log2) * 256 * 1024 >= 1 << log2);
    }
}

/// [W-91] A chunk whose hash is not that of its bytes, and one that is too far ahead.
#[tokio::test(start_paused = true)]
async fn attack_15_nothing_is_handed_on_before_it_is_verified() {
    let size = 40 * MIB;
    for (index, reason) in [(0, Reason::Verification), (20, Reason::Protocol)] {
        let session = with_memory(1, 64);
        let (input, output) = io::pipe().unwrap();
        let reader = read_all(input);
        let (sending, receiving) = greet(session.connect().0).await;
        let hand = async {
            let mut sender = HandSender::begin(sending, &[entry("f", size), Message::End(1)]).await;
            let wanted = sender.status().await;
            assert_eq!(
                wanted,
                Status::WantInOrder(session.receiver.context.memory.chunks_at_a_time(CHUNK_LOG2))
            );
            let header = header(0, index * MIB, MIB, vec![]);
            let _answer = sender.parcel(&[&header, &bytes(1, MIB), &[7; 32]]).await;
            sender.closed().await
        };
        let (closed, received) =
            tokio::join!(hand, receive_piped(receiving, output, &session.receiver.context));
        assert_eq!([received.unwrap_err().reason, closed.reason], [reason; 2]);
        assert!(all_of(reader).await.is_empty(), "chunk {index}");
    }
}

/// [W-90]
#[test]
fn a_sender_keeps_to_the_chunks_at_a_time() {
    use crate::protocol::engine::patience::Patience;
    use crate::protocol::engine::sender::{Parcel, Sender};
    use crate::protocol::path::RelPath;
    use crate::protocol::wire::entry::{Entry, Meta};

    let patience = Patience { timeout: TIMEOUT, disk_timeout: TIMEOUT };
    let mut sender = Sender::new(CHUNK_LOG2, patience, Duration::ZERO);
    let kind = Kind::File { size: 9 * MIB };
    let entry = Entry { path: RelPath::new(b"f").unwrap(), meta: Meta::default(), kind, hole_bytes: 0 };
    sender.announce(entry, Duration::ZERO);
    sender.walk_ended(Duration::ZERO);
    sender.on_control(Message::Status(EntryId(0), Status::WantInOrder(3)), Duration::ZERO).unwrap();
    let mut next = || sender.next_parcel();
    let parcels: Vec<_> = [next(), next(), next()].into_iter().flatten().collect();
    assert_eq!((parcels.len(), next()), (3, None));
    let values = [(EntryId(0), [0; 32])];
    // The second one is acked, but the first one is not.
    sender.parcel_acked(&parcels[1], &values, Duration::ZERO).unwrap();
    assert_eq!(sender.next_parcel(), None);
    sender.parcel_acked(&parcels[0], &values, Duration::ZERO).unwrap();
    let further: Vec<_> = std::iter::from_fn(|| sender.next_parcel()).collect();
    assert!(matches!(further[..], [Parcel::Chunk { .. }, Parcel::Chunk { .. }]), "{further:?}");
}

/// [W-94] Otherwise any receiver could hold a sender for as long as it likes.
#[test]
fn attack_14_only_the_single_file_of_a_manifest_is_taken_in_order() {
    use crate::protocol::engine::patience::Patience;
    use crate::protocol::engine::sender::Sender;
    use crate::protocol::path::RelPath;
    use crate::protocol::wire::entry::{Entry, Meta};

    let patience = Patience { timeout: TIMEOUT, disk_timeout: TIMEOUT };
    let entry = |name: &[u8]| Entry {
        path: RelPath::new(name).unwrap(),
        meta: Meta::default(),
        kind: Kind::File { size: 9 * MIB },
        hole_bytes: 0,
    };
    for (names, has_ended) in [(vec!["a", "b"], true), (vec!["a"], false), (vec!["a"], true)] {
        let mut sender = Sender::new(CHUNK_LOG2, patience, Duration::ZERO);
        for name in &names {
            sender.announce(entry(name.as_bytes()), Duration::ZERO);
        }
        if has_ended {
            sender.walk_ended(Duration::ZERO);
        }
        let want = Message::Status(EntryId(0), Status::WantInOrder(3));
        let taken = sender.on_control(want, Duration::ZERO).map_err(|failure| failure.reason);
        let is_right = names.len() == 1 && has_ended;
        assert_eq!(taken, if is_right { Ok(()) } else { Err(Reason::Protocol) }, "{names:?}, {has_ended}");
    }
}
