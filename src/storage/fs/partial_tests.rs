//! What an attempt leaves on the disk, and what becomes of it. The suite in `testing::storage_suite` has the rest.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, Mode, mkfifoat};

use super::journal::{JournalState, STATE_AT};
use super::journal_file::Journal;
use super::{FsTarget, Incoming, NetworkThreads, discard_partials, list_partials};
use crate::event::{Event, PartialFile, PartialState, Report, Reporter};
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::final_name::{Committed, Exists};
use crate::protocol::hash::ChunkValue;
use crate::protocol::hash::RecordHasher;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta};
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::storage::block::{BlockCount, BlockPool};
use crate::storage::{Commit, Final, Target, Write, look_and_prepare};
use crate::testing::disk::incoming;
use crate::testing::host::{bound_by_permissions, skip};

const CHUNK: u64 = 1 << 20;
/// Three chunks and a half.
const SIZE: u64 = 7 * CHUNK / 2;
const A: EntryId = EntryId(0);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn file(path: &str, size: u64) -> Entry {
    let meta = Meta { mode: 0o600, ..Meta::default() };
    Entry { path: RelPath::new(path.as_bytes()).unwrap(), meta, kind: Kind::File { size }, hole_bytes: 0 }
}

fn chunk_len(index: u64) -> u64 {
    (SIZE - index * CHUNK).min(CHUNK)
}

fn filled(index: u64, fill: u8) -> ChunkValue {
    let mut hasher = RecordHasher::new(SIZE, index * CHUNK, chunk_len(index));
    hasher.update(&vec![fill; usize::try_from(chunk_len(index)).unwrap()]);
    ChunkValue { index, value: hasher.finish() }
}

fn target(dir: &Path, incoming: Incoming) -> FsTarget {
    FsTarget::new(dir, incoming, NetworkThreads::new(2)).unwrap()
}

async fn held(target: &FsTarget, entry: &Entry) -> Vec<u64> {
    let looked = look_and_prepare(target, vec![(A, entry.clone())], Exists::Refuse).await;
    assert!(looked[0].is_ok(), "{looked:?}");
    let held: ChunkSet = target.held(vec![(A, entry.clone())], 20).await.remove(0);
    held.ranges().flatten().collect()
}

async fn write_chunk(target: &FsTarget, index: u64, fill: u8) -> ChunkValue {
    let pool = BlockPool::new(1, BlockCount::default());
    let (start, end) = (index * CHUNK, index * CHUNK + chunk_len(index));
    for offset in (start..end).step_by(BLOCK_BYTES) {
        let mut block = pool.acquire().await;
        let range = 0..usize::try_from(end - offset).unwrap().min(BLOCK_BYTES);
        block[range.clone()].fill(fill);
        target.write(vec![Write { id: A, offset, range, whole: None }], block).await.unwrap();
    }
    filled(index, fill)
}

async fn commit(target: &FsTarget, path: &str, size: u64) {
    let (path, kind) = (RelPath::new(path.as_bytes()).unwrap(), Final::File { size });
    let meta = Meta { mode: 0o600, ..Meta::default() };
    let committed = target
        .commit(vec![Commit { id: A, path, kind, meta, root: None, exists: Exists::Replace }])
        .await
        .remove(0);
    assert!(matches!(committed, Ok(Committed::Done(None))), "{committed:?}");
}

