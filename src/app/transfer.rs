//! One transfer over an established connection, as the commands use it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Zoned;
use tokio::sync::watch;

use super::known_path::PathOfSender;
use super::meet::Connected;
use super::on_disk::on_disk;
use super::settings::CommonSettings;
use crate::auth::Fingerprint;
use crate::event::{Event, OfTransfer, Report, Reporter, Summary, TransferId};
use crate::node::memory::Memory;
use crate::node::peers::exists_word;
use crate::node::processor::processor_use;
use crate::node::quota::CpuQuota;
use crate::protocol::engine::patience::Patience;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::printable;
use crate::protocol::request::{Beyond, Request, Rules};
use crate::session::schedule::Schedule;
use crate::session::{self, Budget, Compression, Context, Lease, Throttle, close_with};
use crate::storage::fs::{Bounds, FsTarget, Incoming, NetworkThreads, PeerQuota, TargetDir};
use crate::storage::{Source, Target};

/// A completed transfer. Its summary counts the entries that failed.
pub(super) struct Transferred {
    pub(super) transfer: TransferId,
    pub(super) summary: Summary,
}

/// The memory of this process, for all its sessions.
pub(super) fn memory_of_all(common: &CommonSettings) -> Memory {
    let whole = Budget::new(common.memory_bytes, common.streams);
    Memory::new(whole.with_rate(common.bwlimit.greatest_rate()))
}

/// The memory of this process, for one session.
pub(super) fn memory(common: &CommonSettings) -> Result<Lease, Failure> {
    memory_of_all(common).lease(1)
}

/// The same, shared equally by two sessions of this process.
pub(super) fn memory_of_two(common: &CommonSettings) -> Result<(Lease, Lease), Failure> {
    let memory = Memory::new(Budget::new(common.memory_bytes, common.streams));
    Ok((memory.lease(2)?, memory.lease(2)?))
}

pub(super) fn context(
    common: &CommonSettings,
    memory: Lease,
    reporter: Arc<dyn Reporter>,
    stop: watch::Receiver<Option<Failure>>,
) -> Context {
    let throttle = throttle(common.bwlimit.clone());
    let patience = Patience { timeout: common.timeout, disk_timeout: common.disk_timeout };
    // Read when the transfer begins: a service manager may set the quota while this side waits.
    let quota = OnceLock::new();
    let processor_use = Arc::new(move || processor_use(quota.get_or_init(CpuQuota::find)));
    let synced = common.fsync;
    Context {
        memory,
        patience,
        throttle,
        processor_use,
        delta: false,
        compression: Compression::Off,
        synced,
        atomic: false,
        piped: false,
        verify_disk: false,
        receipt: false,
        request: Request::default(),
        consent: None,
        program: None,
        identity: None,
        reporter,
        stop,
    }
}

pub(super) fn throttle(schedule: Schedule) -> Arc<Throttle> {
    Arc::new(Throttle::new(schedule, time_of_day))
}

/// Local time since midnight.
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
) -> Result<Transferred, Failure> {
    let transfer = match transfer_id() {
        Ok(transfer) => transfer,
        Err(failure) => return Err(connected.fail(failure).await),
    };
    let (link, keeper) = connected.split();
    let remembers = common.path_memory && !context.request.is_dry;
    let path = PathOfSender::take_up(&link.connection, remembers).await;
    let reporter: Arc<dyn Reporter> = OfTransfer::new(transfer.into(), Arc::clone(&context.reporter));
    let context = Context { reporter: Arc::clone(&reporter), ..context };
    let chunk_log2 = u8::try_from(common.chunk_size_bytes.trailing_zeros()).unwrap_or(u8::MAX);
    let result = session::send::driver::run(link, Arc::new(source), chunk_log2, transfer, context).await;
    keeper.goodbye(result.as_ref().err(), reporter.as_ref()).await;
    path.keep().await;
    Ok(Transferred { transfer: transfer.into(), summary: result? })
}

/// Where a transfer is received to.
pub(super) struct Inbox {
    /// Created if needed.
    pub(super) dir: TargetDir,
    /// The sender that interrupted files are resumed for.
    pub(super) sender: Fingerprint,
    /// Whether the sender may set owners, set-id bits and attributes of the system.
    pub(super) privileged: bool,
    /// Takes warnings of the disk.
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) network: NetworkThreads,
    /// The room of the sender there, if it is limited.
    pub(super) quota: Option<PeerQuota>,
    pub(super) bounds: Bounds,
}

