//! The happy path with the real binary: what arrives is what was sent, and both sides say so.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use crate::support::host::{has, skip};
use crate::support::process::{Ended, Machine};
use crate::support::setting::Setting;
use crate::support::{Seed, tree};

impl Setting {
    /// `send SOURCE --to dir:INBOX`.
    fn send_to_dir(&self, source: &Path, args: &[&str]) -> Ended {
        let to = format!("dir:{}", self.inbox.display());
        let source = source.to_str().expect("a plain path");
        self.sender.send([&[source, "--to", &to], args].concat())
    }
}

/// Nothing but `names` is in `dir`: no staging either.
#[track_caller]
fn assert_holds(dir: &Path, names: &[&str]) {
    let entries = fs::read_dir(dir).expect("the directory is there");
    let mut found: Vec<_> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    found.sort();
    assert_eq!(found, names);
}

#[test]
fn a_tree_with_every_kind_of_entry_into_a_directory() {
    let seed = Seed::new(31);
    let setting = Setting::new();
    let source = setting.path("tree");
    tree::create(&source, seed.value);
    let sent = setting.send_to_dir(&source, &[]).expect(0);
    tree::assert_same(&source, &setting.inbox.join("tree"));
    assert_holds(&setting.inbox, &["tree"]);
    assert_eq!(sent.event("finished")["failed"], 0);
    let finished = sent.event("finished");
    let shares = finished["limited_by_shares"].as_object().expect("an object");
    assert!(shares.contains_key(finished["limited_by"].as_str().expect("a text")), "{shares:?}");
    assert_eq!(shares.values().map(|share| share.as_u64().expect("a whole number")).sum::<u64>(), 100);
}

#[test]
fn a_tree_to_a_receiver_that_listens() {
    let seed = Seed::new(32);
    let setting = Setting::new();
    let source = setting.path("tree");
    tree::create(&source, seed.value);
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    assert!(listening.ticket.starts_with("tl1"));
    let sent =
        setting.sender.send(["--to", &listening.ticket, source.to_str().expect("a plain path")]).expect(0);
    let received = receiver.end().expect(0);
    tree::assert_same(&source, &setting.inbox.join("tree"));
    assert_holds(&setting.inbox, &["tree"]);
    for key in ["files", "bytes", "failed"] {
        assert_eq!(sent.event("finished")[key], received.event("finished")[key], "{key}");
        assert!(sent.event("finished")[key].is_u64(), "{key}");
    }
    assert_eq!(sent.event("connected")["fingerprint"], listening.fingerprint.as_str());
    assert!(received.event("connected")["fingerprint"].is_string());
}

