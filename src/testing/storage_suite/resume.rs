//! What a transfer leaves for the next one: chunks that a checkpoint has recorded.

use super::rig::{FsRig, MemoryRig, Rig, nodes};
use super::{Exists, admit, commit, entry};
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::final_name::Committed;
use crate::protocol::hash::{ChunkValue, RecordHasher};
use crate::protocol::wire::entry::{Entry, EntryId, Kind};
use crate::protocol::wire::limits::{BLOCK_BYTES, CHUNK_LOG2_MIN};
use crate::storage::block::{BlockCount, BlockPool};
use crate::storage::{Target, Write};
use crate::testing::disk::Node;

/// Runs each function on each pair of disks.
macro_rules! resume_suite {
    ($($test:ident),* $(,)?) => {
        mod on_file_system {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::FsRig::new()).await;
            })*
        }
        mod on_memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::MemoryRig::new(None)).await;
            })*
        }
        mod on_memory_with_short_writes {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::MemoryRig::new(Some(0x7071))).await;
            })*
        }
    };
}

resume_suite!(
    recorded_chunks_are_held_and_all_other_bytes_are_zeros,
    a_chunk_that_is_written_again_has_its_new_value,
    a_chunk_may_be_a_hole,
    only_the_same_file_is_resumed,
    a_file_of_another_size_has_the_chunks_of_equal_length,
    nothing_is_left_of_what_was_committed_or_discarded,
    what_was_given_up_is_held_by_the_next_transfer,
    what_could_not_be_committed_is_held_by_the_next_transfer,
    a_running_transfer_keeps_what_it_stages,
);

const CHUNK: u64 = 1 << CHUNK_LOG2_MIN;
/// Three chunks and a half.
const SIZE: u64 = 3 * CHUNK + CHUNK / 2;
const A: EntryId = EntryId(0);

fn big() -> Entry {
    entry("big", Kind::File { size: SIZE })
}

fn chunk_len(index: u64) -> u64 {
    (SIZE - index * CHUNK).min(CHUNK)
}

fn filled(index: u64, fill: u8) -> ChunkValue {
    let mut hasher = RecordHasher::new(SIZE, index * CHUNK, chunk_len(index));
    hasher.update(&vec![fill; usize::try_from(chunk_len(index)).unwrap()]);
    ChunkValue { index, value: hasher.finish() }
}

/// Writes a chunk of one byte value, and returns its chaining value.
async fn write_chunk(target: &impl Target, id: EntryId, index: u64, fill: u8) -> ChunkValue {
    let pool = BlockPool::new(1, BlockCount::default());
    let (start, end) = (index * CHUNK, index * CHUNK + chunk_len(index));
    for offset in (start..end).step_by(BLOCK_BYTES) {
        let mut block = pool.acquire().await;
        let range = 0..usize::try_from(end - offset).unwrap().min(BLOCK_BYTES);
        block[range.clone()].fill(fill);
        target.write(vec![Write { id, offset, range, whole: None }], block).await.unwrap();
    }
    filled(index, fill)
}

/// Prepares for an entry, as a receiver that wants it does.
async fn held(target: &impl Target, id: EntryId, entry: Entry) -> ChunkSet {
    admit(target, id.0, vec![entry.clone()]).await.remove(0).unwrap();
    target.held(vec![(id, entry)], CHUNK_LOG2_MIN).await.remove(0)
}

async fn checkpoint(target: &impl Target, id: EntryId, chunks: Vec<ChunkValue>) {
    assert!(target.checkpoint(vec![(id, chunks)]).await.remove(0).unwrap());
}

fn set(chunks: impl IntoIterator<Item = u64>) -> ChunkSet {
    let mut set = ChunkSet::default();
    chunks.into_iter().for_each(|index| set.insert(index..index + 1));
    set
}

/// A transfer that ends early and leaves these chunks of `big`, filled with their numbers.
async fn leave(rig: &impl Rig, chunks: &[u8]) {
    let target = rig.target();
    assert!(held(&target, A, big()).await.is_empty(), "nothing is left at first");
    let mut values = Vec::new();
    for fill in chunks {
        values.push(write_chunk(&target, A, u64::from(*fill), *fill).await);
    }
    checkpoint(&target, A, values).await;
    target.abort().await;
}

