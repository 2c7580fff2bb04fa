//! The contract of [`Connection`], tested on quinn over loopback and on the pair in memory.

use std::any::Any;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::connection::{self, MemoryConnection, MemoryLimits, MemoryLink};
use crate::auth::{Expected, Fingerprint, Identity};
use crate::protocol::wire::limits::REASON_BYTES_MAX;
use crate::transport::quic::connection::Quic;
use crate::transport::quic::endpoint::QuicNetwork;
use crate::transport::{
    Arrival, Congestion, Connection, Endpoint, Limits, ListenAddress, Network, RecvStream, SendStream,
    TransportError,
};

/// An event that takes longer than this counts as blocked.
const BLOCKED: Duration = Duration::from_millis(200);
/// Time limit for an event that must happen.
const SOON: Duration = Duration::from_secs(20);

const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const WINDOW_BYTES: u32 = 96 * 1024;
const STREAMS: u32 = 3;

pub(crate) fn limits() -> Limits {
    Limits {
        receive_window_bytes: WINDOW_BYTES,
        stream_window_bytes: STREAM_WINDOW_BYTES,
        send_window_bytes: 64 * 1024,
        streams: STREAMS,
        idle_timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(10),
        congestion: Congestion::Cubic,
    }
}

/// Two ends of one connection, and objects that must live as long.
pub(crate) struct Ends<C> {
    pub(crate) dialler: C,
    pub(crate) listener: C,
    /// The fingerprints each should find: of the dialler, of the listener.
    fingerprints: [Fingerprint; 2],
    /// Endpoints. A test of closing drops them first: an endpoint that outlives its connection answers stray packets
    /// with a stateless reset, and quinn, when it reads a close and a reset together, reports only the reset.
    keep: Box<dyn Any + Send>,
}

pub(crate) fn network(identity: &Identity) -> QuicNetwork {
    QuicNetwork::new(identity.clone())
}

pub(crate) async fn quic_pair(limits: &Limits) -> Ends<Quic> {
    let (here, there) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let address = ListenAddress::At(([127, 0, 0, 1], 0).into());
    let listening = network(&there).listen(&address, limits).unwrap();
    let addresses = listening.local_addresses().unwrap();
    let dialling = network(&here);
    let (dialled, accepted) =
        tokio::join!(dialling.dial(&addresses, Expected::Key(there.fingerprint()), limits), async {
            listening.accept().await.unwrap().handshake().await
        });
    let (dialler, dialling) = dialled.unwrap();
    let listener = accepted.unwrap();
    listener.let_in();
    Ends {
        dialler,
        listener,
        fingerprints: [here.fingerprint(), there.fingerprint()],
        keep: Box::new((listening, dialling)),
    }
}

async fn memory_pair() -> (Ends<MemoryConnection>, MemoryLink) {
    let limits = MemoryLimits {
        connection_window_bytes: WINDOW_BYTES as usize,
        stream_window_bytes: STREAM_WINDOW_BYTES as usize,
        streams: STREAMS as usize + 1,
        ..MemoryLimits::default()
    };
    let (dialler, listener, link) = connection::pair(7, limits);
    (Ends { dialler, listener, fingerprints: limits.fingerprints, keep: Box::new(()) }, link)
}

macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(super::memory_pair().await.0).await;
            })*
        }
        mod on_quic {
            $(#[tokio::test]
            async fn $name() {
                let ends = super::quic_pair(&super::limits()).await;
                tokio::time::timeout(super::SOON, super::$name(ends)).await.expect("it hangs");
            })*
        }
    };
}

conformance!(
    bytes_arrive_in_order_on_both_halves,
    a_one_way_stream_arrives,
    streams_are_accepted_in_the_order_of_opening,
    credit_returns_only_when_both_halves_are_done,
    a_writer_waits_for_its_reader,
    all_streams_share_the_connection_window,
    an_unfinished_stream_is_never_taken_for_a_whole_one,
    a_writer_learns_that_its_reader_is_gone,
    a_reason_reaches_a_peer_that_reads_nothing,
    a_reason_overtakes_earlier_writes,
    data_before_a_close_can_be_read,
    a_writer_learns_that_the_peer_has_everything,
    the_last_clone_closes,
    everything_pending_ends_with_the_connection,
    both_ends_export_the_same_and_know_each_other,
);

