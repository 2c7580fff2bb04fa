//! Transfers that take up what earlier ones left at the receiver.

use std::time::Duration;

use tokio::time::sleep;

use super::replaced::Rig;
use super::{
    CHUNK_LOG2, Ended, MIB, Session, arrived, bytes, greet, one_file, random, receive_on, seeds, send_on,
    source,
};
use crate::event::{Event, Summary};
use crate::protocol::final_name::Exists;
use crate::protocol::hash::{ChunkValue, RecordHasher};
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta};
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::storage::block::{BlockCount, BlockPool};
use crate::storage::{Target, Write};
use crate::testing::disk::{MemorySource, MemoryTarget, Node};

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

/// The transfer `earlier` ends after a checkpoint of these chunks of the file `f`.
pub(super) async fn leave(earlier: &MemoryTarget, content: &[u8], chunks: impl IntoIterator<Item = u64>) {
    let (id, size) = (EntryId(0), content.len() as u64);
    let path = RelPath::new(b"f").unwrap();
    let entry = Entry { path, meta: Meta::default(), kind: Kind::File { size }, hole_bytes: 0 };
    assert!(earlier.held(vec![(id, entry)], CHUNK_LOG2).await[0].is_empty());
    let pool = BlockPool::new(1, BlockCount::default());
    let mut values = Vec::new();
    for index in chunks {
        let (start, end) = (index * MIB, size.min((index + 1) * MIB));
        for offset in (start..end).step_by(BLOCK_BYTES) {
            let bytes = &content[at(offset)..at(end.min(offset + BLOCK_BYTES as u64))];
            let mut block = pool.acquire().await;
            block[..bytes.len()].copy_from_slice(bytes);
            let write = Write { id, offset, range: 0..bytes.len(), whole: None };
            earlier.write(vec![write], block).await.unwrap();
        }
        values.push(ChunkValue { index, value: value(content, index) });
    }
    earlier.checkpoint(vec![(id, values)]).await.remove(0).unwrap();
    earlier.abort().await;
}

/// The chaining value of a chunk.
pub(super) fn value(content: &[u8], index: u64) -> [u8; 32] {
    let (size, start) = (content.len() as u64, index * MIB);
    let end = size.min(start + MIB);
    let mut hasher = RecordHasher::new(size, start, end - start);
    hasher.update(&content[at(start)..at(end)]);
    hasher.finish()
}

/// Sends `content` as `f`, with another time than an earlier attempt.
fn later(content: &[u8]) -> MemorySource {
    let mut meta = Node::File(Vec::new()).default_meta();
    meta.mtime.seconds += 1;
    MemorySource::file("f", content.to_vec()).with_meta("f", meta)
}

/// Both sides ended well, with these bytes sent and resumed.
fn assert_resumed(ended: Ended, sent: u64, resumed: u64, context: &str) {
    for summary in [ended.sent.unwrap(), ended.received.unwrap()] {
        let Summary { sent_bytes, resumed_bytes, failed, .. } = summary;
        assert_eq!((sent_bytes, resumed_bytes, failed), (sent, resumed, 0), "{context}: {:?}", summary.side);
    }
}

fn assert_content(target: &MemoryTarget, content: &[u8]) {
    assert!(target.files().get(&b"f"[..]).is_some_and(|there| there == content), "another content arrived");
    assert_eq!(target.kept(), [].into(), "something is left");
}

