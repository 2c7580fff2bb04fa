//! What a transfer finds about its path, and what the next one makes of it: two hosts with a cable between them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::netns::Cable;
use crate::support::process::{Ended, Towline};
use crate::support::setting::Setting;
use crate::support::{Seed, tree};

/// Sends a new file over the cable. Returns the sender.
fn transfer(setting: &Setting, cable: &Cable, name: &str, more: &[&str]) -> Ended {
    let source = setting.path(name);
    tree::random_file(&source, 8 << 20, Seed::new(5).value);
    let listen = format!("{}:4750", Cable::FIRST);
    let receive =
        setting.receiver.command(["receive", "--json", "--listen", &listen, "--into", setting.inbox()]);
    let mut receiver = Towline::of(cable.on(0, &receive));
    let ticket = receiver.wait_for("listening")["ticket"].as_str().expect("a ticket").to_owned();
    let send = ["send", "--json", "-vv", source.to_str().expect("a plain path"), "--to", &ticket];
    let send = setting.sender.command(send.iter().chain(more));
    let sent = Towline::of(cable.on(1, &send)).end().expect(0);
    receiver.end().expect(0);
    sent
}

#[test]
fn the_next_transfer_starts_with_what_the_last_one_found() {
    let Some(cable) = Cable::new() else { return };
    let setting = Setting::new();
    let file = setting.path("sender/state/towline/paths");
    // What the controller says when it takes a path up.
    let taken_up = "a known path";

    let unknown = transfer(&setting, &cable, "a", &["--no-path-memory"]);
    assert!(!file.exists(), "--no-path-memory keeps nothing");
    assert!(!unknown.stderr.contains(taken_up));

    let first = transfer(&setting, &cable, "b", &[]);
    assert!(!first.stderr.contains(taken_up));
    let line = fs::read_to_string(&file).expect("the path is kept");
    assert!(line.contains(" 10.77.0.2 10.77.0.1 ") && line.lines().count() == 1, "{line}");
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);

    let second = transfer(&setting, &cable, "c", &[]);
    assert!(second.stderr.contains(taken_up), "{}", second.stderr);
    assert_eq!(fs::read_to_string(&file).expect("it is there").lines().count(), 1);
    let unknown = transfer(&setting, &cable, "d", &["--no-path-memory"]);
    assert!(!unknown.stderr.contains(taken_up));
}
