//! `towline receive`.

use std::sync::Arc;

use tokio::sync::watch;

use super::manifest::WithManifest;
use super::meet::{meet, met};
use super::on_disk::on_disk;
use super::remember::keep;
use super::settings::{ReceiveSettings, Right};
use super::transfer::{Inbox, conclude, context, memory, receive_through};
use super::unfinished::Completion;
use crate::event::Reporter;
use crate::protocol::failure::{Failure, Side};
use crate::protocol::wire::role::Role;
use crate::session::Context;
use crate::storage::fs::{NetworkThreads, check_target};
use crate::transport::Connection;

/// Receives, and returns the exit code.
pub(super) async fn run(
    settings: ReceiveSettings,
    reporter: Arc<dyn Reporter>,
    network: NetworkThreads,
    stop: watch::Receiver<Option<Failure>>,
) -> Result<u8, Failure> {
    let ReceiveSettings { peer, into, exists, atomic, verify_disk, manifest, common, .. } = settings;
    let manifest = manifest.map(|path| WithManifest::create(path, Arc::clone(&reporter))).transpose()?;
    let reporter: Arc<dyn Reporter> = match &manifest {
        Some(manifest) => Arc::clone(manifest) as _,
        None => reporter,
    };
    // Before anybody is told to dial.
    let (limit, dir) = (common.disk_timeout, into.clone());
    let check = move || check_target(&dir).map_err(|error| error.of_target());
    on_disk((Side::Receiver, "open", &into), limit, &stop, check).await?;
    Completion::default().complete_sets(&(&into).into(), &reporter, limit, &stop).await?;
    let memory = memory(&common)?;
    let what = vec![into.clone()];
    let (connected, identity, stop) =
        meet(Role::Receive, peer.as_ref(), what, &common, *memory, &reporter, stop.clone()).await?;
    let context = context(&common, memory, Arc::clone(&reporter), stop.clone());
    let context = Context { atomic, verify_disk, identity: Some(identity), ..context };
    let sender = connected.link.connection.peer_fingerprint();
    let met = met(&connected, peer.as_ref());
    let inbox = Inbox { dir: (&into).into(), sender, reporter: Arc::clone(&reporter), network, quota: None };
    let done = receive_through(connected, inbox, exists, context).await;
    keep(common.remember, met, Right::Send, done.as_ref().err(), reporter.as_ref()).await;
    let done = done?;
    if let Some(manifest) = manifest {
        manifest.finish(&stop).await?;
    }
    Ok(conclude(done, reporter.as_ref()))
}
