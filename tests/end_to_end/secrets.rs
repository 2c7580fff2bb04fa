//! Secrets stay out of sight: no output holds a ticket, a code or a key, at any level, and no command line has to.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::process::{DEADLINE, Towline};
use crate::support::setting::Setting;
use data_encoding::{BASE32_NOPAD, BASE64, HEXLOWER};
use rustix::process::Signal;

/// Bytes at the end of a ticket: secret and checksum.
const SECRET_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
/// Where the key begins in the PKCS#8 document of an Ed25519 key, and its length.
const SEED: std::ops::Range<usize> = 16..48;

/// How a dialler gets the secret.
#[derive(Debug, Clone, Copy)]
enum Way {
    Variable,
    AtFile,
    StandardInput,
}

/// All forms in which bytes could be shown.
fn forms(bytes: &[u8]) -> Vec<String> {
    let list = format!("{bytes:?}");
    let list = list.trim_matches(['[', ']']).to_owned();
    let hex = HEXLOWER.encode(bytes);
    vec![BASE64.encode(bytes), hex.to_uppercase(), hex, list, BASE32_NOPAD.encode(bytes).to_lowercase()]
}

/// Parts of a ticket that nobody may see.
fn parts_of_ticket(ticket: &str) -> Vec<String> {
    let word = ticket.strip_prefix("tl1").expect("a ticket").to_uppercase();
    let bytes = BASE32_NOPAD.decode(word.as_bytes()).expect("base32");
    let secret = &bytes[bytes.len() - SECRET_BYTES - CHECKSUM_BYTES..bytes.len() - CHECKSUM_BYTES];
    let tail = &ticket[ticket.len() - 30..];
    let mut parts: Vec<String> = (0..tail.len() - 12).map(|at| tail[at..at + 12].to_owned()).collect();
    parts.extend(forms(secret));
    parts
}

/// The key in an identity file.
fn parts_of_identity(path: &Path) -> Vec<String> {
    let pem = fs::read_to_string(path).expect("an identity");
    let (_, key) = pem.split_once("PRIVATE KEY-----\n").expect("a key");
    let (body, _) = key.split_once("-----END").expect("its end");
    let lines: Vec<_> = body.lines().map(str::to_owned).collect();
    let der = BASE64.decode(lines.concat().as_bytes()).expect("base64");
    lines.into_iter().chain(forms(&der[SEED])).collect()
}

#[track_caller]
fn assert_hidden(said: &str, parts: &[String], what: &str) {
    let lower = said.to_lowercase();
    for part in parts.iter().filter(|part| part.len() >= 6) {
        assert!(!said.contains(part) && !lower.contains(part), "{what} holds {part}:\n{said}");
    }
}

/// The words of a process's command line, once it runs the program.
fn command_line(towline: &Towline) -> String {
    let path = format!("/proc/{}/cmdline", towline.pid().as_raw_nonzero());
    let end = Instant::now() + DEADLINE;
    loop {
        let line = fs::read(&path).expect("it runs");
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains("-vvv") {
            return line;
        }
        assert!(Instant::now() < end, "it does not start: {line}");
        sleep(Duration::from_millis(5));
    }
}

/// A dialler that gets `peer` on the way `way`.
fn dialler(setting: &Setting, way: Way, peer: &str) -> Command {
    let source = setting.path("file");
    fs::write(&source, [7; 4096]).expect("a file");
    let source = source.to_str().expect("a plain path");
    let secret = setting.path("secret");
    fs::write(&secret, format!("{peer}\n")).expect("a file");
    let at_file = format!("@{}", secret.display());
    let send = ["send", "--json", "-vvv", source];
    match way {
        Way::Variable => {
            let mut command = setting.sender.command(send);
            command.env("TOWLINE_TO", peer);
            command
        }
        Way::AtFile => setting.sender.command([&send[..], &["--to", &at_file]].concat()),
        Way::StandardInput => {
            let mut command = setting.sender.command([&send[..], &["--to", "-"]].concat());
            command.stdin(File::open(&secret).expect("it was just written"));
            command
        }
    }
}

/// Sends to a receiver, whose code is used if `by_code`, and looks at all that both say.
fn transfer(way: Way, by_code: bool) {
    let setting = Setting::new();
    let into = setting.inbox();
    let mut receiver =
        setting.receiver.start_receive(["-vvv", "--listen", "127.0.0.1:0", "--qr=always", "--into", into]);
    let listening = receiver.wait_for("listening");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let (ticket, code) = (text(&listening["ticket"]), text(&listening["code"]));
    let peer = match by_code {
        true => format!("{}/{code}", text(&listening["addresses"][0])),
        false => ticket.clone(),
    };
    // The dialler is still there while its command line is read.
    receiver.signal(Signal::STOP);
    let sender = Towline::of(dialler(&setting, way, &peer));
    let line = command_line(&sender);
    receiver.signal(Signal::CONT);
    let (sent, received) = (sender.end().expect(0), receiver.end().expect(0));
    let mut parts = parts_of_ticket(&ticket);
    parts.extend(code.split('-').skip(1).map(|word| format!("-{word}")));
    parts.push(code);
    for machine in ["sender", "receiver"] {
        parts.extend(parts_of_identity(&setting.path(machine).join("identity.pem")));
    }
    assert_hidden(&line, &parts, "the command line");
    assert!(sent.stderr.contains("TRACE"), "nothing was logged: {}", sent.stderr);
    assert_hidden(&sent.said(), &parts, "the output of the dialler");
    assert_hidden(&received.stderr, &parts, "standard error of the waiting side");
    let others: Vec<_> = received.events.iter().filter(|event| event["event"] != "listening").collect();
    assert_hidden(&format!("{others:?}"), &parts, "an event of the waiting side");
}

#[test]
fn attack_8_no_output_holds_a_ticket_or_a_key_and_a_ticket_need_not_be_on_the_command_line() {
    for way in [Way::Variable, Way::AtFile, Way::StandardInput] {
        transfer(way, false);
    }
}

#[test]
fn attack_8_no_output_holds_a_code_and_a_code_need_not_be_on_the_command_line() {
    for way in [Way::Variable, Way::AtFile, Way::StandardInput] {
        transfer(way, true);
    }
}

#[test]
fn attack_8_an_identity_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    use std::os::unix::fs::PermissionsExt;
    let setting = Setting::new();
    setting.sender.start(["id", "--json"]).end().expect(0);
    let path = setting.path("sender").join("identity.pem");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
    let refused = setting.sender.send(["/dev/null", "--wait", "1s"]).expect(1);
    let mend = format!("chmod 600 {}", path.display());
    assert!(refused.said().contains(&mend), "{}", refused.said());
    assert_hidden(&refused.said(), &parts_of_identity(&path), "the error");
    // The command is right as it stands.
    assert!(Command::new("sh").args(["-c", &mend]).status().expect("sh runs").success());
    setting.sender.start(["id", "--json"]).end().expect(0);
}
