//! What only the file system has: links that lead out, staging of others, holes, a full disk. The suite in
//! `testing::storage_suite` has the rest.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FlockOperation, Mode, flock, mkfifoat};
use tempfile::TempDir;

use super::sys::holes::find_runs;
use super::{FsSource, FsTarget, Incoming, NetworkThreads};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta, Time};
use crate::protocol::wire::limits::FILE_BYTES_MAX;
use crate::protocol::wire::record::Run;
use crate::storage::block::{BlockCount, BlockPool};
use crate::storage::{Commit, Final, Result, Source, Target, Verdict, Walk, Walked, Write, look_and_prepare};
use crate::testing::disk::{incoming, source_root, target_root};
use crate::testing::host::{bound_by_permissions, skip};

fn rel_path(path: &str) -> RelPath {
    RelPath::new(path.as_bytes()).unwrap()
}

fn target(dir: &Path) -> FsTarget {
    FsTarget::new(dir, incoming(1, true), NetworkThreads::new(2)).unwrap()
}

fn source(paths: &[&Path]) -> std::result::Result<FsSource, Failure> {
    FsSource::new(&paths.iter().map(|path| path.to_path_buf()).collect::<Vec<_>>(), NetworkThreads::new(2))
}

async fn walk(source: &FsSource) -> Vec<Walked> {
    let (mut walk, mut all) = (source.walk(), Vec::new());
    loop {
        let found = walk.next(7).await;
        if found.is_empty() {
            return all;
        }
        all.extend(found);
    }
}

/// Paths of entries, and of skipped ones with the reason.
fn shown(found: &[Walked]) -> Vec<String> {
    let show = |found: &Walked| match found {
        Walked::Entry(Entry { path, kind: Kind::DirEnd, .. }) => format!("end of {path}"),
        Walked::Entry(entry) => entry.path.to_string(),
        Walked::Top(_) => "the target".to_owned(),
        Walked::Skipped { failure, .. } => format!("{}: {failure}", failure.reason.as_str()),
    };
    let mut all: Vec<String> = found.iter().map(show).collect();
    all.sort();
    all
}

async fn the_file(source: &FsSource) -> Entry {
    let is_file = |found: &Walked| matches!(found, Walked::Entry(Entry { kind: Kind::File { .. }, .. }));
    match walk(source).await.into_iter().find(is_file) {
        Some(Walked::Entry(entry)) => entry,
        other => panic!("{other:?}"),
    }
}

async fn stage(target: &FsTarget, id: u64, offset: u64, bytes: &[u8]) -> Result<()> {
    let mut block = BlockPool::new(1, BlockCount::default()).acquire().await;
    block[..bytes.len()].copy_from_slice(bytes);
    let write = Write { id: EntryId(id), offset, range: 0..bytes.len(), whole: None };
    target.write(vec![write], block).await?.pop().map_or(Ok(()), Err)
}

async fn commit(target: &FsTarget, id: u64, path: &str, size: u64) -> Result<Committed> {
    let kind = Final::File { size };
    let (id, path, exists) = (EntryId(id), rel_path(path), Exists::Refuse);
    let meta = Meta { mode: 0o600, ..Meta::default() };
    target.commit(vec![Commit { id, path, kind, meta, root: None, exists }]).await.remove(0)
}

