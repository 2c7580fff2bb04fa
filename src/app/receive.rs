//! `towline receive`.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::conclude;
use super::connect::{Connected, connect};
use super::manifest::WithManifest;
use super::send::{budget, context};
use super::settings::ReceiveSettings;
use crate::event::{Reporter, Summary};
use crate::protocol::engine::receiver::Exists;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::printable;
use crate::protocol::place::Place;
use crate::protocol::wire::message::Role;
use crate::session::{self, Context, close_with};
use crate::storage::Target;
use crate::storage::fs::{FsTarget, check_target};

/// Receives, and returns the exit code.
pub(super) async fn run(
    settings: ReceiveSettings,
    reporter: Arc<dyn Reporter>,
    stop: watch::Receiver<Option<Failure>>,
) -> Result<u8, Failure> {
    let ReceiveSettings { peer, into, exists, manifest, common, .. } = settings;
    let manifest = manifest.map(|path| WithManifest::create(path, Arc::clone(&reporter))).transpose()?;
    let reporter: Arc<dyn Reporter> = match &manifest {
        Some(manifest) => Arc::clone(manifest) as _,
        None => reporter,
    };
    // Before anybody is told to dial.
    check_target(&into).map_err(|error| error.failure(Side::Receiver, Reason::Storage))?;
    let budget = budget(&common);
    let what = vec![into.clone()];
    let connected =
        connect(Role::Receive, peer.as_ref(), what, &common, budget, &reporter, stop.clone()).await?;
    let context = context(&common, budget, Arc::clone(&reporter), stop.clone());
    let summary = receive_through(connected, &into, exists, common.fsync, context).await?;
    if let Some(manifest) = manifest {
        manifest.finish(&stop).await?;
    }
    Ok(conclude(summary, reporter.as_ref()))
}

/// Receives one transfer into `dir`, which is made if it is not there.
pub(super) async fn receive_through(
    connected: Connected,
    dir: &Path,
    exists: Exists,
    sync: bool,
    context: Context,
) -> Result<Summary, Failure> {
    let name = printable(dir.as_os_str().as_encoded_bytes());
    let (limit, shown) = (context.patience.disk_timeout, name.clone());
    let open = async |transfer: String| {
        let dir = dir.to_owned();
        let target = tokio::task::spawn_blocking(move || FsTarget::new(&dir, &transfer, sync));
        let Ok(target) = tokio::time::timeout(limit, target).await else {
            let sentence = |dir: &str| {
                format!("cannot open {dir}: the disk has not answered for {limit:?} (--disk-timeout)")
            };
            let place = Place::target_directory(shown);
            return Err(Failure::about(Side::Receiver, Reason::Storage, &place, sentence));
        };
        let target = target.map_err(|e| Failure::new(Reason::Internal, e.to_string()))?;
        target.map_err(|error| error.failure(Side::Receiver, Reason::Storage))
    };
    receive_with(connected, open, name, exists, context).await
}

/// Receives one transfer into what `open` makes of its name, shown to people as `target_name`.
pub(super) async fn receive_with<T: Target>(
    connected: Connected,
    open: impl AsyncFnOnce(String) -> Result<T, Failure>,
    target_name: String,
    exists: Exists,
    context: Context,
) -> Result<Summary, Failure> {
    let (mut link, keeper) = connected.split();
    let connection = link.connection.clone();
    let reporter = Arc::clone(&context.reporter);
    let opened = async {
        let offer = session::receive::driver::offer(&mut link, &context).await?;
        Ok((offer, open(session::name_of(offer.transfer)).await?))
    };
    let result = match opened.await {
        Ok((offer, target)) => {
            session::receive::driver::run(link, offer, Arc::new(target), target_name, exists, context).await
        }
        Err(failure) => {
            close_with(&connection, &failure);
            Err(failure)
        }
    };
    keeper.goodbye(result.is_ok(), reporter.as_ref()).await;
    result
}
