//! The program on a terminal of its own, as a person has it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::process::DEADLINE;

/// A process whose standard input and standard error are a terminal. Dropping it kills it.
pub(crate) struct OnTerminal {
    child: Child,
    controller: File,
    shown: Arc<Mutex<Vec<u8>>>,
    is_ended: bool,
}

impl OnTerminal {
    /// Starts `command` in a session of its own. Its standard output is dropped.
    pub(crate) fn start(command: &Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags).expect("a pseudo-terminal");
        grantpt(&controller).expect("it is ours");
        unlockpt(&controller).expect("it can be opened");
        let name = ptsname(&controller, Vec::new()).expect("it has a name").into_string().expect("text");
        let end = || OpenOptions::new().read(true).write(true).open(&name).expect("the other end");
        // It becomes the controlling terminal, as for a shell.
        let mut on_terminal = Command::new("setsid");
        on_terminal.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => on_terminal.env(name, value),
                None => on_terminal.env_remove(name),
            };
        }
        on_terminal
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .stdin(end())
            .stderr(end())
            .stdout(Stdio::null());
        let child = on_terminal.spawn().expect("setsid starts");
        drop(on_terminal);
        let controller = File::from(controller);
        let mut reading = controller.try_clone().expect("a descriptor");
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let screen = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It fails when nobody has the other end any more.
            while let Ok(n @ 1..) = reading.read(&mut bytes) {
                screen.lock().expect("no panic").extend_from_slice(&bytes[..n]);
            }
        });
        Self { child, controller, shown, is_ended: false }
    }

    /// All that was written to the terminal so far.
    pub(crate) fn screen(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("no panic")).into_owned()
    }

    /// Waits until the terminal shows `text`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + DEADLINE;
        while !self.screen().contains(text) {
            let is_over = Instant::now() > end || self.child.try_wait().expect("a child").is_some();
            // What it wrote last may still be on the way.
            if is_over {
                sleep(Duration::from_millis(200));
                assert!(self.screen().contains(text), "no `{text}`:\n{}", self.screen());
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// The first word on the screen that begins with `start`, once its line is whole.
    #[track_caller]
    pub(crate) fn word(&mut self, start: &str) -> String {
        self.wait_for(start);
        let end = Instant::now() + DEADLINE;
        loop {
            let screen = self.screen();
            let at = screen.find(start).expect("it was shown");
            if let Some((word, _)) = screen[at..].split_once(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            {
                return word.to_owned();
            }
            assert!(Instant::now() < end, "half a word:\n{screen}");
            sleep(Duration::from_millis(10));
        }
    }

    /// Types `text`.
    pub(crate) fn types(&mut self, text: &str) {
        self.controller.write_all(text.as_bytes()).expect("a terminal takes what is typed");
    }

    /// The exit code, and all that was written.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.screen());
            sleep(Duration::from_millis(10));
        };
        self.is_ended = true;
        sleep(Duration::from_millis(50));
        (status.code(), self.screen())
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        if !self.is_ended {
            // It may have ended just now; both calls are then without effect.
            let _ = self.child.kill();
            let _ = self.child.wait();
            if std::thread::panicking() {
                eprintln!("{}", self.screen());
            }
        }
    }
}
