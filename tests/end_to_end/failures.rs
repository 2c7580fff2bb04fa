//! Failures give the right exit code on both sides and leave nothing incomplete under a final name.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::host::{bound_by_permissions, skip};
use crate::support::link::{LinkOptions, UdpLink};
use crate::support::mount::Mount;
use crate::support::process::{Ended, Listening, Machine, Towline};
use crate::support::random::Random;
use crate::support::setting::{Setting, assert_only_partials};
use crate::support::ticket::redirect;
use crate::support::tree::set_mtime;
use rustix::process::Signal;
use serde_json::Value;

/// A link so slow that a transfer of [`LARGE_BYTES`] is still running when a test interferes.
const SLOW_BYTES_PER_S: u64 = 4 << 20;
const LARGE_BYTES: usize = 24 << 20;

impl Setting {
    /// A file called `file` with `bytes`, in a directory of its own called `dir`.
    fn file_in(&self, dir: &str, bytes: &[u8]) -> String {
        let path = self.scratch.dir(dir).join("file");
        fs::write(&path, bytes).expect("a file");
        path.to_str().expect("a plain path").to_owned()
    }

    /// A large file in flight over a slow link: both sides are running and some of it has arrived.
    fn under_way(&self, args: &[&str]) -> UnderWay {
        let source = self.file_in("source", &Random::new(41).bytes(LARGE_BYTES));
        let (mut receiver, listening) = self.receiver.listen_receive(&self.inbox, args);
        let link = slow_link(&listening);
        let ticket = redirect(&listening.ticket, listening.address, link.addr);
        let mut sender = self.sender.start_send([&["--to", &ticket, &source], args].concat());
        sender.wait_until("bytes on the way", is_moving);
        receiver.wait_until("bytes on the way", is_moving);
        UnderWay { sender, receiver, link, source: source.into(), ticket: listening.ticket }
    }
}

struct UnderWay {
    sender: Towline,
    receiver: Towline,
    link: UdpLink,
    source: PathBuf,
    /// One that leads past the link.
    ticket: String,
}

fn slow_link(listening: &Listening) -> UdpLink {
    UdpLink::start(
        listening.address,
        &LinkOptions { rate_bytes_per_s: Some(SLOW_BYTES_PER_S), ..Default::default() },
    )
}

