//! `towline receive`.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::consent::{AtTerminal, compare, known_name, may, shown};
use super::exec::{FromPeer, WithProgram, reporter_of};
use super::manifest::WithManifest;
use super::meet::{Connected, meet, met};
use super::on_disk::on_disk;
use super::remember::keep;
use super::settings::{ExecSettings, Peer, ReceiveSettings, Right, Rules};
use super::transfer::{Inbox, Transferred, conclude, context, memory, receive_through, receive_with};
use super::unfinished::Completion;
use super::uses::Uses;
use crate::auth::Identity;
use crate::event::{Asker, Reporter};
use crate::protocol::failure::{Failure, Side};
use crate::protocol::wire::role::Role;
use crate::session::{Consent, Context, Lease};
use crate::storage::fs::{NetworkThreads, check_target};
use crate::storage::stdio::StdoutTarget;
use crate::transport::Connection;

/// Standard output, as users of both sides know it.
const STDOUT: &str = "standard output";

/// What all transfers of this run share.
struct Reception<'a> {
    settings: &'a ReceiveSettings,
    reporter: Arc<dyn Reporter>,
    asker: Option<Arc<dyn Asker>>,
    manifest: Option<Arc<WithManifest>>,
    network: NetworkThreads,
}

/// Receives, and returns the exit code.
pub(super) async fn run(
    settings: ReceiveSettings,
    reporter: Arc<dyn Reporter>,
    asker: Option<Arc<dyn Asker>>,
    network: NetworkThreads,
    mut stop: watch::Receiver<Option<Failure>>,
) -> Result<u8, Failure> {
    let ReceiveSettings { peer, into, manifest, common, .. } = &settings;
    let manifest =
        manifest.clone().map(|path| WithManifest::create(path, Arc::clone(&reporter))).transpose()?;
    let reporter: Arc<dyn Reporter> = match &manifest {
        Some(manifest) => Arc::clone(manifest) as _,
        None => reporter,
    };
    if !settings.stdout {
        // Before anybody is told to dial.
        let (limit, dir) = (common.disk_timeout, into.clone());
        let check = move || check_target(&dir).map_err(|error| error.of_target());
        on_disk((Side::Receiver, "open", into), limit, &stop, check).await?;
        Completion::default().complete_sets(&into.into(), &reporter, limit, &stop).await?;
    }
    let what = vec![into.clone()];
    let told = Arc::clone(&reporter);
    let reception =
        Reception { settings: &settings, reporter: told, asker, manifest: manifest.clone(), network };
    if common.uses > 1 && peer.is_none() {
        let mut uses = Uses::open(Role::Receive, what, common, &reporter)?;
        while let Some((connected, memory, _place)) = uses.next(&mut stop).await? {
            let done = reception.receive(connected, memory, Arc::clone(&uses.identity), stop.clone()).await;
            uses.ended(done);
        }
        return Ok(uses.end().await);
    }
    let memory = memory(common)?;
    let people = (&reporter, reception.asker.as_deref());
    let meeting = meet(Role::Receive, peer.as_ref(), what, common, *memory, people, stop.clone());
    let (connected, identity, stop) = meeting.await?;
    let met = met(&connected, peer.as_ref());
    let done = reception.receive(connected, memory, identity, stop.clone()).await;
    keep(common.remember.clone(), met, Right::Send, done.as_ref().err(), reporter.as_ref()).await;
    let done = done?;
    if let Some(manifest) = manifest {
        manifest.finish(&stop).await?;
    }
    Ok(conclude(done, reporter.as_ref()))
}

impl Reception<'_> {
    /// Runs the program of `exec` after the transfer with the peer of `connected`.
    fn with_program(&self, exec: &ExecSettings, connected: &Connected) -> Arc<WithProgram> {
        let connection = &connected.link.connection;
        let (fingerprint, address) = (connection.peer_fingerprint(), connection.remote_address());
        let ReceiveSettings { peers, into, .. } = self.settings;
        let from = FromPeer { name: known_name(peers, fingerprint), fingerprint, address };
        let (manifest, reporter) = (self.manifest.clone(), Arc::clone(&self.reporter));
        WithProgram::new(exec.clone(), into, from, manifest, reporter)
    }

    /// Receives from one peer, if the person at the terminal has nothing against it.
    async fn receive(
        &self,
        connected: Connected,
        memory: Lease,
        identity: Arc<Identity>,
        stop: watch::Receiver<Option<Failure>>,
    ) -> Result<Transferred, Failure> {
        let ReceiveSettings {
            peer,
            peers,
            into,
            stdout,
            rules,
            atomic,
            verify_disk,
            bounds,
            yes,
            exec,
            common,
            ..
        } = self.settings;
        let connected = match self.asker.as_deref().filter(|_| common.verify) {
            Some(asker) => {
                let own = identity.fingerprint();
                compare(connected, own, Side::Receiver, asker, stop.clone()).await?
            }
            None => connected,
        };
        let sender = connected.link.connection.peer_fingerprint();
        // Who has a certificate of the organisation is known by it.
        let is_by_secret = matches!(peer, None | Some(Peer::Ticket(_) | Peer::Code(..)));
        // Started by ssh for the user of the other side, whose will it is.
        let is_started = matches!(peer, Some(Peer::Stdio));
        let is_named = !is_by_secret || common.pki.is_some() || common.allowed.contains(&sender);
        let asker = self.asker.clone().filter(|_| !yes && !is_named && !may(peers, sender, Right::Send));
        let consent = asker.map(|asker| {
            Arc::new(AtTerminal { asker, peer: shown(&connected), into: into.clone() }) as Arc<dyn Consent>
        });
        let (was_there, is_asked) = (into.exists(), consent.is_some());
        let program = exec.as_ref().map(|exec| self.with_program(exec, &connected));
        let reporter = reporter_of(program.as_ref(), &self.reporter);
        let context = context(common, memory, Arc::clone(&reporter), stop);
        let (atomic, verify_disk) = (*atomic, *verify_disk);
        let context = Context { atomic, verify_disk, identity: Some(identity), consent, ..context };
        if *stdout {
            let context = Context { piped: true, synced: false, ..context };
            let open = async |_, _| StdoutTarget::new(io::stdout());
            return receive_with(connected, open, STDOUT.to_owned(), Rules::default(), context).await;
        }
        let context = Context { program: program.clone().map(|program| program as _), ..context };
        let network = self.network.clone();
        let (privileged, bounds) = (is_started || may(peers, sender, Right::Archive), bounds.clone());
        let inbox = Inbox { dir: into.into(), sender, privileged, reporter, network, quota: None, bounds };
        let done = receive_through(connected, inbox, *rules, context).await;
        if done.is_err() && is_asked && !was_there {
            // It was made before the question. If anything is in it, it stays.
            let _ = std::fs::remove_dir(into);
        }
        if let (Some(program), Ok(done)) = (program, &done) {
            program.note_end(&done.summary);
        }
        done
    }
}