async fn recorded_chunks_are_held_and_all_other_bytes_are_zeros(rig: &impl Rig) {
    let target = rig.target();
    assert!(held(&target, A, big()).await.is_empty());
    let values = vec![write_chunk(&target, A, 0, 7).await, write_chunk(&target, A, 2, 8).await];
    checkpoint(&target, A, values.clone()).await;
    // These come too late for the checkpoint.
    write_chunk(&target, A, 1, 9).await;
    write_chunk(&target, A, 3, 9).await;
    target.abort().await;

    let target = rig.target();
    assert_eq!(held(&target, A, big()).await, set([0, 2]));
    assert_eq!(target.holds(A, values).await, [true, true]);
    let others = vec![filled(0, 8), filled(1, 9), filled(2, 7), filled(2, 8), filled(3, 9)];
    assert_eq!(target.holds(A, others).await, [false, false, false, true, false]);
    let committed = target.commit(vec![commit(0, "big", SIZE, Exists::Refuse)]).await;
    assert!(matches!(committed[..], [Ok(Committed::Done(None))]), "{committed:?}");
    target.finish().await.unwrap();
    let chunks = [(7, 0), (0, 1), (8, 2), (0, 3)];
    let want = chunks.map(|(fill, index)| vec![fill; usize::try_from(chunk_len(index)).unwrap()]).concat();
    assert!(nodes(&rig.tree()) == [("big".to_owned(), Node::File(want))].into());
}

async fn a_chunk_that_is_written_again_has_its_new_value(rig: &impl Rig) {
    leave(rig, &[0, 1]).await;
    let target = rig.target();
    assert_eq!(held(&target, A, big()).await, set([0, 1]));
    let new = write_chunk(&target, A, 1, 9).await;
    checkpoint(&target, A, vec![new]).await;
    target.abort().await;

    let target = rig.target();
    assert_eq!(held(&target, A, big()).await, set([0, 1]));
    assert_eq!(target.holds(A, vec![filled(0, 0), filled(1, 1), new]).await, [true, false, true]);
}

async fn a_chunk_may_be_a_hole(rig: &impl Rig) {
    let target = rig.target();
    assert!(held(&target, A, big()).await.is_empty());
    checkpoint(&target, A, vec![filled(1, 0), filled(3, 0)]).await;
    target.abort().await;

    let target = rig.target();
    assert_eq!(held(&target, A, big()).await, set([1, 3]));
    assert_eq!(target.holds(A, vec![filled(1, 0), filled(3, 0)]).await, [true, true]);
    let values = vec![write_chunk(&target, A, 0, 1).await, write_chunk(&target, A, 2, 1).await];
    checkpoint(&target, A, values).await;
    let committed = target.commit(vec![commit(0, "big", SIZE, Exists::Refuse)]).await;
    assert!(matches!(committed[..], [Ok(Committed::Done(None))]), "{committed:?}");
    let Node::File(bytes) = &nodes(&rig.tree())["big"] else { panic!("it is not a file") };
    let fills = [0, 1, 2, 3].map(|index| bytes[usize::try_from(index * CHUNK).unwrap()]);
    assert_eq!((bytes.len() as u64, fills), (SIZE, [1, 0, 1, 0]));
}

async fn only_the_same_file_is_resumed(rig: &impl Rig) {
    leave(rig, &[0, 1]).await;
    let target = rig.target();
    assert!(held(&target, A, entry("other", Kind::File { size: SIZE })).await.is_empty());
    target.abort().await;
    // A source that has changed may still have most of its chunks.
    let mut later = big();
    later.meta.mtime.seconds += 1;
    let target = rig.target();
    assert_eq!(held(&target, EntryId(5), later).await, set([0, 1]));
    target.abort().await;
}

