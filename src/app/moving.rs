//! `--remove-source`: removes sources once all of the transfer is durable at the receiver.
//!
//! Files that arrive are noted in a file without a name. Their events wait until the end, because they tell whether the
//! source was removed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::event::{Event, FileSettled, Outcome, Report, Reporter, Summary, TransferId};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::path::RelPath;
use crate::storage::fs::{FsSource, Remaining, Version};

/// Files removed by one call to the disk.
const BATCH: usize = 256;

/// Notes what has arrived, and passes every other event on.
pub(super) struct WithRemoval {
    source: FsSource,
    inner: Arc<dyn Reporter>,
    state: Mutex<RemovalState>,
}

struct RemovalState {
    transfer: Option<TransferId>,
    /// Files and links that arrived; `None` while they are being removed.
    arrived: Option<BufWriter<File>>,
    remaining: Remaining,
}

/// A file or link that arrived, as a line of JSON.
#[derive(Serialize, Deserialize)]
struct Arrived {
    /// Paths in hexadecimal.
    path: String,
    renamed: Option<String>,
    is_file: bool,
    size: u64,
    root: Option<[u8; 32]>,
    version: Version,
}

impl WithRemoval {
    /// Prepares for removing what `source` walks over.
    pub(super) fn create(source: FsSource, inner: Arc<dyn Reporter>) -> Result<Arc<Self>, Failure> {
        let arrived = source.note_found().and_then(|()| tempfile::tempfile()).map_err(|e| {
            Failure::new(Reason::Setup, format!("cannot make a temporary file for --remove-source: {e}"))
        })?;
        let arrived = Some(BufWriter::new(arrived));
        let state = RemovalState { transfer: None, arrived, remaining: Remaining::default() };
        Ok(Arc::new(Self { source, inner, state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, RemovalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transfer has ended. Without a `summary` it has failed, and nothing is removed.
    pub(super) async fn finish(
        &self,
        summary: Option<&mut Summary>,
        stop: &watch::Receiver<Option<Failure>>,
    ) -> Result<(), Failure> {
        let arrived = self.state().arrived.take();
        let may_remove = summary.as_ref().is_some_and(|summary| summary.synced);
        let removed = match arrived {
            Some(arrived) => self.remove_all(arrived, may_remove, stop).await?,
            None => 0,
        };
        let Some(summary) = summary else { return Ok(()) };
        summary.removed = Some(removed);
        let RemovalState { transfer, remaining, .. } = &*self.state();
        for (cause, path, count) in remaining.iter() {
            let (path, cause) = (path.to_owned(), cause.to_owned());
            self.tell(*transfer, Event::SourcesRemain { path, cause, count });
            let graver = |gravest| Failure::graver(gravest, Reason::SourceRemains);
            summary.gravest = Some(summary.gravest.map_or(Reason::SourceRemains, graver));
        }
        Ok(())
    }

    /// Removes what arrived, if `may_remove`, and tells of all of it. Returns how much was removed.
    async fn remove_all(
        &self,
        arrived: BufWriter<File>,
        may_remove: bool,
        stop: &watch::Receiver<Option<Failure>>,
    ) -> Result<u64, Failure> {
        let broken = |e: io::Error| Failure::new(Reason::Setup, format!("cannot read what was sent: {e}"));
        let mut list = arrived.into_inner().map_err(|e| broken(e.into_error()))?;
        list.rewind().map_err(broken)?;
        let mut lines = BufReader::new(list).lines();
        let (mut removed, mut stop) = (0, stop.clone());
        loop {
            let batch: io::Result<Vec<_>> = lines.by_ref().take(BATCH).collect();
            let batch: Result<Vec<Arrived>, _> =
                batch.map_err(broken)?.iter().map(|line| serde_json::from_str(line)).collect();
            let batch = batch.map_err(|e| broken(e.into()))?;
            if batch.is_empty() {
                break;
            }
            if may_remove {
                removed += until_stopped(self.remove_batch(batch), &mut stop).await?;
            } else {
                batch.iter().for_each(|one| self.keep(one));
            }
        }
        if may_remove {
            removed += until_stopped(self.remove_dirs(), &mut stop).await?;
        }
        Ok(removed)
    }

    async fn remove_batch(&self, batch: Vec<Arrived>) -> u64 {
        let files = batch.iter().filter_map(|one| Some((one.path()?, one.version))).collect();
        let (removed, remaining) = self.source.remove(files).await;
        let transfer = {
            let mut state = self.state();
            state.remaining.merge(remaining);
            state.transfer
        };
        for (one, is_removed) in batch.iter().zip(&removed) {
            if let Some(settled) = one.settled(*is_removed) {
                self.tell(transfer, Event::File(settled));
            }
        }
        removed.into_iter().map(u64::from).sum()
    }

    async fn remove_dirs(&self) -> u64 {
        match self.source.remove_dirs().await {
            Ok((removed, remaining)) => {
                self.state().remaining.merge(remaining);
                removed
            }
            Err(error) => {
                self.state().remaining.note(error.to_string(), "directories".to_owned());
                0
            }
        }
    }

    /// Nothing may be removed.
    fn keep(&self, one: &Arrived) {
        let Some(settled) = one.settled(false) else { return };
        let transfer = {
            let mut state = self.state();
            let why =
                "the receiver does not sync, or not everything; its copy may not survive a power failure";
            state.remaining.note(why.to_owned(), settled.path.to_string());
            state.transfer
        };
        self.tell(transfer, Event::File(settled));
    }

    fn tell(&self, transfer: Option<TransferId>, event: Event) {
        self.inner.take(Report { transfer, peer: None, event });
    }

    /// An entry has ended. Returns its event, unless that waits for the end.
    fn ended(&self, transfer: Option<TransferId>, settled: FileSettled) -> Option<FileSettled> {
        let version = self.source.ended(&settled.path);
        let mut state = self.state();
        state.transfer = transfer;
        let why = match (settled.outcome, version) {
            (Outcome::Written | Outcome::Staged, Some(version)) => {
                let Some(arrived) = state.arrived.as_mut() else { return Some(settled) };
                match Arrived::new(&settled, version).write(arrived) {
                    Ok(()) => return None,
                    Err(error) => format!("cannot note that it arrived: {error}"),
                }
            }
            // Both sides may see the very same file, for example on a shared disk.
            (Outcome::Identical | Outcome::Unchanged | Outcome::Updated, Some(_)) => {
                "the receiver had it already".to_owned()
            }
            (Outcome::Skipped, Some(_)) => "the receiver kept another file under its name".to_owned(),
            // A directory that failed or was skipped.
            (_, None) => {
                self.source.keep_dir(&settled.path);
                return Some(settled);
            }
            // They are reported as what they are.
            _ => return Some(settled),
        };
        state.remaining.note(why, settled.path.to_string());
        Some(settled)
    }
}

impl Reporter for WithRemoval {
    fn take(&self, report: Report) {
        let Report { transfer, peer: _, event } = report;
        let event = match event {
            Event::File(settled) => match self.ended(transfer, settled) {
                Some(settled) => Event::File(FileSettled { removed: Some(false), ..settled }),
                None => return,
            },
            other => other,
        };
        self.inner.take(Report { transfer, peer: None, event });
    }
}

impl Arrived {
    fn new(settled: &FileSettled, version: Version) -> Self {
        let hex = |path: &RelPath| data_encoding::HEXLOWER.encode(path.as_bytes());
        Self {
            path: hex(&settled.path),
            renamed: settled.renamed.as_ref().map(hex),
            is_file: settled.is_file,
            size: settled.size,
            root: settled.blake3.map(|root| *root.as_bytes()),
            version,
        }
    }

    fn write(&self, list: &mut impl Write) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        list.write_all(&line)
    }

    fn path(&self) -> Option<RelPath> {
        path(&self.path)
    }

    fn settled(&self, removed: bool) -> Option<FileSettled> {
        Some(FileSettled {
            path: self.path()?,
            renamed: self.renamed.as_deref().and_then(path),
            is_file: self.is_file,
            size: self.size,
            blake3: self.root.map(blake3::Hash::from_bytes),
            outcome: Outcome::Written,
            message: None,
            removed: Some(removed),
        })
    }
}

fn path(hex: &str) -> Option<RelPath> {
    RelPath::new(&data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?).ok()
}

/// The result of `work`, or why this process was asked to stop meanwhile.
async fn until_stopped<T>(
    work: impl Future<Output = T>,
    stop: &mut watch::Receiver<Option<Failure>>,
) -> Result<T, Failure> {
    let stopped = async {
        match stop.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        result = work => Ok(result),
        failure = stopped => Err(failure),
    }
}
