//! The order in which the program asks the kernel for durability, as strace sees it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::Scratch;
use crate::support::host::skip;

/// What strace says of the system calls `traced` of a transfer; `None` without strace.
fn trace(
    scratch: &Scratch,
    source: &Path,
    traced: &str,
    tracing: &[&str],
    args: &[&str],
) -> Option<Vec<String>> {
    // It may not be there, or not be allowed to trace.
    if !Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success()) {
        skip("strace is not installed, or may not trace");
        return None;
    }
    let log = scratch.path().join("strace.log");
    let status = Command::new("strace")
        .args(["-f", "-y", "-qq", "-e", &format!("trace={traced}")])
        .args(tracing)
        .arg("-o")
        .arg(&log)
        .arg(env!("CARGO_BIN_EXE_towline"))
        .args(["send", "--quiet", "--to"])
        .arg(format!("dir:{}", scratch.path().join("inbox").display()))
        .arg(source)
        .args(args)
        .env("XDG_CONFIG_HOME", scratch.path())
        .status()
        .expect("strace runs");
    assert!(status.success(), "{status}");
    Some(fs::read_to_string(&log).expect("what strace wrote").lines().map(str::to_owned).collect())
}

/// The calls that decide what survives a power failure, in the order of their beginning; `None` without strace.
fn calls(scratch: &Scratch, source: &Path, args: &[&str]) -> Option<Vec<String>> {
    let log = trace(scratch, source, "fsync,fdatasync,syncfs,renameat2", &[], args)?;
    // The process id in front, and calls that were interrupted and go on, do not count.
    let begun = |line: &String| {
        // Whether there is such a call is asked with a descriptor that it refuses.
        !line.contains("EBADF")
            && ["fsync(", "fdatasync(", "syncfs(", "renameat2("].iter().any(|call| line.contains(call))
    };
    Some(log.into_iter().filter(begun).collect())
}

fn position(calls: &[String], what: &str, is_it: impl Fn(&str) -> bool) -> usize {
    calls.iter().position(|call| is_it(call)).unwrap_or_else(|| panic!("no {what} in {calls:#?}"))
}

#[test]
fn data_is_synced_before_the_name_and_the_directory_behind_it() {
    let scratch = Scratch::new();
    let source = scratch.dir("source").join("file");
    fs::write(&source, vec![7; 3 << 20]).expect("a file");
    let Some(calls) = calls(&scratch, &source, &[]) else { return };
    let data =
        position(&calls, "sync of the staged file", |c| c.contains("fdatasync(") && c.contains(".towline"));
    let name = position(&calls, "rename", |c| c.contains("renameat2("));
    assert!(data < name, "{calls:#?}");
    let behind = &calls[name..];
    let directory =
        position(behind, "sync of the directory", |c| c.contains("fsync(") && c.contains("inbox>"));
    let all = position(behind, "sync of the file system", |c| c.contains("syncfs("));
    assert!(directory < all, "{calls:#?}");
}

#[test]
fn many_files_are_synced_before_the_first_name_and_all_of_it_at_the_end() {
    let scratch = Scratch::new();
    let source = scratch.dir("source");
    for n in 0..200 {
        fs::write(source.join(format!("file {n}")), [7; 100]).expect("a file");
    }
    let Some(calls) = calls(&scratch, &source, &[]) else { return };
    let data = position(&calls, "sync", |c| !c.contains("renameat2("));
    let name = position(&calls, "rename", |c| c.contains("renameat2("));
    assert!(data < name, "{calls:#?}");
    assert_eq!(calls.iter().filter(|c| c.contains("renameat2(")).count(), 200);
    assert!(calls.last().is_some_and(|call| call.contains("syncfs(")), "{calls:#?}");
}

/// The journal of a file is synced at each checkpoint. A disk may take its time for that.
#[test]
fn writes_go_on_while_a_journal_is_synced() {
    let scratch = Scratch::new();
    let source = scratch.dir("source").join("file");
    fs::write(&source, vec![7; 36 << 20]).expect("a file");
    // The thread stays in the call for this long after it has been logged.
    let slow = ["-ttt", "-e", "inject=fdatasync:delay_exit=700000"];
    let Some(log) = trace(&scratch, &source, "fdatasync,pwrite64", &slow, &["--bwlimit", "12M"]) else {
        return;
    };
    let time = |line: &str| line.split_whitespace().nth(1).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    let is_sync = |line: &&String| line.contains("fdatasync(") && line.contains(".journal>");
    let writes_during = |sync: &String| {
        let during = time(sync)..time(sync) + 0.7;
        let is_write = |line: &&String| line.contains("pwrite64(") && line.contains(".part>");
        log.iter().filter(is_write).filter(|line| during.contains(&time(line))).count()
    };
    let most = log.iter().filter(is_sync).map(writes_during).max();
    // A few may have been on their way.
    assert!(most > Some(4), "{most:?} writes during a sync");
}

#[test]
fn no_fsync_means_no_syncs() {
    let scratch = Scratch::new();
    let source = scratch.dir("source").join("file");
    fs::write(&source, b"bytes").expect("a file");
    let Some(calls) = calls(&scratch, &source, &["--no-fsync"]) else { return };
    assert!(calls.iter().all(|call| call.contains("renameat2(")), "{calls:#?}");
    assert_eq!(calls.len(), 1);
}
