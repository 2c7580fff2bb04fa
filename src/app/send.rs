//! `towline send`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::consent::compare;
use super::manifest::WithManifest;
use super::meet::{Connected, meet, meet_itself, met};
use super::moving::WithRemoval;
use super::receipt_file::ReceiptFile;
use super::remember::keep;
use super::settings::{CommonSettings, Compression, Delta, Peer, Request, Right, Rules, SendSettings};
use super::transfer::{
    Inbox, Silent, Transferred, conclude, context, memory, memory_of_two, of_both, receive_through,
    send_through, throttle,
};
use super::unfinished::Completion;
use super::uses::Uses;
use crate::auth::{Fingerprint, Identity};
use crate::event::{Asker, Reporter};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::printable;
use crate::protocol::wire::role::Role;
use crate::session::schedule::Schedule;
use crate::session::{Context, Lease};
use crate::storage::Source;
use crate::storage::fs::{Bounds, FsSource, NetworkThreads, Selection};
use crate::storage::stdio::StdinSource;

/// Stands for a sender in the same process, whose key is for this run only.
const THIS_MACHINE: Fingerprint = Fingerprint::from_bytes([0; 32]);

/// Sends, and returns the exit code.
pub(super) async fn run(
    settings: SendSettings,
    reporter: Arc<dyn Reporter>,
    asker: Option<Arc<dyn Asker>>,
    network: NetworkThreads,
    stop: watch::Receiver<Option<Failure>>,
) -> Result<u8, Failure> {
    let people = (reporter, asker);
    if let Some(name) = settings.stdin.clone() {
        let source = StdinSource::new(io::stdin(), name)?;
        return deliver(source, None, || 0, settings, people, network, stop).await;
    }
    let source = FsSource::select(&settings.sources, Selection::clone(&settings.selection), network.clone())?;
    let walked = source.clone();
    // A dry run leaves nothing behind.
    let removal = match settings.remove_source && !settings.request.is_dry {
        true => Some(WithRemoval::create(source.clone(), Arc::clone(&people.0))?),
        false => None,
    };
    deliver(source, removal, move || walked.left_out(), settings, people, network, stop).await
}

/// Sends `source`. The sources that have arrived go as `removal` says, and `left_out` counts the entries that the
/// selection has left out.
async fn deliver<S: Source + Clone>(
    source: S,
    removal: Option<Arc<WithRemoval>>,
    left_out: impl FnOnce() -> u64,
    settings: SendSettings,
    (reporter, asker): (Arc<dyn Reporter>, Option<Arc<dyn Asker>>),
    network: NetworkThreads,
    mut stop: watch::Receiver<Option<Failure>>,
) -> Result<u8, Failure> {
    let SendSettings { sources, peer, delta, compression, manifest, .. } = settings;
    let SendSettings { verify_disk, request, rules, atomic, receipt, common, .. } = settings;
    let is_dry = request.is_dry;
    let reporter: Arc<dyn Reporter> = match &removal {
        Some(removal) => Arc::clone(removal) as _,
        None => reporter,
    };
    let manifest = manifest
        .filter(|_| !is_dry)
        .map(|path| WithManifest::create(path, Arc::clone(&reporter)))
        .transpose()?;
    let reporter: Arc<dyn Reporter> = match &manifest {
        Some(manifest) => Arc::clone(manifest) as _,
        None => reporter,
    };
    let receipt = receipt.filter(|_| !is_dry).map(ReceiptFile::create).transpose()?;
    let mut done = match peer {
        Some(Peer::Dir(dir)) => {
            refuse_inside(&dir, &sources)?;
            if !is_dry {
                let completion = Completion::default();
                completion.complete_sets(&(&dir).into(), &reporter, common.disk_timeout, &stop).await?;
            }
            let reporter = Arc::clone(&reporter);
            let inbox = own_inbox(&dir, reporter, network);
            let wants_receipt = receipt.is_some();
            let receiving = Receiving { request, rules, atomic, verify_disk, wants_receipt };
            send_to_dir(source, inbox, receiving, &common, stop.clone()).await
        }
        peer => {
            let told = Arc::clone(&reporter);
            let (is_delta, wants_receipt) = (delta == Delta::Auto, receipt.is_some());
            let delivery = Delivery {
                source,
                common: &common,
                is_delta,
                compression,
                wants_receipt,
                request,
                reporter: told,
                asker,
            };
            let what: Vec<PathBuf> = sources;
            if common.uses > 1 && peer.is_none() {
                return delivery.send_to_several(what, &mut stop).await;
            }
            delivery.send_to_one(peer.as_ref(), what, &stop).await?
        }
    };
    if let (Ok(_), Some(manifest)) = (&done, manifest) {
        manifest.finish(&stop).await?;
    }
    if let (Ok(ended), Some(receipt)) = (&done, receipt) {
        // Before a source is removed.
        if let Err(failure) = receipt.keep(&ended.summary, reporter.as_ref()) {
            done = Err(failure);
        }
    }
    if let Some(removal) = removal {
        removal.finish(done.as_mut().ok().map(|done| &mut done.summary), &stop).await?;
    }
    let mut done = done?;
    done.summary.left_out = left_out();
    Ok(conclude(done, reporter.as_ref()))
}