/// An attempt that ends early and leaves these chunks of `big`, filled with their numbers and one.
async fn leave(dir: &Path, incoming: Incoming, chunks: &[u8]) {
    let sync = incoming.sync;
    let target = target(dir, incoming);
    assert!(held(&target, &file("big", SIZE)).await.is_empty());
    let mut values = Vec::new();
    for index in chunks {
        values.push(write_chunk(&target, u64::from(*index), index + 1).await);
    }
    assert_eq!(target.checkpoint(vec![(A, values)]).await.remove(0).unwrap(), sync);
    target.abort().await;
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

/// The one file in `.towline` whose name ends like this.
fn left(dir: &Path, suffix: &str) -> PathBuf {
    let hub = dir.join(".towline");
    let found: Vec<_> = names(&hub).into_iter().filter(|name| name.ends_with(suffix)).collect();
    assert_eq!(found.len(), 1, "{:?}", names(&hub));
    hub.join(&found[0])
}

/// Changes what a journal says of the attempt.
fn restate(dir: &Path, change: impl FnOnce(&mut JournalState)) {
    let journal = File::options().read(true).write(true).open(left(dir, ".journal")).unwrap();
    let (_, mut state) = Journal::read(&journal).unwrap().unwrap();
    change(&mut state);
    STATE_AT.iter().for_each(|at| journal.write_all_at(&state.encode(), *at).unwrap());
}

fn age(dir: &Path, age: Duration) {
    let journal = File::options().write(true).open(left(dir, ".journal")).unwrap();
    journal.set_modified(SystemTime::now() - age).unwrap();
}

/// Keeps the lines that it is told.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Reporter for Lines {
    fn take(&self, report: Report) {
        if let Event::Warning { message, .. } = report.event {
            self.0.lock().unwrap().push(message);
        }
    }
}

fn told(number: u32) -> (Incoming, Arc<Lines>) {
    let lines = Arc::new(Lines::default());
    (Incoming { reporter: Arc::clone(&lines) as _, ..incoming(number, true) }, lines)
}

#[tokio::test]
async fn a_transfer_that_ended_well_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    leave(temp.path(), incoming(1, true), &[0, 2]).await;
    assert_eq!(names(&temp.path().join(".towline")).len(), 2);
    let target = target(temp.path(), incoming(2, true));
    assert_eq!(held(&target, &file("big", SIZE)).await, [0, 2]);
    assert_eq!(target.holds(A, vec![filled(0, 1), filled(2, 3)]).await, [true, true]);
    let values = vec![write_chunk(&target, 1, 2).await, write_chunk(&target, 3, 4).await];
    assert!(target.checkpoint(vec![(A, values)]).await.remove(0).unwrap());
    commit(&target, "big", SIZE).await;
    target.finish().await.unwrap();
    assert_eq!(names(temp.path()), ["big"]);
    let bytes = fs::read(temp.path().join("big")).unwrap();
    let is_right = |(at, byte): (usize, &u8)| *byte == u8::try_from(at >> 20).unwrap() + 1;
    assert!(bytes.len() as u64 == SIZE && bytes.iter().enumerate().all(is_right));
}

#[tokio::test]
async fn records_of_this_boot_are_taken_and_others_are_read() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let holds = async || {
        let target = target(dir, incoming(9, true));
        assert_eq!(held(&target, &file("big", SIZE)).await, [0, 1]);
        let holds = target.holds(A, vec![filled(0, 1), filled(1, 2)]).await;
        target.abort().await;
        holds
    };
    type Change = fn(&mut JournalState);
    let changes: [Change; 4] = [
        |state| state.boot[0] ^= 1,
        |state| state.mount += 1,
        |state| state.inode += 1,
        |state| state.is_synced = false,
    ];
    for change in changes {
        leave(dir, incoming(1, true), &[0, 1]).await;
        // A bit that nobody looks at.
        File::options().write(true).open(left(dir, ".part")).unwrap().write_all_at(&[9], 5).unwrap();
        if holds().await != [true, true] {
            discard_partials(dir, Duration::ZERO).unwrap();
            return skip("the system does not tell one mount from another");
        }
        restate(dir, change);
        assert_eq!(holds().await, [false, true]);
        assert_eq!(holds().await, [false, true], "nothing vouches for it the second time either");
        discard_partials(dir, Duration::ZERO).unwrap();
    }
    // All that was recorded is right, and is not read again.
    leave(dir, incoming(1, true), &[0, 1]).await;
    restate(dir, |state| state.boot[0] ^= 1);
    assert_eq!(holds().await, [true, true]);
    File::options().write(true).open(left(dir, ".part")).unwrap().write_all_at(&[9], 5).unwrap();
    assert_eq!(holds().await, [true, true]);
}

