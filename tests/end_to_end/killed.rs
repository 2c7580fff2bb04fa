//! Transfers that are killed in the middle, and started again.
//!
//! `TOWLINE_KILLS=100 cargo test --test end_to_end killed_at_random -- --nocapture` kills transfers of 256 MiB and of 5,000 files at
//! random moments, 100 times each.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::process::{DEADLINE, Machine, Towline};
use crate::support::random::Random;
use crate::support::{Scratch, Seed};

const MIB: usize = 1 << 20;
const SIZE: usize = 32 * MIB;
/// So slow that nothing is complete before its first checkpoint, however long that takes.
const SLOW: [&str; 2] = ["--bwlimit", "2M"];
const IMPATIENT: [&str; 4] = ["--timeout", "2s", "--retry", "0"];
/// A side that is alone ends before.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at the journal.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Which processes are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    Receiver,
    Sender,
    Both,
}

/// Bytes that differ at every place.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn source(scratch: &Scratch, seed: &Seed) -> std::path::PathBuf {
    let path = scratch.dir("source").join("file");
    fs::write(&path, bytes(seed.value, SIZE)).expect("a file");
    path
}

fn plain(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> =
        fs::read_dir(dir).expect("a directory").map(|e| name(e).into_string().expect("text")).collect();
    names.sort();
    names
}

/// Bytes of the file that the journal has.
fn recorded(to: &Machine, inbox: &Path) -> u64 {
    let listed = to.start(["receive", "--json", "--list-partial", "--into", plain(inbox)]).end().expect(0);
    listed.events("partial").filter_map(|partial| partial["safe_bytes"].as_u64()).sum()
}

/// Waits until the journal has more than `before`.
fn wait_for_records(to: &Machine, inbox: &Path, before: u64) {
    let began = Instant::now();
    while !inbox.exists() || recorded(to, inbox) <= before {
        assert!(began.elapsed() < DEADLINE, "no checkpoint records more than {before} bytes");
        sleep(LOOK_EVERY);
    }
}

fn kill(process: Towline) {
    process.signal(Signal::KILL);
    assert_eq!(process.end().code, None);
}

/// Starts both sides. The one that waits is started first.
fn start(
    (from, to): (&Machine, &Machine),
    source: &Path,
    inbox: &Path,
    sender_waits: bool,
    limit: &[&str],
) -> (Towline, Towline) {
    let send = [limit, &IMPATIENT].concat();
    if sender_waits {
        let (send, listening) = from.listen_send(source, &send);
        let dial = ["--from", &listening.ticket, "--into", plain(inbox)];
        (send, to.start_receive([&dial[..], &IMPATIENT].concat()))
    } else {
        let (receive, listening) = to.listen_receive(inbox, &IMPATIENT);
        let dial = [plain(source), "--to", &listening.ticket];
        (from.start_send([&dial[..], &send].concat()), receive)
    }
}

/// Runs the same two commands until the file is there; kills as `killed` says when something is recorded, and again
/// when more is.
fn goes_on(killed: Killed, sender_waits: bool) {
    let (scratch, seed) = (Scratch::new(), Seed::new(17));
    let (source, inbox) = (source(&scratch, &seed), scratch.path().join("inbox"));
    let from = Machine::new(scratch.path().join("sender"));
    let to = Machine::new(scratch.path().join("receiver"));
    let mut safe = 0;
    for _ in 0..2 {
        let (send, receive) = start((&from, &to), &source, &inbox, sender_waits, &SLOW);
        wait_for_records(&to, &inbox, safe);
        match killed {
            Killed::Receiver => {
                kill(receive);
                assert_ne!(send.end().code, Some(0));
            }
            Killed::Sender => {
                kill(send);
                assert_ne!(receive.end().code, Some(0));
            }
            Killed::Both => {
                kill(receive);
                kill(send);
            }
        }
        assert_eq!(names(&inbox), [".towline"], "a final name holds part of a file");
        safe = recorded(&to, &inbox);
    }
    let listed = to.start(["receive", "--json", "--list-partial", "--into", plain(&inbox)]).end().expect(0);
    let partial = listed.event("partial");
    assert_eq!((&partial["path"], &partial["state"]), (&"file".into(), &"kept".into()));

    let (send, receive) = start((&from, &to), &source, &inbox, sender_waits, &[]);
    let (sent, received) = (send.end().expect(0), receive.end().expect(0));
    for finished in [sent.event("finished"), received.event("finished")] {
        assert_eq!(finished["resumed_bytes"], safe, "{killed:?}");
        assert_eq!(finished["synced"], true);
    }
    assert_eq!(names(&inbox), ["file"]);
    assert!(fs::read(inbox.join("file")).expect("it is there") == fs::read(&source).expect("a file"));
}

#[test]
fn a_killed_receiver_goes_on() {
    goes_on(Killed::Receiver, false);
}

#[test]
fn a_killed_sender_goes_on() {
    goes_on(Killed::Sender, true);
}

#[test]
fn both_are_killed_and_go_on() {
    goes_on(Killed::Both, false);
}

/// What is sent, and where it arrives.
struct Sent {
    source: PathBuf,
    inbox: PathBuf,
    /// Files by their path below the inbox.
    files: Vec<PathBuf>,
    bytes: u64,
}

