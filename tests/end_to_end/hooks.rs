//! `receive --exec`: a program that runs after each transfer that is complete.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::host::cases;
use crate::support::process::{DEADLINE, Ended};
use crate::support::setting::Setting;
use rustix::process::Signal;
use serde_json::{Value, json};

impl Setting {
    /// A program that runs these lines of a shell.
    fn script(&self, lines: &str) -> PathBuf {
        let path = self.path("a script");
        fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        path
    }

    /// A tree with names that a shell would take apart.
    fn odd_tree(&self) -> PathBuf {
        let source = self.path("tree");
        fs::create_dir_all(source.join("sub")).expect("a directory");
        fs::write(source.join("sub/it's $(a)\nfile"), [7; 3000]).expect("a file");
        fs::write(source.join("large"), vec![8; 300_000]).expect("a file");
        source
    }

    /// Sends the tree to a receiver with these arguments.
    fn run_with(&self, args: &[&str]) -> (Ended, Ended) {
        let (receiver, listening) = self.receiver.listen_receive(&self.inbox, args);
        let source = self.odd_tree();
        let sent = self.sender.send(["--to", &listening.ticket, source.to_str().expect("a plain path")]);
        (sent, receiver.end())
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// How the program ended, by the summary of one side.
fn end(ended: &Ended) -> &Value {
    &ended.event("finished")["exec"]
}

#[test]
fn attack_20_a_program_gets_the_names_and_what_else_it_may_know() {
    let setting = Setting::new();
    let script = setting.script(
        "cat > ../names; env > ../variables; pwd > ../directory; printf '%s\\n' \"$@\" > ../arguments; echo said",
    );
    let sums = setting.path("sums");
    let script = script.to_str().expect("a plain path");
    let (receiver, listening) = setting.receiver.listen_receive(
        &setting.inbox,
        &[
            "--manifest",
            sums.to_str().expect("a plain path"),
            "--exec",
            script,
            "--into",
            "a b",
            "$(c)",
            ";",
            "--wait",
            "5m",
        ],
    );
    let source = setting.odd_tree();
    let sent =
        setting.sender.send(["--to", &listening.ticket, source.to_str().expect("a plain path")]).expect(0);
    let received = receiver.end().expect(0);
    for side in [&sent, &received] {
        assert_eq!(*end(side), json!({"end": "exited", "code": 0}), "{}", side.said());
    }
    let names = text(&setting.path("names"));
    let mut names: Vec<_> = names.split_terminator('\0').collect();
    names.sort_unstable();
    assert_eq!(names, ["tree/large", "tree/sub/it's $(a)\nfile"]);
    assert_eq!(text(&setting.path("arguments")), "--into\na b\n$(c)\n");
    assert_eq!(text(&setting.path("directory")).trim_end(), setting.inbox());
    let variables = text(&setting.path("variables"));
    let transfer = received.event("finished")["transfer"].as_str().expect("text");
    for line in [
        &format!("TOWLINE_HOOK_TRANSFER={transfer}"),
        &format!("TOWLINE_HOOK_DIR={}", setting.inbox()),
        &format!("TOWLINE_HOOK_MANIFEST={}", sums.display()),
        "TOWLINE_HOOK_FILES=2",
        "TOWLINE_HOOK_BYTES=303000",
        "TOWLINE_HOOK_IDENTICAL=0",
    ] {
        assert!(variables.lines().any(|found| found == line), "no {line}:\n{variables}");
    }
    assert!(!variables.contains("TOWLINE_IDENTITY"), "{variables}");
    assert!(received.said().contains("said"), "its standard output is standard error");
    assert_eq!(text(&sums).lines().count(), 2);
    let left: Vec<_> = fs::read_dir(&setting.inbox).expect("a directory").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_program_that_fails_shows_in_both_exit_codes_and_the_files_stay() {
    for (lines, shown) in
        [("exit 3", json!({"end": "exited", "code": 3})), ("kill -9 $$", json!({"end": "killed", "code": 9}))]
    {
        let setting = Setting::new();
        let script = setting.script(lines);
        let (sent, received) = setting.run_with(&["--exec", script.to_str().expect("a plain path")]);
        for side in [sent.expect(10), received.expect(10)] {
            assert_eq!(*end(&side), shown, "{}", side.said());
            assert_eq!(side.event("finished")["gravest"], "program-failed");
        }
        assert!(setting.inbox.join("tree/large").exists());
    }
    let setting = Setting::new();
    let script = setting.script("true");
    fs::write(&script, "#!/no/such/interpreter\n").expect("a file");
    let (sent, received) = setting.run_with(&["--exec", script.to_str().expect("a plain path")]);
    assert_eq!(*end(&sent.expect(10)), json!({"end": "not-started", "code": null}));
    assert!(received.expect(10).said().contains("cannot run "));
    let absent = setting.receiver.receive(["--exec", "no such program"]);
    assert_eq!(absent.code, Some(2), "{}", absent.said());
}

/// With `TOWLINE_TEST_LONG=1` also one that ignores SIGTERM.
#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_has_started() {
    for lines in &["", "trap '' TERM"][..cases(2)] {
        hangs(lines);
    }
}

fn hangs(lines: &str) {
    let setting = Setting::new();
    let script = setting.script(&format!("{lines}\nsleep 1000 & echo $! > ../pid; wait; sleep 1000"));
    let script = script.to_str().expect("a plain path");
    let (receiver, listening) =
        setting.receiver.listen_receive(&setting.inbox, &["--exec-timeout", "1s", "--exec", script]);
    let source = setting.odd_tree();
    let sent = setting.sender.send(["--to", &listening.ticket, source.to_str().expect("a plain path")]);
    for side in [sent.expect(10), receiver.end().expect(10)] {
        assert_eq!(*end(&side), json!({"end": "timed-out", "code": null}), "{}", side.said());
    }
    let pid = text(&setting.path("pid"));
    let end = Instant::now() + DEADLINE;
    while fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z")) {
        assert!(Instant::now() < end, "it still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_dry_run_runs_nothing_and_does_not_say_that_something_is_missing() {
    let setting = Setting::new();
    let script = setting.script("touch ../ran");
    let args = ["--exec", script.to_str().expect("a plain path")];
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &args);
    let source = setting.odd_tree();
    let source = source.to_str().expect("a plain path");
    let sent = setting.sender.send(["--dry-run", "--to", &listening.ticket, source]).expect(0);
    let received = receiver.end().expect(0);
    for side in [&sent, &received] {
        assert_eq!(side.events("warning").count(), 0, "{}", side.said());
    }
    assert!(!setting.path("ran").exists());
}

#[test]
fn a_receiver_that_is_stopped_ends_its_program() {
    let setting = Setting::new();
    let script = setting.script("echo $$ > ../pid; exec sleep 1000");
    let script = script.to_str().expect("a plain path");
    let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &["--exec", script]);
    let source = setting.odd_tree();
    let sender =
        setting.sender.start_send(["--to", &listening.ticket, source.to_str().expect("a plain path")]);
    let pid = setting.path("pid");
    let until = Instant::now() + DEADLINE;
    while !fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n')) {
        assert!(Instant::now() < until, "it does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    receiver.signal(Signal::TERM);
    receiver.end().expect(143);
    sender.end().expect(9);
    let stat = format!("/proc/{}/stat", text(&pid).trim());
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z")) {
        assert!(Instant::now() < until, "it still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(setting.inbox.join("tree/large").exists());
}

#[test]
fn a_receiver_that_stays_runs_it_after_each_transfer_and_not_after_one_that_lacks_something() {
    let setting = Setting::new();
    let key = setting.sender.start(["id", "--json"]).end().expect(0);
    let key = key.event("identity")["fingerprint"].as_str().expect("text").to_owned();
    let added = setting.receiver.command(["peers", "add", "ann", &key, "--may", "send"]).output();
    assert!(added.expect("it starts").status.success());
    let script = setting.script("echo \"$TOWLINE_HOOK_PEER $TOWLINE_HOOK_FILES\" >> ../log");
    let script = script.to_str().expect("a plain path");
    let mut receiver = setting.receiver.start_receive([
        "--forever",
        "--listen",
        "127.0.0.1:0",
        "--into",
        setting.inbox(),
        "--exec",
        script,
    ]);
    let event = receiver.wait_for("listening");
    let part = |value: &Value| value.as_str().expect("text").to_owned();
    let (address, fingerprint) = (part(&event["addresses"][0]), part(&event["fingerprint"]));
    let source = setting.odd_tree();
    let send = || {
        setting.sender.send([
            source.to_str().expect("a plain path"),
            "--to",
            &address,
            "--fingerprint",
            &fingerprint,
        ])
    };
    send().expect(0);
    send().expect(0);
    fs::write(source.join("large"), b"other").expect("a file");
    fs::write(source.join("new"), b"new").expect("a file");
    assert_eq!(*end(&send().expect(5)), Value::Null);
    assert_eq!(text(&setting.path("log")), "ann 2\nann 0\n");
    receiver.signal(Signal::TERM);
    assert!(receiver.end().said().contains("was not run, because not everything arrived"));
}