/// Bytes that differ at every offset of interest.
fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from((i ^ (i >> 8) ^ (i >> 16)) & 0xff).unwrap()).collect()
}

async fn write(send: &mut impl SendStream, bytes: impl Into<Bytes>) -> Result<(), TransportError> {
    send.write_all(&mut [bytes.into()]).await
}

/// Everything up to the end of the stream.
async fn read_all(recv: &mut impl RecvStream) -> Result<Vec<u8>, TransportError> {
    let (mut all, mut room) = (Vec::new(), [0; 10_000]);
    while let Some(n) = recv.read(&mut room).await? {
        assert!((1..=10_000).contains(&n), "{n} bytes");
        all.extend_from_slice(&room[..n]);
    }
    Ok(all)
}

async fn bytes_arrive_in_order_on_both_halves<C: Connection>(ends: Ends<C>) {
    let (there, back) = (pattern(300_000), pattern(200_001));
    let dialler = async {
        let (mut send, mut recv) = ends.dialler.open_bi().await.unwrap();
        let mut chunks = [there.slice(..7), Bytes::new(), there.slice(7..150_000), there.slice(150_000..)];
        let write = async {
            send.write_all(&mut chunks).await.unwrap();
            send.finish().unwrap();
        };
        let (read, ()) = tokio::join!(read_all(&mut recv), write);
        assert_eq!(read.unwrap(), back);
        assert_eq!(recv.read(&mut [0]).await, Ok(None), "the end stays the end");
    };
    let listener = async {
        let (mut send, mut recv) = ends.listener.accept_bi().await.unwrap();
        let write = async {
            write(&mut send, back.clone()).await.unwrap();
            send.finish().unwrap();
        };
        let (read, ()) = tokio::join!(read_all(&mut recv), write);
        assert_eq!(read.unwrap(), there);
    };
    tokio::join!(dialler, listener);
}

async fn a_one_way_stream_arrives<C: Connection>(ends: Ends<C>) {
    let bytes = pattern(100_000);
    let listener = async {
        let mut send = ends.listener.open_uni().await.unwrap();
        send.set_priority(5);
        write(&mut send, bytes.clone()).await.unwrap();
        send.finish().unwrap();
    };
    let dialler = async { read_all(&mut ends.dialler.accept_uni().await.unwrap()).await.unwrap() };
    assert_eq!(tokio::join!(listener, dialler).1, bytes);
}

async fn streams_are_accepted_in_the_order_of_opening<C: Connection>(ends: Ends<C>) {
    let mut opened = Vec::new();
    for _ in 0..=STREAMS {
        opened.push(ends.dialler.open_bi().await.unwrap());
    }
    for (i, (send, _)) in opened.iter_mut().enumerate().rev() {
        write(send, vec![u8::try_from(i).unwrap()]).await.unwrap();
        send.finish().unwrap();
    }
    for i in 0..=u8::try_from(STREAMS).unwrap() {
        let (_, mut recv) = ends.listener.accept_bi().await.unwrap();
        assert_eq!(read_all(&mut recv).await.unwrap(), [i]);
    }
}

async fn credit_returns_only_when_both_halves_are_done<C: Connection>(ends: Ends<C>) {
    let mut held = Vec::new();
    for _ in 0..=STREAMS {
        let (mut send, recv) = ends.dialler.open_bi().await.unwrap();
        write(&mut send, "parcel").await.unwrap();
        send.finish().unwrap();
        held.push((send, recv));
    }
    let next = ends.dialler.open_bi();
    tokio::pin!(next);
    assert!(timeout(BLOCKED, &mut next).await.is_err(), "more streams than credit");

    let (mut send, mut recv) = ends.listener.accept_bi().await.unwrap();
    assert_eq!(read_all(&mut recv).await.unwrap(), b"parcel");
    assert!(timeout(BLOCKED, &mut next).await.is_err(), "credit for a stream that is read and not acked");
    write(&mut send, "ack").await.unwrap();
    send.finish().unwrap();
    assert_eq!(read_all(&mut held[0].1).await.unwrap(), b"ack");
    timeout(SOON, next).await.expect("no credit for a stream that is done").unwrap();
}

