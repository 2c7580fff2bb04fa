//! One output stream: a bounded queue and a thread that writes.
//!
//! A terminal can be stopped and a pipe left unread. Reporting puts a line into the queue and returns; only the
//! thread waits for the reader. When the queue is full, lines are left out, and a later line says how many. Of
//! progress only the latest waits.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::event::{Progress, READER_WAIT};

/// Bytes in the queue above which ordinary lines are left out.
const ORDINARY_BYTES_MAX: usize = 1 << 20;
/// After a gap, ordinary lines are accepted again below this: one gap instead of many.
const ORDINARY_BYTES_AGAIN: usize = ORDINARY_BYTES_MAX / 2;
/// Bytes in the queue above which lines about failures are left out too.
const GRAVE_BYTES_MAX: usize = 2 << 20;
/// Memory of a waiting line besides its text.
const LINE_OVERHEAD_BYTES: usize = 64;
/// Lines that may wait are written once this much is in the queue.
const BATCH_BYTES: usize = 8 * 1024;
/// Bytes of one write. A pipe takes this much at once or nothing, so each write shows that the reader is alive.
const WRITE_BYTES: usize = 4096;
/// How long the end waits for a reader after a signal.
const STOPPED_WAIT: Duration = Duration::from_millis(500);
/// How often the end checks for signals.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a non-blocking stream is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Never left out. A run has only a few of these.
    Always,
    /// Left out last: failed or skipped entries.
    Grave,
    /// Left out first: successful files, and the log.
    Ordinary,
}

/// What waits.
#[derive(Debug)]
pub(super) enum Pending {
    /// Whole lines.
    Text(Vec<u8>),
    /// Bars to draw.
    Draw(Progress),
    /// Bars to take away.
    Clear,
}

/// What the thread does with the pieces. Any call may block.
pub(super) trait Sink: Send + 'static {
    /// Writes whole lines.
    fn write(&mut self, text: &[u8]) -> io::Result<()>;
    /// Draws bars, where there are any.
    fn draw(&mut self, _: &Progress) {}
    /// Takes the bars away for good.
    fn clear(&mut self) {}
}

impl<W: Write + Send + 'static> Sink for W {
    fn write(&mut self, mut text: &[u8]) -> io::Result<()> {
        while !text.is_empty() {
            match Write::write(self, text) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => text = &text[n..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process has made the stream non-blocking; the reader is only slow.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_EVERY),
                Err(error) => return Err(error),
            }
        }
        self.flush()
    }
}

/// How long the end of a run waits for readers.
pub struct ReaderPatience<'a> {
    since: Instant,
    is_stopped: &'a dyn Fn() -> bool,
    stopped_at: Cell<Option<Instant>>,
}

impl<'a> ReaderPatience<'a> {
    /// Begins now. `is_stopped` tells whether a signal has come.
    pub fn new(is_stopped: &'a dyn Fn() -> bool) -> Self {
        Self { since: Instant::now(), is_stopped, stopped_at: Cell::new(None) }
    }

    /// Whether to give up a reader that last took something at `taken_at`.
    fn is_over(&self, taken_at: Instant) -> bool {
        if (self.is_stopped)() {
            let at = self.stopped_at.get().unwrap_or_else(Instant::now);
            self.stopped_at.set(Some(at));
            return at.elapsed() >= STOPPED_WAIT;
        }
        taken_at.max(self.since).elapsed() >= READER_WAIT
    }
}

/// Takes lines without blocking.
pub(super) struct Outlet {
    shared: Arc<OutletState>,
    thread: JoinHandle<()>,
}

struct OutletState {
    queue: Mutex<LineQueue>,
    changed: Condvar,
}