#[tokio::test]
async fn a_whole_file_is_complete_when_it_is_written_and_can_come_again() {
    for sync in [true, false] {
        let temp = tempfile::tempdir().unwrap();
        let target = FsTarget::new(temp.path(), incoming(1, sync), NetworkThreads::new(2)).unwrap();
        let meta = Meta { mode: 0o426, mtime: Time { seconds: 1_000_000_007, nanos: 5 }, attributes: None };
        let whole = async |id, bytes: &[u8]| {
            let mut block = BlockPool::new(1, BlockCount::default()).acquire().await;
            block[..bytes.len()].copy_from_slice(bytes);
            let write =
                Write { id: EntryId(id), offset: 0, range: 0..bytes.len(), whole: Some(meta.clone()) };
            assert!(target.write(vec![write], block).await.unwrap().is_empty());
        };
        whole(0, b"once").await;
        whole(1, b"cut off, and longer").await;
        whole(1, b"again").await;
        whole(2, b"cut off, and longer").await;
        stage(&target, 2, 0, b"pie").await.unwrap();
        stage(&target, 2, 3, b"ces").await.unwrap();
        stage(&target, 3, 0, b"a piece that was cut off").await.unwrap();
        whole(3, b"at last").await;
        let cases = [("once", 4), ("again", 5), ("pieces", 6), ("at last", 7)];
        let commits = cases.iter().zip(0..).map(|((name, size), id)| Commit {
            id: EntryId(id),
            path: rel_path(name),
            kind: Final::File { size: *size },
            meta: meta.clone(),
            root: None,
            exists: Exists::Refuse,
        });
        for committed in target.commit(commits.collect()).await {
            assert!(matches!(committed, Ok(Committed::Done(None))), "{committed:?}");
        }
        for (name, _) in cases {
            let path = temp.path().join(name);
            assert_eq!(fs::read(&path).unwrap(), name.as_bytes());
            let found = fs::metadata(&path).unwrap();
            assert_eq!(found.mode() & 0o777, meta.mode, "{name}");
            assert_eq!((found.mtime(), found.mtime_nsec()), (meta.mtime.seconds, 5), "{name}");
        }
        target.finish().await.unwrap();
        assert_eq!(names(temp.path()), ["again", "at last", "once", "pieces"]);
    }
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn holes_stay_holes() {
    const SIZE: u64 = 64 << 20;
    let temp = tempfile::tempdir().unwrap();
    let from = temp.path().join("sparse");
    let file = File::create(&from).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(b"in the middle", 32 << 20).unwrap();
    file.sync_all().unwrap();
    if file.metadata().unwrap().blocks() * 512 >= SIZE {
        return skip("the file system of the temporary directory has no holes");
    }
    let source = source(&[&from]).unwrap();
    let entry = the_file(&source).await;
    let open = source.open(entry.clone()).await.unwrap();
    let runs = source.runs(&open, 0..SIZE).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.len).sum::<u64>(), SIZE);
    let data: u64 = runs.iter().filter(|run| !run.is_hole).map(|run| run.len).sum();
    assert!(data < 1 << 20, "{runs:?}");
    let part = source.runs(&open, 5..10).await.unwrap();
    assert_eq!(part, [Run { len: 5, is_hole: true }]);

    let to = temp.path().join("to");
    let target = target(&to);
    stage(&target, 0, 32 << 20, b"in the middle").await.unwrap();
    assert!(matches!(commit(&target, 0, "sparse", SIZE).await, Ok(Committed::Done(None))));
    assert_eq!(target_root(&target, "sparse").await.unwrap(), source_root(&source, entry).await.unwrap());
    assert!(to.join("sparse").metadata().unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn runs_are_never_more_than_allowed() {
    const STEP: u64 = 1 << 20;
    let file = tempfile::tempfile().unwrap();
    file.set_len(8 * STEP).unwrap();
    for at in [1, 3, 5, 7] {
        file.write_all_at(b"x", at * STEP).unwrap();
    }
    file.sync_all().unwrap();
    let all = find_runs(&file, 0..8 * STEP, 100).unwrap();
    if all.len() == 1 {
        return skip("the file system of the temporary directory has no holes");
    }
    assert!(all.len() >= 8, "{all:?}");
    let few = find_runs(&file, 0..8 * STEP, 3).unwrap();
    assert_eq!(few.len(), 3);
    assert_eq!(few[..2], all[..2]);
    assert_eq!(few[2], Run { len: 8 * STEP - few[0].len - few[1].len, is_hole: false });
}

#[tokio::test]
async fn sources_are_sent_under_their_base_names() {
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    fs::create_dir_all(at("a/sub")).unwrap();
    fs::create_dir(at("b")).unwrap();
    fs::write(at("a/file"), b"x").unwrap();
    fs::write(at("b/file"), b"x").unwrap();
    symlink("a", at("link")).unwrap();

    let given = [at("a/sub/.."), at("b/"), at("link")];
    let all = walk(&FsSource::new(&given, NetworkThreads::new(2)).unwrap()).await;
    let tree = |name: &str| {
        ["", "/file", "/sub", "end of /sub", "end of "].map(|path| match path.strip_prefix("end of ") {
            Some(path) => format!("end of {name}{path}"),
            None => format!("{name}{path}"),
        })
    };
    let mut want = [&tree("a")[..], &tree("link"), &["b", "b/file", "end of b"].map(String::from)].concat();
    want.sort();
    assert_eq!(shown(&all), want);
    let followed = walk(&FsSource::new(&[at("link/")], NetworkThreads::new(2)).unwrap()).await;
    assert!(shown(&followed).contains(&"a/file".to_owned()), "{followed:?}");

    let message = |given: &[PathBuf]| {
        let failure = FsSource::new(given, NetworkThreads::new(2)).err().unwrap();
        assert_eq!((failure.reason, failure.side), (Reason::SourceUnreadable, Some(Side::Sender)));
        failure.message.replace(temp.path().to_str().unwrap(), "T")
    };
    let same = "T/a/file and T/b/file would both be sent as file";
    assert_eq!(message(&[at("a/file"), at("b/file")]), same);
    assert_eq!(message(&[at("none")]), "cannot open T/none: No such file or directory (os error 2)");
    assert_eq!(message(&[at("a/file/")]), "cannot open T/a/file: Not a directory (os error 20)");
    assert_eq!(message(&["/".into()]), "cannot send /: it has no name of its own");
    fs::create_dir(at(".towline")).unwrap();
    assert!(message(&[at(".towline")]).starts_with("cannot send T/.towline: "));
}

#[tokio::test]
async fn attack_22_special_files_are_skipped_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("d");
    fs::create_dir(&root).unwrap();
    mkfifoat(CWD, root.join("pipe\x1b"), Mode::RWXU).unwrap();
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    symlink("/dev/null", root.join("to a device")).unwrap();
    let found = walk(&source(&[&root]).unwrap()).await;
    let shown: Vec<String> =
        shown(&found).iter().map(|line| line.replace(temp.path().to_str().unwrap(), "T")).collect();
    let want = [
        "d",
        "d/to a device",
        "end of d",
        "special-file: skipping FIFO T/d/pipe\\u{1b}",
        "special-file: skipping socket T/d/socket",
    ];
    assert_eq!(shown, want);
    let device = walk(&source(&[Path::new("/dev/null")]).unwrap()).await;
    assert_eq!(self::shown(&device), ["special-file: skipping device /dev/null"]);
}