#[tokio::test]
async fn without_syncs_chunks_are_recorded_and_read_again() {
    let temp = tempfile::tempdir().unwrap();
    leave(temp.path(), incoming(1, false), &[0, 1]).await;
    File::options().write(true).open(left(temp.path(), ".part")).unwrap().write_all_at(&[9], 5).unwrap();
    let target = target(temp.path(), incoming(2, true));
    assert_eq!(held(&target, &file("big", SIZE)).await, [0, 1]);
    assert_eq!(target.holds(A, vec![filled(0, 1), filled(1, 2)]).await, [false, true]);
}

#[tokio::test]
async fn a_crash_behind_the_rename_leaves_a_journal_that_the_next_receiver_removes() {
    // Where a rename is a link and the removal of the first name, the crash may be between the two.
    for name in [|from, to| fs::rename(from, to), |from, to| fs::hard_link(from, to)] {
        let temp = tempfile::tempdir().unwrap();
        leave(temp.path(), incoming(1, true), &[0, 1, 2, 3]).await;
        name(left(temp.path(), ".part"), temp.path().join("big")).unwrap();
        let target = target(temp.path(), incoming(2, true));
        assert!(held(&target, &file("other", SIZE)).await.is_empty());
        target.finish().await.unwrap();
        assert_eq!(names(temp.path()), ["big"]);
    }
}

#[tokio::test]
async fn what_is_not_whole_is_removed() {
    let temp = tempfile::tempdir().unwrap();
    let breaks: [fn(&Path); 3] = [
        |dir| fs::remove_file(left(dir, ".journal")).unwrap(),
        |dir| File::options().write(true).open(left(dir, ".journal")).unwrap().set_len(100).unwrap(),
        |dir| File::options().write(true).open(left(dir, ".journal")).unwrap().write_all_at(&[1], 9).unwrap(),
    ];
    for (number, break_it) in (2..).zip(breaks) {
        leave(temp.path(), incoming(1, true), &[0, 1]).await;
        break_it(temp.path());
        let target = target(temp.path(), incoming(number, true));
        assert!(held(&target, &file("other", SIZE)).await.is_empty());
        target.finish().await.unwrap();
        assert!(names(temp.path()).is_empty());
    }
}

#[tokio::test]
async fn a_file_that_has_become_small_takes_the_place_of_its_partial_file() {
    let temp = tempfile::tempdir().unwrap();
    leave(temp.path(), incoming(1, true), &[0, 1]).await;
    let target = target(temp.path(), incoming(2, true));
    let mut block = BlockPool::new(1, BlockCount::default()).acquire().await;
    block[..5].copy_from_slice(b"small");
    let whole = Some(Meta { mode: 0o600, ..Meta::default() });
    target.write(vec![Write { id: A, offset: 0, range: 0..5, whole }], block).await.unwrap();
    commit(&target, "big", 5).await;
    target.finish().await.unwrap();
    assert_eq!(names(temp.path()), ["big"]);
}

#[tokio::test]
async fn old_partial_files_go_with_a_line_unless_they_are_in_use() {
    let temp = tempfile::tempdir().unwrap();
    leave(temp.path(), incoming(1, true), &[0, 1]).await;
    let user = target(temp.path(), incoming(2, true));
    assert_eq!(held(&user, &file("big", SIZE)).await, [0, 1]);
    for (days, in_use, stays) in [(15, true, true), (13, false, true), (15, false, false)] {
        if !in_use {
            user.abort().await;
        }
        age(temp.path(), DAY * days);
        let (incoming, lines) = told(days);
        let target = target(temp.path(), incoming);
        assert!(held(&target, &file("other", SIZE)).await.is_empty());
        target.abort().await;
        let lines = lines.0.lock().unwrap().clone();
        if stays {
            assert_eq!(lines, [""; 0], "{days} days");
        } else {
            assert_eq!(lines, ["removed 2097152 bytes of big, left 15 days ago by an interrupted transfer"]);
        }
        assert_eq!(temp.path().join(".towline").exists(), stays, "{days} days");
    }
}

