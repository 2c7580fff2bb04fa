//! What people and scripts see: bars, plain lines or JSON. The only place that prints.
//!
//! Standard output carries data and JSON, standard error everything else. What is shown never decides how a transfer
//! ends: a write that fails ends nothing, and only [`Ui::finish`] tells of it.

mod bars;
mod bench;
pub mod format;
mod gathered;
mod json;
mod lines;
mod text;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use self::bars::Bars;
use self::json::Json;
use self::lines::Lines;
use self::text::{Narrator, Paint};
use crate::event::{Event, Outcome, Reporter};
use crate::protocol::failure::Failure;

/// What to show and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// JSON Lines on standard output.
    pub json: bool,
    /// Nothing but errors.
    pub quiet: bool,
    /// 1, 2, 3: more and more.
    pub verbose: u8,
    /// Bars, where there is a terminal.
    pub progress: bool,
    /// When to use colours.
    pub color: Color,
    /// This side lets in the one machine that `--fingerprint` names without the ticket.
    pub known_dialler: bool,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// The choice for standard error.
    fn decide(self) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => io::stderr().is_terminal() && !set("NO_COLOR") && !is_dumb(),
        }
    }
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// The face of one run.
pub struct Ui {
    options: Options,
    paint: Paint,
    face: Face,
}

enum Face {
    Json(Arc<Json<io::Stdout>>),
    Lines(Arc<Lines<io::Stdout, io::Stderr>>),
    Bars(Arc<Bars>),
}

impl Ui {
    /// JSON when asked for; bars on a terminal; plain lines otherwise.
    pub fn new(options: Options) -> Self {
        let paint = Paint::new(options.color.decide());
        let narrator = |files| Narrator::new(options, paint, files);
        let face = if options.json {
            Face::Json(Arc::new(Json::new(io::stdout())))
        } else if options.progress && !options.quiet && io::stderr().is_terminal() && !is_dumb() {
            Face::Bars(Arc::new(Bars::new(narrator(options.verbose > 0))))
        } else {
            Face::Lines(Arc::new(Lines::new(narrator(true), io::stdout(), io::stderr())))
        };
        Self { options, paint, face }
    }

    /// What it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether standard error is coloured.
    pub fn colors(&self) -> bool {
        self.paint.is_on()
    }

    /// Takes the events of the library.
    pub fn reporter(&self) -> Arc<dyn Reporter> {
        match &self.face {
            Face::Json(json) => json.clone(),
            Face::Lines(lines) => lines.clone(),
            Face::Bars(bars) => bars.clone(),
        }
    }

    /// Standard error for log lines; they stand above the bars.
    pub fn log_writer(&self) -> LogWriter {
        match &self.face {
            Face::Bars(bars) => LogWriter::new(Some(bars.clone())),
            Face::Json(_) | Face::Lines(_) => LogWriter::new(None),
        }
    }

    /// Takes the bars away, whatever stands; later events draw none. Writes the lines that wait. Fails when standard
    /// output did not take all that was for it, unless its reader had gone.
    pub fn finish(&self) -> io::Result<()> {
        match &self.face {
            Face::Json(json) => json.finish(),
            Face::Lines(lines) => lines.finish(),
            Face::Bars(bars) => bars.finish(),
        }
    }

    /// Says why the whole run failed.
    pub fn fail(&self, failure: &Failure, exit_code: u8) {
        let _ = self.finish();
        if let Face::Json(json) = &self.face {
            json.error(failure, exit_code);
        }
        write_stderr(text::failure(failure, self.paint).as_bytes());
    }
}

/// Whether the line of an event may wait for the next one: progress, or the end, comes soon behind the files.
fn may_wait(event: &Event) -> bool {
    matches!(event, Event::File(file) if !matches!(file.outcome, Outcome::Failed(_)))
}

/// Says why there is nothing to run, before any [`Ui`] is made: one sentence and perhaps a hint.
pub fn complain(message: &str, hint: Option<&str>) {
    write_stderr(text::complaint(message, hint, Paint::new(Color::Auto.decide())).as_bytes());
}

fn write_stderr(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}

/// Standard error, without tearing a bar: lines go out whole, whatever pieces they come in.
pub struct LogWriter {
    bars: Option<Arc<Bars>>,
    line: Vec<u8>,
}

impl LogWriter {
    fn new(bars: Option<Arc<Bars>>) -> Self {
        Self { bars, line: Vec::new() }
    }
}

impl Clone for LogWriter {
    /// The new one begins a line of its own.
    fn clone(&self) -> Self {
        Self::new(self.bars.clone())
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if let Some(end) = self.line.iter().rposition(|b| *b == b'\n') {
            let rest = self.line.split_off(end + 1);
            let lines = std::mem::replace(&mut self.line, rest);
            match &self.bars {
                Some(bars) => bars.above(|| write_stderr(&lines)),
                None => write_stderr(&lines),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            let _ = self.write(b"\n");
        }
    }
}
