//! Lines for a pipe, terminal or device: a file without a name keeps them until the reader takes them.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::event::READER_WAIT;
use crate::protocol::failure::Failure;

/// Opening an unwritable path fails at once. Opening a FIFO waits for a reader, which may come later.
const OPEN_WAIT: Duration = Duration::from_millis(200);
/// How often `finish` checks whether the reader has read something.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often the copying thread checks the file without a notification.
const GROWN_EVERY: Duration = Duration::from_secs(1);
/// Bytes copied at once.
const COPY_BYTES: usize = 4096;

/// Copies a file to a place while it grows, on a thread of its own.
pub(super) struct Spool {
    shared: Arc<SpoolState>,
    /// The result of opening the path, then the result of copying.
    results: Mutex<Receiver<io::Result<()>>>,
    is_open: bool,
}

#[derive(Default)]
struct SpoolState {
    /// Nothing more will be written.
    has_ended: Mutex<bool>,
    changed: Condvar,
    taken_bytes: AtomicU64,
}

impl Spool {
    /// A spool for `place`, and the file to write to. Fails when it is known at once that `place` cannot be opened.
    pub(super) fn create(place: PathBuf) -> io::Result<(Self, File)> {
        let named = NamedTempFile::new()?;
        let (from, file) = (named.reopen()?, named.into_file());
        let shared = Arc::new(SpoolState::default());
        let (tell, results) = channel();
        let copying = Arc::clone(&shared);
        thread::Builder::new().name("manifest".to_owned()).spawn(move || {
            // The receiver is gone when the transfer has failed.
            let _ = tell.send(copy(&place, from, &copying, &tell));
        })?;
        let is_open = match results.recv_timeout(OPEN_WAIT) {
            Ok(result) => result.map(|()| true)?,
            Err(_) => false,
        };
        Ok((Self { shared, results: Mutex::new(results), is_open }, file))
    }

    /// The file has grown.
    pub(super) fn grown(&self) {
        self.shared.changed.notify_one();
    }

    /// Waits until the reader has read the whole file. Gives up when the reader takes nothing for a while, or when
    /// this process is asked to stop.
    pub(super) async fn finish(&self, stop: &watch::Receiver<Option<Failure>>) -> io::Result<()> {
        *self.shared.has_ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.changed.notify_one();
        let mut is_open = self.is_open;
        let mut taken = (self.shared.taken_bytes.load(Relaxed), Instant::now());
        loop {
            match self.next_result() {
                Some(Ok(())) if !is_open => is_open = true,
                Some(result) => return result,
                None => {
                    let taken_bytes = self.shared.taken_bytes.load(Relaxed);
                    if taken_bytes != taken.0 {
                        taken = (taken_bytes, Instant::now());
                    }
                    if stop.borrow().is_some() || taken.1.elapsed() >= READER_WAIT {
                        return Err(io::Error::new(ErrorKind::TimedOut, "nobody reads it"));
                    }
                    sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    fn next_result(&self) -> Option<io::Result<()>> {
        match self.results.lock().unwrap_or_else(PoisonError::into_inner).try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(io::Error::other("its thread has ended"))),
        }
    }
}

fn copy(place: &Path, mut from: File, shared: &SpoolState, tell: &Sender<io::Result<()>>) -> io::Result<()> {
    let mut to = File::options().write(true).open(place)?;
    let _ = tell.send(Ok(()));
    let mut bytes = [0; COPY_BYTES];
    loop {
        // Checked before the read, so that everything written before the end is read.
        let has_ended = *shared.has_ended.lock().unwrap_or_else(PoisonError::into_inner);
        let n = from.read(&mut bytes)?;
        if n > 0 {
            to.write_all(&bytes[..n])?;
            shared.taken_bytes.fetch_add(n as u64, Relaxed);
        } else if has_ended {
            return Ok(());
        } else {
            let has_ended = shared.has_ended.lock().unwrap_or_else(PoisonError::into_inner);
            if !*has_ended {
                // With a limit: the file may have grown since the read.
                let _ = shared.changed.wait_timeout(has_ended, GROWN_EVERY);
            }
        }
    }
}
