//! `towline bench`: a transfer of made-up files, measured.

use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;

use super::meet::{Connected, meet, meet_itself};
use super::settings::{BenchSettings, BenchWith, CommonSettings, Peer, Rules, Workload};
use super::transfer::{
    Inbox, Silent, Transferred, context, memory, memory_of_two, of_both, receive_through, receive_with,
    send_through,
};
use crate::event::{Bench, Event, Outcome, Report, Reporter, TransferId};
use crate::node::processor::processor_time;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::path::printable;
use crate::protocol::wire::role::Role;
use crate::session::{Budget, Carried, Context, Lease};
use crate::storage::fs::sample::{disk_bytes, free_bytes, write_sample};
use crate::storage::fs::{Bounds, FsSource, NetworkThreads};
use crate::storage::void::{VoidSource, VoidTarget};
use crate::transport::Connection;
use crate::transport::quic::connection::Quic;

/// The result of a bench and its transfer.
type Measured = (TransferId, Bench);

/// Measures, and returns the exit code.
pub(super) async fn run(
    settings: BenchSettings,
    reporter: Arc<dyn Reporter>,
    network: NetworkThreads,
    stop: watch::Receiver<Option<Failure>>,
) -> Result<u8, Failure> {
    let BenchSettings { with, disk, common } = settings;
    let reporter: Arc<dyn Reporter> = Arc::new(WithoutFiles(reporter));
    let scratch = disk.as_deref().map(Scratch::new).transpose()?;
    let bench = Running { scratch: scratch.as_ref(), common: &common, reporter: &reporter, network, stop };
    let result = match with {
        BenchWith::Itself(workload) => bench.with_itself(workload).await,
        BenchWith::Peer(peer, workload) => bench.send_to(&peer, workload).await,
        BenchWith::Anyone => bench.wait().await,
    };
    // Also after a failure or a signal: a bench leaves nothing behind.
    let removed = scratch.map_or(Ok(()), Scratch::remove);
    let result = match (result, removed) {
        (Ok(measured), Ok(())) => measured,
        (Ok(_), Err(failure)) | (Err(failure), Ok(())) => return Err(failure),
        (Err(failure), Err(Failure { message, .. })) => {
            reporter.report(Event::Warning { path: None, reason: None, message });
            return Err(failure);
        }
    };
    let (transfer, bench) = result;
    let exit_code = bench.summary.gravest.map_or(0, Reason::exit_code);
    reporter.take(Report { transfer: Some(transfer), peer: None, event: Event::Bench(bench) });
    Ok(exit_code)
}

/// Passes on every event except those of successful test files.
struct WithoutFiles(Arc<dyn Reporter>);

impl Reporter for WithoutFiles {
    fn take(&self, report: Report) {
        match &report.event {
            Event::File(file) if !matches!(file.outcome, Outcome::Failed(_)) => {}
            _ => self.0.take(report),
        }
    }
}

/// What the three kinds of bench share.
struct Running<'a> {
    scratch: Option<&'a Scratch>,
    common: &'a CommonSettings,
    reporter: &'a Arc<dyn Reporter>,
    network: NetworkThreads,
    stop: watch::Receiver<Option<Failure>>,
}