#[test]
fn sources_too_deep_or_unreadable_are_named_and_the_rest_is_sent() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("d");
    fs::create_dir_all(root.join(["x"; 130].join("/"))).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::write(root.join("file"), b"x").unwrap();
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
    let found = bound_by_permissions(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { walk(&source(&[&root]).unwrap()).await })
    });
    // Lets the temporary directory be removed.
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let shown = shown(&found);
    assert_eq!(shown.iter().filter(|line| line.contains("more than 128 components")).count(), 1, "{shown:?}");
    assert!(shown.contains(&"d/file".to_owned()), "{shown:?}");
    let (dirs, ends) =
        (shown.iter().filter(|l| l.starts_with("d")), shown.iter().filter(|l| l.starts_with("end")));
    assert_eq!(dirs.count() - 1, ends.count());
    assert!(
        shown
            .iter()
            .any(|line| line.starts_with("source-unreadable: cannot open") && line.contains("closed"))
    );
}

/// [S-3]
#[tokio::test]
async fn attack_3_a_source_swapped_for_a_link_is_not_followed() {
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    for dir in ["d/sub", "secret"] {
        fs::create_dir_all(at(dir)).unwrap();
        fs::write(at(dir).join("file"), b"12345").unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        File::open(at(dir).join("file")).unwrap().set_modified(modified).unwrap();
    }
    let source = source(&[&at("d")]).unwrap();
    let entry = the_file(&source).await;
    let open = source.open(entry.clone()).await.unwrap();
    assert_eq!(source.verify(&open).await.unwrap(), Verdict::Same);

    // The same size and time, but another file behind a link.
    fs::rename(at("d/sub"), at("d/moved")).unwrap();
    symlink(at("secret"), at("d/sub")).unwrap();
    let is_changed =
        |result: std::result::Result<(), Failure>| result.unwrap_err().reason == Reason::SourceChanged;
    assert!(is_changed(source.verify(&open).await.map(drop)));
    assert!(is_changed(source.open(entry.clone()).await.map(drop)));

    // The same, without a link.
    fs::remove_file(at("d/sub")).unwrap();
    fs::rename(at("secret"), at("d/sub")).unwrap();
    assert!(is_changed(source.verify(&open).await.map(drop)));
    let again = source.open(entry.clone()).await.unwrap();

    // A FIFO in its place is neither waited for nor read.
    fs::remove_file(at("d/sub/file")).unwrap();
    mkfifoat(CWD, at("d/sub/file"), Mode::RWXU).unwrap();
    assert!(is_changed(source.open(entry).await.map(drop)));
    assert!(is_changed(source.verify(&again).await.map(drop)));
}

