//! Questions to the person at the terminal.

use std::io::{self, BufRead, IsTerminal};
use std::sync::Arc;
use std::thread;

use rustix::process::getpgrp;
use rustix::termios::{QueueSelector, tcflush, tcgetpgrp};
use tokio::sync::oneshot;

use super::desk::Desk;
use super::format;
use crate::event::{Asker, Question};
use crate::protocol::path::printable;

/// Whether there is somebody to ask: standard input and standard error are the terminal that this process may read.
pub(super) fn can_ask() -> bool {
    let input = io::stdin();
    input.is_terminal()
        && io::stderr().is_terminal()
        && tcgetpgrp(&input).is_ok_and(|foreground| foreground == getpgrp())
}

/// Writes questions to standard error and reads the answers from standard input.
pub(super) struct AtDesk(pub(super) Arc<Desk>);

impl Asker for AtDesk {
    fn ask(&self, question: Question) -> oneshot::Receiver<bool> {
        let (tell, answer) = oneshot::channel();
        // What was typed before is no answer.
        let _ = tcflush(io::stdin(), QueueSelector::IFlush);
        self.0.ask(text(&question));
        let desk = Arc::clone(&self.0);
        // Reading cannot be broken off. The thread ends with the process.
        let _ = thread::Builder::new().name("answer".to_owned()).spawn(move || {
            let mut line = String::new();
            let read = io::stdin().lock().read_line(&mut line);
            desk.answered(line.ends_with('\n'));
            let _ = tell.send(read.is_ok() && is_yes(&line));
        });
        answer
    }
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn text(question: &Question) -> String {
    match question {
        Question::Receive { peer, offered_names, more_names, files, bytes, is_all, free_bytes, into } => {
            let mut out = format!("{peer} offers\n");
            for name in offered_names {
                out += &format!("  {name}\n");
            }
            if *more_names > 0 {
                out += &format!("  and {more_names} more\n");
            }
            let least = if *is_all { "" } else { "at least " };
            let what = format!("{}, {}", format::count(*files, "file", "files"), format::bytes(*bytes));
            let into = printable(into.as_os_str().as_encoded_bytes());
            if let Some(free) = free_bytes {
                out += &format!("{} free in {into}\n", format::bytes(*free));
            }
            out + &format!("Receive {least}{what} into {into}? [y/N] ")
        }
        Question::Install { host, absent, place, bytes } => {
            let (host, size) = (printable(host.as_bytes()), format::bytes(*bytes));
            format!("{host}: {absent}\nCopy this one, {size}, to {place} there? [y/N] ")
        }
        Question::Compare { words } => {
            format!("compare with the other side: {words}\nDoes the other side show the same words? [y/N] ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_says_who_and_what() {
        let question = Question::Receive {
            peer: "192.0.2.7:9 (key abcdefgh…)".to_owned(),
            offered_names: vec!["photos/".to_owned(), "a\\u{1b}b".to_owned()],
            more_names: 3,
            files: 12,
            bytes: 3 << 30,
            is_all: false,
            free_bytes: Some(5 << 30),
            into: "in\u{1b}box".into(),
        };
        assert_eq!(
            text(&question),
            "192.0.2.7:9 (key abcdefgh…) offers\n  photos/\n  a\\u{1b}b\n  and 3 more\n5.00 GiB free in in\\u{1b}box\n\
             Receive at least 12 files, 3.00 GiB into in\\u{1b}box? [y/N] "
        );
        let question = Question::Install {
            host: "the\u{1b}re".to_owned(),
            absent: "there is no towline".to_owned(),
            place: "~/.cache/towline/1/towline".to_owned(),
            bytes: 6 << 20,
        };
        assert_eq!(
            text(&question),
            "the\\u{1b}re: there is no towline\nCopy this one, 6.00 MiB, to ~/.cache/towline/1/towline there? [y/N] "
        );
        let question = Question::Compare { words: "one-two".to_owned() };
        assert!(text(&question).contains("one-two"));
    }

    #[test]
    fn only_yes_is_yes() {
        assert!(["y\n", "Y", " yes \r\n", "YES\n"].iter().all(|line| is_yes(line)));
        assert!(["", "\n", "n\n", "yy\n", "j\n", "yes please\n"].iter().all(|line| !is_yes(line)));
    }
}
