//! What one run shows, and the log beside it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use super::ask::{AtDesk, can_ask};
use super::bars::Bars;
use super::complaint;
use super::desk::{Desk, Face};
use super::narrator::Narrator;
use super::options::{Color, Options, is_dumb};
use super::outlet::ReaderPatience;
use super::paint::Paint;
use crate::event::{Asker, Reporter};
use crate::protocol::failure::Failure;

/// What one run shows.
pub struct Ui {
    options: Options,
    paint: Paint,
    desk: Arc<Desk>,
}

impl Ui {
    /// JSON when asked for; bars on a terminal; plain lines otherwise.
    ///
    /// # Errors
    /// The threads that write cannot be started.
    pub fn new(options: Options) -> io::Result<Self> {
        let paint = Paint::new(options.color.decide());
        let face = if options.json {
            Face::Json
        } else if options.progress && !options.quiet && io::stderr().is_terminal() && !is_dumb() {
            Face::Bars
        } else {
            Face::Lines
        };
        let narrator = Narrator::new(options, paint);
        let (out, err) = match options.data_on_stdout {
            true => (stream(io::stderr())?, stream(io::stderr())?),
            false => (stream(io::stdout())?, stream(io::stderr())?),
        };
        let desk = match face {
            Face::Bars => Desk::new(face, narrator, out, Bars::new(err)),
            Face::Json | Face::Lines => Desk::new(face, narrator, out, err),
        };
        Ok(Self { options, paint, desk: Arc::new(desk?) })
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
        self.desk.clone()
    }

    /// Asks the person at the terminal, if there is one. Whoever reads JSON is a program.
    pub fn asker(&self) -> Option<Arc<dyn Asker>> {
        (!self.options.json && can_ask()).then(|| Arc::new(AtDesk(Arc::clone(&self.desk))) as _)
    }

    /// Standard error for log lines, above the bars.
    pub fn log_writer(&self) -> LogWriter {
        LogWriter { desk: self.desk.clone(), line: Vec::new() }
    }

    /// Removes the bars for good and writes all waiting lines, as far as the readers take them within `patience`.
    /// Fails if standard output did not take everything, unless its reader is gone.
    pub fn finish(&self, patience: &ReaderPatience<'_>) -> io::Result<()> {
        self.desk.finish(patience)
    }

    /// Says why the whole run failed.
    pub fn fail(&self, failure: &Failure, exit_code: u8, patience: &ReaderPatience<'_>) {
        let text = match self.options.json && self.options.data_on_stdout {
            // JSON is alone there.
            true => String::new(),
            false => complaint::failure(failure, self.paint),
        };
        self.desk.fail(failure, exit_code, text);
        let _ = self.finish(patience);
    }
}

/// The stream without the standard library's buffer and lock: a thread that waits for a reader must not block another
/// that prints, such as a panic.
#[cfg(unix)]
fn stream(of: impl std::os::fd::AsFd) -> io::Result<std::fs::File> {
    Ok(of.as_fd().try_clone_to_owned()?.into())
}

#[cfg(not(unix))]
fn stream<S: Write>(of: S) -> io::Result<S> {
    Ok(of)
}

/// Prints a usage error, before there is a [`Ui`]: a sentence and perhaps a hint.
pub fn complain(message: &str, hint: Option<&str>) {
    write_stderr(complaint::complaint(message, hint, Paint::new(Color::Auto.decide())).as_bytes());
}

/// Prints a message of the parser unchanged.
pub fn complain_as_it_stands(text: &str) {
    write_stderr(text.as_bytes());
}

fn write_stderr(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}

/// Standard error for a log. Lines are written whole.
pub struct LogWriter {
    desk: Arc<Desk>,
    line: Vec<u8>,
}

impl Clone for LogWriter {
    /// The clone starts a line of its own.
    fn clone(&self) -> Self {
        Self { desk: self.desk.clone(), line: Vec::new() }
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if let Some(end) = self.line.iter().rposition(|b| *b == b'\n') {
            let rest = self.line.split_off(end + 1);
            self.desk.log(std::mem::replace(&mut self.line, rest));
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
