//! Asks the person at this terminal: whether to receive, and whether both sides show the same words.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::meet::Connected;
use super::settings::{PeersFile, Right};
use crate::auth::{Fingerprint, verification};
use crate::event::{Asker, Question};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::session::{Answer, Consent, Offered, hold, verification_exporter};
use crate::storage::fs::free_bytes;
use crate::transport::Connection;

/// Characters of a fingerprint that tell peers apart.
const KEY_CHARS: usize = 8;

/// Asks whether to receive from one peer.
pub(super) struct AtTerminal {
    pub(super) asker: Arc<dyn Asker>,
    /// The peer, as people see it.
    pub(super) peer: String,
    /// The target directory.
    pub(super) into: PathBuf,
}

impl Consent for AtTerminal {
    fn ask(&self, offered: Offered) -> Answer {
        let Self { asker, peer, into } = self;
        let question = Question::Receive {
            peer: peer.clone(),
            offered_names: offered.names,
            more_names: offered.more_names,
            files: offered.files,
            bytes: offered.bytes,
            is_all: offered.is_all,
            free_bytes: free_bytes(into),
            into: into.clone(),
        };
        answer(asker.as_ref(), question)
    }
}

fn answer(asker: &dyn Asker, question: Question) -> Answer {
    let answer = asker.ask(question);
    Box::pin(async { answer.await.unwrap_or(false) })
}

/// The peer of `connected`, as people see it: its address, and how its key begins.
pub(super) fn shown(connected: &Connected) -> String {
    let connection = &connected.link.connection;
    let key = connection.peer_fingerprint().to_string();
    format!("{} (key {}…)", connection.remote_address(), &key[..KEY_CHARS])
}

/// Whether the peer with this key has a right at this machine.
pub(super) fn may(peers: &PeersFile, key: Fingerprint, right: Right) -> bool {
    let known = peers.load().ok();
    known.is_some_and(|known| known.with_key(key).is_some_and(|(_, peer)| peer.may.contains(&right)))
}

/// The name of the peer with this key, if it is known.
pub(super) fn known_name(peers: &PeersFile, key: Fingerprint) -> Option<String> {
    peers.load().ok()?.with_key(key).map(|(name, _)| name.to_string())
}

/// Shows the words of this session and asks whether the other side has the same.
///
/// # Errors
///
/// They differ, or the transfer ended before the answer. The peer has been told.
pub(super) async fn compare(
    mut connected: Connected,
    own: Fingerprint,
    side: Side,
    asker: &dyn Asker,
    stop: watch::Receiver<Option<Failure>>,
) -> Result<Connected, Failure> {
    let link = &mut connected.link;
    let exporter = match verification_exporter(&link.connection) {
        Ok(exporter) => exporter,
        Err(failure) => return Err(connected.fail(failure).await),
    };
    let words = verification(&exporter, own, link.connection.peer_fingerprint());
    match hold(link, answer(asker, Question::Compare { words }), stop).await {
        Ok(true) => Ok(connected),
        Ok(false) => {
            let message = "the words differ: somebody may be in between";
            Err(connected.fail(Failure::new(Reason::NotAuthenticated, message)).await)
        }
        Err(failure) => Err(connected.fail(failure.heard_by(side, true)).await),
    }
}