fn is_moving(event: &Value) -> bool {
    event["event"] == "progress" && event["sent_bytes"].as_u64().is_some_and(|b| b > 0)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the directory is there");
    let mut names: Vec<_> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Neither a final name nor a staged one.
#[track_caller]
fn assert_empty(dir: &Path) {
    assert_eq!(names(dir), Vec::<String>::new(), "left behind in {}", dir.display());
}

/// Only staging, which a killed process cannot remove.
#[track_caller]
fn assert_no_final_name(dir: &Path) {
    let names: Vec<_> = names(dir).into_iter().filter(|n| n != ".towline").collect();
    assert_eq!(names, Vec::<String>::new(), "under a final name in {}", dir.display());
}

#[track_caller]
fn assert_error(ended: &Ended, reason: &str, exit_code: i32) {
    let error = ended.event("error");
    assert_eq!((&error["reason"], &error["exit_code"]), (&reason.into(), &exit_code.into()), "{error}");
    assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{error}");
}

#[test]
fn both_sides_report_a_full_disk() {
    let setting = Setting::new();
    let Some(_tmpfs) = Mount::tmpfs(&setting.inbox, 64) else {
        return skip("a small file system cannot be mounted (it needs root)");
    };
    // Each of the two fits alone, so that neither is refused before the start. One block of random bytes again and again:
    // the files must not be sparse, and nothing compresses.
    let block = Random::new(42).bytes(1 << 20);
    let tree = setting.scratch.dir("tree");
    for name in ["one", "two"] {
        std::fs::write(tree.join(name), block.repeat(40)).expect("a file");
    }
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let tree = tree.to_str().expect("a plain path");
    let sent = setting.sender.send(["--to", &listening.ticket, tree]).expect(6);
    let received = receiver.end().expect(6);
    let inbox = setting.inbox.display();
    for (side, tree) in [(&sent, "tree".to_owned()), (&received, format!("{inbox}/tree"))] {
        let said = side.said();
        let is_told = |name| said.contains(&format!("cannot write {tree}/{name}: No space left"));
        assert!(is_told("one") || is_told("two"), "path and cause: {said}");
        assert!(said.contains("receiver"), "the side: {said}");
    }
    for name in ["one", "two"] {
        if let Ok(bytes) = std::fs::read(setting.inbox.join("tree").join(name)) {
            assert!(bytes == block.repeat(40), "{name} is not whole under its final name");
        }
    }
    assert_only_partials(&setting.inbox);
}

/// [W-3]
#[test]
fn a_wrong_fingerprint_is_refused() {
    let setting = Setting::new();
    let source = setting.file_in("source", b"secret");
    let other_inbox = setting.scratch.dir("other inbox");
    let (_receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let (_other, other) = Machine::new(setting.path("other")).listen_receive(&other_inbox, &[]);
    assert_ne!(listening.fingerprint, other.fingerprint);

    let address = listening.address.to_string();
    let sent =
        setting.sender.send(["--to", &address, "--fingerprint", &other.fingerprint, &source]).expect(4);
    assert_error(&sent, "not-authenticated", 4);
    // A ticket of the other one that leads here.
    let ticket = redirect(&other.ticket, other.address, listening.address);
    let sent = setting.sender.send(["--to", &ticket, &source]).expect(4);
    assert_error(&sent, "not-authenticated", 4);
    assert_empty(&setting.inbox);
    assert_empty(&other_inbox);
}

#[test]
fn a_wrong_secret_is_refused_and_the_right_one_still_works() {
    let setting = Setting::new();
    let source = setting.file_in("source", b"bytes");
    let other_inbox = setting.scratch.dir("other inbox");
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    // The same machine, so the fingerprint is right; another listener, so the secret is not.
    let (_other, other) = setting.receiver.listen_receive(&other_inbox, &[]);
    assert_eq!(listening.fingerprint, other.fingerprint);
    let ticket = redirect(&other.ticket, other.address, listening.address);
    let sent = setting.sender.send(["--to", &ticket, &source]).expect(4);
    assert_error(&sent, "not-authenticated", 4);
    assert_empty(&setting.inbox);

    setting.sender.send(["--to", &listening.ticket, &source]).expect(0);
    receiver.end().expect(0);
    assert_eq!(fs::read(setting.inbox.join("file")).expect("it came"), b"bytes");
}

#[test]
fn a_stranger_without_a_ticket_is_refused() {
    let setting = Setting::new();
    let source = setting.file_in("source", b"bytes");
    let (_receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let address = listening.address.to_string();
    let sent =
        setting.sender.send(["--to", &address, "--fingerprint", &listening.fingerprint, &source]).expect(4);
    assert_error(&sent, "not-authenticated", 4);
    assert_empty(&setting.inbox);
}

#[test]
fn a_ticket_serves_one_transfer() {
    let setting = Setting::new();
    let under_way = setting.under_way(&[]);
    let second = setting.file_in("second", b"not this one");
    let thief = Machine::new(setting.path("thief"));
    // While the first holds still, so that it cannot end before the second dials.
    under_way.sender.signal(Signal::STOP);
    let refused = thief.send(["--to", &under_way.ticket, &second]);
    under_way.sender.signal(Signal::CONT);
    assert_error(&refused.expect(4), "ticket-used", 4);
    // The first goes on unharmed.
    under_way.link.set_rate(None);
    under_way.sender.end().expect(0);
    under_way.receiver.end().expect(0);
    assert_eq!(names(&setting.inbox), ["file"]);
    assert!(
        fs::read(setting.inbox.join("file")).expect("there") == fs::read(under_way.source).expect("there")
    );
}

#[test]
fn a_sender_that_nobody_answers_ends_within_ten_seconds() {
    let setting = Setting::new();
    let source = setting.file_in("source", b"bytes");
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    // A port without a listener, and a port that accepts everything and never answers.
    drop(receiver);
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("bound").to_string();
    let start = Instant::now();
    let gone = setting.sender.start_send(["--to", &listening.ticket, &source]);
    let silence =
        setting.sender.start_send(["--to", &silent, "--fingerprint", &listening.fingerprint, &source]);
    for sender in [gone, silence] {
        let ended = sender.end().expect(3);
        assert_error(&ended, "unreachable", 3);
        assert!(
            ended.event("error")["message"].as_str().is_some_and(|m| m.contains("UDP")),
            "{}",
            ended.said()
        );
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// Sends `file` with `bytes` to an inbox where `file` holds `there`, under a policy.
fn send_onto(there: &[u8], bytes: &[u8], policy: &[&str]) -> (Setting, [Ended; 2]) {
    let setting = Setting::new();
    let source = setting.file_in("source", bytes);
    fs::write(setting.inbox.join("file"), there).expect("a file");
    // Both may have been written within one tick of the clock.
    set_mtime(&setting.inbox.join("file"), 1_600_000_000, 0);
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, policy);
    let sent = setting.sender.send(["--to", &listening.ticket, &source]);
    (setting, [sent, receiver.end()])
}

/// Another size, the same size with other bytes, and several chunks that differ at the very end.
fn conflicts() -> [[Vec<u8>; 2]; 3] {
    let mut large = [(); 2].map(|()| Random::new(43).bytes((2 << 20) + 1));
    large[0][2 << 20] ^= 1;
    [[b"there before".to_vec(), b"new".to_vec()], [b"old".to_vec(), b"new".to_vec()], large]
}

#[test]
fn a_target_that_exists_is_refused_and_untouched() {
    for [there, bytes] in conflicts() {
        let (setting, ended) = send_onto(&there, &bytes, &[]);
        for side in ended {
            let side = side.expect(5);
            assert!(side.said().contains("target-exists"), "{}", side.said());
            assert!(side.said().contains("file"), "{}", side.said());
        }
        assert_eq!(names(&setting.inbox), ["file"]);
        assert!(fs::read(setting.inbox.join("file")).expect("there") == there, "it was touched");
    }
}

#[test]
fn a_target_that_exists_can_be_skipped() {
    for [there, bytes] in conflicts() {
        let (setting, ended) = send_onto(&there, &bytes, &["--exists", "skip"]);
        for side in ended {
            let side = side.expect(0);
            assert_eq!(side.file("file")["outcome"], "skipped");
            assert_eq!(side.event("finished")["files"], 0);
        }
        assert_eq!(names(&setting.inbox), ["file"]);
        assert!(fs::read(setting.inbox.join("file")).expect("there") == there, "it was touched");
    }
}

#[test]
fn a_target_that_exists_can_be_replaced() {
    for [there, bytes] in conflicts() {
        let (setting, ended) = send_onto(&there, &bytes, &["--exists", "replace"]);
        for side in ended {
            let side = side.expect(0);
            assert_eq!(side.file("file")["outcome"], "written");
        }
        assert_eq!(names(&setting.inbox), ["file"]);
        assert!(fs::read(setting.inbox.join("file")).expect("there") == bytes, "it was not replaced");
    }
}

#[test]
fn a_target_that_exists_can_be_kept_beside_the_new_one() {
    for [there, bytes] in conflicts() {
        let (setting, ended) = send_onto(&there, &bytes, &["--exists", "rename"]);
        for side in ended {
            side.expect(0);
        }
        assert_eq!(names(&setting.inbox), ["file", "file~1"]);
        assert!(fs::read(setting.inbox.join("file")).expect("there") == there, "the old one was touched");
        assert!(fs::read(setting.inbox.join("file~1")).expect("there") == bytes, "the new one differs");
    }
}

/// Two senders with different files of one name, at once into one directory.
fn send_two(policy: &[&str]) -> (Setting, [Vec<u8>; 2], [i32; 2]) {
    let setting = Setting::new();
    let contents = [44, 45].map(|seed| Random::new(seed).bytes((3 << 20) + 5));
    let sources = [setting.file_in("one", &contents[0]), setting.file_in("two", &contents[1])];
    let listening = [(); 2].map(|()| setting.receiver.listen_receive(&setting.inbox, policy));
    let running: Vec<_> = sources
        .iter()
        .zip(listening)
        .map(|(source, (receiver, at))| (setting.sender.start_send(["--to", &at.ticket, source]), receiver))
        .collect();
    let codes: Vec<_> = running
        .into_iter()
        .map(|(sender, receiver)| {
            let sent = sender.end();
            let code = sent.code.expect("it ends by itself");
            receiver.end().expect(code);
            code
        })
        .collect();
    (setting, contents, codes.try_into().expect("two"))
}

///
#[test]
fn two_transfers_into_one_directory_refuse_and_mix_nothing() {
    let (setting, contents, codes) = send_two(&[]);
    let winner = match codes {
        [0, 5] => 0,
        [5, 0] => 1,
        other => panic!("one is written and one refused, not {other:?}"),
    };
    // On a slow machine, recorded chunks of the other file wait in staging for its next attempt.
    let names = names(&setting.inbox);
    assert!(names == ["file"] || names == [".towline", "file"], "{names:?}");
    assert!(fs::read(setting.inbox.join("file")).expect("there") == contents[winner], "the file is mixed");
}

///
#[test]
fn two_transfers_into_one_directory_rename_and_mix_nothing() {
    let (setting, mut contents, codes) = send_two(&["--exists", "rename"]);
    assert_eq!(codes, [0, 0]);
    assert_eq!(names(&setting.inbox), ["file", "file~1"]);
    let mut found = ["file", "file~1"].map(|n| fs::read(setting.inbox.join(n)).expect("there"));
    contents.sort();
    found.sort();
    assert!(found == contents, "the files are mixed");
}

#[test]
fn attack_26_an_interrupted_sender_does_not_exit_0() {
    let setting = Setting::new();
    let under_way = setting.under_way(&[]);
    under_way.sender.signal(Signal::INT);
    under_way.sender.end().expect(130);
    let received = under_way.receiver.end().expect(9);
    assert_error(&received, "interrupted", 9);
    assert_empty(&setting.inbox);
}

#[test]
fn attack_26_an_interrupted_receiver_clears_up_and_the_sender_hears_of_it() {
    let setting = Setting::new();
    let under_way = setting.under_way(&[]);
    under_way.receiver.signal(Signal::INT);
    under_way.receiver.end().expect(130);
    let sent = under_way.sender.end().expect(9);
    assert_error(&sent, "interrupted", 9);
    assert_empty(&setting.inbox);
}

#[test]
fn a_signal_of_the_system_is_a_clean_stop_too() {
    let setting = Setting::new();
    let under_way = setting.under_way(&[]);
    under_way.receiver.signal(Signal::TERM);
    under_way.receiver.end().expect(143);
    under_way.sender.end().expect(9);
    assert_empty(&setting.inbox);
}

#[test]
fn a_receiver_notices_that_the_sender_was_killed() {
    let setting = Setting::new();
    let under_way = setting.under_way(&["--timeout", "2s", "--retry", "1s"]);
    under_way.sender.signal(Signal::KILL);
    assert_eq!(under_way.sender.end().code, None);
    under_way.receiver.end().expect(9);
    assert_empty(&setting.inbox);
}

#[test]
fn a_sender_notices_that_the_receiver_was_killed() {
    let setting = Setting::new();
    let under_way = setting.under_way(&["--timeout", "2s", "--retry", "1s"]);
    under_way.receiver.signal(Signal::KILL);
    assert_eq!(under_way.receiver.end().code, None);
    under_way.sender.end().expect(9);
    assert_no_final_name(&setting.inbox);
}

/// [W-21]
#[test]
fn attack_23_a_source_that_changes_while_it_is_read_is_not_delivered() {
    let setting = Setting::new();
    let under_way = setting.under_way(&[]);
    // It shrinks. A read after the new end notices it or, if everything has been read before, the check at the end.
    let file = fs::File::options().write(true).open(&under_way.source).expect("the source");
    file.set_len(1 << 20).expect("shorter");
    under_way.link.set_rate(None);
    let sent = under_way.sender.end().expect(7);
    assert!(sent.said().contains("source-changed"), "{}", sent.said());
    under_way.receiver.end().expect(7);
    assert_empty(&setting.inbox);
}

#[test]
fn a_missing_or_unreadable_source() {
    let setting = Setting::new();
    let to = format!("dir:{}", setting.inbox.display());
    let missing = setting.path("missing");
    let sent = setting.sender.send([missing.to_str().expect("a plain path"), "--to", &to]).expect(7);
    assert!(sent.said().contains("missing"), "{}", sent.said());
    assert_empty(&setting.inbox);
}

#[test]
fn a_target_that_cannot_be_written_is_named() {
    let setting = Setting::new();
    let source = setting.file_in("source", b"bytes");
    // A file where a directory should be: root is stopped by it too.
    let into = setting.path("a file");
    fs::write(&into, b"untouched").expect("a file");
    let to = format!("dir:{}", into.display());
    let sent = setting.sender.send([&source, "--to", &to]).expect(6);
    assert!(sent.said().contains("a file"), "{}", sent.said());
    assert_eq!(fs::read(&into).expect("there"), b"untouched");
}

#[test]
fn a_fingerprint_beside_a_ticket_must_be_the_one_of_the_ticket() {
    let setting = Setting::new();
    let source = setting.file_in("source", b"bytes");
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let other = "a".repeat(52);
    let sent = setting.sender.send(["--to", &listening.ticket, "--fingerprint", &other, &source]).expect(4);
    assert!(sent.said().contains("--fingerprint names"), "{}", sent.said());
    setting
        .sender
        .send(["--to", &listening.ticket, "--fingerprint", &listening.fingerprint, &source])
        .expect(0);
    receiver.end().expect(0);
}

#[test]
fn a_directory_whose_name_is_taken_fails_once_and_names_the_cause() {
    for (exists, code, outcome) in [("refuse", 5, "failed"), ("replace", 5, "failed"), ("skip", 0, "skipped")]
    {
        let setting = Setting::new();
        let source = setting.path("source");
        fs::create_dir_all(source.join("sub")).expect("directories");
        fs::write(source.join("sub/file"), b"bytes").expect("a file");
        fs::create_dir_all(&setting.inbox).expect("the inbox");
        fs::write(setting.inbox.join("source"), b"untouched").expect("a file in the way");
        let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--exists", exists]);
        let source = source.to_str().expect("a plain path");
        let sent = setting.sender.send(["--to", &listening.ticket, source]).expect(code);
        let received = receiver.end().expect(code);
        assert_eq!(fs::read(setting.inbox.join("source")).expect("there"), b"untouched");
        for side in [&sent, &received] {
            assert_eq!(side.file("source/sub/file")["outcome"], outcome, "{exists}");
            assert!(!side.said().contains("os error"), "{}", side.said());
            // The directory, the one in it and the file; not the ends of the directories.
            let failed = if code == 0 { 0 } else { 3 };
            assert_eq!(side.event("finished")["failed"], failed, "{exists}");
        }
    }
}

#[test]
fn a_directory_is_not_sent_into_itself() {
    let setting = Setting::new();
    let source = setting.path("source");
    fs::create_dir_all(&source).expect("a directory");
    let to = format!("dir:{}", source.join("not/yet/there").display());
    let sent = setting.sender.send([source.to_str().expect("a plain path"), "--to", &to]).expect(5);
    assert!(sent.said().contains("is inside"), "{}", sent.said());
    assert_empty(&source);
}

#[test]
fn an_unusable_target_is_named_before_listening() {
    let setting = Setting::new();
    let file = setting.file_in("file", b"untouched");
    let ended = setting.receiver.receive(["--into", &file]).expect(6);
    assert!(!ended.said().contains("tl1"), "{}", ended.said());
    assert!(ended.said().contains("file"), "{}", ended.said());
}

/// What a person reads at the end.
fn last_words(setting: &Setting, args: &[&str]) -> (Option<i32>, String) {
    let output = bound_by_permissions(|| setting.sender.command(args).output().expect("it starts"));
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

#[test]
fn t20_a_summary_of_nothing_does_not_say_on_disk() {
    use std::os::unix::fs::PermissionsExt;
    let setting = Setting::new();
    let to = format!("dir:{}", setting.inbox.display());
    let source = setting.file_in("source", b"bytes");
    fs::set_permissions(&source, fs::Permissions::from_mode(0o000)).expect("a mode");
    let closed = setting.scratch.dir("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("a mode");
    for source in [source.as_str(), closed.to_str().expect("a plain path")] {
        let (code, said) = last_words(&setting, &["send", source, "--to", &to]);
        assert_eq!(code, Some(7), "{said}");
        assert!(!said.contains("verified") && !said.contains("sent 1"), "{said}");
        assert_empty(&setting.inbox);
    }
    // Its siblings arrive and are counted.
    let open = setting.scratch.dir("open");
    fs::write(open.join("file"), b"bytes").expect("a file");
    fs::create_dir(open.join("closed")).expect("a directory");
    fs::set_permissions(open.join("closed"), fs::Permissions::from_mode(0o000)).expect("a mode");
    let (code, said) = last_words(&setting, &["send", open.to_str().expect("a plain path"), "--to", &to]);
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("sent 1 file, 1 directory") && said.contains("1 entry failed"), "{said}");
    assert_eq!(names(&setting.inbox.join("open")), ["file"]);
}

#[test]
fn t20_a_target_that_is_removed_meanwhile_is_exit_6() {
    let setting = Setting::new();
    // In a directory, which is there already when the target goes.
    let source = setting.file_in("source", &Random::new(41).bytes(LARGE_BYTES));
    let source = Path::new(&source).parent().and_then(Path::to_str).expect("a plain path");
    let (mut receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let link = slow_link(&listening);
    let ticket = redirect(&listening.ticket, listening.address, link.addr);
    let sender = setting.sender.start_send(["--to", &ticket, source]);
    // Its file is made by then: one that cannot be made fails the transfer.
    receiver.wait_until("bytes on the disk", |event| {
        event["event"] == "progress" && event["written_bytes"].as_u64().is_some_and(|bytes| bytes > 0)
    });
    fs::remove_dir_all(&setting.inbox).expect("it can be removed");
    link.set_rate(None);
    for side in [sender.end(), receiver.end()] {
        let side = side.expect(6);
        assert_eq!(
            (&side.event("finished")["files"], &side.event("finished")["dirs"]),
            (&0.into(), &0.into())
        );
    }
}