#[tokio::test]
async fn partial_files_are_listed_and_discarded_by_age() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    assert_eq!(list_partials(dir).unwrap(), []);
    leave(dir, incoming(1, true), &[0, 3]).await;
    age(dir, DAY * 3);
    let listed = list_partials(dir).unwrap();
    let one = &listed[0];
    assert_eq!((listed.len(), one.path.as_bytes(), one.size), (1, &b"big"[..], SIZE));
    assert_eq!(one.sender, incoming(1, true).sender.to_string());
    assert_eq!((one.safe_bytes, one.state), (CHUNK + CHUNK / 2, PartialState::Kept));
    assert_eq!(one.age.as_secs() / DAY.as_secs(), 3);
    assert_eq!(discard_partials(dir, DAY * 4).unwrap(), []);

    let user = target(dir, incoming(2, true));
    assert_eq!(held(&user, &file("big", SIZE)).await, [0, 3]);
    let states = |found: Vec<PartialFile>| found.into_iter().map(|one| one.state).collect::<Vec<_>>();
    assert_eq!(states(list_partials(dir).unwrap()), [PartialState::InUse]);
    assert_eq!(states(discard_partials(dir, Duration::ZERO).unwrap()), [PartialState::InUse]);
    user.abort().await;
    assert_eq!(states(discard_partials(dir, Duration::ZERO).unwrap()), [PartialState::Removed]);
    assert!(names(dir).is_empty());
    assert!(list_partials(&dir.join("none")).is_err());
}

///
#[tokio::test]
async fn attack_18_foreign_things_in_staging_are_left_alone_and_stop_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let victim = temp.path().join("victim");
    fs::write(&victim, b"precious").unwrap();
    type Plant = fn(&Path, &Path, &Path);
    let plants: [Plant; 6] = [
        |journal, _, victim| symlink(victim, journal).unwrap(),
        |_, data, victim| {
            fs::remove_file(data).unwrap();
            symlink(victim, data).unwrap();
        },
        |journal, _, _| fs::create_dir(journal).unwrap(),
        |journal, _, _| mkfifoat(CWD, journal, Mode::RWXU).unwrap(),
        |_, data, _| {
            fs::remove_file(data).unwrap();
            fs::create_dir(data).unwrap();
        },
        |journal, _, _| fs::write(journal, vec![0xff; 1 << 20]).unwrap(),
    ];
    for (number, plant) in (0..).zip(plants) {
        let dir = temp.path().join(format!("to {number}"));
        leave(&dir, incoming(1, true), &[0, 1]).await;
        let (journal, data) = (left(&dir, ".journal"), left(&dir, ".part"));
        if number != 1 && number != 4 {
            fs::remove_file(&journal).unwrap();
        }
        plant(&journal, &data, &victim);
        let target = target(&dir, incoming(2, true));
        assert!(held(&target, &file("big", SIZE)).await.is_empty(), "{number}");
        for index in 0..4 {
            write_chunk(&target, index, 5).await;
        }
        let values = (0..4).map(|index| filled(index, 5)).collect();
        assert!(target.checkpoint(vec![(A, values)]).await.remove(0).unwrap(), "{number}");
        commit(&target, "big", SIZE).await;
        target.finish().await.unwrap();
        assert_eq!(fs::metadata(dir.join("big")).unwrap().len(), SIZE, "{number}");
        assert_eq!(fs::read(&victim).unwrap(), b"precious", "{number}");
    }
}

