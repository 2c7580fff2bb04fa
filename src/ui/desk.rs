//! Turns events into lines and chooses their stream. Nothing here waits for a reader.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::complaint;
use super::json;
use super::narrator::Narrator;
use super::outlet::{Keep, Outlet, Pending, ReaderPatience, Sink};
use crate::event::{Event, Outcome, Report, Reporter, TransferId};
use crate::protocol::failure::Failure;

/// What a run looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    Json,
    Lines,
    Bars,
}

/// Writes data and JSON to standard output, everything else to standard error.
pub(super) struct Desk {
    face: Face,
    narrator: Narrator,
    out: Outlet,
    err: Outlet,
    /// The latest transfer: a failure of the run ends this one.
    latest: Mutex<Option<TransferId>>,
    /// The line of a question is not ended.
    is_asking: AtomicBool,
}

impl Desk {
    pub(super) fn new(face: Face, narrator: Narrator, out: impl Sink, err: impl Sink) -> io::Result<Self> {
        let out = Outlet::new("stdout", out, json::left_out)?;
        let err = Outlet::new("stderr", err, complaint::left_out)?;
        let is_asking = AtomicBool::new(false);
        Ok(Self { face, narrator, out, err, latest: Mutex::default(), is_asking })
    }

    /// Takes lines of the log.
    pub(super) fn log(&self, lines: Vec<u8>) {
        self.say(lines, Keep::Ordinary, false);
    }

    /// Writes a question. Its answer will stand on the same line.
    pub(super) fn ask(&self, question: String) {
        self.say(question.into_bytes(), Keep::Always, false);
        self.is_asking.store(true, Relaxed);
    }

    /// The question is answered, by a whole line or not.
    pub(super) fn answered(&self, is_line: bool) {
        if self.is_asking.swap(false, Relaxed) && !is_line {
            self.err.line(b"\n".to_vec(), Keep::Always, false);
        }
    }

    /// Writes whole lines to standard error, below a question that is open.
    fn say(&self, lines: Vec<u8>, keep: Keep, may_wait: bool) {
        self.answered(false);
        self.err.line(lines, keep, may_wait);
    }

    /// Removes the bars and waits until everything is written. Fails if standard output did not take everything,
    /// unless its reader is gone.
    pub(super) fn finish(&self, patience: &ReaderPatience<'_>) -> io::Result<()> {
        if self.face == Face::Bars {
            self.err.clear();
        }
        // A failing standard error cannot be reported anywhere. Data comes after it: on a terminal, where the bars
        // were.
        let _ = self.err.finish(patience);
        self.out.finish(patience)
    }

    /// Says why the whole run failed: an event, and `text`.
    pub(super) fn fail(&self, failure: &Failure, exit_code: u8, text: String) {
        if self.face == Face::Json {
            let transfer = *self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            self.out.line(json::error(transfer, failure, exit_code), Keep::Always, false);
        }
        if !text.is_empty() {
            self.say(text.into_bytes(), Keep::Always, false);
        }
    }
}

impl Reporter for Desk {
    fn take(&self, report: Report) {
        let (keep, may_wait) = weigh(&report.event);
        if self.face == Face::Json {
            let line = json::line(&report);
            if report.transfer.is_some() {
                *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = report.transfer;
            }
            match report.event {
                Event::Progress(_) => self.out.latest(Pending::Text(line)),
                _ => self.out.line(line, keep, may_wait),
            }
            return;
        }
        match (self.face, report.event) {
            (Face::Bars, Event::Progress(progress)) => self.err.latest(Pending::Draw(progress)),
            (_, event) => {
                if self.face == Face::Bars && matches!(event, Event::Finished(_) | Event::Bench(_)) {
                    self.err.clear();
                }
                let text = match &report.peer {
                    Some(peer) => self.narrator.tell_of(peer, &event),
                    None => self.narrator.tell(&event),
                };
                let data = self.narrator.data(&event);
                if !text.is_empty() {
                    self.say(text.into_bytes(), keep, may_wait);
                }
                if !data.is_empty() {
                    self.out.line(data.into_bytes(), Keep::Always, true);
                }
            }
        }
    }
}