impl OutletState {
    fn lock(&self) -> MutexGuard<'_, LineQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet {
    /// Starts the thread, which writes to `sink`. `note` makes the line that tells how many were left out.
    pub(super) fn new(name: &str, sink: impl Sink, note: fn(u64) -> Vec<u8>) -> io::Result<Self> {
        let shared =
            Arc::new(OutletState { queue: Mutex::new(LineQueue::new(note)), changed: Condvar::new() });
        let writer = Arc::clone(&shared);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || write_all(&writer, sink))?;
        Ok(Self { shared, thread })
    }

    /// Takes a line; one that `may_wait` is written with the next that may not.
    pub(super) fn line(&self, text: Vec<u8>, keep: Keep, may_wait: bool) {
        self.with(|queue| queue.push(Pending::Text(text), keep, may_wait));
    }

    /// Takes progress, in place of any that waits.
    pub(super) fn latest(&self, piece: Pending) {
        self.with(|queue| queue.push_latest(piece));
    }

    /// Removes the bars after the lines that wait.
    pub(super) fn clear(&self) {
        self.with(|queue| queue.push(Pending::Clear, Keep::Always, false));
    }

    fn with(&self, change: impl FnOnce(&mut LineQueue)) {
        let mut queue = self.shared.lock();
        change(&mut queue);
        if queue.is_due {
            self.shared.changed.notify_all();
        }
    }

    /// Waits until all is written, within `patience`. Tells of the first write that failed since it last told. A
    /// reader that has gone away is no failure: it has read what it wanted.
    pub(super) fn finish(&self, patience: &ReaderPatience<'_>) -> io::Result<()> {
        let mut queue = self.shared.lock();
        queue.note_gap();
        queue.is_due = true;
        self.shared.changed.notify_all();
        while !queue.is_written() && !self.thread.is_finished() {
            let waited = self.shared.changed.wait_timeout(queue, LOOK_EVERY);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !queue.is_written() && patience.is_over(queue.taken_at) {
                queue.give_up();
            }
        }
        queue.failure.take().map_or(Ok(()), Err)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
    }
}

