//! The service of a side that stays: it receives into a directory, or it sends what it offers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::exec::{FromPeer, WithProgram, reporter_of};
use super::meet::Connected;
use super::on_disk::on_disk;
use super::settings::{
    CommonSettings, Delta, Exists, InboxSettings, OfferSettings, Right, Rules, ServiceSettings,
};
use super::transfer::{Inbox, Transferred, receive_through, send_through};
use super::unfinished::Completion;
use crate::event::Reporter;
use crate::node::peers::KnownPeer;
use crate::protocol::failure::{Failure, Side};
use crate::protocol::wire::role::Role;
use crate::session::Context;
use crate::storage::fs::{FsSource, NetworkThreads, PeerQuota, Selection, TargetDir, Usage, check_target};
use crate::transport::Connection;

/// What a side that stays does for its peers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Service {
    settings: Arc<ServiceSettings>,
    network: NetworkThreads,
    /// That of the process, for what concerns no transfer.
    reporter: Arc<dyn Reporter>,
    completion: Completion,
    /// Of the directories of peers with a quota, while transfers run into them.
    usages: Arc<Mutex<HashMap<PathBuf, Weak<Usage>>>>,
}

impl Service {
    pub(super) fn new(
        settings: ServiceSettings,
        network: NetworkThreads,
        reporter: Arc<dyn Reporter>,
    ) -> Self {
        let (completion, usages) = (Completion::default(), Arc::default());
        Self { settings: Arc::new(settings), network, reporter, completion, usages }
    }

    /// What this side does.
    pub(super) fn role(&self) -> Role {
        match &*self.settings {
            ServiceSettings::Inbox(_) => Role::Receive,
            ServiceSettings::Offer(_) => Role::Send,
        }
    }

    /// What a peer must be allowed to do.
    pub(super) fn right(&self) -> Right {
        match &*self.settings {
            ServiceSettings::Inbox(_) => Right::Send,
            ServiceSettings::Offer(_) => Right::Receive,
        }
    }

    /// What is shown to people: the target directory, or the sources.
    pub(super) fn what(&self) -> Vec<PathBuf> {
        match &*self.settings {
            ServiceSettings::Inbox(inbox) => vec![inbox.into.clone()],
            ServiceSettings::Offer(offer) => offer.sources.clone(),
        }
    }

    /// Checks what can be checked before anybody dials.
    pub(super) async fn check(
        &self,
        limit: Duration,
        stop: &watch::Receiver<Option<Failure>>,
    ) -> Result<(), Failure> {
        match &*self.settings {
            ServiceSettings::Inbox(InboxSettings { into, .. }) => {
                let dir = into.clone();
                let check = move || check_target(&dir).map_err(|error| error.of_target());
                on_disk((Side::Receiver, "open", into), limit, stop, check).await?;
                self.completion.complete_sets(&into.into(), &self.reporter, limit, stop).await
            }
            ServiceSettings::Offer(offer) => self.open(offer, limit, stop).await.map(drop),
        }
    }

    /// Runs the transfer of a peer that was let in.
    pub(super) async fn serve(
        &self,
        connected: Connected,
        (name, peer): (&str, Option<&KnownPeer>),
        common: &CommonSettings,
        context: Context,
    ) -> Result<Transferred, Failure> {
        let limit = common.disk_timeout;
        match &*self.settings {
            ServiceSettings::Inbox(inbox) => {
                self.receive(inbox, connected, (name, peer), limit, context).await
            }
            ServiceSettings::Offer(offer) => {
                // As the sources are now.
                let source = match self.open(offer, limit, &context.stop).await {
                    Ok(source) => source,
                    Err(failure) => return Err(connected.fail(failure).await),
                };
                let (delta, request) = (offer.delta == Delta::Auto, offer.request.clone());
                let context = Context { delta, compression: offer.compression, request, ..context };
                let walked = source.clone();
                let done = send_through(connected, source, common, context).await;
                done.map(|mut done| {
                    done.summary.left_out = walked.left_out();
                    done
                })
            }
        }
    }

