//! Tests of sources alone: walks, and files that differ from the announcement.

use super::rig::Rig;
use super::{big_file, file, tree, whole_tree};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::wire::entry::{Entry, Kind};
use crate::storage::block::{BlockCount, BlockPool};
use crate::storage::{Source, Verdict, Walk, Walked};
use crate::testing::disk::{Node, source_root};

pub(super) async fn walks_of_one_source_do_not_disturb_each_other(rig: &impl Rig) {
    let source = rig.source(&whole_tree());
    let whole = source.walk().next(1000).await;
    assert_eq!(whole.len(), whole_tree().len() + 4, "with the ends of the directories");
    let (mut one, mut other) = (source.walk(), source.walk());
    let (mut by_one, mut by_other) = (Vec::new(), Vec::new());
    loop {
        let steps = (one.next(3).await, other.next(2).await);
        if steps.0.is_empty() && steps.1.is_empty() {
            break;
        }
        by_one.extend(steps.0);
        by_other.extend(steps.1);
    }
    assert_eq!((by_one, by_other), (whole.clone(), whole));
}

/// T13 of the trials: a file that grew since it was announced is read as it was then.
pub(super) async fn t13_a_source_that_grew_is_read_as_it_was(rig: &impl Rig) {
    let tree =
        tree(&[(b"large", Node::File(big_file()), 0o644, 1, 1), (b"small", file(b"all of it"), 0o644, 2, 2)]);
    let source = rig.source(&tree);
    let mut entries: Vec<Entry> = source.walk().next(9).await.into_iter().map(expect_entry).collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    // As they were before.
    let large = big_file().len() as u64 - 7;
    entries[0].kind = Kind::File { size: large };
    entries[1].kind = Kind::File { size: 3 };
    let open = source.open(entries[0].clone()).await.unwrap();
    assert_eq!(source.verify(&open).await.unwrap(), Verdict::Longer);
    let root = blake3::hash(&big_file()[..usize::try_from(large).unwrap()]);
    assert_eq!(source_root(&source, entries[0].clone()).await.unwrap(), root);
    let batch = source
        .read_small(vec![entries[1].clone()], BlockPool::new(1, BlockCount::default()).acquire().await)
        .await;
    assert_eq!(batch.grown, [0]);
    assert_eq!(&batch.block[batch.files[0].clone().unwrap()], b"all");
}

pub(super) async fn attack_23_a_source_that_is_not_what_was_announced(rig: &impl Rig) {
    let source = rig.source(&tree(&[
        (b"a", file(b"aaaa"), 0o644, 1, 1),
        (b"b", file(b"bb"), 0o644, 2, 2),
        (b"c", file(b"ccc"), 0o644, 3, 3),
    ]));
    let mut entries: Vec<Entry> = source.walk().next(9).await.into_iter().map(expect_entry).collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let honest = entries.clone();
    entries[0].kind = Kind::File { size: 5 };
    entries[1].meta.mtime.nanos += 1;

    let is_changed = |result: Result<(), Failure>| result.is_err_and(|f| f.reason == Reason::SourceChanged);
    for entry in &entries[..2] {
        assert!(is_changed(source.open(entry.clone()).await.map(drop)));
        assert!(is_changed(source_root(&source, entry.clone()).await.map(drop)));
    }
    let batch = source.read_small(entries, BlockPool::new(1, BlockCount::default()).acquire().await).await;
    assert!(is_changed(batch.files[0].clone().map(drop)));
    assert!(is_changed(batch.files[1].clone().map(drop)));
    assert_eq!(&batch.block[batch.files[2].clone().unwrap()], b"ccc");

    let batch =
        source.read_small(honest.clone(), BlockPool::new(1, BlockCount::default()).acquire().await).await;
    let bytes: Vec<&[u8]> = batch.files.iter().map(|range| &batch.block[range.clone().unwrap()]).collect();
    assert_eq!(bytes, [&b"aaaa"[..], b"bb", b"ccc"]);
    let open = source.open(honest[0].clone()).await.unwrap();
    let past_the_end =
        source.read_at(&open, 2, 3, BlockPool::new(1, BlockCount::default()).acquire().await).await;
    assert!(is_changed(past_the_end.map(drop)));
}

fn expect_entry(found: Walked) -> Entry {
    match found {
        Walked::Entry(entry) => entry,
        other => panic!("{other:?}"),
    }
}
