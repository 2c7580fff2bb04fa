//! Sets that get their names together: what is there after a stop at any point.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::reveal::reveal;
use super::roll_forward::roll_forward;
use super::set_log::{SET_LOG, SetReader};
use super::watch::Subject;
use super::{FsTarget, Incoming, NetworkThreads};
use crate::event::Reporter;
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::hash::{ChunkValue, RecordHasher};
use crate::protocol::not_kept::{Aspect, NotKept};
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta, Time};
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::storage::block::{BlockCount, BlockPool};
use crate::storage::{Commit, Final, Target, Write, look_and_prepare};
use crate::testing::disk::{incoming, rel_path};
use crate::testing::session::Nobody;

const MIB: usize = 1 << 20;
const BIG: EntryId = EntryId(5);

fn meta(mode: u32) -> Meta {
    Meta { mode, mtime: Time { seconds: 1_600_000_000, nanos: 0 }, attributes: None }
}

fn entry(path: &str, kind: Kind) -> Entry {
    let mode = if kind == Kind::Dir { 0o750 } else { 0o640 };
    Entry { path: rel_path(path), meta: meta(mode), kind, hole_bytes: 0 }
}

/// A new directory with a file and a link, a file that is replaced, one that is renamed, and a file of two chunks.
fn entries() -> Vec<Entry> {
    let file = |path, size| entry(path, Kind::File { size });
    vec![
        entry("new", Kind::Dir),
        file("new/file", 4),
        entry("new/link", Kind::Symlink { target: "file".into() }),
        file("old", 4),
        file("other", 4),
        file("big", 2 * MIB as u64),
    ]
}

fn atomic(number: u32) -> Incoming {
    Incoming { atomic: true, ..incoming(number, true) }
}

/// What is there before the set comes.
fn before(dir: &Path) {
    fs::write(dir.join("old"), "before").unwrap();
    fs::write(dir.join("other"), "before").unwrap();
    fs::write(dir.join("unrelated"), "unrelated").unwrap();
}

async fn write(target: &FsTarget, id: EntryId, bytes: &[u8], offset: u64, whole: Option<Meta>) {
    let pool = BlockPool::new(1, BlockCount::default());
    for (piece, at) in bytes.chunks(BLOCK_BYTES).zip((offset..).step_by(BLOCK_BYTES)) {
        let mut block = pool.acquire().await;
        block[..piece.len()].copy_from_slice(piece);
        let write = Write { id, offset: at, range: 0..piece.len(), whole: whole.clone() };
        assert!(target.write(vec![write], block).await.unwrap().is_empty());
    }
}

fn value(index: u64, fill: u8) -> ChunkValue {
    let mut hasher = RecordHasher::new(2 * MIB as u64, index * MIB as u64, MIB as u64);
    hasher.update(&vec![fill; MIB]);
    ChunkValue { index, value: hasher.finish() }
}

/// Receives the whole set, up to its end.
async fn receive(dir: &Path, number: u32) -> FsTarget {
    let target = FsTarget::new(dir, atomic(number), NetworkThreads::new(2)).unwrap();
    let numbered: Vec<_> = (0..).map(EntryId).zip(entries()).collect();
    let found = look_and_prepare(&target, numbered.clone(), Exists::Refuse).await;
    assert!(matches!(found[0], Ok(Lookup::Free)), "{found:?}");
    let held = target.held(vec![numbered[5].clone()], 20).await.remove(0);
    for (id, entry) in &numbered {
        if let Kind::File { size: 4 } = entry.kind {
            write(&target, *id, b"new!", 0, Some(entry.meta.clone())).await;
        }
    }
    let missing: Vec<u64> = (0..2).filter(|index| !held.contains(*index)).collect();
    for index in &missing {
        write(&target, BIG, &vec![7; MIB], index * MIB as u64, None).await;
    }
    for index in (0..2).filter(|index| held.contains(*index)) {
        assert_eq!(target.holds(BIG, vec![value(index, 7)]).await, [true]);
    }
    let values = missing.iter().map(|index| value(*index, 7)).collect();
    target.checkpoint(vec![(BIG, values)]).await.remove(0).unwrap();
    for (id, Entry { path, meta, kind, .. }) in numbered {
        let kind = match kind {
            Kind::File { size } => Final::File { size },
            Kind::Symlink { target } => Final::Symlink { target },
            _ => continue,
        };
        let exists = match path.name() {
            b"old" => Exists::Replace,
            b"other" => Exists::Rename,
            _ => Exists::Refuse,
        };
        let beside = (exists == Exists::Rename).then(|| rel_path("other~1"));
        let committed =
            target.commit(vec![Commit { id, path, kind, meta, root: None, exists }]).await.remove(0);
        assert_eq!(committed.unwrap(), Committed::Done(beside));
    }
    target.finish_dirs(vec![(rel_path("new"), Some(meta(0o750)))]).await.remove(0).unwrap();
    target
}