#[tokio::test(start_paused = true)]
async fn what_was_written_before_a_cut_is_not_sent_again() {
    let tree = one_file(20 * MIB + 5);
    let mut resumed = 0;
    for seed in seeds() {
        let target = MemoryTarget::new().with_write_pace(Duration::from_secs(3));
        let (session, source) = (Session::new(seed), source(&tree));
        let (ends, link) = session.connect();
        let (sending, receiving) = greet(ends).await;
        let cut = async {
            sleep(Duration::from_millis(4500 + random(seed) % 2500)).await;
            link.cut();
        };
        let (sent, received, ()) = tokio::join!(
            send_on(sending, &source, &session.sender.context),
            receive_on(receiving, &target, Exists::Refuse, &session.receiver.context),
            cut
        );
        assert!(sent.is_err() && received.is_err() && target.files().is_empty(), "seed {seed}");
        // The host restarts, too.
        target.crash();
        let held = target.kept()["f"].len() * MIB;
        assert!(held >= MIB, "seed {seed}: nothing is left");

        let (session, target) = (Session::new(seed), target.beside());
        let ended = session.run(&source, &target).await;
        assert_resumed(ended, 20 * MIB + 5 - held, held, &format!("seed {seed}"));
        assert!(target.tree() == arrived(&tree), "seed {seed}");
        assert_eq!(target.kept(), [].into(), "seed {seed}");
        for side in [&session.sender, &session.receiver] {
            let told = side.told.0.lock().unwrap();
            let events = told.iter().filter_map(|event| match event {
                Event::Resumed { size, held_bytes, .. } => Some((*size, *held_bytes)),
                _ => None,
            });
            assert_eq!(events.collect::<Vec<_>>(), [(20 * MIB + 5, held)], "seed {seed}");
            let progress = told.iter().find_map(|event| match event {
                Event::Progress(progress) if progress.resumed_bytes > 0 => Some(progress.clone()),
                _ => None,
            });
            let progress = progress.expect("no progress was told");
            assert!(progress.written_bytes >= held, "the bar does not start at what is held");
        }
        resumed += held;
    }
    assert!(resumed > 0);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_changed_in_between_sends_only_the_chunks_that_differ() {
    for seed in seeds() {
        let old = bytes(seed, 8 * MIB + 5);
        let mut new = old.clone();
        for offset in [2 * MIB + 7, 8 * MIB + 4] {
            new[at(offset)] ^= 1;
        }
        let target = MemoryTarget::new();
        leave(&target.beside(), &old, 0..9).await;
        let ended = Session::new(seed).run(&later(&new), &target).await;
        assert_resumed(ended, MIB + 5, 7 * MIB, &format!("seed {seed}"));
        assert_content(&target, &new);
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_chunk_that_is_not_what_was_recorded_is_sent_again() {
    let content = bytes(1, 4 * MIB);
    let target = MemoryTarget::new();
    leave(&target.beside(), &content, [0, 1, 3]).await;
    target.corrupt_held("f", 1);
    let ended = Session::new(1).run(&later(&content), &target).await;
    assert_resumed(ended, 2 * MIB, 2 * MIB, "one is corrupt");
    assert_content(&target, &content);
}

/// A transfer that does not sync records what it has written all the same: it outlives the process, and not the host.
#[tokio::test(start_paused = true)]
async fn what_a_crash_took_is_sent_again_although_it_was_recorded() {
    let content = bytes(1, 4 * MIB);
    for crashes in [false, true] {
        let target = MemoryTarget::new();
        leave(&target.beside().without_sync(), &content, 0..3).await;
        if crashes {
            target.crash();
        }
        let target = target.beside();
        let ended = Session::new(1).run(&later(&content), &target).await;
        let held = if crashes { 0 } else { 3 * MIB };
        assert_resumed(ended, 4 * MIB - held, held, &format!("crashes: {crashes}"));
        assert_content(&target, &content);
    }
}

/// Bytes of an earlier version must not show through a hole.
#[tokio::test(start_paused = true)]
async fn holes_are_claimed_and_cover_what_an_earlier_attempt_wrote() {
    let old = bytes(1, 4 * MIB);
    let mut new = old.clone();
    new[at(MIB)..at(3 * MIB)].fill(0);
    let hole = MIB..3 * MIB;
    let target = MemoryTarget::new();
    leave(&target.beside(), &old, 0..4).await;
    let sparse = later(&new).with_hole("f", hole.clone());
    let ended = Session::new(1).run(&sparse, &target).await;
    assert_resumed(ended, 2 * MIB, 2 * MIB, "the holes are new");
    assert_content(&target, &new);

    let target = MemoryTarget::new();
    leave(&target.beside(), &new, 0..4).await;
    let read_before = sparse.bytes_read();
    let ended = Session::new(1).run(&sparse, &target).await;
    assert_resumed(ended, 0, 4 * MIB, "the holes are held");
    assert_eq!(sparse.bytes_read() - read_before, 2 * MIB, "holes are not read");
    assert_content(&target, &new);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_grew_delivers_what_was_announced() {
    let content = bytes(1, 4 * MIB);
    let target = MemoryTarget::new();
    leave(&target.beside(), &content, 1..3).await;
    let source = later(&content);
    source.grow_when_read("f");
    let ended = Session::new(1).run(&source, &target).await;
    assert_resumed(ended, 2 * MIB, 2 * MIB, "it grew");
    assert_content(&target, &content);
}

/// Claims cost no bandwidth, so they travel beside the data, and many of them share a round trip.
#[tokio::test(start_paused = true)]
async fn claims_share_parcels() {
    let content = bytes(1, 70 * MIB);
    let target = MemoryTarget::new();
    leave(&target.beside(), &content, 0..69).await;
    let start = tokio::time::Instant::now();
    let ended = Session::new(1).run(&later(&content), &target).await;
    assert_resumed(ended, MIB, 69 * MIB, "all but one");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_content(&target, &content);
}

#[tokio::test(start_paused = true)]
async fn claims_that_are_lost_with_a_connection_are_made_again() {
    let content = bytes(1, 24 * MIB);
    let mut cut_early = 0;
    for seed in seeds() {
        let Rig { session, sending, receiving, attacher, first } = Rig::new(seed).await;
        let target = MemoryTarget::new();
        leave(&target.beside(), &content, (0..24).filter(|index| index % 3 > 0)).await;
        target.corrupt_held("f", 4);
        // Claims of a parcel take a second to hash.
        let source = later(&content).with_read_pace(Duration::from_millis(100));
        let cut = async {
            sleep(Duration::from_millis(300 + random(seed) % 2500)).await;
            first.cut();
            attacher.attach(seed + 1, 0).await
        };
        let (sent, received, _link) = tokio::join!(
            send_on(sending, &source, &session.sender.context),
            receive_on(receiving, &target, Exists::Refuse, &session.receiver.context),
            cut
        );
        let (sent, received) = (sent.unwrap(), received.unwrap());
        assert_eq!((sent.resumed_bytes, received.resumed_bytes), (15 * MIB, 15 * MIB), "seed {seed}");
        cut_early += u64::from(source.bytes_read() > 24 * MIB);
        assert_content(&target, &content);
    }
    assert!(cut_early > 0, "no claim was made again");
}

/// While a file arrives, its chunks become durable and are recorded.
#[tokio::test(start_paused = true)]
async fn a_long_transfer_is_recorded_on_its_way() {
    let tree = one_file(12 * MIB);
    let target = MemoryTarget::new().with_write_pace(Duration::from_secs(4));
    let session = Session::new(1);
    let (sending, receiving) = greet(session.connect().0).await;
    let source = source(&tree);
    let stop = async {
        sleep(Duration::from_secs(6)).await;
        // As `kill -9` does: nothing has time to end.
        let kept = target.kept();
        assert!(kept["f"].len() >= 2, "{kept:?}");
    };
    tokio::select! {
        _ = send_on(sending, &source, &session.sender.context) => panic!("it ended"),
        _ = receive_on(receiving, &target, Exists::Refuse, &session.receiver.context) => panic!("it ended"),
        () = stop => {}
    }
}
