//! Failing disks, at either side.

use rustix::io::Errno;

use super::{Ended, MIB, Session, arrived, assert_whole, one_file, seeds, source, tree};
use crate::event::Event;
use crate::protocol::failure::{Reason, Side};
use crate::protocol::not_kept::Aspect;
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::session::Budget;
use crate::testing::disk::{MemoryTarget, Node, On, Op};

/// The receiver's disk fails: the receiver names the whole path, and the sender gets the text `told`.
fn assert_storage_failure(ended: &Ended, own: &str, told: &str, context: &str) {
    for (result, text) in [(&ended.received, own), (&ended.sent, told)] {
        let failure = result.as_ref().expect_err(context);
        assert_eq!((failure.reason, failure.side), (Reason::Storage, Some(Side::Receiver)), "{context}");
        assert!(failure.message.contains(text), "{context}: {failure}");
    }
    let said = ended.sent.as_ref().expect_err(context);
    assert!(!said.message.contains("/memory"), "{context}: {said}");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_named_on_both_sides_at_once() {
    let budget = Budget::new(2 * MIB, Some(2));
    for seed in seeds() {
        let session = Session::with_budget(seed, budget, super::TIMEOUT);
        let (source, target) = (source(&one_file(20 * MIB)), MemoryTarget::new().with_capacity(3 * MIB));
        let start = tokio::time::Instant::now();
        let ended = session.run(&source, &target).await;
        let [own, told] =
            ["/memory/f", "f"].map(|path| format!("cannot write {path}: No space left on device"));
        assert_storage_failure(&ended, &own, &told, "full");
        let in_flight =
            session.limits.connection_window_bytes + (budget.blocks() + budget.streams()) * BLOCK_BYTES;
        assert!(source.bytes_read() <= 3 * MIB + in_flight as u64, "{} bytes read", source.bytes_read());
        assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(target.ops().last(), Some(&Op::Abort));
        assert!(target.files().is_empty() && target.staged().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn every_operation_that_fails_is_told_to_both_sides() {
    let tree = tree();
    for (on, errno, text) in [
        (On::Write, Errno::NOSPC, "No space left on device"),
        (On::Sync, Errno::IO, "Input/output error"),
        (On::Rename, Errno::IO, "Input/output error"),
        (On::SyncDir, Errno::IO, "Input/output error"),
        (On::Mkdir, Errno::NOSPC, "No space left on device"),
        (On::Finish, Errno::IO, "Input/output error"),
    ] {
        for number in 0..if on == On::Finish { 1 } else { 2 } {
            let context = format!("{on:?} {number} {errno:?}");
            let target = MemoryTarget::new().failing(on, number..u64::MAX, errno);
            let ended = Session::new(number).run(&source(&tree), &target).await;
            assert_storage_failure(&ended, text, text, &context);
            assert_storage_failure(&ended, "/memory", "cannot ", &context);
            assert_eq!(target.ops().last(), Some(&Op::Abort), "{context}");
            assert!(target.staged().is_empty(), "{context}");
            assert_whole(&tree, &target);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_written_fails_alone() {
    let tree = tree();
    for number in 0..7 {
        for seed in seeds() {
            let context = format!("write {number}, seed {seed}");
            let target = MemoryTarget::new().failing(On::Write, number..number + 1, Errno::IO);
            let session = Session::new(seed);
            let ended = session.run(&source(&tree), &target).await;
            for summary in [ended.sent.expect(&context), ended.received.expect(&context)] {
                assert_eq!((summary.failed, summary.gravest), (1, Some(Reason::Storage)), "{context}");
            }
            let told = session.receiver.told.0.lock().unwrap();
            let failed = told.iter().find_map(|event| match event {
                Event::File(file) if file.message.is_some() => Some(file.clone()),
                _ => None,
            });
            let (path, message) = failed.map(|file| (file.path, file.message.unwrap())).expect(&context);
            assert_eq!(message, format!("cannot write /memory/{path}: Input/output error (os error 5)"));
            let mut rest = arrived(&tree);
            rest.remove(path.as_bytes());
            assert!(target.tree() == rest, "{context}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn attributes_of_a_directory_cost_that_directory_only() {
    let tree = tree();
    let target = MemoryTarget::new().failing(On::FinishDir, 0..1, Errno::PERM);
    let ended = Session::new(1).run(&source(&tree), &target).await;
    for summary in [ended.sent.unwrap(), ended.received.unwrap()] {
        assert_eq!((summary.failed, summary.gravest), (1, Some(Reason::Storage)));
    }
    assert_eq!(target.files().len(), 7);
}

/// T3 of the trials: things a disk cannot hold are reported once, with a count, and cost nothing else.
#[tokio::test(start_paused = true)]
async fn t3_a_disk_without_links_costs_the_links_only_and_both_sides_say_so() {
    let (mut tree, target, session) = (tree(), MemoryTarget::new().without_links(), Session::new(1));
    tree.extend(["l2", "l3"].map(|name| (name, Node::Link(b"to".to_vec()))));
    let others = tree.len() - 3;
    let ended = session.run(&source(&tree), &target).await;
    for (setup, summary) in
        [(&session.sender, ended.sent.unwrap()), (&session.receiver, ended.received.unwrap())]
    {
        assert_eq!((summary.failed, summary.links, summary.gravest), (0, 0, Some(Reason::NotKept)));
        let [links] = &summary.not_kept[..] else { panic!("{:?}", summary.not_kept) };
        assert_eq!((links.aspect, links.count), (Aspect::Link, 3));
        assert!(summary.synced);
        let told = setup.told.0.lock().unwrap();
        let told = told.iter().filter(|event| matches!(event, Event::NotKept(one) if one == links));
        assert_eq!(told.count(), 1);
    }
    assert_eq!(target.tree().len(), others);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_changes_or_cannot_be_read_costs_that_file_only() {
    let tree = tree();
    for (path, unreadable, reason) in [
        ("big", false, Reason::SourceChanged),
        ("tiny", false, Reason::SourceChanged),
        ("two", true, Reason::SourceUnreadable),
        ("d/e/one", true, Reason::SourceUnreadable),
    ] {
        for seed in seeds() {
            let (source, target) = (source(&tree), MemoryTarget::new());
            if unreadable {
                source.make_unreadable(path)
            } else {
                source.change_when_read(path)
            }
            let session = Session::new(seed);
            let ended = session.run(&source, &target).await;
            for summary in [ended.sent.unwrap(), ended.received.unwrap()] {
                assert_eq!((summary.failed, summary.gravest), (1, Some(reason)), "{path}, seed {seed}");
            }
            let mut rest = arrived(&tree);
            rest.remove(path.as_bytes());
            assert!(target.tree() == rest, "{path}, seed {seed}");
            let told = session.receiver.told.0.lock().unwrap();
            let message = told.iter().find_map(|event| match event {
                Event::File(file) if file.path.as_bytes() == path.as_bytes() => file.message.clone(),
                _ => None,
            });
            let message = message.unwrap();
            assert!(message.contains(path) && !message.contains("/source"), "{message}, seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn skipped_sources_are_counted_on_both_sides() {
    let source = source(&one_file(3)).with_skipped("pipe", Reason::SpecialFile);
    let ended = Session::new(1).run(&source, &MemoryTarget::new()).await;
    for summary in [ended.sent.unwrap(), ended.received.unwrap()] {
        assert_eq!((summary.files, summary.failed, summary.gravest), (1, 1, Some(Reason::SpecialFile)));
    }
}

/// Each file is written, then synced, then named, then its directory synced.
#[tokio::test(start_paused = true)]
async fn the_order_on_disk_is_data_sync_rename_directory() {
    use crate::storage::{Source, Walk, Walked};
    let tree = tree();
    for seed in seeds() {
        let target = MemoryTarget::new();
        Session::new(seed).run(&source(&tree), &target).await.sent.unwrap();
        let ops = target.ops();
        let at =
            |wanted: &dyn Fn(&Op) -> bool| ops.iter().position(wanted).unwrap_or_else(|| panic!("{ops:#?}"));
        let walk = source(&tree).walk().next(1000).await;
        for (number, found) in walk.into_iter().enumerate() {
            let Walked::Entry(entry) = found else { panic!("{found:?}") };
            if !matches!(entry.kind, crate::protocol::wire::entry::Kind::File { .. }) {
                continue;
            }
            let is_mine = |id: &crate::protocol::wire::entry::EntryId| id.0 == number as u64;
            let written = ops.iter().rposition(|op| matches!(op, Op::Write { id, .. } if is_mine(id)));
            let synced = at(&|op| matches!(op, Op::Sync(id) if is_mine(id)));
            let named = at(&|op| *op == Op::Rename(entry.path.to_string()));
            let dir = entry.path.parent().map(|dir| dir.to_string()).unwrap_or_default();
            let dir_synced = ops.iter().rposition(|op| *op == Op::SyncDir(dir.clone()));
            assert!(written.unwrap_or(0) <= synced && synced < named, "{}: {ops:#?}", entry.path);
            assert!(Some(named) < dir_synced, "{}: {ops:#?}", entry.path);
        }
        assert_eq!(ops.iter().filter(|op| **op == Op::Finish).count(), 1);
        assert_eq!(ops.last(), Some(&Op::Finish));
    }
}

/// Fault 10 of the trials: both sides learn which call hangs, when the limit is over and not before.
#[tokio::test(start_paused = true)]
async fn fault_10_a_disk_that_hangs_ends_the_transfer_after_its_limit() {
    let target = MemoryTarget::new().that_hangs();
    let session = Session::new(1);
    let limit = session.receiver.context.patience.disk_timeout;
    let start = tokio::time::Instant::now();
    let ended = session.run(&source(&tree()), &target).await;
    let [own, told] =
        ["/memory", "the target directory"].map(|path| format!("cannot sync {path}: timed out"));
    assert_storage_failure(&ended, &own, &told, "hanging");
    let elapsed = start.elapsed();
    assert!((limit..limit + std::time::Duration::from_secs(5)).contains(&elapsed), "{elapsed:?}");
    // Cleaning up would hang as well.
    assert!(!target.ops().contains(&Op::Abort));
}

/// T13 of the trials: both sides report that a file grew, and deliver the bytes announced.
#[tokio::test(start_paused = true)]
async fn t13_a_source_that_grows_is_delivered_as_it_was() {
    let tree = tree();
    let (source, target, session) = (source(&tree), MemoryTarget::new(), Session::new(1));
    for path in ["big", "tiny"] {
        source.grow_when_read(path);
    }
    let ended = session.run(&source, &target).await;
    for (setup, summary) in
        [(&session.sender, ended.sent.unwrap()), (&session.receiver, ended.received.unwrap())]
    {
        assert_eq!((summary.failed, summary.gravest), (0, Some(Reason::SourceGrew)));
        let told = setup.told.0.lock().unwrap();
        let mut grown: Vec<_> = told
            .iter()
            .filter_map(|event| match event {
                Event::Warning { path, reason: Some(Reason::SourceGrew), .. } => path.clone(),
                _ => None,
            })
            .collect();
        grown.sort();
        assert_eq!(grown, ["big", "tiny"]);
    }
    assert!(target.tree() == arrived(&tree));
}