///
#[tokio::test]
async fn attack_3_nothing_is_written_outside_of_the_target() {
    let temp = tempfile::tempdir().unwrap();
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("passwd"), b"root").unwrap();
    let to = temp.path().join("to");
    let target = target(&to);
    symlink(&outside, to.join("link")).unwrap();
    symlink(outside.join("passwd"), to.join("file")).unwrap();
    stage(&target, 0, 0, b"evil").await.unwrap();
    assert!(matches!(commit(&target, 0, "link/passwd", 4).await, Ok(Committed::Refused(_))));
    stage(&target, 1, 0, b"evil").await.unwrap();
    assert!(matches!(commit(&target, 1, "file", 4).await, Ok(Committed::Exists)));
    assert!(target_root(&target, "file").await.is_err());
    let odd = Meta { mode: 0, ..Meta::default() };
    assert!(target.finish_dirs(vec![(rel_path("link"), Some(odd))]).await[0].is_err());
    assert_eq!(names(&outside), ["passwd"]);
    assert_eq!(fs::read(outside.join("passwd")).unwrap(), b"root");
    assert_ne!(outside.metadata().unwrap().mode() & 0o777, 0);
}

///
#[tokio::test]
async fn attack_25_a_declared_size_costs_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let target = target(temp.path());
    let kind = Kind::File { size: FILE_BYTES_MAX };
    let entry = Entry { path: rel_path("huge"), meta: Meta::default(), kind, hole_bytes: u64::MAX };
    assert!(matches!(
        look_and_prepare(&target, vec![(EntryId(0), entry)], Exists::Refuse).await[..],
        [Ok(Lookup::Free)]
    ));
    stage(&target, 0, 0, b"ten bytes.").await.unwrap();
    let staged = temp.path().join(".towline").join(incoming(1, true).transfer).join("0");
    assert_eq!(staged.metadata().unwrap().len(), 10);
    assert!(stage(&target, 0, u64::MAX - 2, b"past the end").await.is_err());
}

#[tokio::test]
async fn a_directory_that_is_there_is_opened_up_and_gets_its_attributes() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("d");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o555)).unwrap();
    let target = target(temp.path());
    let meta = Meta { mode: 0o511, ..Meta::default() };
    let entry = Entry { path: rel_path("d"), meta: meta.clone(), kind: Kind::Dir, hole_bytes: 0 };
    assert!(matches!(
        look_and_prepare(&target, vec![(EntryId(0), entry)], Exists::Refuse).await[..],
        [Ok(Lookup::Same { .. })]
    ));
    assert_eq!(dir.metadata().unwrap().mode() & 0o777, 0o755);
    target.finish_dirs(vec![(rel_path("d"), Some(meta))]).await.remove(0).unwrap();
    assert_eq!((dir.metadata().unwrap().mode() & 0o777, dir.metadata().unwrap().mtime()), (0o511, 0));
}