/// Where the system gives huge pages unasked, a few bytes here and there would take 2 MiB each, and all of them more
/// than `--memory`.
#[test]
#[cfg(target_os = "linux")]
fn a_process_has_no_huge_pages() {
    let setting = Setting::new();
    let (receiver, _listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let status = fs::read_to_string(format!("/proc/{}/status", receiver.pid().as_raw_nonzero()));
    let status = status.expect("it runs");
    let Some(line) = status.lines().find(|line| line.starts_with("THP_enabled:")) else {
        return skip("this kernel does not say whether a process may have huge pages (Linux 5.0 does)");
    };
    assert_eq!(line, "THP_enabled:\t0");
}

#[test]
fn a_tree_from_a_sender_that_listens() {
    let seed = Seed::new(33);
    let setting = Setting::new();
    let source = setting.path("tree");
    tree::create(&source, seed.value);
    let (sender, listening) = setting.sender.listen_send(&source, &[]);
    let inbox = setting.inbox.to_str().expect("a plain path");
    setting.receiver.receive(["--from", &listening.ticket.to_uppercase(), "--into", inbox]).expect(0);
    sender.end().expect(0);
    tree::assert_same(&source, &setting.inbox.join("tree"));
    assert_holds(&setting.inbox, &["tree"]);
}

#[test]
fn machines_that_know_each_others_fingerprints_need_no_ticket() {
    let setting = Setting::new();
    let source = setting.path("file");
    tree::random_file(&source, 1000, 1);
    let fingerprint = |machine: &Machine| {
        let shown = machine.start(["id", "--json"]).end().expect(0);
        shown.event("identity")["fingerprint"].as_str().expect("text").to_owned()
    };
    let sender = fingerprint(&setting.sender);
    assert_eq!(fingerprint(&setting.sender), sender, "an identity stays");
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--fingerprint", &sender]);
    assert_eq!(fingerprint(&setting.receiver), listening.fingerprint);
    let to = listening.address.to_string();
    let source_arg = source.to_str().expect("a plain path");
    setting.sender.send(["--to", &to, "--fingerprint", &listening.fingerprint, source_arg]).expect(0);
    let received = receiver.end().expect(0);
    assert_eq!(received.event("connected")["fingerprint"], sender.as_str());
    assert_eq!(tree::differences(&source, &setting.inbox.join("file")), "");
}

#[test]
fn the_printed_digest_is_the_one_of_the_bytes() {
    let seed = Seed::new(34);
    // Empty, smaller than a block, edges of a chunk, several chunks.
    for (n, len) in [0, 1, 1_048_576, 1_048_577, 5 * 1_048_576 + 7].into_iter().enumerate() {
        let setting = Setting::new();
        let source = setting.path("file");
        let hash = tree::random_file(&source, len, seed.value.wrapping_add(n as u64));
        let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
        let sent =
            setting.sender.send(["--to", &listening.ticket, source.to_str().expect("plain")]).expect(0);
        let received = receiver.end().expect(0);
        let hash = hash.to_hex();
        for side in [&sent, &received] {
            assert_eq!(side.file("file")["blake3"], hash.as_str(), "{len} bytes");
            assert_eq!(side.file("file")["outcome"], "written");
            assert_eq!(side.event("finished")["blake3"], hash.as_str());
            assert_eq!(side.event("finished")["files"], 1);
            assert_eq!(side.event("finished")["bytes"], len);
        }
        assert_eq!(tree::differences(&source, &setting.inbox.join("file")), "");
    }
}

#[test]
fn every_event_of_a_transfer_names_it() {
    let setting = Setting::new();
    let source = setting.path("file");
    tree::random_file(&source, 3 << 20, 5);
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let sent = setting.sender.send(["--to", &listening.ticket, source.to_str().expect("plain")]).expect(0);
    let received = receiver.end().expect(0);
    let transfer = &sent.event("started")["transfer"];
    assert_eq!(transfer.as_str().map(str::len), Some(32));
    for side in [&sent, &received] {
        let began = side.events.iter().position(|event| event["event"] == "started").expect("it started");
        for event in &side.events[began..] {
            assert_eq!(&event["transfer"], transfer, "{event}");
        }
    }
    // Before that there is no transfer.
    for name in ["listening", "connected"] {
        assert!(received.event(name)["transfer"].is_null(), "{}", received.event(name));
    }
}

/// Lines of `b3sum`: a hash, two spaces, a name; a leading backslash says that the name is escaped.
fn check_manifest(manifest: &Path, dir: &Path) -> usize {
    let text = fs::read_to_string(manifest).expect("a manifest is text");
    for line in text.lines() {
        let (is_escaped, line) = match line.strip_prefix('\\') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let (hash, name) = line.split_once("  ").expect("a hash and a name");
        let name = if is_escaped { unescape(name) } else { name.to_owned() };
        assert_eq!(tree::hash(&dir.join(&name)).to_hex().as_str(), hash, "{name:?}");
    }
    text.lines().count()
}

fn unescape(name: &str) -> String {
    let mut out = String::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('\\') => '\\',
                other => panic!("an escape that b3sum does not know: {other:?} in {name:?}"),
            },
            c => c,
        });
    }
    out
}

fn count_files(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry"));
    entries.fold(0, |count, entry| match entry.file_type().expect("a type") {
        t if t.is_dir() => count + count_files(&entry.path()),
        t => count + usize::from(t.is_file()),
    })
}

#[test]
fn b3sum_accepts_the_manifests_of_both_sides() {
    let seed = Seed::new(35);
    let setting = Setting::new();
    let source = setting.path("tree");
    tree::create_text(&source, seed.value);
    let manifests = [setting.path("sent.b3"), setting.path("received.b3")];
    let [sent, received] = manifests.each_ref().map(|m| m.to_str().expect("a plain path"));
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--manifest", received]);
    let source_arg = source.to_str().expect("a plain path");
    setting.sender.send(["--to", &listening.ticket, source_arg, "--manifest", sent]).expect(0);
    receiver.end().expect(0);
    for manifest in &manifests {
        assert_eq!(check_manifest(manifest, &setting.inbox), count_files(&source), "{}", manifest.display());
        if !has("b3sum") {
            continue;
        }
        let mut b3sum = Command::new("b3sum");
        let output = b3sum.arg("--check").arg("--quiet").arg(manifest).current_dir(&setting.inbox).output();
        let output = output.expect("b3sum starts");
        assert!(output.status.success(), "{}", [output.stdout, output.stderr].concat().escape_ascii());
    }
}