fn write_all(shared: &OutletState, mut sink: impl Sink) {
    let mut queue = shared.lock();
    loop {
        let Some(piece) = queue.next() else {
            if queue.is_closed {
                return;
            }
            queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        queue.is_writing = true;
        drop(queue);
        let written = match piece {
            Pending::Text(text) => text.chunks(WRITE_BYTES).try_for_each(|part| {
                sink.write(part)?;
                shared.lock().taken_at = Instant::now();
                Ok(())
            }),
            Pending::Draw(progress) => {
                sink.draw(&progress);
                Ok(())
            }
            Pending::Clear => {
                sink.clear();
                Ok(())
            }
        };
        queue = shared.lock();
        queue.written(written);
        shared.changed.notify_all();
    }
}

struct LineQueue {
    note: fn(u64) -> Vec<u8>,
    /// Each with its number, so that progress keeps its place among the lines.
    lines: VecDeque<(u64, Pending)>,
    latest: Option<(u64, Pending)>,
    next_number: u64,
    bytes: usize,
    left_out: u64,
    /// Lines are left out until less waits.
    is_full: bool,
    /// Something waits that may not.
    is_due: bool,
    is_writing: bool,
    taken_at: Instant,
    failure: Option<io::Error>,
    /// The reader has gone, or was given up.
    is_gone: bool,
    /// Nothing more will come.
    is_closed: bool,
}

impl LineQueue {
    fn new(note: fn(u64) -> Vec<u8>) -> Self {
        Self {
            note,
            lines: VecDeque::new(),
            latest: None,
            next_number: 0,
            bytes: 0,
            left_out: 0,
            is_full: false,
            is_due: false,
            is_writing: false,
            taken_at: Instant::now(),
            failure: None,
            is_gone: false,
            is_closed: false,
        }
    }

    fn push(&mut self, piece: Pending, keep: Keep, may_wait: bool) {
        if self.is_gone {
            return;
        }
        let max = match keep {
            Keep::Always => usize::MAX,
            Keep::Grave => GRAVE_BYTES_MAX,
            Keep::Ordinary if self.is_full => ORDINARY_BYTES_AGAIN,
            Keep::Ordinary => ORDINARY_BYTES_MAX,
        };
        if self.bytes + cost(&piece) > max {
            self.left_out += 1;
            self.is_full = true;
            return;
        }
        if keep == Keep::Ordinary {
            self.is_full = false;
        }
        self.note_gap();
        self.add(piece);
        self.is_due |= !may_wait || self.bytes >= BATCH_BYTES;
    }

    fn push_latest(&mut self, piece: Pending) {
        if !self.is_gone {
            self.latest = Some((self.number(), piece));
            self.is_due = true;
        }
    }

    /// Tells of the lines that are missing at this place.
    fn note_gap(&mut self) {
        if self.left_out > 0 && !self.is_gone {
            let text = (self.note)(std::mem::take(&mut self.left_out));
            self.add(Pending::Text(text));
        }
    }

    fn add(&mut self, piece: Pending) {
        self.bytes += cost(&piece);
        let number = self.number();
        self.lines.push_back((number, piece));
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// The next piece to write, lines put together up to one write; none when nothing is due.
    fn next(&mut self) -> Option<Pending> {
        if !self.is_due {
            return None;
        }
        let latest = self.latest.as_ref().map_or(u64::MAX, |(number, _)| *number);
        let mut text: Vec<u8> = Vec::new();
        while let Some((number, piece)) = self.lines.front() {
            let fits = match piece {
                Pending::Text(line) => text.is_empty() || text.len() + line.len() <= WRITE_BYTES,
                _ => text.is_empty(),
            };
            if *number > latest || !fits {
                break;
            }
            let Some((_, piece)) = self.lines.pop_front() else { break };
            self.bytes -= cost(&piece);
            match piece {
                Pending::Text(line) => text.extend_from_slice(&line),
                other => return Some(other),
            }
        }
        if !text.is_empty() {
            return Some(Pending::Text(text));
        }
        let latest = self.latest.take();
        self.is_due = latest.is_some();
        latest.map(|(_, piece)| piece)
    }

    fn written(&mut self, result: io::Result<()>) {
        self.is_writing = false;
        match result {
            Ok(()) => self.taken_at = Instant::now(),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.forget(),
            Err(error) => {
                self.failure.get_or_insert(error);
            }
        }
    }

    fn is_written(&self) -> bool {
        self.is_gone || (self.lines.is_empty() && self.latest.is_none() && !self.is_writing)
    }

    fn give_up(&mut self) {
        self.failure.get_or_insert(io::Error::new(ErrorKind::TimedOut, "nobody reads it"));
        self.forget();
    }

    fn forget(&mut self) {
        self.is_gone = true;
        self.lines = VecDeque::new();
        (self.latest, self.bytes, self.left_out) = (None, 0, 0);
    }
}

fn cost(piece: &Pending) -> usize {
    let text = if let Pending::Text(text) = piece { text.len() } else { 0 };
    LINE_OVERHEAD_BYTES + text
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Tells a test that it has been asked to write, and what; then waits to be let go on.
    struct Blocking {
        asked: Sender<Vec<u8>>,
        go_on: Receiver<io::Result<()>>,
    }

    impl Sink for Blocking {
        fn write(&mut self, text: &[u8]) -> io::Result<()> {
            self.asked.send(text.to_owned()).unwrap();
            self.go_on.recv().unwrap_or(Ok(()))
        }

        fn draw(&mut self, progress: &Progress) {
            let _ = self.write(format!("<{}>", progress.sent_bytes).as_bytes());
        }
    }

    fn outlet() -> (Outlet, Receiver<Vec<u8>>, Sender<io::Result<()>>) {
        let ((asked, asks), (go, go_on)) = (channel(), channel());
        let note = |lines: u64| format!("[{lines}]\n").into_bytes();
        (Outlet::new("test", Blocking { asked, go_on }, note).unwrap(), asks, go)
    }

    fn finish(outlet: &Outlet) -> io::Result<()> {
        outlet.finish(&ReaderPatience::new(&|| false))
    }

    fn line(outlet: &Outlet, text: &str, keep: Keep) {
        outlet.line(text.as_bytes().to_owned(), keep, false);
    }

    /// All that is still asked to be written once nothing is in the way.
    fn rest(outlet: &Outlet, asks: &Receiver<Vec<u8>>, go: Sender<io::Result<()>>) -> String {
        drop(go);
        finish(outlet).unwrap();
        String::from_utf8(asks.try_iter().flatten().collect()).unwrap()
    }

    fn progress(sent_bytes: u64) -> Pending {
        Pending::Draw(Progress { sent_bytes, ..Progress::default() })
    }

    #[test]
    fn fault_2_reporting_never_waits_and_gaps_are_counted() {
        let (outlet, asks, go) = outlet();
        line(&outlet, "first\n", Keep::Ordinary);
        assert_eq!(asks.recv().unwrap(), b"first\n");
        // From here on the reader takes nothing.
        let long = format!("{}\n", "x".repeat(1000));
        for _ in 0..3000 {
            line(&outlet, &long, Keep::Ordinary);
        }
        line(&outlet, "failed\n", Keep::Grave);
        line(&outlet, "ok\n", Keep::Ordinary);
        line(&outlet, "finished\n", Keep::Always);
        let text = rest(&outlet, &asks, go);
        let kept = text.matches(&long).count();
        assert!((900..1100).contains(&kept), "{kept}");
        let end = &text[kept * long.len()..];
        // The line that was well did not fit: too much waits still.
        assert_eq!(end, format!("[{}]\nfailed\n[1]\nfinished\n", 3000 - kept));
    }

    #[test]
    fn fault_2_lines_about_failures_are_bounded_too() {
        let (outlet, asks, go) = outlet();
        let long = format!("{}\n", "x".repeat(1000));
        // From here on the writer waits, so that all the others queue.
        line(&outlet, "first\n", Keep::Always);
        assert_eq!(asks.recv().unwrap(), b"first\n");
        for _ in 0..3000 {
            line(&outlet, &long, Keep::Grave);
        }
        line(&outlet, "error\n", Keep::Always);
        let text = rest(&outlet, &asks, go);
        let kept = text.matches(&long).count();
        assert!((1900..2100).contains(&kept), "{kept}");
        assert!(text.ends_with(&format!("[{}]\nerror\n", 3000 - kept)));
    }

    #[test]
    fn fault_2_only_the_latest_progress_waits_and_keeps_its_place() {
        let (outlet, asks, go) = outlet();
        line(&outlet, "a\n", Keep::Always);
        assert_eq!(asks.recv().unwrap(), b"a\n");
        outlet.latest(progress(1));
        line(&outlet, "b\n", Keep::Ordinary);
        outlet.latest(progress(2));
        outlet.latest(progress(3));
        line(&outlet, "c\n", Keep::Always);
        assert_eq!(rest(&outlet, &asks, go), "b\n<3>c\n");
    }

    #[test]
    fn lines_that_may_wait_are_written_with_the_next() {
        let (outlet, asks, go) = outlet();
        outlet.line(b"a\n".to_vec(), Keep::Ordinary, true);
        outlet.line(b"b\n".to_vec(), Keep::Ordinary, true);
        assert!(asks.try_recv().is_err());
        line(&outlet, "c\n", Keep::Ordinary);
        assert_eq!(asks.recv().unwrap(), b"a\nb\nc\n");
        go.send(Ok(())).unwrap();
        let many = BATCH_BYTES / LINE_OVERHEAD_BYTES;
        for _ in 0..many {
            outlet.line(b"d\n".to_vec(), Keep::Ordinary, true);
        }
        assert!(asks.recv().unwrap().starts_with(b"d\n"));
        outlet.line(b"e\n".to_vec(), Keep::Ordinary, true);
        assert!(rest(&outlet, &asks, go).ends_with("e\n"));
    }

    #[test]
    fn fault_2_a_signal_ends_the_wait_for_a_reader() {
        let (outlet, _asks, go) = outlet();
        line(&outlet, "unread\n", Keep::Always);
        let start = Instant::now();
        let error = outlet.finish(&ReaderPatience::new(&|| true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() < READER_WAIT, "{:?}", start.elapsed());
        // Nobody waits for it again.
        line(&outlet, "late\n", Keep::Always);
        finish(&outlet).unwrap();
        drop(go);
    }

    #[test]
    fn a_slow_reader_is_waited_for() {
        let now = Instant::now();
        let patience = ReaderPatience::new(&|| false);
        let began =
            |ago| ReaderPatience { since: now.checked_sub(ago).unwrap(), ..ReaderPatience::new(&|| false) };
        assert!(!patience.is_over(now));
        let long_ago = now.checked_sub(2 * READER_WAIT).unwrap();
        assert!(!patience.is_over(long_ago), "the wait begins at the end");
        assert!(began(READER_WAIT).is_over(long_ago));
        assert!(!began(10 * READER_WAIT).is_over(now), "it has just taken something");
    }

    #[test]
    fn the_first_failure_is_reported_once_and_a_closed_pipe_is_not_one() {
        let (outlet, asks, go) = outlet();
        for result in [ErrorKind::StorageFull, ErrorKind::TimedOut] {
            line(&outlet, "x\n", Keep::Always);
            asks.recv().unwrap();
            go.send(Err(result.into())).unwrap();
        }
        assert_eq!(finish(&outlet).unwrap_err().kind(), ErrorKind::StorageFull);
        line(&outlet, "x\n", Keep::Always);
        asks.recv().unwrap();
        go.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
        finish(&outlet).unwrap();
        line(&outlet, "nobody reads this\n", Keep::Always);
        finish(&outlet).unwrap();
        assert!(asks.try_recv().is_err());
    }

    #[test]
    fn a_non_blocking_stream_is_tried_again() {
        struct Hesitant(u32, Sender<u8>);
        impl Write for Hesitant {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0.is_multiple_of(2) {
                    self.1.send(bytes[0]).unwrap();
                    return Ok(1);
                }
                Err(if self.0 == 1 { ErrorKind::WouldBlock } else { ErrorKind::Interrupted }.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (written, bytes) = channel();
        Sink::write(&mut Hesitant(0, written), b"abc").unwrap();
        assert_eq!(bytes.try_iter().collect::<Vec<_>>(), b"abc");
    }
}