async fn a_file_of_another_size_has_the_chunks_of_equal_length(rig: &impl Rig) {
    leave(rig, &[0, 1, 3]).await;
    for (size, want) in [(SIZE + 1, vec![0, 1]), (3 * CHUNK, vec![0, 1]), (CHUNK + 1, vec![0])] {
        let target = rig.target();
        let other = entry("big", Kind::File { size });
        assert_eq!(held(&target, A, other).await, set(want), "{size} bytes");
        target.abort().await;
    }
    // What was given up stays so.
    let target = rig.target();
    assert_eq!(held(&target, A, big()).await, set([0]));
    assert_eq!(target.holds(A, vec![filled(0, 0)]).await, [true]);
    let committed = target.commit(vec![commit(0, "big", SIZE, Exists::Refuse)]).await;
    assert!(matches!(committed[..], [Ok(Committed::Done(None))]), "{committed:?}");
    let Node::File(bytes) = &nodes(&rig.tree())["big"] else { panic!("it is not a file") };
    assert_eq!((bytes.len() as u64, bytes.iter().any(|byte| *byte != 0)), (SIZE, false));
}

async fn nothing_is_left_of_what_was_committed_or_discarded(rig: &impl Rig) {
    for is_committed in [true, false] {
        leave(rig, &[0, 1, 2, 3]).await;
        let target = rig.target();
        assert_eq!(held(&target, A, big()).await, set(0..4));
        if is_committed {
            let committed = target.commit(vec![commit(0, "big", SIZE, Exists::Refuse)]).await;
            assert!(matches!(committed[..], [Ok(Committed::Done(None))]), "{committed:?}");
        } else {
            target.discard(A).await;
        }
        target.abort().await;
        assert!(held(&rig.target(), A, big()).await.is_empty(), "committed: {is_committed}");
    }
}

async fn what_was_given_up_is_held_by_the_next_transfer(rig: &impl Rig) {
    leave(rig, &[0]).await;
    let target = rig.target();
    assert_eq!(held(&target, A, big()).await, set([0]));
    let other = entry("other", Kind::File { size: SIZE });
    assert!(held(&target, EntryId(1), other.clone()).await.is_empty());
    let value = write_chunk(&target, A, 2, 2).await;
    checkpoint(&target, A, vec![value]).await;
    write_chunk(&target, A, 1, 1).await;
    write_chunk(&target, EntryId(1), 0, 1).await;
    target.give_up(A).await;
    target.give_up(EntryId(1)).await;
    // The transfer goes on without it.
    let late = target.checkpoint(vec![(A, vec![filled(1, 1)])]).await.remove(0);
    assert!(late.is_ok(), "{late:?}");
    let beside = rig.target();
    assert_eq!(held(&beside, A, big()).await, set([0, 2]));
    assert_eq!(beside.holds(A, vec![filled(0, 0), filled(2, 2)]).await, [true, true]);
    assert!(held(&beside, EntryId(1), other).await.is_empty(), "nothing was recorded of it");
    beside.abort().await;
    target.finish().await.unwrap();
    assert_eq!(held(&rig.target(), A, big()).await, set([0, 2]));
}

async fn what_could_not_be_committed_is_held_by_the_next_transfer(rig: &impl Rig) {
    let (target, path) = (rig.target(), "dir/big");
    let inside = || entry(path, Kind::File { size: SIZE });
    assert!(held(&target, A, inside()).await.is_empty());
    let mut values = Vec::new();
    for index in 0..4 {
        values.push(write_chunk(&target, A, index, 7).await);
    }
    checkpoint(&target, A, values.clone()).await;
    // There is no directory.
    let committed = target.commit(vec![commit(0, path, SIZE, Exists::Refuse)]).await;
    assert!(matches!(committed[..], [Ok(Committed::Denied(_))]), "{committed:?}");
    target.finish().await.unwrap();

    let target = rig.target();
    assert_eq!(held(&target, A, inside()).await, set(0..4));
    assert_eq!(target.holds(A, values).await, [true; 4]);
}

async fn a_running_transfer_keeps_what_it_stages(rig: &impl Rig) {
    leave(rig, &[0, 1]).await;
    let (first, second) = (rig.target(), rig.target());
    assert_eq!(held(&first, A, big()).await, set([0, 1]));
    assert!(held(&second, A, big()).await.is_empty());
    let theirs = write_chunk(&second, A, 0, 9).await;
    checkpoint(&second, A, vec![theirs]).await;
    second.abort().await;
    assert_eq!(first.holds(A, vec![filled(0, 0), theirs]).await, [true, false]);
    first.abort().await;
    assert_eq!(held(&rig.target(), A, big()).await, set([0, 1]));
}