#[test]
fn a_directory_made_in_one_that_was_opened_up_is_a_new_one() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("d");
    fs::create_dir(&dir).unwrap();
    fs::create_dir(dir.join("old")).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o600)).unwrap();
    let admitted = bound_by_permissions(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let target = target(temp.path());
        let dirs = ["d", "d/new", "d/old"].map(|path| {
            let meta = Meta { mode: 0o500, ..Meta::default() };
            Entry { path: rel_path(path), meta, kind: Kind::Dir, hole_bytes: 0 }
        });
        let entries = (0..).map(EntryId).zip(dirs).collect();
        runtime.block_on(look_and_prepare(&target, entries, Exists::Refuse))
    });
    assert!(
        matches!(admitted[..], [Ok(Lookup::Same { .. }), Ok(Lookup::Free), Ok(Lookup::Same { .. })]),
        "{admitted:?}"
    );
}

#[tokio::test]
async fn more_files_are_staged_than_are_kept_open() {
    let temp = tempfile::tempdir().unwrap();
    let target = FsTarget::new(temp.path(), incoming(1, false), NetworkThreads::new(2)).unwrap();
    for offset in [0, 1] {
        for id in 0..300 {
            stage(&target, id, offset, &id.to_le_bytes()).await.unwrap();
        }
    }
    let open = fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
        let link = fs::read_link(entry.as_ref().unwrap().path());
        link.is_ok_and(|path| path.starts_with(temp.path()))
    });
    assert!(open.count() <= 256 + 4, "staged files, and the directories");
    for id in 0..300 {
        assert!(matches!(commit(&target, id, &id.to_string(), 9).await, Ok(Committed::Done(None))));
        let byte = id.to_le_bytes();
        let bytes = fs::read(temp.path().join(id.to_string())).unwrap();
        assert_eq!((bytes[0], &bytes[1..]), (byte[0], &byte[..]));
    }
}

#[tokio::test]
async fn the_target_is_made_and_may_be_a_link_and_staging_goes_with_it() {
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("new/below");
    drop(target(&to));
    assert!(names(&to).is_empty());
    symlink("new/below", temp.path().join("link")).unwrap();
    let target = target(&temp.path().join("link"));
    stage(&target, 0, 0, b"x").await.unwrap();
    assert!(matches!(commit(&target, 0, "a", 1).await, Ok(Committed::Done(None))));
    assert_eq!(names(&to), [".towline", "a"]);
    stage(&target, 1, 0, b"x").await.unwrap();
    drop(target);
    assert_eq!(names(&to), ["a"]);
}

/// The reason why nothing can be prepared below `to`.
async fn prepare_error(to: &Path, incoming: Incoming) -> String {
    let target = FsTarget::new(to, incoming, NetworkThreads::new(2)).unwrap();
    let entry =
        Entry { path: rel_path("f"), meta: Meta::default(), kind: Kind::File { size: 1 }, hole_bytes: 0 };
    target.prepare(vec![(EntryId(0), entry)]).await.remove(0).unwrap_err().to_string()
}

#[tokio::test]
async fn staging_is_a_directory_of_our_own_or_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let elsewhere = temp.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for (name, is_link) in [("a", true), ("b", false)] {
        let to = temp.path().join(name);
        fs::create_dir(&to).unwrap();
        if is_link {
            symlink(&elsewhere, to.join(".towline")).unwrap();
        } else {
            fs::write(to.join(".towline"), b"").unwrap();
        }
        let error = prepare_error(&to, incoming(1, true)).await;
        assert!(error.contains(&format!("{name}/.towline: Not a directory")), "{error}");
    }
    assert!(names(&elsewhere).is_empty());
    let error = FsTarget::new(&temp.path().join("b/.towline/c"), incoming(1, true), NetworkThreads::new(2))
        .err()
        .unwrap();
    assert!(error.to_string().starts_with("cannot create "), "{error}");
    let outside = Incoming { transfer: "../".repeat(11), ..incoming(1, true) };
    let error = prepare_error(temp.path(), outside).await;
    assert!(error.contains("not the name of a transfer"), "{error}");
}

