//! Bars on a terminal: a line for each large file in flight, a line of totals, and one bar for the transfer.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::format;
use super::outlet::Sink;
use crate::event::{ActiveFile, Progress};

/// Lines for large files, at most.
const FILE_LINES_MAX: usize = 8;
/// Redrawn this often without events, so that the rate falls when nothing moves.
const TICK: Duration = Duration::from_millis(500);

const TEXT: &str = "{wide_msg}";
const WALKING: &str = "[{wide_bar}] {bytes_per_sec}";
const WALKED: &str = "[{wide_bar}] {percent}% {bytes_per_sec} {eta} left";

/// Draws on standard error, where `S` writes lines. No line is wider than the terminal.
pub(super) struct Bars<S> {
    multi: MultiProgress,
    lines: S,
    /// There will be no more bars.
    finished: bool,
    whole: Option<Whole>,
    files: HashMap<u64, ProgressBar>,
}

struct Whole {
    numbers: ProgressBar,
    /// Only while something is waited for.
    waiting: Option<ProgressBar>,
    bar: ProgressBar,
    walked: bool,
    /// Bytes that an earlier transfer left, as shown last.
    resumed_bytes: u64,
}

impl<S: Sink> Bars<S> {
    pub(super) fn new(lines: S) -> Self {
        Self::on(ProgressDrawTarget::stderr(), lines)
    }

    fn on(target: ProgressDrawTarget, lines: S) -> Self {
        let multi = MultiProgress::with_draw_target(target);
        Self { multi, lines, finished: false, whole: None, files: HashMap::new() }
    }
}

impl<S: Sink> Sink for Bars<S> {
    /// Above the bars.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.multi.suspend(|| self.lines.write(text))
    }

    fn draw(&mut self, progress: &Progress) {
        if !self.finished {
            let whole = self.whole.get_or_insert_with(|| Whole::new(&self.multi));
            whole.draw(&self.multi, progress);
            draw_files(&mut self.files, &self.multi, &whole.numbers, &progress.active);
        }
    }

    fn clear(&mut self) {
        self.finished = true;
        for bar in self.files.drain().map(|(_, bar)| bar) {
            remove(&self.multi, &bar);
        }
        if let Some(whole) = self.whole.take() {
            for bar in [Some(whole.numbers), whole.waiting, Some(whole.bar)].into_iter().flatten() {
                remove(&self.multi, &bar);
            }
        }
        let _ = self.multi.clear();
    }
}

impl Whole {
    fn new(multi: &MultiProgress) -> Self {
        let numbers = multi.add(text_line());
        let bar = multi.add(ProgressBar::new(0));
        bar.set_style(style(WALKING));
        bar.enable_steady_tick(TICK);
        Self { numbers, waiting: None, bar, walked: false, resumed_bytes: 0 }
    }

    fn draw(&mut self, multi: &MultiProgress, progress: &Progress) {
        if progress.walked && !self.walked {
            self.walked = true;
            self.bar.set_style(style(WALKED));
        }
        self.bar.set_length(progress.total_bytes);
        self.bar.set_position(progress.written_bytes);
        // They count as progress, and not as speed.
        if progress.resumed_bytes > self.resumed_bytes {
            self.bar.reset_eta();
        }
        self.resumed_bytes = progress.resumed_bytes;
        self.numbers.set_message(numbers(progress));
        match progress.waiting_for {
            Some(what) => {
                let line = self.waiting.get_or_insert_with(|| multi.insert_after(&self.numbers, text_line()));
                line.set_message(format!("waiting for {what}"));
            }
            None => {
                if let Some(line) = self.waiting.take() {
                    remove(multi, &line);
                }
            }
        }
    }
}

fn draw_files(
    bars: &mut HashMap<u64, ProgressBar>,
    multi: &MultiProgress,
    above: &ProgressBar,
    active: &[ActiveFile],
) {
    bars.retain(|id, bar| {
        let stays = active.iter().any(|file| file.id == *id);
        if !stays {
            remove(multi, bar);
        }
        stays
    });
    for file in active {
        if bars.len() >= FILE_LINES_MAX && !bars.contains_key(&file.id) {
            continue;
        }
        let bar = bars.entry(file.id).or_insert_with(|| multi.insert_before(above, file_line(file)));
        bar.set_message(file.path.to_string());
        bar.set_position(file.written_bytes);
    }
}