/// Receives one transfer into a directory.
pub(super) async fn receive_through(
    connected: Connected,
    inbox: Inbox,
    rules: Rules,
    context: Context,
) -> Result<Transferred, Failure> {
    let Inbox { dir, sender, privileged, reporter, network, quota, bounds } = inbox;
    let (sync, atomic, verify) = (context.synced, context.atomic, context.verify_disk);
    let path = dir.path();
    let name = printable(path.as_os_str().as_encoded_bytes());
    let (limit, stop) = (context.patience.disk_timeout, context.stop.clone());
    let open = async |transfer: String, only_looks: bool| {
        let incoming = Incoming {
            transfer,
            sender,
            sync,
            atomic,
            verify,
            privileged,
            only_looks,
            quota,
            bounds,
            reporter,
        };
        let open = move || FsTarget::new(dir, incoming, network).map_err(|error| error.of_target());
        on_disk((Side::Receiver, "open", &path), limit, &stop, open).await
    };
    receive_with(connected, open, name, rules, context).await
}

/// Receives one transfer into the target that `open` returns for the transfer's name, and for whether it only looks. People see the target as
/// `target_name`.
pub(super) async fn receive_with<T: Target>(
    connected: Connected,
    open: impl AsyncFnOnce(String, bool) -> Result<T, Failure>,
    target_name: String,
    rules: Rules,
    context: Context,
) -> Result<Transferred, Failure> {
    let (mut link, keeper) = connected.split();
    let mut reporter = Arc::clone(&context.reporter);
    let opened = async {
        let offer = session::receive::offer::offer(&mut link, &context).await?;
        let treatment = rules.grant(&offer.request).map_err(not_granted)?;
        let target = open(session::name_of(offer.transfer), treatment.is_dry).await?;
        Ok((offer, treatment, target))
    };
    let result = match opened.await {
        Ok((offer, treatment, target)) => {
            let transfer = offer.transfer.into();
            reporter = OfTransfer::new(transfer, reporter);
            let context = Context { reporter: Arc::clone(&reporter), ..context };
            let target = Arc::new(target);
            let result =
                session::receive::driver::run(link, offer, target, target_name, treatment, context).await;
            result.map(|summary| Transferred { transfer, summary })
        }
        Err(failure) => {
            close_with(&link.connection, &failure);
            Err(failure)
        }
    };
    keeper.goodbye(result.as_ref().err(), reporter.as_ref()).await;
    result
}

/// The sender asks for more than this side allows. Nothing has been touched.
fn not_granted(beyond: Beyond) -> Failure {
    match beyond {
        Beyond::DeleteBeside => {
            let why = "--delete does not go with --exists rename, whose other names it would delete the next time; nothing \
                       was changed";
            Failure::on(Side::Receiver, Reason::Refused, why).telling(why)
        }
        Beyond::Delete => {
            let ways = "`towline receive --allow-delete` allows it, and for a known peer of a side that stays `towline peers \
                        set NAME --may send,delete`";
            let message = format!("the sender asks for --delete; nothing was changed. Here, {ways}");
            let told = format!("it does not allow --delete; nothing was changed. There, {ways}");
            Failure::on(Side::Receiver, Reason::Refused, message).telling(told)
        }
        Beyond::Exists { asked, allowed } => {
            let (asked, allowed) = (exists_word(asked), exists_word(allowed));
            let ways = format!(
                "`towline receive --exists {asked}` allows it, and for a known peer of a side that stays `towline peers set NAME \
                 --policies {asked}`"
            );
            let message = format!(
                "the sender asks for --exists {asked}, and this side allows {allowed} at most; nothing was changed. Here, {ways}"
            );
            Failure::on(Side::Receiver, Reason::Refused, message).telling(format!(
                "--exists {asked} is more than it allows, which is {allowed}; nothing was changed. There, {ways}"
            ))
        }
    }
}

/// The result of a transfer within this process. The sender learns of a failure on either side, but only the
/// receiver's own message has the full path.
pub(super) fn of_both(
    sent: Result<Transferred, Failure>,
    received: Result<Transferred, Failure>,
) -> Result<Transferred, Failure> {
    match (sent, received) {
        (Err(said), Err(own)) if said.from_peer && !own.from_peer => Err(own),
        (sent, _) => sent,
    }
}

/// Reports the end of a transfer. Returns 0 or the exit code of the gravest failed entry.
pub(super) fn conclude(done: Transferred, reporter: &dyn Reporter) -> u8 {
    let exit_code = done.summary.gravest.map_or(0, Reason::exit_code);
    let event = Event::Finished(done.summary);
    reporter.take(Report { transfer: Some(done.transfer), peer: None, event });
    exit_code
}

/// A transfer's random name.
fn transfer_id() -> Result<[u8; 16], Failure> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| {
        Failure::new(Reason::Internal, format!("cannot get random numbers from the system: {e}"))
    })?;
    Ok(id)
}

/// Drops all events: the sender in the same process reports everything.
pub(super) struct Silent;

impl Reporter for Silent {
    fn take(&self, _: Report) {}
}