/// Names and contents, staging left out.
fn there(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let kind = path.symlink_metadata().unwrap();
        if name == ".towline" {
            continue;
        } else if kind.is_dir() {
            found.push((name.clone(), format!("{:o}", kind.permissions().mode() & 0o777)));
            found.extend(there(&path).into_iter().map(|(n, content)| (format!("{name}/{n}"), content)));
        } else if kind.is_symlink() {
            found.push((name, fs::read_link(&path).unwrap().to_str().unwrap().to_owned()));
        } else {
            let bytes = fs::read(&path).unwrap();
            let is_big = bytes.len() == 2 * MIB && bytes.iter().all(|b| *b == 7);
            let content = if is_big { "sevens".to_owned() } else { String::from_utf8(bytes).unwrap() };
            found.push((name, content));
        }
    }
    found.sort();
    found
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

fn none() -> Vec<(String, String)> {
    pairs(&[("old", "before"), ("other", "before"), ("unrelated", "unrelated")])
}

fn all() -> Vec<(String, String)> {
    pairs(&[
        ("big", "sevens"),
        ("new", "750"),
        ("new/file", "new!"),
        ("new/link", "file"),
        ("old", "new!"),
        ("other", "before"),
        ("other~1", "new!"),
        ("unrelated", "unrelated"),
    ])
}

fn next_start(dir: &Path) -> Vec<NotKept> {
    let reporter: Arc<dyn Reporter> = Arc::new(Nobody);
    roll_forward(&dir.into(), &reporter).unwrap()
}

/// The process ends here: its locks go, and everything stays as it is.
fn stop(target: &FsTarget) {
    target.disk().volumes.leave_staging();
}

#[tokio::test]
async fn a_set_is_shown_at_the_end_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    before(temp.path());
    let target = receive(temp.path(), 1).await;
    assert_eq!(there(temp.path()), none());
    assert_eq!(target.finish().await.unwrap(), []);
    assert_eq!(there(temp.path()), all());
    assert!(!temp.path().join(".towline").exists());
    let times = fs::metadata(temp.path().join("new")).unwrap().modified().unwrap();
    assert_eq!(times.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 1_600_000_000);
}

#[tokio::test]
async fn an_aborted_set_shows_nothing_and_keeps_its_large_file() {
    let temp = tempfile::tempdir().unwrap();
    before(temp.path());
    receive(temp.path(), 1).await.abort().await;
    assert_eq!(there(temp.path()), none());
    let target = FsTarget::new(temp.path(), atomic(2), NetworkThreads::new(2)).unwrap();
    let big = entries().remove(5);
    look_and_prepare(&target, vec![(BIG, big.clone())], Exists::Refuse).await.remove(0).unwrap();
    let held = target.held(vec![(BIG, big)], 20).await.remove(0);
    assert_eq!(held.ranges().flatten().collect::<Vec<_>>(), [0, 1]);
    drop(target);

    let target = receive(temp.path(), 3).await;
    target.finish().await.unwrap();
    assert_eq!(there(temp.path()), all());
    assert!(!temp.path().join(".towline").exists());
}

/// Another receiver of the same file from the same sender must not write to the one that waits for its name.
#[tokio::test]
async fn a_file_that_waits_for_its_name_is_not_resumed_by_others() {
    let temp = tempfile::tempdir().unwrap();
    before(temp.path());
    let target = receive(temp.path(), 1).await;
    let other = FsTarget::new(temp.path(), incoming(2, true), NetworkThreads::new(2)).unwrap();
    let big = entries().remove(5);
    look_and_prepare(&other, vec![(BIG, big.clone())], Exists::Replace).await.remove(0).unwrap();
    assert!(other.held(vec![(BIG, big)], 20).await.remove(0).is_empty());
    write(&other, BIG, &vec![9; MIB], 0, None).await;
    target.finish().await.unwrap();
    assert_eq!(there(temp.path()), all());
    other.abort().await;
}

#[tokio::test]
async fn a_set_without_the_end_of_its_log_shows_nothing() {
    let temp = tempfile::tempdir().unwrap();
    before(temp.path());
    let target = receive(temp.path(), 1).await;
    stop(&target);
    assert_eq!(next_start(temp.path()), []);
    assert_eq!(there(temp.path()), none());
    let left: Vec<_> = fs::read_dir(temp.path().join(".towline")).unwrap().collect();
    assert_eq!(left.len(), 2, "the large file and its journal: {left:?}");
    let target = receive(temp.path(), 2).await;
    target.finish().await.unwrap();
    assert_eq!(there(temp.path()), all());
}

/// Copies the first `steps` steps of a log to another directory.
fn part_of(staged: &Path, steps: usize, to: &Path) -> SetReader {
    let log = fs::read_to_string(staged.join(SET_LOG)).unwrap();
    let part: String = log.split_inclusive('\n').take(steps).collect();
    fs::write(to.join(SET_LOG), part).unwrap();
    SetReader::open(fs::File::open(to).unwrap()).unwrap()
}