/// Clears the line first; removing it alone would leave its text.
fn remove(multi: &MultiProgress, bar: &ProgressBar) {
    bar.finish_and_clear();
    multi.remove(bar);
}

fn text_line() -> ProgressBar {
    ProgressBar::new(0).with_style(style(TEXT))
}

fn file_line(file: &ActiveFile) -> ProgressBar {
    // The numbers have a fixed width so that the lines align; the name takes the rest.
    ProgressBar::new(file.size).with_style(style("{wide_msg} {bytes:>10} {percent:>3}%"))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// The important numbers first: a narrow terminal cuts the end.
fn numbers(progress: &Progress) -> String {
    let more = if progress.walked { "" } else { "+" };
    format!(
        "{} on disk, {} sent, of {}{more}, {}/{}{more} files",
        format::bytes(progress.written_bytes),
        format::bytes(progress.sent_bytes),
        format::bytes(progress.total_bytes),
        progress.done_files,
        progress.total_files,
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;
    use crate::protocol::path::RelPath;

    /// Remembers what was written to it, and is narrow.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<Vec<String>>>);

    impl Screen {
        fn push(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push(text.to_owned());
            Ok(())
        }

        fn text(&self) -> String {
            self.0.lock().unwrap().concat()
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            40
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.push(&format!("{text}\n"))
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.push(text)
        }
        fn clear_line(&self) -> io::Result<()> {
            self.push("\n")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn bars() -> (Bars<Vec<u8>>, Screen) {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        (Bars::on(target, Vec::new()), screen)
    }

    fn progress(files: u64) -> Progress {
        let active = |id| ActiveFile {
            id,
            path: RelPath::new(format!("{id}-{}\u{1b}漢字.bin", "long-name-".repeat(9)).as_bytes()).unwrap(),
            size: 1 << 40,
            sent_bytes: 1 << 39,
            written_bytes: 1023 << 30,
        };
        Progress {
            elapsed: Duration::from_secs(9),
            walked: files.is_multiple_of(2),
            total_files: 1_000_000,
            total_bytes: 1 << 50,
            sent_bytes: 1 << 48,
            written_bytes: 1023 << 37,
            resumed_bytes: 1 << 37,
            done_files: 999_999,
            active: (0..files).map(active).collect(),
            waiting_for: files
                .is_multiple_of(3)
                .then_some("a disk that is described at great length at the receiver"),
        }
    }

    #[test]
    fn the_two_numbers_fit_a_narrow_terminal() {
        let numbers = numbers(&Progress { walked: true, ..progress(0) });
        assert!(
            numbers.starts_with("127.88 TiB on disk, 256.00 TiB sent, of 1.00 PiB, 999999/1000000 files")
        );
        assert!(numbers.find(", of").unwrap() <= 40);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let (mut bars, screen) = bars();
        for files in [0, 3, 20, 5, 0] {
            bars.draw(&progress(files));
        }
        bars.draw(&progress(6));
        bars.multi.suspend(|| ());
        let text = screen.text();
        assert!(text.contains("0-long-name-"), "{text}");
        assert!(text.contains("waiting for a disk"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        for line in screen.0.lock().unwrap().iter() {
            // The ideographs of a name take two columns each, and are cut away here.
            assert!(line.trim_end().chars().count() <= 40, "{line:?}");
        }
    }

    #[test]
    fn at_most_eight_files_in_flight_have_a_line() {
        let (mut bars, _) = bars();
        bars.draw(&progress(20));
        assert_eq!(bars.files.len(), FILE_LINES_MAX);
        let mut later = progress(20);
        later.active.drain(..10);
        bars.draw(&later);
        assert_eq!(bars.files.len(), FILE_LINES_MAX);
        bars.draw(&progress(1));
        assert_eq!(bars.files.keys().collect::<Vec<_>>(), [&0]);
    }

    #[test]
    fn after_the_end_nothing_is_drawn() {
        let (mut bars, screen) = bars();
        bars.draw(&progress(2));
        bars.clear();
        let before = screen.text();
        bars.draw(&progress(3));
        bars.clear();
        assert_eq!(screen.text().trim_end(), before.trim_end());
        assert!(bars.whole.is_none());
    }
}
