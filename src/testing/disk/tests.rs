//! That the doubles do what tests rely on.

use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

use super::{MemorySource, MemoryTarget, Node, On, Op, rel_path};
use crate::protocol::failure::Reason;
use crate::protocol::final_name::{Committed, Exists};
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta};
use crate::storage::block::{Block, BlockCount, BlockPool};
use crate::storage::{Commit, Final, Source, Target, Walk, Walked, Write};

async fn block(bytes: &[u8]) -> Block {
    let mut block = BlockPool::new(1, BlockCount::default()).acquire().await;
    block[..bytes.len()].copy_from_slice(bytes);
    block
}

fn write(id: u64, len: usize) -> Vec<Write> {
    vec![Write { id: EntryId(id), offset: 0, range: 0..len, whole: None }]
}

fn commit(id: u64, path: &str, size: u64) -> Commit {
    Commit {
        id: EntryId(id),
        path: rel_path(path),
        kind: Final::File { size },
        meta: Meta::default(),
        root: None,
        exists: Exists::Refuse,
    }
}

async fn first_file(source: &MemorySource) -> Entry {
    let found = source.walk().next(1).await.remove(0);
    let Walked::Entry(entry) = found else { panic!("{found:?}") };
    entry
}

///
#[tokio::test]
async fn the_order_is_data_sync_rename_directory() {
    let target = MemoryTarget::new().with("d", Node::Dir);
    target.write(write(0, 3), block(b"abc").await).await.unwrap();
    let committed = target.commit(vec![commit(0, "d/a", 3), commit(1, "b", 0)]).await;
    assert!(matches!(committed[..], [Ok(Committed::Done(None)), Ok(Committed::Done(None))]), "{committed:?}");
    target.finish_dirs(vec![(rel_path("d"), Some(Meta::default()))]).await.remove(0).unwrap();
    target.finish().await.unwrap();
    let ops = [
        Op::Write { id: EntryId(0), offset: 0, len: 3 },
        Op::Sync(EntryId(0)),
        Op::Sync(EntryId(1)),
        Op::Rename("d/a".into()),
        Op::Rename("b".into()),
        Op::SyncDir(String::new()),
        Op::SyncDir("d".into()),
        Op::FinishDir("d".into()),
        Op::Finish,
    ];
    assert_eq!(target.ops(), ops);
}

#[tokio::test]
async fn a_commit_syncs_only_what_no_checkpoint_has_synced() {
    let target = MemoryTarget::new();
    for id in 0..2 {
        target.write(write(id, 3), block(b"abc").await).await.unwrap();
    }
    for _ in 0..2 {
        let entries = vec![(EntryId(0), vec![]), (EntryId(1), vec![])];
        assert!(target.checkpoint(entries).await.into_iter().all(|checkpoint| checkpoint.unwrap()));
    }
    target.write(write(1, 3), block(b"xyz").await).await.unwrap();
    target.commit(vec![commit(0, "a", 3), commit(1, "b", 3)]).await;
    let ops = target.ops();
    let syncs: Vec<_> = ops.iter().filter(|op| matches!(op, Op::Sync(_))).collect();
    assert_eq!(syncs, [&Op::Sync(EntryId(0)), &Op::Sync(EntryId(1)), &Op::Sync(EntryId(1))]);
    target.crash();
    let want = [(b"a".to_vec(), b"abc".to_vec()), (b"b".to_vec(), b"xyz".to_vec())];
    assert_eq!(target.files(), want.into());
}

#[tokio::test]
async fn an_entry_whose_checkpoint_failed_is_never_committed() {
    let target = MemoryTarget::new().failing(On::Sync, 0..1, Errno::IO);
    target.write(write(0, 3), block(b"abc").await).await.unwrap();
    assert!(target.checkpoint(vec![(EntryId(0), vec![])]).await[0].is_err());
    let committed = target.commit(vec![commit(0, "a", 3)]).await;
    assert!(matches!(committed[..], [Err(_)]), "{committed:?}");

    let careless = MemoryTarget::new().without_sync();
    careless.write(write(0, 3), block(b"abc").await).await.unwrap();
    assert!(!careless.checkpoint(vec![(EntryId(0), vec![])]).await.remove(0).unwrap());
}

#[tokio::test]
async fn a_crash_leaves_only_what_was_synced() {
    let target = MemoryTarget::new().with("old", Node::File(b"old".to_vec()));
    for id in 0..2 {
        target.write(write(id, 3), block(b"abc").await).await.unwrap();
    }
    target.commit(vec![commit(0, "a", 3)]).await;
    target.crash();
    let want = [(b"a".to_vec(), b"abc".to_vec()), (b"old".to_vec(), b"old".to_vec())];
    assert_eq!(target.files(), want.into());
    assert!(target.staged().is_empty());
    assert_eq!(target.write(write(1, 1), block(b"x").await).await.unwrap().len(), 1, "the process is gone");

    let careless = MemoryTarget::new().without_sync();
    careless.commit(vec![commit(0, "a", 0)]).await;
    assert_eq!(careless.files().len(), 1);
    careless.finish().await.unwrap();
    careless.crash();
    assert!(careless.files().is_empty());
}