///
#[tokio::test]
async fn attack_18_only_staging_that_nobody_holds_is_cleaned() {
    let temp = tempfile::tempdir().unwrap();
    let hub = temp.path().join(".towline");
    let make = |name: &str, files: &[&str]| {
        fs::create_dir_all(hub.join(name)).unwrap();
        files.iter().for_each(|file| fs::write(hub.join(name).join(file), b"x").unwrap());
    };
    let (stale, held, foreign) = ("a".repeat(32), "b".repeat(32), "c".repeat(32));
    make(&stale, &["lock", "0", "17"]);
    symlink("/", hub.join(&stale).join("18")).unwrap();
    make(&held, &["lock", "0"]);
    make(&foreign, &["lock", "0", "something else"]);
    make("not a transfer", &["lock", "0"]);
    make(&"d".repeat(32), &[]);
    make(&"e".repeat(32), &["0", "something else"]);
    make(&"0".repeat(32), &["0", "17"]); // a power failure has taken the lock file
    let victim = temp.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("0"), b"x").unwrap();
    fs::write(victim.join("lock"), b"x").unwrap();
    symlink(&victim, hub.join("f".repeat(32))).unwrap();
    let lock = File::open(hub.join(&held).join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();

    stage(&target(temp.path()), 0, 0, b"x").await.unwrap();
    let want = [&held, &foreign, &"e".repeat(32), &"f".repeat(32), "not a transfer"];
    assert_eq!(names(&hub), want);
    assert_eq!(names(&hub.join(&held)), ["0", "lock"]);
    assert_eq!(names(&hub.join(&foreign)), ["0", "lock", "something else"]);
    assert_eq!(names(&victim), ["0", "lock"]);

    drop(lock);
    stage(&target(temp.path()), 0, 0, b"x").await.unwrap();
    assert!(!hub.join(&held).exists());
}

#[test]
fn receivers_that_start_and_end_at_once_leave_each_other_alone() {
    let temp = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for receiver in 0..4 {
            let dir = temp.path();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for round in 0..40 {
                    let incoming = incoming(1000 * receiver + round, false);
                    let transfer = incoming.transfer.clone();
                    let target = FsTarget::new(dir, incoming, NetworkThreads::new(2)).unwrap();
                    runtime.block_on(async {
                        stage(&target, 0, 0, b"x").await.unwrap();
                        let committed = commit(&target, 0, &transfer, 1).await;
                        assert!(matches!(committed, Ok(Committed::Done(None))), "{committed:?}");
                    });
                }
            });
        }
    });
    assert_eq!(names(temp.path()).len(), 160);
}

#[tokio::test]
async fn a_full_disk_is_named_and_cleaned_up() {
    let Some(disk) = SmallDisk::mount() else {
        return skip("a small tmpfs cannot be mounted here");
    };
    let to = disk.dir.path().join("to");
    let target = target(&to);
    stage(&target, 0, 0, &[1; 1000]).await.unwrap();
    assert!(matches!(commit(&target, 0, "before", 1000).await, Ok(Committed::Done(None))));
    let mut written = 0;
    let error = loop {
        match stage(&target, 1, written, &[1; 1 << 18]).await {
            Ok(()) => written += 1 << 18,
            Err(error) => break error,
        }
    };
    assert!(written < 1 << 20);
    assert_eq!(error.source.kind(), io::ErrorKind::StorageFull);
    let message = error.to_string();
    assert!(message.starts_with(&format!("cannot write {}/.towline/", to.display())), "{message}");
    target.abort().await;
    assert_eq!(names(&to), ["before"]);
}

/// A tmpfs of 1 MiB.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path());
        let is_mounted = mount.output().is_ok_and(|output| output.status.success());
        is_mounted.then(|| Self { dir })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path()).status();
    }
}

#[tokio::test]
async fn names_of_any_bytes_are_printed_harmlessly() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join(OsStr::from_bytes(b"\x1b[2J\xff"));
    let target = target(&dir);
    let place = target.place(&RelPath::new(b"a\x07/\xfe").unwrap());
    let shown = place.own();
    assert!(shown.ends_with("\\u{1b}[2J\\xff/a\\u{7}/\\xfe"), "{shown}");
    let error = target_root(&target, "no\x1b/x").await.unwrap_err().to_string();
    assert!(error.ends_with("/no\\u{1b}: No such file or directory (os error 2)"), "{error}");
}