/// Where a receiver in this process writes.
fn own_inbox(dir: &Path, reporter: Arc<dyn Reporter>, network: NetworkThreads) -> Inbox {
    Inbox {
        dir: dir.into(),
        sender: THIS_MACHINE,
        privileged: true,
        reporter,
        network,
        quota: None,
        bounds: Bounds::default(),
    }
}

/// What all transfers of this run share.
struct Delivery<'a, S> {
    source: S,
    common: &'a CommonSettings,
    is_delta: bool,
    compression: Compression,
    wants_receipt: bool,
    request: Request,
    reporter: Arc<dyn Reporter>,
    asker: Option<Arc<dyn Asker>>,
}

impl<S: Source + Clone> Delivery<'_, S> {
    /// Waits until one ticket has served all its transfers; returns the exit code.
    async fn send_to_several(
        &self,
        what: Vec<PathBuf>,
        stop: &mut watch::Receiver<Option<Failure>>,
    ) -> Result<u8, Failure> {
        let mut uses = Uses::open(Role::Send, what, self.common, &self.reporter)?;
        while let Some((connected, memory, _place)) = uses.next(stop).await? {
            let done = self.send(connected, memory, Arc::clone(&uses.identity), stop.clone()).await;
            uses.ended(done);
        }
        Ok(uses.end().await)
    }

    /// Meets one peer, and sends to it. The outer error is that of the meeting.
    async fn send_to_one(
        &self,
        peer: Option<&Peer>,
        what: Vec<PathBuf>,
        stop: &watch::Receiver<Option<Failure>>,
    ) -> Result<Result<Transferred, Failure>, Failure> {
        let Self { common, reporter, .. } = self;
        let memory = memory(common)?;
        let people = (reporter, self.asker.as_deref());
        let meeting = meet(Role::Send, peer, what, common, *memory, people, stop.clone());
        let (connected, identity, stop) = meeting.await?;
        let met = met(&connected, peer);
        let done = self.send(connected, memory, identity, stop).await;
        let remember = common.remember.clone().filter(|_| !self.request.is_dry);
        keep(remember, met, Right::Receive, done.as_ref().err(), reporter.as_ref()).await;
        Ok(done)
    }

    /// Sends to one peer, if the person at the terminal takes it for the right one.
    async fn send(
        &self,
        connected: Connected,
        memory: Lease,
        identity: Arc<Identity>,
        stop: watch::Receiver<Option<Failure>>,
    ) -> Result<Transferred, Failure> {
        let Self { source, common, is_delta, compression, wants_receipt, request, reporter, asker } = self;
        let connected = match asker.as_deref().filter(|_| common.verify) {
            Some(asker) => {
                compare(connected, identity.fingerprint(), Side::Sender, asker, stop.clone()).await?
            }
            None => connected,
        };
        let context = context(common, memory, Arc::clone(reporter), stop);
        let identity = Some(identity);
        let (delta, compression) = (*is_delta, *compression);
        let (receipt, request) = (*wants_receipt, request.clone());
        let context = Context { delta, compression, receipt, request, identity, ..context };
        send_through(connected, source.clone(), common, context).await
    }
}

/// A walk that reached its own output would never end.
fn refuse_inside(dir: &Path, sources: &[PathBuf]) -> Result<(), Failure> {
    // A missing directory will be made below its nearest existing ancestor.
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
                "{} is inside {}, which is being sent; choose another directory",
                printable(dir),
                printable(source)
            );
            return Err(Failure::on(Side::Sender, Reason::Refused, message));
        }
    }
    Ok(())
}

/// What the receiver in this process does.
struct Receiving {
    request: Request,
    rules: Rules,
    atomic: bool,
    verify_disk: bool,
    wants_receipt: bool,
}

/// Sends to a receiver in this process; each has half of the memory.
async fn send_to_dir(
    source: impl Source,
    inbox: Inbox,
    Receiving { request, rules, atomic, verify_disk, wants_receipt }: Receiving,
    common: &CommonSettings,
    stop: watch::Receiver<Option<Failure>>,
) -> Result<Transferred, Failure> {
    let (memory, receiver_memory) = memory_of_two(common)?;
    let [(sender, own), (receiver, receiver_key)] = meet_itself(common, *memory).await?;
    let sending = context(common, memory, Arc::clone(&inbox.reporter), stop);
    let sending = Context { receipt: wants_receipt, request, identity: Some(own), ..sending };
    // Limiting one of the two sides is enough.
    let unlimited = throttle(Schedule::default());
    let receiving = Context {
        memory: receiver_memory,
        throttle: unlimited,
        reporter: Arc::new(Silent),
        atomic,
        verify_disk,
        identity: Some(receiver_key),
        ..sending.clone()
    };
    let receiving = receive_through(receiver, inbox, rules, receiving);
    let sending = send_through(sender, source, common, sending);
    let (sent, received) = tokio::join!(sending, receiving);
    of_both(sent, received)
}
