//! Why a meeting by ssh did not come about, from what ssh has said and how it ended.

use std::process::ExitStatus;

use super::introduction::Unheard;
use super::program::Ended;
use crate::protocol::failure::{Failure, Reason};

/// ssh itself has failed.
const SSH_FAILED: i32 = 255;

/// What the client of OpenSSH says, and what that means.
const MEANINGS: [(&str, Reason, &str); 9] = [
    (
        "Host key verification failed",
        Reason::NotAuthenticated,
        "ssh does not accept the host key; connect once by hand (`ssh HOST`) and compare the key",
    ),
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        Reason::NotAuthenticated,
        "the host key has changed, so this may be another machine; if it is meant to be so, remove the old key with \
         `ssh-keygen -R HOST`",
    ),
    (
        "Permission denied (",
        Reason::NotAuthenticated,
        "ssh is not let in: the key, password or user is wrong; try `ssh HOST` by hand",
    ),
    (
        "Too many authentication failures",
        Reason::NotAuthenticated,
        "ssh is not let in: it offered too many keys; name the right one in ~/.ssh/config",
    ),
    ("Could not resolve hostname", Reason::Unreachable, "ssh does not know the host"),
    ("Connection refused", Reason::Unreachable, "no ssh server answers there"),
    ("timed out", Reason::Unreachable, "no ssh server answers there"),
    ("No route to host", Reason::Unreachable, "there is no way to the host"),
    ("Network is unreachable", Reason::Unreachable, "there is no way to the host"),
];

/// The failure of a side that `heard` nothing useful from `host`, whose ssh has `ended`.
pub(super) fn failure(host: &str, heard: &Unheard, ended: &Ended) -> Failure {
    let (reason, what) = match heard {
        Unheard::Absent(found) => (Reason::Incompatible, absent(found)),
        Unheard::NotCopied(what) => not_copied(what),
        Unheard::Noise => (
            Reason::Incompatible,
            format!("{heard}: a login script there may write too much; it should write only on a terminal"),
        ),
        Unheard::OtherVersion | Unheard::Malformed(_) => (Reason::Incompatible, heard.to_string()),
        Unheard::Ended | Unheard::Pipe(_) => of_the_end(ended),
    };
    let mut message = format!("{host}: {what}");
    for line in &ended.said {
        message.push_str("\n  ");
        message.push_str(line);
    }
    // The hints of other failures are about tickets and UDP.
    Failure::advising(reason, message)
}

/// What there is instead of a towline that this one can talk to. `found` is system, architecture and version.
pub(super) fn absent(found: &str) -> String {
    match found.split_once('/') {
        Some((_, version)) if !version.is_empty() => {
            format!("{version} is installed there, which this version cannot talk to")
        }
        _ => "there is no towline".to_owned(),
    }
}

fn not_copied(what: &str) -> (Reason, String) {
    let (reason, why) = match what {
        "write" => (Reason::Storage, "cannot be written there"),
        "hash" => (Reason::Verification, "did not arrive as it was sent"),
        "sum" => (Reason::Incompatible, "cannot be checked there: there is neither `sha256sum` nor `shasum`"),
        _ => (Reason::Incompatible, "does not run there"),
    };
    (reason, format!("the copy of this towline in ~/.cache/towline {why}; install towline there"))
}

fn of_the_end(ended: &Ended) -> (Reason, String) {
    let Some(status) = ended.status else {
        return (Reason::ConnectionLost, "ssh says nothing and does not end".to_owned());
    };
    match status.code() {
        Some(SSH_FAILED) => of_ssh(&ended.said),
        // A shell that does not find `sh`, or may not start it.
        Some(126 | 127) => (Reason::Unreachable, "there is no shell to start towline with".to_owned()),
        Some(0) => {
            let what =
                "the command ended without starting towline; is it a login that only allows other commands?";
            (Reason::Unreachable, what.to_owned())
        }
        Some(code) => (of_code(code), format!("the command there has ended with exit code {code}")),
        None => (Reason::ConnectionLost, format!("ssh was stopped ({})", of_signal(status))),
    }
}

fn of_ssh(said: &[String]) -> (Reason, String) {
    for (words, reason, meaning) in MEANINGS {
        if said.iter().any(|line| line.contains(words)) {
            return (reason, meaning.to_owned());
        }
    }
    (Reason::Unreachable, "ssh could not connect".to_owned())
}

fn of_signal(status: ExitStatus) -> String {
    std::os::unix::process::ExitStatusExt::signal(&status)
        .map_or_else(|| status.to_string(), |signal| format!("signal {signal}"))
}

/// A reason with the exit code `code`.
fn of_code(code: i32) -> Reason {
    match code {
        2 => Reason::Incompatible,
        3 => Reason::Unreachable,
        4 => Reason::NotAuthenticated,
        5 => Reason::Refused,
        6 => Reason::Storage,
        7 => Reason::SourceUnreadable,
        8 => Reason::Verification,
        9 | 130 | 143 => Reason::Interrupted,
        _ => Reason::Setup,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn ended(code: i32, said: &[&str]) -> Ended {
        let said = said.iter().map(|line| format!("host: {line}")).collect();
        Ended { status: Some(ExitStatus::from_raw(code << 8)), said }
    }

    #[test]
    fn every_end_has_its_own_words_and_ssh_is_quoted() {
        for (code, said, words, exit_code) in [
            (255, "me@host: Permission denied (publickey).", "ssh is not let in", 4),
            (255, "Host key verification failed.", "does not accept the host key", 4),
            (255, "ssh: connect to host x port 22: Connection refused", "no ssh server", 3),
            (255, "ssh: Could not resolve hostname x", "does not know the host", 3),
            (255, "kex_exchange_identification: broken", "could not connect", 3),
            (127, "fish: Unknown command: sh", "no shell", 3),
            (0, "This account is currently not available.", "only allows other commands", 3),
            (7, "towline: cannot read x", "exit code 7", 7),
            (6, "towline: cannot write x", "exit code 6", 6),
            (5, "towline: quota", "exit code 5", 5),
        ] {
            let failure = failure("host", &Unheard::Ended, &ended(code, &[said]));
            assert!(failure.message.contains(words), "{}", failure.message);
            assert!(failure.message.ends_with(&format!("\n  host: {said}")), "{}", failure.message);
            assert_eq!(failure.reason.exit_code(), exit_code, "{}", failure.message);
        }
        let old = Unheard::Absent("Linux x86_64/towline 0.0.9".to_owned());
        assert!(failure("host", &old, &ended(0, &[])).message.contains("towline 0.0.9 is installed there"));
        let none = Unheard::Absent("Linux x86_64/".to_owned());
        assert!(failure("host", &none, &ended(0, &[])).message.contains("there is no towline"));
    }
}