/// Writes `bytes` on a new stream in a task; returns the stream when all of it is accepted.
fn spawn_writer<C: Connection>(
    connection: &C,
    bytes: usize,
) -> tokio::task::JoinHandle<Result<C::Send, TransportError>> {
    let connection = connection.clone();
    tokio::spawn(async move {
        let (mut send, _recv) = connection.open_bi().await?;
        write(&mut send, pattern(bytes)).await?;
        send.finish()?;
        Ok(send)
    })
}

async fn a_writer_waits_for_its_reader<C: Connection>(ends: Ends<C>) {
    const BYTES: usize = 1024 * 1024;
    let mut writer = spawn_writer(&ends.dialler, BYTES);
    let (_send, mut recv) = ends.listener.accept_bi().await.unwrap();
    assert!(timeout(BLOCKED, &mut writer).await.is_err(), "nobody reads, and all was taken");
    assert_eq!(read_all(&mut recv).await.unwrap(), pattern(BYTES));
    writer.await.unwrap().unwrap();
}

async fn all_streams_share_the_connection_window<C: Connection>(ends: Ends<C>) {
    // Each fits the window of its stream; together they exceed even a whole send window.
    const BYTES: usize = STREAM_WINDOW_BYTES as usize;
    let mut writers: Vec<_> = (0..STREAMS).map(|_| spawn_writer(&ends.dialler, BYTES)).collect();
    let blocked = async {
        for writer in &mut writers {
            writer.await.unwrap().unwrap();
        }
    };
    assert!(timeout(BLOCKED, blocked).await.is_err(), "more than the window of the connection was taken");
    for _ in 0..STREAMS {
        let (_send, mut recv) = ends.listener.accept_bi().await.unwrap();
        assert_eq!(read_all(&mut recv).await.unwrap(), pattern(BYTES));
    }
}

async fn an_unfinished_stream_is_never_taken_for_a_whole_one<C: Connection>(ends: Ends<C>) {
    let (mut send, _recv) = ends.dialler.open_bi().await.unwrap();
    write(&mut send, "half of it").await.unwrap();
    drop(send);
    let (_send, mut recv) = ends.listener.accept_bi().await.unwrap();
    assert_eq!(read_all(&mut recv).await, Err(TransportError::StreamEnded(0)));
}

async fn a_writer_learns_that_its_reader_is_gone<C: Connection>(ends: Ends<C>) {
    let mut writer = spawn_writer(&ends.dialler, 1024 * 1024);
    drop(ends.listener.accept_bi().await.unwrap());
    assert_eq!((&mut writer).await.unwrap().err(), Some(TransportError::StreamEnded(0)));
    // The credit of data in flight was returned.
    let writer = spawn_writer(&ends.dialler, 256 * 1024);
    let (_send, mut recv) = ends.listener.accept_bi().await.unwrap();
    assert_eq!(read_all(&mut recv).await.unwrap(), pattern(256 * 1024));
    writer.await.unwrap().unwrap();
}

async fn a_reason_reaches_a_peer_that_reads_nothing<C: Connection>(ends: Ends<C>) {
    drop(ends.keep);
    let mut writer = spawn_writer(&ends.dialler, 1024 * 1024);
    assert!(timeout(BLOCKED, &mut writer).await.is_err());
    let reason = vec![b'x'; REASON_BYTES_MAX + 500];
    assert!(!ends.dialler.is_closed() && !ends.listener.is_closed());
    ends.listener.close(12, &reason);
    ends.listener.close(13, b"only the first counts");
    let told = TransportError::Closed { code: 12, reason: reason[..REASON_BYTES_MAX].to_vec().into() };
    assert_eq!(ends.dialler.closed().await, told);
    assert!(ends.dialler.is_closed() && ends.listener.is_closed());
    assert_eq!(writer.await.unwrap().err(), Some(told.clone()));
    assert_eq!(ends.dialler.open_bi().await.err(), Some(told));
    assert_eq!(ends.listener.closed().await, TransportError::ClosedHere);
    assert_eq!(ends.listener.open_bi().await.err(), Some(TransportError::ClosedHere));
}

