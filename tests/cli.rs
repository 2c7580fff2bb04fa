//! The program end to end: help, usage errors, and which setting overrides which.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program with none of the variables and files of whoever runs the tests.
fn towline(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_towline"));
    command.env_clear().env("HOME", home).env("XDG_CONFIG_HOME", home.join("config")).current_dir(home);
    command.stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    towline(home.path()).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Exit code 2, nothing on standard output, and `why` on standard error.
fn assert_usage(output: &Output, why: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(why), "expected {why:?} in {text}");
    assert!(output.stdout.is_empty());
}

/// Nobody's fingerprint.
const FINGERPRINT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[test]
fn help_and_version_go_to_standard_output() {
    for (args, has) in [
        (&["--help"][..], "Exit status:"),
        (&["--version"], concat!("towline ", env!("CARGO_PKG_VERSION"))),
        (&["send", "--help"], "TOWLINE_NO_FSYNC"),
        (&["receive", "-h"], "--exists"),
        (&["bench", "--help"], "--wait"),
        (&["id", "--help"], "fingerprint"),
        (&["peers", "--help"], "known peer"),
        // T21: the places where people look first.
        (&["help"], "receive"),
        (&["help", "send"], "--chunk-size"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(has), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn attack_8_help_does_not_show_the_ticket_in_a_variable() {
    let home = tempfile::tempdir().unwrap();
    let output =
        towline(home.path()).env("TOWLINE_TO", "tl1secret").args(["send", "--help"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("TOWLINE_") && !text.contains("tl1secret"));
}

#[test]
fn t19_usage_errors_say_what_and_how_to_fix_it() {
    for (args, why) in [
        (&[][..], "Usage: towline"),
        (&["sned"], "a similar subcommand exists: 'send'"),
        (&["send"], "<SOURCE>..."),
        (&["send", "a", "--chunk-sze", "1M"], "--chunk-size"),
        (&["send", "a", "--chunk-size", "1Q"], "expected a number of bytes such as"),
        (&["send", "a", "--chunk-size", "64MB"], "write 64M or 64MiB"),
        (&["send", "a", "--chunk-size", "3M"], "expected a power of two from 1M to 64M"),
        (&["send", "a", "--memory", "16M", "--chunk-size", "4M"], "use --memory 32M or more"),
        (&["send", "a", "--timeout", "30"], "expected a duration such as 30s or 2m"),
        (&["send", "a", "--streams", "1025"], "expected 1 to 1024"),
        (&["send", "a", "--congestion", "bbr"], "auto, cubic, newreno"),
        (&["send", "a", "--to", "example.org"], "needs --fingerprint FP"),
        (
            &["send", "a", "--to", "laptop"],
            "neither a ticket (tl1…) nor a one-time code (N-word-word) nor a known peer (in ",
        ),
        (&["receive", "--allow", "laptop"], "--allow: `laptop` is not a known peer (in "),
        (&["receive", "--remember", "7-up"], "it must begin with a letter"),
        (&["peers", "add", "laptop"], "`towline id` on the other machine prints it"),
        (&["peers", "add", "laptop", "abc"], "a fingerprint has 52 characters"),
        (&["peers", "add", "laptop", FINGERPRINT, "a@b"], "is not a valid HOST[:PORT]"),
        (&["peers", "add", "laptop", FINGERPRINT, "--may", "sned"], "send, receive"),
        (&["peers", "add", "tl1x", FINGERPRINT], "it looks like a ticket"),
        (&["peers", "remove"], "name the peer"),
        (&["peers", "rename", "laptop"], "the new name is missing"),
        (&["peers", "list", "--may", "send"], "--may is only for"),
        (&["peers", "forget", "laptop"], "list, add, set, remove, rename"),
        (&["send", "a", "--to", "example.org:x", "--fingerprint", FINGERPRINT], "a number from 1 to 65535"),
        (&["send", "a", "--to", "3-brave-otter"], "word 1 of the code is mistyped"),
        (&["send", "a", "--to", "ssh:-host"], "begin with a dash"),
        // T19: mistakes that were found too late.
        (&["send", "a", "--fingerprint", "abc"], "--fingerprint: a fingerprint has 52 characters"),
        (&["receive", "--fingerprint", "abc"], "--fingerprint: a fingerprint has 52 characters"),
        (&["send", "d", "d"], "d and d would both be sent as d"),
        (&["send", "a/n", "b/n"], "a/n and b/n would both be sent as n"),
        (&["send", "a/n", "./b/../n"], "would both be sent as n"),
        (&["send", "a/", "b"], "`a/`, which ends with `/`, means what is in the directory"),
        (&["send", "a", "b", "--contents"], "--contents means what is in the directory"),
        (&["send", "a", "--exclude", "a{b"], "`a{b` is not a valid pattern"),
        (&["send", "a", "--include", "!b"], "a pattern to include has no `!`"),
        (&["send", "a", "b", "--files-from", "list"], "relative to one SOURCE"),
        (&["send", "a", "--files-from", "/dev/null"], "has no path"),
        (&["send", "a", "--files-from", "absent"], "cannot read --files-from absent"),
        (&["send", "a", "--min-size", "2M", "--max-size", "1M"], "no file would be sent"),
        (&["receive", "inbox"], "--into DIR"),
        (&["receive", "--from", "dir:/tmp"], "--from does not accept `dir:`"),
        (&["receive", "--exists", "ask"], "refuse, skip, replace, rename"),
        (&["receive", "--listen", "4750"], "expected ADDR:PORT"),
        (&["bench", "--to", "dir:/tmp"], "use `--disk /tmp`"),
        (&["bench", "--wait", "--size", "1G"], "are for the sending side"),
        (&["bench", "--files", "many"], "--files"),
        (&["id", "old"], "show, new"),
        (&["id", "--config", "absent.toml"], "cannot read the config file absent.toml"),
    ] {
        assert_usage(&run(args), why);
    }
}

#[test]
fn attack_4_a_usage_error_does_not_write_to_the_terminal() {
    let output = run(&["send", "a", "--to", "h\u{1b}]0;x\u{7}", "--fingerprint", FINGERPRINT]);
    assert_usage(&output, "h\\u{1b}]0;x\\u{7}");
}

#[test]
fn attack_8_the_peer_can_come_from_a_file_or_standard_input() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("peer"), "9-brave-otter\n").unwrap();
    let output = towline(home.path()).args(["send", "a", "--to", "@peer"]).output().unwrap();
    assert_usage(&output, "--to: cannot read the peer from peer: word 1 of the code");

    let mut command = towline(home.path());
    command.args(["receive", "--from", "-"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"9-brave-otter\n").unwrap();
    assert_usage(
        &child.wait_with_output().unwrap(),
        "--from: cannot read the peer from standard input: word 1",
    );
}

#[test]
fn a_config_file_with_an_unknown_key_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("config/towline");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("config.toml"), "memory = \"64M\"\nmemroy = \"64M\"\n").unwrap();
    let output = towline(home.path()).arg("id").output().unwrap();
    assert_usage(&output, "config/towline/config.toml, line 2: unknown key `memroy`; did you mean `memory`?");
}

#[cfg(target_os = "linux")]
#[test]
fn an_unwritable_result_is_a_failure() {
    let home = tempfile::tempdir().unwrap();
    for args in
        [&["id"][..], &["id", "--json"], &["bench", "--size", "1M"], &["bench", "--size", "1M", "--json"]]
    {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = towline(home.path()).args(args).stdout(full).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        let why = "towline: cannot write the result to standard output: No space left on device";
        assert!(text.contains(why), "{args:?}: {text}");
    }
    // Its reader has gone.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = towline(home.path()).arg("id").stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}

/// Each place gives a memory that is too small, so the error shows which one counted.
#[test]
fn flag_over_variable_over_file() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("c.toml"), "memory = \"1M\"\n").unwrap();
    let with = |variable: Option<&str>, args: &[&str]| {
        let mut command = towline(home.path());
        command.env("TOWLINE_CONFIG", "c.toml").args(["send", "a"]).args(args);
        if let Some(memory) = variable {
            command.env("TOWLINE_MEMORY", memory);
        }
        command.output().unwrap()
    };
    assert_usage(&with(None, &[]), "--memory 1M: expected 8M");
    assert_usage(&with(Some("2M"), &[]), "--memory 2M: expected 8M");
    assert_usage(&with(Some("2M"), &["--memory", "3M"]), "--memory 3M: expected 8M");
    assert_usage(&with(Some("lots"), &[]), "expected a number of bytes");
}

#[test]
fn a_flag_without_value_can_be_a_variable() {
    let home = tempfile::tempdir().unwrap();
    let output = towline(home.path()).env("TOWLINE_YES", "perhaps").arg("receive").output().unwrap();
    assert_usage(&output, "--yes");
}