impl Sent {
    /// `files` files of up to 16 KiB, and one of `large` bytes; only that one, if there are no others.
    fn new(scratch: &Scratch, seed: &Seed, files: usize, large: usize) -> Self {
        let (top, mut random) = (scratch.dir("source"), Random::new(seed.value));
        let (mut names, mut total) = (vec![PathBuf::from("large")], large as u64);
        if files > 0 {
            names = vec!["tree/large".into()];
            for n in 0..files {
                let dir = Path::new("tree").join((n % 50).to_string());
                fs::create_dir_all(top.join(&dir)).expect("a directory");
                let len = random.next() % (16 << 10);
                let name = dir.join(n.to_string());
                fs::write(top.join(&name), bytes(len, len as usize)).expect("a file");
                names.push(name);
                total += len;
            }
        }
        fs::write(top.join(&names[0]), bytes(seed.value, large)).expect("a file");
        let source = top.join(names[0].iter().next().expect("a name"));
        Self { source, inbox: scratch.path().join("inbox"), files: names, bytes: total }
    }

    /// Bytes under final names, each of which has all bytes of its source.
    #[track_caller]
    fn arrived(&self) -> u64 {
        let top = self.source.parent().expect("a parent");
        let arrived = self.files.iter().map(|name| {
            let Ok(bytes) = fs::read(self.inbox.join(name)) else { return 0 };
            let is_same = bytes == fs::read(top.join(name)).expect("a file of the source");
            assert!(is_same, "{} holds other bytes than its source", name.display());
            bytes.len() as u64
        });
        arrived.sum()
    }
}

/// Kills one of the sides, or both, at a random moment. Returns the bytes that were sent, and whether the sender ended
/// well.
fn kill_at_random(
    (mut send, mut receive): (Towline, Towline),
    bytes: u64,
    random: &mut Random,
) -> (u64, bool) {
    if random.next().is_multiple_of(4) {
        sleep(Duration::from_millis(random.next() % 400));
    } else {
        let at = random.next() % (bytes + 1);
        // Where one side has given up before it met the other, this one waits for nothing.
        receive.reaches(PATIENCE, |e| e["event"] == "progress" && e["written_bytes"].as_u64() >= Some(at));
        sleep(Duration::from_millis(random.next() % 40));
    }
    let (kills_send, kills_receive) = match random.next() % 3 {
        0 => (true, false),
        1 => (false, true),
        _ => (true, true),
    };
    if kills_receive {
        receive.signal(Signal::KILL);
    }
    if kills_send {
        send.signal(Signal::KILL);
    }
    for side in [&mut send, &mut receive] {
        side.reaches(PATIENCE, |_| false);
        side.signal(Signal::KILL);
    }
    receive.end();
    let ended = send.end();
    let sent = ended.events("progress").last().and_then(|e| e["sent_bytes"].as_u64()).unwrap_or(0);
    (sent, ended.code == Some(0))
}

/// Kills a transfer a few times, and then lets it end. Returns the bytes that were sent again for each kill.
fn is_killed_at_random(
    sent: &Sent,
    machines: (&Machine, &Machine),
    random: &mut Random,
    limit: &[&str],
) -> Vec<u64> {
    let (mut again, mut safe) = (Vec::new(), 0);
    for _ in 0..1 + random.next() % 3 {
        let sides = start(machines, &sent.source, &sent.inbox, random.next().is_multiple_of(2), limit);
        let (sent_bytes, is_done) = kill_at_random(sides, sent.bytes, random);
        let arrived = sent.arrived();
        assert!(!is_done || arrived == sent.bytes, "the sender ended with 0, and {arrived} bytes are there");
        let kept = if sent.inbox.exists() { recorded(machines.1, &sent.inbox) } else { 0 };
        assert!(arrived + kept >= safe, "{safe} bytes were safe, and {arrived} and {kept} are left");
        again.push(sent_bytes.saturating_sub(arrived + kept - safe));
        safe = arrived + kept;
    }
    let (receive, listening) = machines.1.listen_receive(&sent.inbox, &[]);
    let ended = machines.0.send([plain(&sent.source), "--to", &listening.ticket]).expect(0);
    receive.end().expect(0);
    assert_eq!(ended.event("finished")["sent_bytes"], sent.bytes - safe, "what was safe has travelled again");
    assert_eq!(sent.arrived(), sent.bytes);
    assert!(!sent.inbox.join(".towline").exists());
    again
}

/// The long form, with the variable, has `files` and `large`; the short one has a few files and one run.
#[allow(clippy::print_stderr, reason = "the long form says what kills cost")]
fn are_killed_at_random(files: usize, large: usize) {
    let runs = std::env::var("TOWLINE_KILLS").ok().map(|text| text.parse::<u64>().expect("a number of runs"));
    let (scratch, seed) = (Scratch::new(), Seed::new(53));
    let sent = match runs {
        Some(_) => Sent::new(&scratch, &seed, files, large),
        None => Sent::new(&scratch, &seed, files / 25, 12 * MIB),
    };
    let limit = ["--bwlimit", if runs.is_some() { "128M" } else { "16M" }];
    let from = Machine::new(scratch.path().join("sender"));
    let to = Machine::new(scratch.path().join("receiver"));
    let mut again = Vec::new();
    for run in 0..runs.unwrap_or(1) {
        let mut random = Random::new(seed.value + run);
        let _ = fs::remove_dir_all(&sent.inbox);
        again.extend(is_killed_at_random(&sent, (&from, &to), &mut random, &limit));
    }
    again.sort_unstable();
    if let Some(runs) = runs {
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        let (middle, most) = (again[again.len() / 2], again[again.len() - 1]);
        eprintln!(
            "{runs} runs, {} kills, {files} files: sent again for each {:.1} MiB (median), {:.1} MiB (most)",
            again.len(),
            mib(middle),
            mib(most)
        );
    }
}

#[test]
fn a_large_file_is_killed_at_random() {
    are_killed_at_random(0, 256 * MIB);
}

#[test]
fn many_files_are_killed_at_random() {
    are_killed_at_random(5000, 8 * MIB);
}