async fn a_reason_overtakes_earlier_writes<C: Connection>(ends: Ends<C>) {
    drop(ends.keep);
    let mut writer = spawn_writer(&ends.dialler, 1024 * 1024);
    assert!(timeout(BLOCKED, &mut writer).await.is_err());
    ends.dialler.close(7, b"the disk is gone");
    let told = TransportError::Closed { code: 7, reason: Bytes::from("the disk is gone") };
    assert_eq!(ends.listener.closed().await, told);
}

async fn data_before_a_close_can_be_read<C: Connection>(ends: Ends<C>) {
    let mut send = ends.dialler.open_uni().await.unwrap();
    write(&mut send, &b"said"[..]).await.unwrap();
    let mut recv = ends.listener.accept_uni().await.unwrap();
    let mut first = [0];
    assert_eq!(recv.read(&mut first).await, Ok(Some(1)));
    ends.dialler.close(0, b"");
    let closed = ends.listener.closed().await;
    let mut rest = [0; 8];
    assert_eq!(recv.read(&mut rest).await, Ok(Some(3)));
    assert_eq!((&first, &rest[..3]), (b"s", &b"aid"[..]));
    assert_eq!(recv.read(&mut rest).await, Err(closed));
}

async fn a_writer_learns_that_the_peer_has_everything<C: Connection>(ends: Ends<C>) {
    let mut send = ends.dialler.open_uni().await.unwrap();
    write(&mut send, pattern(10_000)).await.unwrap();
    send.finish().unwrap();
    assert!(send.is_delivered().await);
    // Nobody has read it by then.
    let mut recv = ends.listener.accept_uni().await.unwrap();
    assert_eq!(read_all(&mut recv).await.unwrap(), pattern(10_000));

    let (mut send, _answer) = ends.dialler.open_bi().await.unwrap();
    write(&mut send, pattern(10)).await.unwrap();
    let _unread = ends.listener.accept_bi().await.unwrap();
    ends.listener.close(0, b"");
    ends.dialler.closed().await;
    let _ = send.finish();
    assert!(!send.is_delivered().await, "it has no end");
}

async fn the_last_clone_closes<C: Connection>(ends: Ends<C>) {
    let Ends { dialler, listener, keep, .. } = ends;
    drop(keep);
    let clone = dialler.clone();
    drop(dialler);
    let mut send = clone.open_uni().await.unwrap();
    write(&mut send, "still here").await.unwrap();
    send.finish().unwrap();
    let mut recv = listener.accept_uni().await.unwrap();
    assert_eq!(read_all(&mut recv).await.unwrap(), b"still here");
    drop((clone, send));
    assert_eq!(listener.closed().await, TransportError::Closed { code: 0, reason: Bytes::new() });
}

async fn everything_pending_ends_with_the_connection<C: Connection>(ends: Ends<C>) {
    let (mut send, mut recv) = ends.dialler.open_bi().await.unwrap();
    write(&mut send, "begin").await.unwrap();
    let (_send, _recv) = ends.listener.accept_bi().await.unwrap();
    let mut chunks = [pattern(1024 * 1024)];
    let closing = async {
        // Runs once all other futures have been polled and wait.
        tokio::task::yield_now().await;
        ends.dialler.close(5, b"enough");
    };
    let mut room = [0];
    let (reading, writing, accepting, accepting_uni, ()) = tokio::join!(
        recv.read(&mut room),
        send.write_all(&mut chunks),
        ends.dialler.accept_bi(),
        ends.dialler.accept_uni(),
        closing
    );
    let here = Some(TransportError::ClosedHere);
    assert_eq!(
        [reading.err(), writing.err(), accepting.err(), accepting_uni.err()],
        [here.clone(), here.clone(), here.clone(), here]
    );
}

