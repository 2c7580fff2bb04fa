//! `towline send`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Zoned;
use tokio::sync::watch;

use super::connect::{Connected, connect, pair};
use super::manifest::WithManifest;
use super::settings::{CommonSettings, Peer, SendSettings};
use super::{conclude, receive, transfer_id};
use crate::event::{Event, Reporter, Summary};
use crate::node::processor::processor_use;
use crate::protocol::engine::patience::Patience;
use crate::protocol::engine::receiver::Exists;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::printable;
use crate::protocol::wire::message::Role;
use crate::session::schedule::Schedule;
use crate::session::{self, Budget, Context, Throttle};
use crate::storage::Source;
use crate::storage::fs::FsSource;

/// Sends, and returns the exit code.
pub(super) async fn run(
    settings: SendSettings,
    reporter: Arc<dyn Reporter>,
    stop: watch::Receiver<Option<Failure>>,
) -> Result<u8, Failure> {
    let SendSettings { sources, peer, manifest, common } = settings;
    let source = FsSource::new(&sources)?;
    let manifest = manifest.map(|path| WithManifest::create(path, Arc::clone(&reporter))).transpose()?;
    let reporter: Arc<dyn Reporter> = match &manifest {
        Some(manifest) => Arc::clone(manifest) as _,
        None => reporter,
    };
    let summary = match peer {
        Some(Peer::Dir(dir)) => {
            refuse_inside(&dir, &sources)?;
            send_to_dir(source, &dir, &common, &reporter, stop.clone()).await?
        }
        peer => {
            let budget = budget(&common);
            let what: Vec<PathBuf> = sources;
            let connected =
                connect(Role::Send, peer.as_ref(), what, &common, budget, &reporter, stop.clone()).await?;
            let context = context(&common, budget, Arc::clone(&reporter), stop.clone());
            send_through(connected, source, &common, context).await?
        }
    };
    if let Some(manifest) = manifest {
        manifest.finish(&stop).await?;
    }
    Ok(conclude(summary, reporter.as_ref()))
}

pub(super) fn budget(common: &CommonSettings) -> Budget {
    Budget::new(common.memory_bytes, common.streams).with_rate(common.bwlimit.greatest_rate())
}

pub(super) fn context(
    common: &CommonSettings,
    budget: Budget,
    reporter: Arc<dyn Reporter>,
    stop: watch::Receiver<Option<Failure>>,
) -> Context {
    let throttle = Arc::new(Throttle::new(common.bwlimit.clone(), time_of_day));
    let patience = Patience { timeout: common.timeout, disk_timeout: common.disk_timeout };
    Context { budget, patience, throttle, processor_use, synced: common.fsync, reporter, stop }
}

/// The time since midnight, here and now.
fn time_of_day() -> Duration {
    let time = Zoned::now().time();
    let seconds = [(time.hour(), 3600), (time.minute(), 60), (time.second(), 1)];
    Duration::from_secs(seconds.iter().map(|(number, unit)| u64::from(number.unsigned_abs()) * unit).sum())
}

/// Sends what `source` walks over.
pub(super) async fn send_through(
    connected: Connected,
    source: impl Source,
    common: &CommonSettings,
    context: Context,
) -> Result<Summary, Failure> {
    let transfer = match transfer_id() {
        Ok(transfer) => transfer,
        Err(failure) => return Err(connected.fail(failure).await),
    };
    let (link, keeper) = connected.split();
    let chunk_log2 = u8::try_from(common.chunk_size_bytes.trailing_zeros()).unwrap_or(u8::MAX);
    let reporter = Arc::clone(&context.reporter);
    let result = session::send::driver::run(link, Arc::new(source), chunk_log2, transfer, context).await;
    keeper.goodbye(result.is_ok(), reporter.as_ref()).await;
    result
}

/// A walk that came upon its own output would never end.
fn refuse_inside(dir: &Path, sources: &[PathBuf]) -> Result<(), Failure> {
    // What does not exist yet is made below the nearest directory that does.
    let Some(real) = dir.ancestors().find_map(|part| {
        let part = if part.as_os_str().is_empty() { Path::new(".") } else { part };
        part.canonicalize().ok()
    }) else {
        return Ok(());
    };
    for source in sources {
        if source.canonicalize().is_ok_and(|source| real.starts_with(source)) {
            let (dir, source) = (dir.as_os_str().as_encoded_bytes(), source.as_os_str().as_encoded_bytes());
            let message = format!(
                "{} lies inside {}, which is to be sent; send to another directory",
                printable(dir),
                printable(source)
            );
            return Err(Failure::on(Side::Sender, Reason::Refused, message));
        }
    }
    Ok(())
}

/// Hears nothing: the sender beside it tells everything.
pub(super) struct Silent;

impl Reporter for Silent {
    fn report(&self, _: Event) {}
}

/// Sends to a receiver in this process; each has half of the memory.
async fn send_to_dir(
    source: FsSource,
    dir: &Path,
    common: &CommonSettings,
    reporter: &Arc<dyn Reporter>,
    stop: watch::Receiver<Option<Failure>>,
) -> Result<Summary, Failure> {
    let budget = Budget::of_two(common.memory_bytes, common.streams);
    let (sender, receiver) = pair(common, budget).await?;
    let sending = context(common, budget, Arc::clone(reporter), stop);
    // One of the two holds back what passes both.
    let unlimited = Arc::new(Throttle::new(Schedule::default(), time_of_day));
    let receiving = Context { throttle: unlimited, reporter: Arc::new(Silent), ..sending.clone() };
    let receiving = receive::receive_through(receiver, dir, Exists::default(), common.fsync, receiving);
    let sending = send_through(sender, source, common, sending);
    let (sent, received) = tokio::join!(sending, receiving);
    of_both(sent, received)
}

/// How a transfer ended whose two sides are this process. The failure of either reaches the sender, which has the last
/// word; only the receiver's own message names the whole path.
pub(super) fn of_both(
    sent: Result<Summary, Failure>,
    received: Result<Summary, Failure>,
) -> Result<Summary, Failure> {
    match (sent, received) {
        (Err(said), Err(own)) if said.from_peer && !own.from_peer => Err(own),
        (sent, _) => sent,
    }
}
