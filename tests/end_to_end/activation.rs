//! A socket that the service manager has bound before it starts the program (sd_listen_fds(3)).

use std::fs;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::support::process::Towline;
use crate::support::setting::Setting;

/// Starts what `command` would start, with `socket` for descriptor 3 and, if `number` is 2, for 4, as systemd does.
fn activated(command: &Command, socket: UdpSocket, number: &str) -> Command {
    // The process id is known only then, and stays the same.
    let lines = "exec 3<&0 4<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=$0; exec \"$@\"";
    let mut shell = Command::new("bash");
    shell.args(["-c", lines, number]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(OwnedFd::from(socket)).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

#[test]
fn a_receiver_takes_the_socket_of_the_service_manager() {
    let setting = Setting::new();
    let source = setting.source();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound").to_string();
    let receive = setting.receiver.command(["receive", "--json", "--into", setting.inbox()]);
    let mut receiver = Towline::of(activated(&receive, socket, "1"));
    let event = receiver.wait_for("listening");
    assert_eq!(event["addresses"][0], address.as_str());
    let ticket = event["ticket"].as_str().expect("text").to_owned();
    setting.sender.send(["--to", &ticket, &source]).expect(0);
    receiver.end().expect(0);
    assert_eq!(fs::read(setting.inbox.join("file")).expect("it came"), b"bytes");
}

#[test]
fn a_socket_that_does_not_fit_is_a_usage_error() {
    let setting = Setting::new();
    for (args, number, why) in [
        (&["--listen", "127.0.0.1:0"][..], "1", "--listen does not go with a socket"),
        (&[], "2", "2 sockets were handed over, expected one"),
    ] {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let receive = [&["receive", "--into", setting.inbox()], args].concat();
        let output = activated(&setting.receiver.command(receive), socket, number).output();
        let output = output.expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    }
}