async fn both_ends_export_the_same_and_know_each_other<C: Connection>(ends: Ends<C>) {
    let export = |c: &C, label: &[u8]| c.export_keying_material(label).unwrap();
    let material = export(&ends.dialler, b"EXPORTER-towline-a");
    assert_eq!(material, export(&ends.listener, b"EXPORTER-towline-a"));
    assert_ne!(material, export(&ends.dialler, b"EXPORTER-towline-b"));
    assert_eq!(ends.listener.peer_fingerprint(), ends.fingerprints[0]);
    assert_eq!(ends.dialler.peer_fingerprint(), ends.fingerprints[1]);
    for end in [&ends.dialler, &ends.listener] {
        assert!(end.remote_address().ip().is_loopback());
        assert!(end.stats().mtu_bytes >= 1200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_in_memory_is_seen_at_both_ends_at_once() {
    let (ends, link) = memory_pair().await;
    let writer = spawn_writer(&ends.dialler, 1024 * 1024);
    let (_send, mut recv) = ends.listener.accept_bi().await.unwrap();
    recv.read(&mut [0]).await.unwrap();
    link.cut();
    let lost = TransportError::Lost("the link was cut".to_owned());
    assert_eq!(read_all(&mut recv).await, Err(lost.clone()), "after what had come");
    assert_eq!(writer.await.unwrap().err(), Some(lost.clone()));
    assert_eq!(ends.listener.closed().await, lost);
}

#[tokio::test(start_paused = true)]
async fn the_link_in_memory_counts_what_is_held() {
    let (ends, link) = memory_pair().await;
    let mut writer = spawn_writer(&ends.dialler, 1024 * 1024);
    assert!(timeout(BLOCKED, &mut writer).await.is_err());
    assert_eq!(link.unread_bytes(1), STREAM_WINDOW_BYTES as usize);
    assert_eq!((link.unread_bytes(0), link.open_streams(0), link.open_streams(1)), (0, 1, 0));
    let (mut send, mut recv) = ends.listener.accept_bi().await.unwrap();
    read_all(&mut recv).await.unwrap();
    send.finish().unwrap();
    assert_eq!((link.unread_bytes(1), link.open_streams(0)), (0, 0));
    assert_eq!(link.unread_bytes_max(1), STREAM_WINDOW_BYTES as usize);
}

#[tokio::test(start_paused = true)]
async fn streams_in_memory_overtake_each_other_as_the_seed_says() {
    async fn order(seed: u64) -> Vec<usize> {
        let (dialler, listener, _link) = connection::pair(seed, MemoryLimits::default());
        let (arrived, mut order) = tokio::sync::mpsc::unbounded_channel();
        let (mut opened, mut accepted) = (Vec::new(), Vec::new());
        for _ in 0..8 {
            opened.push(dialler.open_bi().await.unwrap());
            write(&mut opened.last_mut().unwrap().0, "first").await.unwrap();
            accepted.push(listener.accept_bi().await.unwrap());
            let mut room = [0; 5];
            assert_eq!(accepted.last_mut().unwrap().1.read(&mut room).await, Ok(Some(5)));
            assert_eq!(&room, b"first");
        }
        for (send, _) in &mut opened {
            write(send, "second").await.unwrap();
        }
        for (i, (send, mut recv)) in accepted.into_iter().enumerate() {
            let arrived = arrived.clone();
            tokio::spawn(async move {
                recv.read(&mut [0; 6]).await.unwrap();
                arrived.send(i).unwrap();
                drop(send);
            });
        }
        drop(arrived);
        let mut seen = Vec::new();
        while let Some(i) = order.recv().await {
            seen.push(i);
        }
        seen
    }
    let (first, again, other) = (order(1).await, order(1).await, order(2).await);
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert!(!first.is_sorted(), "{first:?}");
}