#[test]
fn sending_the_same_again_changes_nothing_and_is_no_conflict() {
    let seed = Seed::new(36);
    let setting = Setting::new();
    let source = setting.path("tree");
    tree::create_text(&source, seed.value);
    setting.send_to_dir(&source, &[]).expect(0);
    let again = setting.send_to_dir(&source, &[]).expect(0);
    assert_eq!(again.event("finished")["bytes"], 0, "nothing travels twice");
    assert!(again.events("file").count() > 0);
    for file in again.events("file") {
        // What was written just now is compared.
        assert!(file["outcome"] == "identical" || file["outcome"] == "unchanged", "{file}");
    }
    tree::assert_same(&source, &setting.inbox.join("tree"));
}

#[test]
fn an_empty_directory_and_several_sources() {
    let setting = Setting::new();
    let empty = setting.scratch.dir("nothing in it");
    setting.send_to_dir(&empty, &[]).expect(0);
    tree::assert_same(&empty, &setting.inbox.join("nothing in it"));

    let (one, two) = (setting.path("one"), setting.scratch.dir("two"));
    tree::random_file(&one, 10, 1);
    tree::random_file(&two.join("inner"), 300_000, 2);
    let plain = |p: &Path| p.to_str().expect("a plain path").to_owned();
    let to = format!("dir:{}", plain(&setting.inbox));
    setting.sender.send([&plain(&one), &plain(&two), &plain(&empty), "--to", &to]).expect(0);
    assert_holds(&setting.inbox, &["nothing in it", "one", "two"]);
    assert_eq!(tree::differences(&one, &setting.inbox.join("one")), "");
    tree::assert_same(&two, &setting.inbox.join("two"));
}

#[test]
fn no_fsync_skips_the_syncs_and_nothing_else() {
    let seed = Seed::new(37);
    let setting = Setting::new();
    let source = setting.path("tree");
    tree::create(&source, seed.value);
    setting.send_to_dir(&source, &["--no-fsync"]).expect(0);
    tree::assert_same(&source, &setting.inbox.join("tree"));
    assert_holds(&setting.inbox, &["tree"]);
}

#[test]
fn attack_22_special_files_are_skipped_with_a_warning() {
    let setting = Setting::new();
    let source = setting.scratch.dir("tree");
    fs::write(source.join("honest"), b"bytes").expect("a file");
    let _socket = UnixListener::bind(source.join("socket")).expect("a socket");
    let fifo = Command::new("mkfifo").arg(source.join("fifo")).status().expect("mkfifo starts");
    assert!(fifo.success());

    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let sent = setting.sender.send(["--to", &listening.ticket, source.to_str().expect("plain")]).expect(10);
    receiver.end().expect(10);
    assert_holds(&setting.inbox, &["tree"]);
    assert_holds(&setting.inbox.join("tree"), &["honest"]);
    assert_eq!(fs::read(setting.inbox.join("tree/honest")).expect("there"), b"bytes");
    for name in ["socket", "fifo"] {
        let warned = sent
            .events("warning")
            .any(|w| w["path"].as_str().is_some_and(|p| p.ends_with(name)) && w["reason"] == "special-file");
        assert!(warned, "{name}: {}", sent.said());
    }
}

/// How much longer it takes is the machine's affair; that it does not go faster is the program's.
#[test]
fn either_side_can_limit_the_rate() {
    let bytes = vec![7; 2 << 20];
    for (at_sender, at_receiver) in [("1M", "off"), ("off", "00:00-12:00=1M,12:00-24:00=1M,5M")] {
        let setting = Setting::new();
        let source = setting.path("data");
        fs::write(&source, &bytes).expect("room for it");
        let (receiver, listening) =
            setting.receiver.listen_receive(&setting.inbox, &["--bwlimit", at_receiver]);
        let source = source.to_str().expect("a plain path");
        let sent = setting.sender.send(["--to", &listening.ticket, "--bwlimit", at_sender, source]).expect(0);
        receiver.end().expect(0);
        assert!(fs::read(setting.inbox.join("data")).expect("it is there") == bytes);
        let seconds = sent.event("finished")["seconds"].as_f64().expect("a number");
        assert!(seconds > 1.9, "2 MiB at 1 MiB/s in {seconds} s ({at_sender}, {at_receiver})");
    }
}