    async fn receive(
        &self,
        inbox: &InboxSettings,
        connected: Connected,
        (name, peer): (&str, Option<&KnownPeer>),
        limit: Duration,
        context: Context,
    ) -> Result<Transferred, Failure> {
        let InboxSettings { into, exists, compares, allow_delete, atomic, verify_disk, bounds, exec } = inbox;
        let sender = connected.link.connection.peer_fingerprint();
        let own_dir = peer.and_then(|peer| peer.into.as_ref());
        let dir = own_dir.map_or_else(|| into.into(), |own| TargetDir::inside(into, own));
        let quota = peer.and_then(|peer| peer.quota).map(|limit| self.quota(&dir.path(), limit));
        if let Err(failure) = self.completion.complete_sets(&dir, &self.reporter, limit, &context.stop).await
        {
            return Err(connected.fail(failure).await);
        }
        let program = exec.clone().map(|exec| {
            let address = connected.link.connection.remote_address();
            let from = FromPeer { name: peer.map(|_| name.to_owned()), fingerprint: sender, address };
            WithProgram::new(exec, &dir.path(), from, None, Arc::clone(&context.reporter))
        });
        let (reporter, network) = (reporter_of(program.as_ref(), &context.reporter), self.network.clone());
        let context = Context { reporter: Arc::clone(&reporter), ..context };
        let context = Context { program: program.clone().map(|program| program as _), ..context };
        let context = Context { atomic: *atomic, verify_disk: *verify_disk, ..context };
        let bounds = peer.map_or_else(|| bounds.clone(), |peer| bounds.with(&peer.limits));
        let privileged = peer.is_some_and(|peer| peer.may.contains(&Right::Archive));
        let inbox = Inbox { dir, sender, privileged, reporter, network, quota, bounds };
        let rules = rules(*exists, *allow_delete, peer);
        // A set changes nothing before all of it does.
        let allows_delete = rules.allows_delete && !atomic;
        let rules = Rules { compares: *compares, allows_delete, ..rules };
        let done = receive_through(connected, inbox, rules, context).await;
        if let (Some(program), Ok(done)) = (program, &done) {
            program.note_end(&done.summary);
        }
        done
    }

    /// Opens the sources.
    async fn open(
        &self,
        offer: &OfferSettings,
        limit: Duration,
        stop: &watch::Receiver<Option<Failure>>,
    ) -> Result<FsSource, Failure> {
        let (sources, selection, network) =
            (offer.sources.clone(), Selection::clone(&offer.selection), self.network.clone());
        let first = offer.sources.first().cloned().unwrap_or_default();
        on_disk((Side::Sender, "open", &first), limit, stop, move || {
            FsSource::select(&sources, selection, network)
        })
        .await
    }

    /// The room of a peer in `dir`, which transfers at the same time share.
    fn quota(&self, dir: &Path, limit_bytes: u64) -> PeerQuota {
        let mut usages = self.usages.lock().unwrap_or_else(PoisonError::into_inner);
        usages.retain(|_, usage| usage.strong_count() > 0);
        let usage = usages.get(dir).and_then(Weak::upgrade).unwrap_or_else(|| Usage::of(dir, &self.reporter));
        usages.insert(dir.to_owned(), Arc::downgrade(&usage));
        PeerQuota::new(usage, limit_bytes)
    }
}

/// What happens to existing files: what the command says, if the peer may do that, or else the first that it may. It may
/// ask for what the command says and less; else for what its entry allows.
fn rules(given: Option<Exists>, allow_delete: bool, peer: Option<&KnownPeer>) -> Rules {
    let allowed = peer.map(|peer| &peer.exists[..]).unwrap_or_default();
    let exists = match (given, allowed) {
        (Some(given), allowed) if allowed.is_empty() || allowed.contains(&given) => given,
        (_, [first, ..]) => *first,
        (_, []) => Exists::default(),
    };
    let most = match given {
        Some(given) if allowed.contains(&given) => given,
        _ => allowed.iter().copied().max().unwrap_or(exists),
    };
    let allows_delete = allow_delete || peer.is_some_and(|peer| peer.may.contains(&Right::Delete));
    Rules { exists_max: most, allows_delete, ..Rules::of(exists) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Fingerprint;

    #[test]
    fn a_peer_may_do_to_existing_files_what_its_entry_allows() {
        let nobody = KnownPeer::new(Fingerprint::from_bytes([1; 32]), Vec::new());
        let peer = |exists: &[Exists]| KnownPeer { exists: exists.to_vec(), ..nobody.clone() };
        let careful = peer(&[Exists::Rename, Exists::Skip]);
        fn policy(given: Option<Exists>, peer: Option<&KnownPeer>) -> (Exists, Exists) {
            let rules = rules(given, false, peer);
            (rules.exists, rules.exists_max)
        }
        assert_eq!(policy(Some(Exists::Replace), Some(&careful)), (Exists::Rename, Exists::Rename));
        assert_eq!(policy(Some(Exists::Skip), Some(&careful)), (Exists::Skip, Exists::Skip));
        assert_eq!(policy(None, Some(&careful)), (Exists::Rename, Exists::Rename));
        let replace = (Exists::Replace, Exists::Replace);
        assert_eq!(policy(Some(Exists::Replace), Some(&peer(&[]))), replace);
        assert_eq!(policy(Some(Exists::Refuse), Some(&peer(&[Exists::Replace]))), replace);
        assert_eq!(policy(None, None), (Exists::Refuse, Exists::Refuse));
    }
}