#[tokio::test]
async fn a_journal_under_the_name_of_another_file_counts_for_nothing() {
    let temp = tempfile::tempdir().unwrap();
    leave(temp.path(), incoming(1, true), &[0, 1]).await;
    let (journal, data) = (left(temp.path(), ".journal"), left(temp.path(), ".part"));
    let other = "0".repeat(40);
    fs::copy(&journal, journal.with_file_name(format!("{other}.journal"))).unwrap();
    fs::copy(&data, data.with_file_name(format!("{other}.part"))).unwrap();
    assert_eq!(list_partials(temp.path()).unwrap().len(), 1);
    let target = target(temp.path(), incoming(2, true));
    assert_eq!(held(&target, &file("big", SIZE)).await, [0, 1]);
    target.abort().await;
    assert_eq!(names(&temp.path().join(".towline")).len(), 2);
}

#[test]
fn a_file_that_lacked_only_its_name_is_resumed_whatever_its_mode() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_owned();
    bound_by_permissions(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            leave(&dir, incoming(1, true), &[0, 1, 2, 3]).await;
            fs::set_permissions(left(&dir, ".part"), fs::Permissions::from_mode(0o0)).unwrap();
            let target = target(&dir, incoming(2, true));
            assert_eq!(held(&target, &file("big", SIZE)).await, [0, 1, 2, 3]);
            commit(&target, "big", SIZE).await;
        });
    });
}

#[tokio::test]
async fn a_file_whose_journal_cannot_be_made_is_received_all_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let (incoming, lines) = told(1);
    let target = target(temp.path(), incoming);
    assert!(held(&target, &file("big", SIZE)).await.is_empty());
    // Appeared meanwhile, where the journal is to be.
    let name = super::partial_names::PartialName::new(&told(1).0.sender, &file("big", SIZE).path);
    fs::create_dir(temp.path().join(".towline").join(name.journal())).unwrap();
    let values: Vec<_> = (0..4).map(|index| filled(index, 5)).collect();
    for index in 0..4 {
        write_chunk(&target, index, 5).await;
    }
    assert!(target.checkpoint(vec![(A, values)]).await.remove(0).unwrap(), "the data is durable");
    commit(&target, "big", SIZE).await;
    target.finish().await.unwrap();
    let lines = lines.0.lock().unwrap().clone();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("cannot keep a journal in the target directory (Is a directory"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_recorded_hole_ends_the_file_until_more_comes() {
    let temp = tempfile::tempdir().unwrap();
    let target = target(temp.path(), incoming(1, true));
    held(&target, &file("big", SIZE)).await;
    let values = vec![write_chunk(&target, 0, 1).await, filled(2, 0)];
    assert!(target.checkpoint(vec![(A, values)]).await.remove(0).unwrap());
    assert_eq!(fs::metadata(left(temp.path(), ".part")).unwrap().len(), 3 * CHUNK);
    let last = write_chunk(&target, 3, 4).await;
    assert!(target.checkpoint(vec![(A, vec![last])]).await.remove(0).unwrap());
    target.abort().await;

    let again = self::target(temp.path(), incoming(2, true));
    assert_eq!(held(&again, &file("big", SIZE)).await, [0, 2, 3]);
    assert_eq!(again.holds(A, vec![filled(0, 1), filled(2, 0), filled(3, 4)]).await, [true; 3]);
}

/// Without `RENAME_NOREPLACE`, a commit links the final name first. A crash then leaves one file with two names.
#[tokio::test]
async fn a_staged_file_with_a_final_name_is_not_written_to() {
    let temp = tempfile::tempdir().unwrap();
    leave(temp.path(), incoming(3, true), &[0, 1]).await;
    fs::hard_link(left(temp.path(), ".part"), temp.path().join("final")).unwrap();
    let before = fs::read(temp.path().join("final")).unwrap();

    let target = target(temp.path(), incoming(4, true));
    assert!(held(&target, &file("big", SIZE)).await.is_empty());
    write_chunk(&target, 0, 9).await;
    assert!(fs::read(temp.path().join("final")).unwrap() == before);
}
