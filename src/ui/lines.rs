//! Plain lines, for logs and wherever there is no terminal.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::gathered::Gathered;
use super::may_wait;
use super::text::Narrator;
use crate::event::{Event, Reporter};

/// Writes data to `O` and everything else to `E`.
pub(super) struct Lines<O, E> {
    narrator: Narrator,
    out: Mutex<Gathered<O>>,
    err: Mutex<Gathered<E>>,
}

impl<O: Write, E: Write> Lines<O, E> {
    pub(super) fn new(narrator: Narrator, out: O, err: E) -> Self {
        Self { narrator, out: Mutex::new(Gathered::new(out)), err: Mutex::new(Gathered::new(err)) }
    }

    /// Writes what waits. Fails when data could not be written.
    pub(super) fn finish(&self) -> io::Result<()> {
        // There is nowhere to say that standard error takes nothing.
        let _ = lock(&self.err).finish();
        lock(&self.out).finish()
    }
}

impl<O: Write + Send + 'static, E: Write + Send + 'static> Reporter for Lines<O, E> {
    fn report(&self, event: Event) {
        let may_wait = may_wait(&event);
        lock(&self.err).write(self.narrator.tell(&event).as_bytes(), may_wait);
        lock(&self.out).write(self.narrator.data(&event).as_bytes(), may_wait);
    }
}

fn lock<O>(gathered: &Mutex<Gathered<O>>) -> MutexGuard<'_, Gathered<O>> {
    gathered.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::text::Paint;
    use super::super::{Color, Options};
    use super::*;
    use crate::event::{FileSettled, Outcome, Progress};
    use crate::protocol::failure::{Reason, Side};
    use crate::protocol::path::RelPath;

    const OPTIONS: Options = Options {
        json: false,
        quiet: false,
        verbose: 0,
        progress: false,
        color: Color::Never,
        known_dialler: false,
    };

    fn narrator(options: Options) -> Narrator {
        Narrator::new(options, Paint::new(false), true)
    }

    fn events() -> Vec<Event> {
        let file = |path: &[u8], is_file, outcome, message: Option<&str>| {
            Event::File(FileSettled {
                path: RelPath::new(path).unwrap(),
                renamed: None,
                is_file,
                size: 2048,
                blake3: None,
                outcome,
                message: message.map(str::to_owned),
            })
        };
        vec![
            Event::Connected {
                address: "127.0.0.1:9".parse().unwrap(),
                fingerprint: "fp".into(),
                agent: "towline/0.1.0".into(),
            },
            Event::Started { side: Side::Sender, transfer: "ab12".into() },
            Event::Progress(Progress::default()),
            file(b"a\nb", true, Outcome::Written, None),
            file(b"link", false, Outcome::Identical, None),
            file(b"c", true, Outcome::Skipped, None),
            file(b"d", true, Outcome::Failed(Reason::TargetExists), Some("something else is there")),
            file(b"e", true, Outcome::Failed(Reason::Storage), None),
            Event::Warning { path: None, reason: None, message: "small buffers".into() },
            Event::Identity { fingerprint: "fp".into(), path: "/k".into(), is_new: false },
        ]
    }

    fn said(options: Options) -> (String, String) {
        let lines = Lines::new(narrator(options), Vec::new(), Vec::new());
        events().into_iter().for_each(|event| lines.report(event));
        let text =
            |m: Mutex<Gathered<Vec<u8>>>| String::from_utf8(m.into_inner().unwrap().into_inner()).unwrap();
        (text(lines.out), text(lines.err))
    }

    #[test]
    fn one_line_for_each_entry_and_no_bar() {
        let (out, err) = said(OPTIONS);
        assert_eq!(out, "fp\n");
        assert_eq!(
            err,
            "connected to 127.0.0.1:9 (fp)\n\
             a\\nb  2.00 KiB  written\n\
             link  -  identical\n\
             c  2.00 KiB  skipped\n\
             towline: failed: d: something else is there\n\
             towline: failed: e: storage\n\
             towline: warning: small buffers\n"
        );
    }

    #[test]
    fn quiet_says_only_what_failed() {
        let (out, err) = said(Options { quiet: true, ..OPTIONS });
        assert_eq!(out, "fp\n");
        assert_eq!(err, "towline: failed: d: something else is there\ntowline: failed: e: storage\n");
    }

    #[test]
    fn a_closed_pipe_is_forgotten() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let lines = Lines::new(narrator(OPTIONS), Closed, Vec::new());
        events().into_iter().for_each(|event| lines.report(event));
        let err = String::from_utf8(lines.err.into_inner().unwrap().into_inner()).unwrap();
        assert!(err.ends_with("small buffers\n"));
    }
}