/// How important the line of an event is, and whether it may wait for the next line. Progress or the end soon follows
/// files.
fn weigh(event: &Event) -> (Keep, bool) {
    match event {
        Event::File(file) if !matches!(file.outcome, Outcome::Failed(_)) => (Keep::Ordinary, true),
        Event::File(_) => (Keep::Grave, false),
        // Data: all of it is to be seen.
        Event::Change(_) => (Keep::Always, true),
        // There can be one for each entry.
        Event::Warning { path, reason, .. } if path.is_some() || reason.is_some() => (Keep::Grave, false),
        _ => (Keep::Always, false),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::super::options::{Color, Options, Qr};
    use super::super::paint::Paint;
    use super::*;
    use crate::event::{FileSettled, Progress};
    use crate::protocol::failure::{Reason, Side};
    use crate::protocol::path::RelPath;

    const OPTIONS: Options = Options {
        json: false,
        quiet: false,
        verbose: 0,
        progress: false,
        color: Color::Never,
        qr: Qr::Never,
        known_dialler: false,
        data_on_stdout: false,
    };

    fn narrator(options: Options) -> Narrator {
        Narrator::new(options, Paint::new(false))
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
                removed: None,
            })
        };
        vec![
            Event::Connected {
                address: "127.0.0.1:9".parse().unwrap(),
                fingerprint: "fp".into(),
                agent: "towline/0.1.0".into(),
            },
            Event::Started { side: Side::Sender, transfer: [0xab; 16].into() },
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

    /// Gives what is written to a test.
    struct Written(Sender<Vec<u8>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_owned()).unwrap();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn desk(face: Face, options: Options) -> (Desk, [Receiver<Vec<u8>>; 2]) {
        let ((out, out_read), (err, err_read)) = (channel(), channel());
        (Desk::new(face, narrator(options), Written(out), Written(err)).unwrap(), [out_read, err_read])
    }

    fn said(face: Face, options: Options) -> (String, String) {
        let (desk, written) = desk(face, options);
        events().into_iter().for_each(|event| desk.report(event));
        desk.finish(&ReaderPatience::new(&|| false)).unwrap();
        let [out, err] =
            written.map(|bytes| String::from_utf8(bytes.try_iter().flatten().collect()).unwrap());
        (out, err)
    }

    #[test]
    fn verbose_lists_each_file() {
        let (out, err) = said(Face::Lines, Options { verbose: 1, ..OPTIONS });
        assert_eq!(out, "fp\n");
        assert_eq!(
            err,
            "connected to 127.0.0.1:9 (fp, towline/0.1.0)\n\
             transfer abababababababababababababababab\n\
             a\\nb  2.00 KiB  written\n\
             link  -  identical\n\
             c  2.00 KiB  skipped\n\
             towline: failed: d: something else is there\n\
             towline: failed: e: storage\n\
             towline: warning: small buffers\n"
        );
    }

    #[test]
    fn without_verbose_only_what_failed_is_listed() {
        let (out, err) = said(Face::Lines, OPTIONS);
        assert_eq!(out, "fp\n");
        assert_eq!(
            err,
            "connected to 127.0.0.1:9 (fp)\n\
             towline: failed: d: something else is there\n\
             towline: failed: e: storage\n\
             towline: warning: small buffers\n"
        );
    }

    #[test]
    fn quiet_says_only_what_failed() {
        let (out, err) = said(Face::Lines, Options { quiet: true, ..OPTIONS });
        assert_eq!(out, "fp\n");
        assert_eq!(err, "towline: failed: d: something else is there\ntowline: failed: e: storage\n");
    }

    #[test]
    fn json_goes_to_standard_output_alone() {
        let (out, err) = said(Face::Json, OPTIONS);
        assert_eq!(err, "");
        let events: Vec<_> = out.lines().map(|line| line.split('"').nth(3).unwrap()).collect();
        assert_eq!(events.iter().filter(|event| **event == "file").count(), 5, "{out}");
        assert_eq!((events[0], *events.last().unwrap()), ("connected", "identity"));
    }
}
