//! One suite for every [`Source`] and [`Target`]: the file system, memory, and memory that takes short writes.

mod old_files;
mod resume;
mod rig;
mod sources;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::rig::{FsRig, MemoryRig, Rig, Tree, nodes};
use self::sources::{
    attack_23_a_source_that_is_not_what_was_announced, t13_a_source_that_grew_is_read_as_it_was,
    walks_of_one_source_do_not_disturb_each_other,
};
use super::disk::{Node, rel_path, source_root, target_root};
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta, Time};
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::storage::block::{BlockCount, BlockPool};
use crate::storage::{
    Commit, Final, Source, StorageError, Target, Verdict, Walk, Walked, Write, look_and_prepare,
};

/// Runs each function on each pair of disks.
macro_rules! suite {
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

suite!(
    everything_arrives_as_it_was,
    the_walk_does_not_depend_on_how_many_are_asked_for,
    walks_of_one_source_do_not_disturb_each_other,
    unwritten_ranges_are_holes,
    a_look_tells_what_is_there,
    a_look_changes_nothing,
    conflicts_are_settled_as_asked,
    a_name_taken_meanwhile_is_not_replaced,
    a_directory_that_has_appeared_is_not_a_new_one,
    t14_what_found_its_name_taken_can_be_committed_again,
    t15_names_that_a_rename_made_are_looked_at,
    t16_existing_files_get_mode_and_time,
    one_failed_entry_does_not_keep_the_others,
    attack_2_a_parent_that_is_a_link_is_refused,
    attack_3_a_directory_swapped_for_a_link_is_refused,
    attack_6_a_file_where_a_directory_is,
    transfers_into_one_directory_do_not_mix,
    staging_is_gone_after_finish_and_abort,
    a_discarded_entry_is_gone,
    a_checkpoint_takes_what_was_written_and_more_can_come,
    t13_a_source_that_grew_is_read_as_it_was,
    attack_23_a_source_that_is_not_what_was_announced,
);

fn file(bytes: &[u8]) -> Node {
    Node::File(bytes.to_vec())
}

fn link(target: &str) -> Node {
    Node::Link(target.into())
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry { path: rel_path(path), meta: Node::Dir.default_meta(), kind, hole_bytes: 0 }
}

fn commit(id: u64, path: &str, size: u64, exists: Exists) -> Commit {
    let meta = file(b"").default_meta();
    Commit { id: EntryId(id), path: rel_path(path), kind: Final::File { size }, meta, root: None, exists }
}

fn tree(entries: &[(&[u8], Node, u32, i64, u32)]) -> Tree {
    let with_meta = |(path, node, mode, seconds, nanos): &(&[u8], Node, u32, i64, u32)| {
        let meta = Meta { mode: *mode, mtime: Time { seconds: *seconds, nanos: *nanos }, attributes: None };
        (path.to_vec(), (node.clone(), meta))
    };
    entries.iter().map(with_meta).collect()
}

fn big_file() -> Vec<u8> {
    (0..3 * BLOCK_BYTES + 5).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

/// A tree with something of every kind.
fn whole_tree() -> Tree {
    tree(&[
        (b"single", file(b"one file among the sources"), 0o600, 1_600_000_000, 1),
        (b"d", Node::Dir, 0o750, 1_500_000_000, 999_999_999),
        (b"d/empty", file(b""), 0o644, 0, 0),
        (b"d/nothing", Node::Dir, 0o700, 12, 34),
        (b"d/big", Node::File(big_file()), 0o444, 1_700_000_000, 123_456_789),
        (b"d/before 1970", file(b"old"), 0o777, -86_400, 5),
        (b"d/\xff\xfe \n\x1b[2J-\\", file(b"any bytes"), 0o640, 1, 1),
        (b"d/read-only", Node::Dir, 0o555, -1, 999_999_999),
        (b"d/read-only/in", Node::Dir, 0o555, 3, 4),
        (b"d/read-only/in/x", file(b"below"), 0o400, 5, 6),
        (b"d/dangling", Node::Link(b"/no/such\xff".to_vec()), 0o777, 7, 8),
        (b"d/up", Node::Link(b"../..".to_vec()), 0o777, -9, 10),
        (b"d/link", link("../single"), 0o777, 11, 12),
    ])
}

/// Stages `bytes` as one piece.
async fn stage(target: &impl Target, id: u64, bytes: &[u8]) -> Result<(), StorageError> {
    let mut block = BlockPool::new(1, BlockCount::default()).acquire().await;
    block[..bytes.len()].copy_from_slice(bytes);
    let write = Write { id: EntryId(id), offset: 0, range: 0..bytes.len(), whole: None };
    target.write(vec![write], block).await?.pop().map_or(Ok(()), Err)
}

/// Sends everything from one to the other, as a session would.
async fn carry(source: &impl Source, target: &impl Target, max: usize) {
    let pool = BlockPool::new(1, BlockCount::default());
    let (mut walk, mut id) = (source.walk(), 0);
    loop {
        let found = walk.next(max).await;
        assert!(found.len() <= max);
        if found.is_empty() {
            break;
        }
        for found in found {
            let Walked::Entry(entry) = found else { panic!("{found:?}") };
            let (path, meta) = (entry.path.clone(), entry.meta.clone());
            if entry.kind == Kind::DirEnd {
                for finished in target.finish_dirs(vec![(path, Some(meta))]).await {
                    finished.unwrap();
                }
                continue;
            }
            let admitted = admit(target, id, vec![entry.clone()]).await;
            assert!(matches!(admitted[..], [Ok(Lookup::Free)]), "{path}: {admitted:?}");
            let kind = match entry.kind.clone() {
                Kind::File { size } => {
                    send_file(source, target, &pool, &entry, EntryId(id)).await;
                    Final::File { size }
                }
                Kind::Symlink { target } => Final::Symlink { target },
                Kind::OpenEnded | Kind::Dir | Kind::DirEnd => continue,
            };
            let exists = Exists::Refuse;
            let commit = Commit { id: EntryId(id), path: path.clone(), kind, meta, root: None, exists };
            let committed = target.commit(vec![commit]).await;
            assert!(matches!(committed[..], [Ok(Committed::Done(None))]), "{path}: {committed:?}");
            if entry.size() > 0 {
                let root = source_root(source, entry).await.unwrap();
                assert_eq!(root, target_root(target, path.as_bytes()).await.unwrap());
            }
            id += 1;
        }
    }
    target.finish().await.unwrap();
}

/// Announces entries that have the numbers from `first` on.
async fn admit(target: &impl Target, first: u64, entries: Vec<Entry>) -> Vec<Result<Lookup, StorageError>> {
    look_and_prepare(target, (first..).map(EntryId).zip(entries).collect(), Exists::Refuse).await
}

async fn send_file(source: &impl Source, target: &impl Target, pool: &BlockPool, entry: &Entry, id: EntryId) {
    if entry.size() <= BLOCK_BYTES as u64 {
        let batch = source.read_small(vec![entry.clone()], pool.acquire().await).await;
        let range = batch.files[0].clone().unwrap();
        target.write(vec![Write { id, offset: 0, range, whole: None }], batch.block).await.unwrap();
        return;
    }
    let file = source.open(entry.clone()).await.unwrap();
    let mut at = 0;
    for run in source.runs(&file, 0..entry.size()).await.unwrap() {
        let end = at + run.len;
        if run.is_hole {
            at = end;
        }
        while at < end {
            let len = usize::try_from(end - at).unwrap().min(BLOCK_BYTES);
            let block = source.read_at(&file, at, len, pool.acquire().await).await.unwrap();
            target.write(vec![Write { id, offset: at, range: 0..len, whole: None }], block).await.unwrap();
            at += len as u64;
        }
    }
    assert_eq!(source.verify(&file).await.unwrap(), Verdict::Same);
}

async fn everything_arrives_as_it_was(rig: &impl Rig) {
    let tree = whole_tree();
    carry(&rig.source(&tree), &rig.target(), 1000).await;
    let arrived = rig.tree();
    assert_eq!(nodes(&arrived), nodes(&tree));
    assert_eq!(arrived, tree);
}

async fn the_walk_does_not_depend_on_how_many_are_asked_for(rig: &impl Rig) {
    let tree = whole_tree();
    carry(&rig.source(&tree), &rig.target(), 1).await;
    assert_eq!(rig.tree(), tree);
}

async fn unwritten_ranges_are_holes(rig: &impl Rig) {
    let target = rig.target();
    stage(&target, 0, b"abc").await.unwrap();
    stage(&target, 1, b"longer than declared").await.unwrap();
    let commits = vec![
        commit(0, "tail", 5, Exists::Refuse),
        commit(1, "cut", 6, Exists::Refuse),
        commit(2, "all", 4, Exists::Refuse),
        commit(3, "nothing", 0, Exists::Refuse),
    ];
    for committed in target.commit(commits).await {
        assert!(matches!(committed, Ok(Committed::Done(None))), "{committed:?}");
    }
    let want = [
        ("all", file(b"\0\0\0\0")),
        ("cut", file(b"longer")),
        ("nothing", file(b"")),
        ("tail", file(b"abc\0\0")),
    ];
    assert_eq!(nodes(&rig.tree()), want.map(|(path, node)| (path.to_owned(), node)).into());
}

async fn a_look_tells_what_is_there(rig: &impl Rig) {
    rig.put("dir", Node::Dir);
    rig.put("file", file(b"12345"));
    rig.put("link", link("file"));
    let target = rig.target();
    let link_to = |target: &'static str| Kind::Symlink { target: Bytes::from_static(target.as_bytes()) };
    let entries = vec![
        entry("free", Kind::File { size: 5 }),
        entry("file", Kind::File { size: 5 }),
        entry("file", Kind::File { size: 6 }),
        entry("link", Kind::File { size: 5 }),
        entry("dir", Kind::File { size: 5 }),
        entry("dir", Kind::Dir),
        entry("new", Kind::Dir),
        entry("new/below", Kind::Dir),
        entry("link", Kind::Dir),
        entry("file", Kind::Dir),
        entry("link", link_to("file")),
        entry("link", link_to("other")),
        entry("file", link_to("file")),
        entry("free", link_to("file")),
        entry("none/below", Kind::Dir),
        entry("file/below", Kind::File { size: 1 }),
    ];
    let shown: Vec<String> = admit(&target, 0, entries)
        .await
        .iter()
        .map(|lookup| format!("{:?}", lookup.as_ref().unwrap()))
        .collect();
    let words: Vec<&str> = shown.iter().map(|word| word.split(['(', ' ']).next().unwrap()).collect();
    let want = [
        "Free",
        "SameSize",
        "Conflict",
        "Conflict",
        "Directory",
        "Same",
        "Free",
        "Free",
        "Conflict",
        "Conflict",
        "Same",
        "Conflict",
        "Conflict",
        "Free",
        "Denied",
        "Refused",
    ];
    assert_eq!(words, want);
    assert_eq!(rig.tree()[&b"new/below"[..]].0, Node::Dir);
}

async fn a_look_changes_nothing(rig: &impl Rig) {
    for dir in ["dir", "closed"] {
        rig.put(dir, Node::Dir);
    }
    for name in ["dir/in", "file", "file~1", "closed/in"] {
        rig.put(name, file(b"12345"));
    }
    rig.put("link", link("dir"));
    let closed = Meta { mode: 0o555, mtime: Time { seconds: 1, nanos: 2 }, attributes: None };
    let before = rig.target();
    before.finish_dirs(vec![(rel_path("closed"), Some(closed))]).await.remove(0).unwrap();
    before.finish().await.unwrap();
    let target = rig.target();
    let mut entries = Vec::new();
    for path in
        ["dir", "closed", "closed/in", "closed/new", "file", "link", "link/in", "file/in", "new", "new/in"]
    {
        let to = Kind::Symlink { target: Bytes::from_static(b"dir") };
        entries.extend(
            [Kind::Dir, Kind::File { size: 5 }, Kind::File { size: 6 }, to].map(|kind| entry(path, kind)),
        );
    }
    let there = rig.snapshot();
    for exists in [Exists::Refuse, Exists::Skip, Exists::Replace, Exists::Rename] {
        assert_eq!(target.look(entries.clone(), exists).await.len(), entries.len());
        assert_eq!(rig.snapshot(), there, "{exists:?}");
    }
    // The snapshot would show it.
    admit(&target, 0, vec![entry("new", Kind::Dir)]).await.remove(0).unwrap();
    assert_ne!(rig.snapshot(), there);
}

async fn conflicts_are_settled_as_asked(rig: &impl Rig) {
    rig.put("a.txt", file(b"old"));
    rig.put("a~1.txt", file(b"older"));
    rig.put("link", link("a.txt"));
    rig.put("dir", Node::Dir);
    let target = rig.target();
    for id in 0..6 {
        stage(&target, id, b"new").await.unwrap();
    }
    let commits = vec![
        commit(0, "a.txt", 3, Exists::Refuse),
        commit(1, "a.txt", 3, Exists::Rename),
        commit(2, "a.txt", 3, Exists::Replace),
        commit(3, "link", 3, Exists::Replace),
        commit(4, "dir", 3, Exists::Replace),
        commit(5, "dir", 3, Exists::Rename),
    ];
    let committed = target.commit(commits).await;
    match &committed[..] {
        [
            Ok(Committed::Exists),
            Ok(Committed::Done(Some(a))),
            Ok(Committed::Done(None)),
            Ok(Committed::Done(None)),
            Ok(Committed::Exists),
            Ok(Committed::Done(Some(dir))),
        ] => assert_eq!((a.as_bytes(), dir.as_bytes()), (&b"a~2.txt"[..], &b"dir~1"[..])),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.staged(&target), 2, "what has no name stays");
    for id in [0, 4] {
        target.discard(EntryId(id)).await;
    }
    assert_eq!(rig.staged(&target), 0);
    let want = [
        ("a.txt", file(b"new")),
        ("a~1.txt", file(b"older")),
        ("a~2.txt", file(b"new")),
        ("dir", Node::Dir),
        ("dir~1", file(b"new")),
        ("link", file(b"new")),
    ];
    assert_eq!(nodes(&rig.tree()), want.map(|(path, node)| (path.to_owned(), node)).into());
}

/// T14 of the trials: a commit that finds its name taken can be repeated.
async fn t14_what_found_its_name_taken_can_be_committed_again(rig: &impl Rig) {
    let target = rig.target();
    let staged = [(0, "file", &b"bytes"[..]), (1, "empty", b"")];
    for (id, name, bytes) in staged {
        rig.put(name, file(b"another"));
        if !bytes.is_empty() {
            stage(&target, id, bytes).await.unwrap();
        }
        let size = bytes.len() as u64;
        let committed = target.commit(vec![commit(id, name, size, Exists::Refuse)]).await;
        assert!(matches!(committed[..], [Ok(Committed::Exists)]), "{committed:?}");
        let committed = target.commit(vec![commit(id, name, size, Exists::Rename)]).await;
        assert!(matches!(committed[..], [Ok(Committed::Done(Some(_)))]), "{committed:?}");
    }
    rig.put("link", file(b"another"));
    let to = Final::Symlink { target: Bytes::from_static(b"file") };
    for (exists, is_done) in [(Exists::Refuse, false), (Exists::Rename, true)] {
        let again = Commit { kind: to.clone(), ..commit(2, "link", 0, exists) };
        let committed = target.commit(vec![again]).await;
        assert_eq!(matches!(committed[..], [Ok(Committed::Done(Some(_)))]), is_done, "{committed:?}");
    }
    let tree = nodes(&rig.tree());
    assert_eq!(tree["file~1"], file(b"bytes"));
    assert_eq!(tree["empty~1"], file(b""));
    assert_eq!(tree["link~1"], link("file"));
    assert_eq!(rig.staged(&target), 0);
}

/// T15 of the trials: files made by a rename are found.
async fn t15_names_that_a_rename_made_are_looked_at(rig: &impl Rig) {
    rig.put("file", file(b"other"));
    rig.put("file~1", file(b"12345678"));
    rig.put("file~2", file(b"12345"));
    rig.put("file~3", file(b"54321"));
    rig.put("link", link("elsewhere"));
    rig.put("link~1", link("file"));
    let target = rig.target();
    let to = Kind::Symlink { target: Bytes::from_static(b"file") };
    let entries = vec![
        (EntryId(0), entry("file", Kind::File { size: 5 })),
        (EntryId(1), entry("file", Kind::File { size: 8 })),
        (EntryId(2), entry("file", Kind::File { size: 9 })),
        (EntryId(3), entry("link", to)),
    ];
    let admitted = look_and_prepare(&target, entries.clone(), Exists::Rename).await;
    match &admitted[..] {
        [
            Ok(Lookup::SameSize { numbers: five, .. }),
            Ok(Lookup::SameSize { numbers: eight, .. }),
            Ok(Lookup::Conflict),
            Ok(Lookup::Same { number: 1, .. }),
        ] => {
            assert_eq!(five, &[0, 3, 2]);
            assert_eq!(eight, &[1]);
        }
        other => panic!("{other:?}"),
    }
    let admitted = look_and_prepare(&target, entries, Exists::Refuse).await;
    match &admitted[..] {
        [
            Ok(Lookup::SameSize { numbers, .. }),
            Ok(Lookup::Conflict),
            Ok(Lookup::Conflict),
            Ok(Lookup::Conflict),
        ] => {
            assert_eq!(numbers, &[0]);
        }
        other => panic!("{other:?}"),
    }
}

/// As `A` and `a` do where case means nothing.
async fn a_directory_that_has_appeared_is_not_a_new_one(rig: &impl Rig) {
    let target = rig.target();
    let admitted = admit(&target, 0, vec![entry("d", Kind::Dir), entry("d", Kind::Dir)]).await;
    assert!(matches!(admitted[..], [Ok(Lookup::Free), Ok(Lookup::Same { .. })]), "{admitted:?}");
}

/// T16 of the trials: existing files get mode and time.
async fn t16_existing_files_get_mode_and_time(rig: &impl Rig) {
    rig.put("file", file(b"12345"));
    rig.put("link", link("file"));
    let target = rig.target();
    let mut entries = vec![
        entry("file", Kind::File { size: 5 }),
        entry("link", Kind::Symlink { target: Bytes::from_static(b"file") }),
    ];
    entries[0].meta = Meta { mode: 0o600, mtime: Time { seconds: 5, nanos: 6 }, attributes: None };
    entries[1].meta = Meta { mode: 0o777, mtime: Time { seconds: 7, nanos: 8 }, attributes: None };
    for is_current in [false, true] {
        for admission in admit(&target, 0, entries.clone()).await {
            match admission {
                Ok(Lookup::Same { is_current: there, .. })
                | Ok(Lookup::SameSize { is_current: there, .. }) => {
                    assert_eq!(there, is_current);
                }
                other => panic!("{other:?}"),
            }
        }
        let updated: Vec<bool> =
            target.update(entries.clone()).await.into_iter().map(|updated| updated.unwrap()).collect();
        assert_eq!(updated, [!is_current; 2]);
    }
    assert_eq!(rig.tree()[&b"file"[..]].1, entries[0].meta);
    assert_eq!(rig.tree()[&b"link"[..]].1.mtime, entries[1].meta.mtime);
    assert!(target.update(vec![entry("missing", Kind::File { size: 1 })]).await[0].is_err());
}

async fn a_name_taken_meanwhile_is_not_replaced(rig: &impl Rig) {
    let target = rig.target();
    let admitted = admit(&target, 0, vec![entry("name", Kind::File { size: 3 })]).await;
    assert!(matches!(admitted[..], [Ok(Lookup::Free)]));
    stage(&target, 0, b"new").await.unwrap();
    rig.put("name", file(b"somebody else's"));
    let committed = target.commit(vec![commit(0, "name", 3, Exists::Refuse)]).await;
    assert!(matches!(committed[..], [Ok(Committed::Exists)]), "{committed:?}");
    let want: BTreeMap<_, _> = [("name".to_owned(), file(b"somebody else's"))].into();
    assert_eq!(nodes(&rig.tree()), want);
}

async fn one_failed_entry_does_not_keep_the_others(rig: &impl Rig) {
    rig.put("taken", file(b"old"));
    for dir in 0..6 {
        rig.put(&format!("d{dir}"), Node::Dir);
    }
    let target = rig.target();
    // Few enough for a sync each, and more than that, in one directory and in several.
    for (first, count) in [(0, 2), (10, 4), (20, 40)] {
        let mut commits = vec![
            commit(first, "taken", 1, Exists::Refuse),
            commit(first + 1, "missing/x", 1, Exists::Refuse),
        ];
        commits.extend((2..count).map(|n| {
            let path = format!("d{}/{}", n % 6, first + n);
            commit(first + n, &path, 1, Exists::Refuse)
        }));
        for id in first..first + count {
            stage(&target, id, b"x").await.unwrap();
        }
        let committed = target.commit(commits).await;
        assert!(matches!(committed[0], Ok(Committed::Exists)), "{:?}", committed[0]);
        assert!(matches!(committed[1], Ok(Committed::Denied(_))), "{:?}", committed[1]);
        for committed in &committed[2..] {
            assert!(matches!(committed, Ok(Committed::Done(None))), "{committed:?}");
        }
        target.discard(EntryId(first)).await;
    }
    assert_eq!(rig.staged(&target), 0);
    let arrived = nodes(&rig.tree()).into_values().filter(|node| *node == file(b"x")).count();
    assert_eq!(arrived, 40);
}

async fn attack_2_a_parent_that_is_a_link_is_refused(rig: &impl Rig) {
    rig.put("honest", Node::Dir);
    rig.put("link", link("honest"));
    let before = nodes(&rig.tree());
    let target = rig.target();
    let entries = vec![
        entry("link/file", Kind::File { size: 1 }),
        entry("link/dir", Kind::Dir),
        entry("link/link", Kind::Symlink { target: Bytes::from_static(b"x") }),
    ];
    for admission in admit(&target, 0, entries).await {
        assert!(matches!(admission, Ok(Lookup::Refused(_))), "{admission:?}");
    }
    stage(&target, 0, b"x").await.unwrap();
    let committed = target.commit(vec![commit(0, "link/file", 1, Exists::Replace)]).await;
    assert!(matches!(committed[..], [Ok(Committed::Refused(_))]), "{committed:?}");
    assert!(target.finish_dirs(vec![(rel_path("link"), Some(Meta::default()))]).await[0].is_err());
    assert!(target_root(&target, "link").await.is_err());
    assert_eq!(nodes(&rig.tree()), before);

    // The honest case: the same below the directory itself.
    stage(&target, 1, b"x").await.unwrap();
    let committed = target.commit(vec![commit(1, "honest/file", 1, Exists::Refuse)]).await;
    assert!(matches!(committed[..], [Ok(Committed::Done(None))]), "{committed:?}");
}

async fn attack_3_a_directory_swapped_for_a_link_is_refused(rig: &impl Rig) {
    rig.put("victim", Node::Dir);
    let victim = rig.tree()[&b"victim"[..]].1.clone();
    let target = rig.target();
    let admitted =
        admit(&target, 0, vec![entry("dir", Kind::Dir), entry("dir/file", Kind::File { size: 1 })]).await;
    assert!(matches!(admitted[..], [Ok(Lookup::Free), Ok(Lookup::Free)]), "{admitted:?}");
    stage(&target, 0, b"x").await.unwrap();
    rig.put("dir", link("victim"));
    let committed = target.commit(vec![commit(0, "dir/file", 1, Exists::Refuse)]).await;
    assert!(matches!(committed[..], [Ok(Committed::Refused(_))]), "{committed:?}");
    let odd = Meta { mode: 0o777, mtime: Time { seconds: 1, nanos: 2 }, attributes: None };
    assert!(target.finish_dirs(vec![(rel_path("dir"), Some(odd))]).await[0].is_err());
    let want = [("dir".to_owned(), link("victim")), ("victim".to_owned(), Node::Dir)];
    assert_eq!(nodes(&rig.tree()), want.into());
    assert_eq!(rig.tree()[&b"victim"[..]].1, victim);
}

async fn attack_6_a_file_where_a_directory_is(rig: &impl Rig) {
    rig.put("dir", Node::Dir);
    rig.put("dir/kept", file(b"kept"));
    rig.put("file", file(b"kept"));
    let before = nodes(&rig.tree());
    let target = rig.target();
    for (id, exists) in [(0, Exists::Refuse), (1, Exists::Replace)] {
        stage(&target, id, b"x").await.unwrap();
        let committed = target.commit(vec![commit(id, "dir", 1, exists)]).await;
        assert!(matches!(committed[..], [Ok(Committed::Exists)]), "{committed:?}");
        target.discard(EntryId(id)).await;
    }
    stage(&target, 2, b"x").await.unwrap();
    let committed = target.commit(vec![commit(2, "file/below", 1, Exists::Replace)]).await;
    assert!(matches!(committed[..], [Ok(Committed::Refused(_))]), "{committed:?}");
    assert_eq!(nodes(&rig.tree()), before);
    assert_eq!(rig.staged(&target), 0);
}

async fn transfers_into_one_directory_do_not_mix(rig: &impl Rig) {
    let (ours, theirs) = (rig.target(), rig.target());
    let (kept, renamed) = tokio::join!(
        commit_twenty(&ours, b'a', Exists::Refuse),
        commit_twenty(&theirs, b'b', Exists::Rename)
    );
    let tree = rig.tree();
    for id in 0..20 {
        let at = |path: &RelPath| &tree[path.as_bytes()].0;
        let path = rel_path(id.to_string());
        match (&kept[id], &renamed[id]) {
            (Ok(Committed::Done(None)), Ok(Committed::Done(Some(other)))) => {
                assert_eq!(at(&path), &file(&[b'a'; 1000]));
                assert_eq!(at(other), &file(&[b'b'; 1000]));
            }
            (Ok(Committed::Exists), Ok(Committed::Done(None))) => assert_eq!(at(&path), &file(&[b'b'; 1000])),
            other => panic!("{other:?}"),
        }
    }
    ours.finish().await.unwrap();
    stage(&theirs, 99, b"still works").await.unwrap();
    let committed = theirs.commit(vec![commit(99, "last", 11, Exists::Refuse)]).await;
    assert!(matches!(committed[..], [Ok(Committed::Done(None))]), "{committed:?}");
    theirs.finish().await.unwrap();
}

async fn commit_twenty(
    target: &impl Target,
    byte: u8,
    exists: Exists,
) -> Vec<Result<Committed, StorageError>> {
    let mut outcomes = Vec::new();
    for id in 0..20 {
        stage(target, id, &[byte; 1000]).await.unwrap();
        outcomes.extend(target.commit(vec![commit(id, &id.to_string(), 1000, exists)]).await);
    }
    outcomes
}

async fn staging_is_gone_after_finish_and_abort(rig: &impl Rig) {
    for finish in [true, false] {
        let (target, other) = (rig.target(), rig.target());
        stage(&target, 0, b"never committed").await.unwrap();
        if finish {
            target.finish().await.unwrap();
        } else {
            target.abort().await;
        }
        assert!(stage(&target, 1, b"too late").await.is_err());
        let late = target.commit(vec![commit(2, "late", 0, Exists::Refuse)]).await;
        assert!(matches!(late[..], [Err(_)]), "{late:?}");
        assert_eq!(rig.staged(&target), 0);
        // The other transfer is not disturbed.
        stage(&other, 0, b"x").await.unwrap();
        other.abort().await;
    }
    assert_eq!(rig.tree(), Tree::new());
}

async fn a_discarded_entry_is_gone(rig: &impl Rig) {
    let target = rig.target();
    stage(&target, 0, b"gone").await.unwrap();
    stage(&target, 1, b"stays").await.unwrap();
    target.discard(EntryId(0)).await;
    target.discard(EntryId(7)).await;
    assert_eq!(rig.staged(&target), 1);
    let committed = target.commit(vec![commit(1, "stays", 5, Exists::Refuse)]).await;
    assert!(matches!(committed[..], [Ok(Committed::Done(None))]), "{committed:?}");
}

async fn a_checkpoint_takes_what_was_written_and_more_can_come(rig: &impl Rig) {
    let target = rig.target();
    // An unknown entry counts as durable.
    for checkpoint in target.checkpoint(vec![(EntryId(0), vec![]), (EntryId(7), vec![])]).await {
        assert!(checkpoint.unwrap());
    }
    stage(&target, 0, b"new and longer").await.unwrap();
    stage(&target, 1, b"other").await.unwrap();
    for entries in [vec![(EntryId(0), vec![]), (EntryId(1), vec![])], vec![(EntryId(0), vec![])]] {
        for checkpoint in target.checkpoint(entries).await {
            assert!(checkpoint.unwrap());
        }
    }
    stage(&target, 0, b"newer").await.unwrap();
    assert_eq!(nodes(&rig.tree()), BTreeMap::new());
    let commits = vec![commit(0, "file", 14, Exists::Refuse), commit(1, "other", 5, Exists::Refuse)];
    let committed = target.commit(commits).await;
    assert!(matches!(committed[..], [Ok(Committed::Done(None)), Ok(Committed::Done(None))]), "{committed:?}");
    let want = [("file".to_owned(), file(b"newernd longer")), ("other".to_owned(), file(b"other"))];
    assert_eq!(nodes(&rig.tree()), want.into());
}