#[tokio::test]
async fn a_name_whose_directory_was_not_synced_is_gone_after_a_crash() {
    let target = MemoryTarget::new().failing(On::SyncDir, 0..1, Errno::IO);
    target.write(write(0, 3), block(b"abc").await).await.unwrap();
    let committed = target.commit(vec![commit(0, "a", 3)]).await;
    assert!(matches!(&committed[..], [Err(e)] if e.to_string().contains("os error 5")));
    assert_eq!(target.files()[&b"a"[..]], b"abc");
    target.crash();
    assert!(target.files().is_empty(), "its directory was not synced");
}

#[tokio::test]
async fn faults_come_when_they_are_told_to() {
    let target =
        MemoryTarget::new().failing(On::Write, 1..2, Errno::NOSPC).failing(On::Rename, 0..1, Errno::IO);
    target.write(write(0, 1), block(b"x").await).await.unwrap();
    let error = target.write(write(0, 1), block(b"x").await).await.err().unwrap();
    assert_eq!(error.source.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    target.write(write(0, 1), block(b"x").await).await.unwrap();
    let committed = target.commit(vec![commit(0, "a", 1), commit(1, "b", 1)]).await;
    assert!(matches!(committed[..], [Err(_), Ok(Committed::Done(None))]), "{committed:?}");

    let small = MemoryTarget::new().with_capacity(5);
    small.write(write(0, 4), block(b"1234").await).await.unwrap();
    let error = small.write(write(1, 4), block(b"1234").await).await.err().unwrap();
    assert!(error.to_string().contains("No space left on device"), "{error}");
}

///
#[tokio::test]
async fn short_writes_are_continued() {
    let target = MemoryTarget::new().with_short_writes(7);
    let bytes: Vec<u8> = (0..=255).collect();
    target.write(write(0, 256), block(&bytes).await).await.unwrap();
    target.commit(vec![commit(0, "a", 256)]).await;
    assert_eq!(target.files()[&b"a"[..]], bytes);
    let writes = target.ops().iter().filter(|op| matches!(op, Op::Write { .. })).count();
    assert!(writes > 1, "{writes} writes");
}

#[tokio::test(start_paused = true)]
async fn slow_disks_take_virtual_time() {
    let source = MemorySource::file("a", vec![1; 1 << 18]).with_read_pace(Duration::from_secs(8));
    let target = MemoryTarget::new().with_write_pace(Duration::from_secs(4));
    let start = Instant::now();
    let entry = first_file(&source).await;
    let file = source.open(entry).await.unwrap();
    let read = source.read_at(&file, 0, 1 << 18, block(b"").await).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 2);
    target.write(write(0, 1 << 18), read).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!(source.bytes_read(), 1 << 18);
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_noticed() {
    let source = MemorySource::new(vec![
        ("d", Kind::Dir, vec![]),
        ("d/a", Kind::File { size: 0 }, vec![1; 10]),
        ("b", Kind::File { size: 0 }, vec![2; 10]),
    ])
    .with_skipped("pipe", Reason::SpecialFile);
    let found = source.walk().next(10).await;
    let shown: Vec<String> = found
        .iter()
        .map(|found| match found {
            Walked::Entry(entry) => format!("{} {:?}", entry.path, entry.kind),
            Walked::Top(_) => panic!("it is not sent by its contents"),
            Walked::Skipped { path, failure } => format!("{path} {}", failure.reason.as_str()),
        })
        .collect();
    assert_eq!(
        shown,
        ["d Dir", "d/a File { size: 10 }", "d DirEnd", "b File { size: 10 }", "pipe special-file"]
    );

    let entry = |at: usize| match &found[at] {
        Walked::Entry(entry) => entry.clone(),
        other => panic!("{other:?}"),
    };
    source.change_when_read("d/a");
    let file = source.open(entry(1)).await.unwrap();
    source.verify(&file).await.unwrap();
    source.read_at(&file, 0, 10, block(b"").await).await.unwrap();
    assert_eq!(source.verify(&file).await.unwrap_err().reason, Reason::SourceChanged);
    source.make_unreadable("b");
    assert_eq!(source.open(entry(3)).await.err().unwrap().reason, Reason::SourceUnreadable);
}

#[tokio::test]
async fn holes_are_told_within_the_range_asked_for() {
    let mut bytes = vec![1; 100];
    bytes[10..30].fill(0);
    bytes[90..].fill(0);
    let source = MemorySource::file("a", bytes).with_hole("a", 90..100).with_hole("a", 10..30);
    let entry = first_file(&source).await;
    let file = source.open(entry).await.unwrap();
    let runs = async |range| {
        let runs = source.runs(&file, range).await.unwrap();
        runs.into_iter().map(|run| (run.len, run.is_hole)).collect::<Vec<_>>()
    };
    assert_eq!(runs(0..100).await, [(10, false), (20, true), (60, false), (10, true)]);
    assert_eq!(runs(20..40).await, [(10, true), (10, false)]);
    assert_eq!(runs(40..50).await, [(10, false)]);
    assert_eq!(runs(5..5).await, []);
}