#[tokio::test]
async fn a_set_that_is_stopped_behind_any_step_is_completed() {
    let mut steps = 0;
    loop {
        let (temp, part) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        before(temp.path());
        let target = receive(temp.path(), 1).await;
        let disk = target.disk();
        disk.set.as_ref().unwrap().decide(true).unwrap();
        let staged = temp.path().join(".towline").join(&disk.incoming.transfer);
        let call = disk.watch.begin("complete", Subject::Top);
        reveal(disk, &call, part_of(&staged, steps, part.path())).unwrap();
        drop(call);
        // Another receiver leaves the set alone.
        stop(&target);
        let other = FsTarget::new(temp.path(), incoming(2, true), NetworkThreads::new(2)).unwrap();
        let one = vec![(EntryId(0), entry("one", Kind::File { size: 0 }))];
        look_and_prepare(&other, one, Exists::Refuse).await.remove(0).unwrap();
        other.abort().await;
        assert!(staged.join(SET_LOG).exists());

        assert_eq!(next_start(temp.path()), []);
        assert_eq!(there(temp.path()), all(), "stopped behind {steps} steps");
        assert!(!temp.path().join(".towline").exists());
        assert_eq!(next_start(temp.path()), []);
        steps += 1;
        if steps > 9 {
            break;
        }
    }
}

#[tokio::test]
async fn a_set_whose_receiver_lives_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    before(temp.path());
    let target = receive(temp.path(), 1).await;
    let disk = target.disk();
    disk.set.as_ref().unwrap().decide(true).unwrap();
    assert_eq!(next_start(temp.path()), []);
    assert_eq!(there(temp.path()), none());
    // What is decided is not given up by an abort.
    target.abort().await;
    next_start(temp.path());
    assert_eq!(there(temp.path()), all());
}

#[tokio::test]
async fn a_name_that_is_taken_before_the_end_shows_nothing() {
    for (taken, is_dir) in [("new/file", false), ("big", false), ("old", true), ("new", false)] {
        let temp = tempfile::tempdir().unwrap();
        before(temp.path());
        let target = receive(temp.path(), 1).await;
        let path = temp.path().join(taken);
        if is_dir {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "somebody's").unwrap();
        }
        let before = there(temp.path());
        let error = target.finish().await.unwrap_err();
        assert_eq!(error.source.kind(), std::io::ErrorKind::AlreadyExists, "{error}");
        target.abort().await;
        assert_eq!(next_start(temp.path()), []);
        assert_eq!(there(temp.path()), before, "{taken}");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_between_the_names_stays() {
    let temp = tempfile::tempdir().unwrap();
    before(temp.path());
    let target = receive(temp.path(), 1).await;
    let disk = target.disk();
    disk.set.as_ref().unwrap().decide(true).unwrap();
    stop(&target);
    fs::write(temp.path().join("big"), "somebody's").unwrap();
    fs::create_dir(temp.path().join("new")).unwrap();
    symlink("x", temp.path().join("new/link")).unwrap();
    let told = next_start(temp.path());
    assert_eq!(told.iter().map(|one| (one.aspect, one.count)).collect::<Vec<_>>(), [(Aspect::Name, 2)]);
    let mut want = all();
    want.retain(|(name, _)| name != "big" && name != "new/link");
    let beside = [("big", "somebody's"), ("big~1", "sevens"), ("new/link", "x"), ("new/link~1", "file")];
    want.extend(pairs(&beside));
    want.sort();
    assert_eq!(there(temp.path()), want);
}

/// A set that cannot be completed stays until the cause is gone.
#[tokio::test]
async fn attack_18_a_link_in_place_of_a_directory_is_not_followed() {
    let (temp, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    before(temp.path());
    let target = receive(temp.path(), 1).await;
    let disk = target.disk();
    disk.set.as_ref().unwrap().decide(true).unwrap();
    stop(&target);
    symlink(outside.path(), temp.path().join("new")).unwrap();
    let reporter: Arc<dyn Reporter> = Arc::new(Nobody);
    let error = roll_forward(&temp.path().into(), &reporter).unwrap_err();
    assert!(error.to_string().contains("all or nothing"), "{error}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    fs::remove_file(temp.path().join("new")).unwrap();
    next_start(temp.path());
    assert_eq!(there(temp.path()), all());
}

/// A link in the place of the log, or of the staging directory, is not followed either.
#[tokio::test]
async fn attack_18_a_foreign_log_is_left_alone() {
    let (temp, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("log"), "text").unwrap();
    let staged = temp.path().join(".towline").join("0".repeat(32));
    fs::create_dir_all(&staged).unwrap();
    fs::write(staged.join("lock"), "").unwrap();
    symlink(outside.path().join("log"), staged.join(SET_LOG)).unwrap();
    assert_eq!(next_start(temp.path()), []);
    assert!(staged.join("lock").exists());
    assert_eq!(fs::read_to_string(outside.path().join("log")).unwrap(), "text");
}