impl Running<'_> {
    /// Both sides in this process; each has half of the memory.
    async fn with_itself(&self, workload: Workload) -> Result<Measured, Failure> {
        let sample = self.prepare(workload, 2).await?;
        let (memory, receiver_memory) = memory_of_two(self.common)?;
        let budget = *memory;
        let [(sender, _), (receiver, _)] = meet_itself(self.common, budget).await?;
        let (sending, receiving) =
            (self.context(memory, self.reporter), self.context(receiver_memory, &(Arc::new(Silent) as _)));
        let meter = Meter::start(&sender);
        let (sent, received) = tokio::join!(
            self.send(sender, sample.as_deref(), workload, sending),
            self.receive(receiver, receiving)
        );
        let (transfer, bench) = self.result(of_both(sent, received)?, &meter, budget);
        Ok((transfer, Bench { with_itself: true, ..bench }))
    }

    async fn send_to(&self, peer: &Peer, workload: Workload) -> Result<Measured, Failure> {
        let sample = self.prepare(workload, 1).await?;
        let (connected, memory) = self.connect(Role::BenchSend, Some(peer)).await?;
        let meter = Meter::start(&connected);
        let budget = *memory;
        let context = self.context(memory, self.reporter);
        let transferred = self.send(connected, sample.as_deref(), workload, context).await?;
        Ok(self.result(transferred, &meter, budget))
    }

    async fn wait(&self) -> Result<Measured, Failure> {
        let (connected, memory) = self.connect(Role::BenchReceive, None).await?;
        let meter = Meter::start(&connected);
        let budget = *memory;
        let transferred = self.receive(connected, self.context(memory, self.reporter)).await?;
        Ok(self.result(transferred, &meter, budget))
    }

    async fn connect(&self, role: Role, peer: Option<&Peer>) -> Result<(Connected, Lease), Failure> {
        let memory = memory(self.common)?;
        let stop = self.stop.clone();
        let people = (self.reporter, None);
        let (connected, ..) = meet(role, peer, Vec::new(), self.common, *memory, people, stop).await?;
        Ok((connected, memory))
    }

    fn context(&self, memory: Lease, reporter: &Arc<dyn Reporter>) -> Context {
        context(self.common, memory, Arc::clone(reporter), self.stop.clone())
    }

    /// Writes the files to send, if they come from a disk. The disk needs space for `copies` of them.
    async fn prepare(&self, workload: Workload, copies: u64) -> Result<Option<PathBuf>, Failure> {
        let Some(scratch) = self.scratch else { return Ok(None) };
        let space_bytes = scratch.check_space(&workload, copies)?;
        let bytes = workload.bytes();
        self.reporter.report(Event::Preparing { dir: scratch.given.clone(), bytes, space_bytes });
        let (dir, stop) = (scratch.dir.path().to_owned(), self.stop.clone());
        let write = move || write_sample(&dir, &workload, || stop.borrow().is_some());
        let written = tokio::task::spawn_blocking(write).await;
        match written.map_err(|e| Failure::new(Reason::Internal, e.to_string()))? {
            Ok(sample) => Ok(Some(sample)),
            Err(error) => {
                let stopped = self.stop.borrow().clone();
                Err(stopped.unwrap_or_else(|| Failure::new(Reason::Storage, error.to_string())))
            }
        }
    }

    async fn send(
        &self,
        connected: Connected,
        sample: Option<&Path>,
        workload: Workload,
        context: Context,
    ) -> Result<Transferred, Failure> {
        match sample {
            Some(sample) => {
                let source = match FsSource::new(&[sample.to_owned()], self.network.clone()) {
                    Ok(source) => source,
                    Err(failure) => return Err(connected.fail(failure).await),
                };
                send_through(connected, source, self.common, context).await
            }
            None => send_through(connected, VoidSource::new(workload), self.common, context).await,
        }
    }

    async fn receive(&self, connected: Connected, context: Context) -> Result<Transferred, Failure> {
        match self.scratch {
            Some(scratch) => {
                let into = scratch.dir.path().join("received");
                let network = self.network.clone();
                let sender = connected.link.connection.peer_fingerprint();
                let inbox = Inbox {
                    privileged: false,
                    dir: (&into).into(),
                    sender,
                    reporter: Arc::clone(self.reporter),
                    network,
                    quota: None,
                    bounds: Bounds::default(),
                };
                receive_through(connected, inbox, Rules::default(), context).await
            }
            None => {
                let open = |_, _| ready(Ok(VoidTarget));
                receive_with(connected, open, "nothing".to_owned(), Rules::default(), context).await
            }
        }
    }

    fn result(&self, transferred: Transferred, meter: &Meter, budget: Budget) -> Measured {
        let stats = meter.carried.connection().map(|connection| connection.stats()).unwrap_or_default();
        let bench = Bench {
            summary: transferred.summary,
            with_itself: false,
            on_disk: self.scratch.is_some(),
            rtt: stats.rtt,
            mtu_bytes: stats.mtu_bytes,
            sent_packets: stats.sent_packets,
            lost_packets: stats.lost_packets,
            streams: budget.streams(),
            cpu: processor_time().saturating_sub(meter.cpu_before),
        };
        (transferred.transfer, bench)
    }
}

/// What is read at the end of the transfer.
struct Meter {
    carried: Carried<Quic>,
    cpu_before: Duration,
}

impl Meter {
    fn start(connected: &Connected) -> Self {
        Self { carried: connected.link.carried(), cpu_before: processor_time() }
    }
}

/// A directory for test files on the disk under test.
struct Scratch {
    given: PathBuf,
    dir: TempDir,
}

impl Scratch {
    fn new(given: &Path) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix(".towline-bench-").tempdir_in(given);
        let dir = dir.map_err(|error| scratch_failure("make a directory in", given, &error))?;
        Ok(Self { given: given.to_owned(), dir })
    }

    /// Bytes that `copies` of the files of `workload` need, if that many are free.
    fn check_space(&self, workload: &Workload, copies: u64) -> Result<u64, Failure> {
        let needed = disk_bytes(workload).saturating_mul(copies);
        let free =
            free_bytes(&self.given).map_err(|error| Failure::new(Reason::Storage, error.to_string()))?;
        if free >= needed {
            return Ok(needed);
        }
        let dir = printable(self.given.as_os_str().as_encoded_bytes());
        let message = format!(
            "the bench needs {needed} bytes in {dir}, and {free} are free: use a smaller --size, fewer --files or another --disk"
        );
        Err(Failure::new(Reason::Storage, message))
    }

    fn remove(self) -> Result<(), Failure> {
        let path = self.dir.path().to_owned();
        self.dir.close().map_err(|error| scratch_failure("remove", &path, &error))
    }
}

fn scratch_failure(op: &str, path: &Path, error: &io::Error) -> Failure {
    let path = printable(path.as_os_str().as_encoded_bytes());
    Failure::new(Reason::Storage, format!("cannot {op} {path}: {error}"))
}
